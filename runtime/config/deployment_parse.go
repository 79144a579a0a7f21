package config

import (
	"context"
	"fmt"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
)

// Facts are what the environment knows that a deployment is checked against.
type Facts struct {
	// Adapters by name. nil: none are known here; then names and properties of
	// adapters are not checked, and a warning says so.
	Adapters map[string]AdapterFacts
	// Nodes are the names of the cluster's nodes. nil: owners are not checked.
	Nodes []string
}

// AdapterFacts are what is known of one adapter.
type AdapterFacts struct {
	Version string
	// ReceiveSchema and SendSchema are the JSON Schemas of the endpoints'
	// properties; nil if the adapter cannot receive, or cannot send.
	ReceiveSchema, SendSchema []byte
	// Exclusive: two handlers at the same source would take items twice.
	Exclusive bool
	// Probes: the adapter can tell whether a message has arrived.
	Probes bool
	// Check is the adapter's own check, for what a schema cannot say; may be nil.
	// It is called once for every endpoint that satisfies the schema, with the
	// references unresolved, and ctx ends after ten seconds at the latest. An error
	// means that the check could not be made.
	Check func(ctx context.Context, receive bool, properties []byte) ([]Problem, error)
}

// Problem is one finding of an adapter's own check.
type Problem struct {
	// Property is the property's name, empty for the endpoint as a whole.
	Property string
	// Problem says what is wrong and what would be right.
	Problem string
}

// LoadDeployment reads a deployment file; see [ParseDeployment].
func LoadDeployment(path string, facts Facts) (*Deployment, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return ParseDeployment(path, data, facts)
}

// ParseDeployment reads and checks a deployment file; its name gives the format.
// The error is of type [Findings] if the file is wrong, and then nothing of it may
// be used.
func ParseDeployment(name string, data []byte, facts Facts) (*Deployment, error) {
	s, err := deploymentSchema()
	if err != nil {
		return nil, err
	}
	d := &document{file: name, least: "at least hosts, receive_locations and send_ports; to run nothing at all, write hosts: {}"}
	d.parse(data)
	if d.root == nil {
		return nil, d.findings.sorted()
	}
	d.root.fill(s.raw)
	d.value = d.root.plain().(map[string]any)
	c := deploymentCheck{document: d, facts: facts, schema: s}
	if err := c.shape(); err != nil {
		return nil, err
	}
	// Endpoints are checked even if something else is wrong, so that everything is
	// said at once; so are the rules between the parts, as far as they can be.
	if err := c.endpoints(); err != nil {
		return nil, err
	}
	c.rules()
	if d.failed() {
		return nil, d.findings.sorted()
	}
	out, err := c.typed()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if out.Warnings, err = d.result(); err != nil {
		return nil, err
	}
	return out, nil
}

// typed decodes what has been checked, over the defaults.
func (c *deploymentCheck) typed() (*Deployment, error) {
	k := koanf.New(".")
	// Endpoints are taken from the tree afterwards: they are not koanf's to merge.
	for _, section := range []string{"receive_locations", "send_ports"} {
		for _, name := range c.names(section) {
			c.section(section, name)["endpoint"] = map[string]any{}
		}
	}
	c.normalise()
	values := withDefaults(c.schema.raw, c.schema.raw, c.value)
	c.complete(values)
	if err := k.Load(confmap.Provider(values, ""), nil); err != nil {
		return nil, err
	}
	var d Deployment
	if err := decode(k, &d); err != nil {
		return nil, err
	}
	for name, h := range d.Hosts {
		if h.Group == "" {
			h.Group = name
		}
		if err := h.Failback.understand(); err != nil { // it was checked
			return nil, fmt.Errorf("hosts.%s.failback: %w", name, err)
		}
		d.Hosts[name] = h
	}
	for name, l := range d.ReceiveLocations {
		l.Endpoint = c.endpoint("receive_locations", name)
		d.ReceiveLocations[name] = l
	}
	for name, p := range d.SendPorts {
		p.Endpoint = c.endpoint("send_ports", name)
		d.SendPorts[name] = p
	}
	return &d, nil
}

// endpoint returns the properties as they stand in the file.
func (c *deploymentCheck) endpoint(section, name string) map[string]any {
	t := c.root.child(section).child(name).child("endpoint")
	properties, _ := t.plain().(map[string]any)
	return properties
}
