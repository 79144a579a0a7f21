package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/fairlead-io/fairlead/sdk"
)

// Deployment is one version of the application: what runs where and goes where.
// All defaults are set. Written as JSON it is the same for the same content.
type Deployment struct {
	Hosts            map[string]Host            `json:"hosts,omitempty" jsonschema_description:"Containers of handlers, by name: what is owned, moved and isolated together."`
	ReceiveLocations map[string]ReceiveLocation `json:"receive_locations,omitempty" jsonschema_description:"Where items come from, by name."`
	SendPorts        map[string]SendPort        `json:"send_ports,omitempty" jsonschema_description:"Where messages go to, by name."`

	// Warnings are findings that do not keep the deployment from being used.
	Warnings Findings `json:"-"`
}

// Host is a container of handlers.
type Host struct {
	Clustered       bool         `json:"clustered" jsonschema:"default=false" jsonschema_description:"true: exactly one node at a time runs the host. false: every node does. Receive locations need true."`
	Group           string       `json:"group,omitempty" jsonschema_description:"Hosts of the same group always move together. Default: the host's own name."`
	PossibleOwners  []string     `json:"possible_owners,omitempty" jsonschema_description:"Nodes that may own the host. Empty: every member."`
	PreferredOwners []string     `json:"preferred_owners,omitempty" jsonschema_description:"Nodes that should own the host, the best first. Used when an owner is chosen; see failback."`
	Failback        string       `json:"failback" jsonschema:"enum=never,default=never" jsonschema_description:"Whether the host moves back to a preferred owner by itself: never. Move it by hand with fairlead host move."`
	DrainTimeout    sdk.Duration `json:"drain_timeout" jsonschema:"default=30s" jsonschema_description:"How long items under way may take to end when the host is moved or stopped; then the handlers are ended."`
}

// ReceiveLocation is one source endpoint.
type ReceiveLocation struct {
	Host        string         `json:"host" jsonschema:"required,minLength=1" jsonschema_description:"Host that the location runs in."`
	Adapter     string         `json:"adapter" jsonschema:"required,minLength=1" jsonschema_description:"Adapter that reads the source, such as ftp."`
	Endpoint    map[string]any `json:"endpoint" jsonschema:"required" jsonschema_description:"The adapter's own properties, see fairlead adapter describe. Texts may hold ${env:NAME} and ${file:/path}, read on the node that runs the location."`
	Schedule    Schedule       `json:"schedule" jsonschema_description:"When the source is asked what it has."`
	To          []string       `json:"to" jsonschema:"required,minItems=1" jsonschema_description:"Names of send ports; every item goes to each of them."`
	MaxInFlight int            `json:"max_in_flight" jsonschema:"minimum=1,maximum=4096,default=16" jsonschema_description:"Most items under way at once."`
	Enabled     bool           `json:"enabled" jsonschema:"default=true" jsonschema_description:"false: the location is there and takes nothing."`
	Ordered     bool           `json:"ordered" jsonschema:"default=false" jsonschema_description:"Items strictly one after the other: false, as this version does not serve it."`
}

// Schedule says when a source is polled.
type Schedule struct {
	Every sdk.Duration `json:"every" jsonschema:"default=30s" jsonschema_description:"Time between two polls of the source, 100ms or more. Sources that deliver by themselves, such as queues, ignore it."`
}

// SendPort is one destination endpoint.
type SendPort struct {
	Host        string         `json:"host" jsonschema:"required,minLength=1" jsonschema_description:"Host that the port runs in."`
	Adapter     string         `json:"adapter" jsonschema:"required,minLength=1" jsonschema_description:"Adapter that sends, such as queue."`
	Endpoint    map[string]any `json:"endpoint" jsonschema:"required" jsonschema_description:"The adapter's own properties, see fairlead adapter describe. Texts may hold ${env:NAME} and ${file:/path}, read on the node that runs the port."`
	Retry       Retry          `json:"retry" jsonschema_description:"What happens after a send that failed and may be tried again. Outages of the destination do not count: sends wait until they are over."`
	InDoubt     string         `json:"in_doubt" jsonschema:"enum=resend,enum=suspend,default=resend" jsonschema_description:"What happens to a message that may have arrived before a change of owner, when the adapter cannot tell: resend it, marked fairlead.redelivered, or suspend it for somebody to decide."`
	MaxInFlight int            `json:"max_in_flight" jsonschema:"minimum=1,maximum=4096,default=16" jsonschema_description:"Most sends under way at once."`
	Ordered     bool           `json:"ordered" jsonschema:"default=false" jsonschema_description:"Messages strictly one after the other: false, as this version does not serve it."`
}

// Retry is a send port's policy after failures.
type Retry struct {
	Attempts int          `json:"attempts" jsonschema:"minimum=0,maximum=1000,default=3" jsonschema_description:"How often a failed send is tried again before the item is suspended."`
	Interval sdk.Duration `json:"interval" jsonschema:"default=5m" jsonschema_description:"Time before the first new attempt."`
	Backoff  float64      `json:"backoff" jsonschema:"minimum=1,maximum=10,default=1" jsonschema_description:"Factor that the time grows by with each further attempt; 1 keeps it, 2 doubles it."`
}

// Group is a set of clustered hosts that are always owned by the same node.
type Group struct {
	Name string
	// Hosts, sorted by name.
	Hosts []string
	// PossibleOwners are the nodes that every host allows; empty: every member.
	PossibleOwners []string
	// PreferredOwners are those of the hosts in the order of their names, each once.
	PreferredOwners []string
	// Adapters that the hosts' locations and ports need, sorted.
	Adapters []string
}

// Groups returns the groups of the clustered hosts, sorted by name. Hosts that are
// not clustered belong to none.
func (d *Deployment) Groups() []Group {
	byName := map[string]*Group{}
	for _, name := range sortedKeys(d.Hosts) {
		h := d.Hosts[name]
		if !h.Clustered {
			continue
		}
		group := h.Group
		if group == "" {
			group = name
		}
		g, ok := byName[group]
		if !ok {
			g = &Group{Name: group}
			byName[group] = g
		}
		g.Hosts = append(g.Hosts, name)
		g.PossibleOwners, _ = commonOwners(g.PossibleOwners, h.PossibleOwners)
		for _, n := range h.PreferredOwners {
			if !slices.Contains(g.PreferredOwners, n) {
				g.PreferredOwners = append(g.PreferredOwners, n)
			}
		}
		g.Adapters = append(g.Adapters, d.adapters(name)...)
	}
	groups := make([]Group, 0, len(byName))
	for _, name := range sortedKeys(byName) {
		g := byName[name]
		slices.Sort(g.Adapters)
		g.Adapters = slices.Compact(g.Adapters)
		groups = append(groups, *g)
	}
	return groups
}

// adapters are those that a host needs.
func (d *Deployment) adapters(host string) []string {
	var out []string
	for _, l := range d.ReceiveLocations {
		if l.Host == host {
			out = append(out, l.Adapter)
		}
	}
	for _, p := range d.SendPorts {
		if p.Host == host {
			out = append(out, p.Adapter)
		}
	}
	return out
}

// commonOwners returns the nodes that both lists allow, where an empty list allows
// every node, and whether there are any.
func commonOwners(a, b []string) ([]string, bool) {
	switch {
	case len(a) == 0:
		return slices.Clone(b), true
	case len(b) == 0:
		return a, true
	}
	common := slices.DeleteFunc(slices.Clone(a), func(n string) bool { return !slices.Contains(b, n) })
	return common, len(common) > 0
}

// Encode writes the deployment as JSON: the same bytes for the same content.
func (d *Deployment) Encode() ([]byte, error) {
	data, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode deployment: %w", err)
	}
	return data, nil
}

// DecodeDeployment reads what [Deployment.Encode] wrote. It keeps numbers of
// endpoints exact (as json.Number) and refuses keys that it does not know, as a
// later version may have written them.
func DecodeDeployment(data []byte) (*Deployment, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	dec.UseNumber()
	var d Deployment
	if err := dec.Decode(&d); err != nil {
		return nil, fmt.Errorf("decode deployment: %w", err)
	}
	return &d, nil
}

// DeploymentSchema returns the JSON Schema of deployment files. Endpoints are open
// in it: their schemas are the adapters'.
func DeploymentSchema() ([]byte, error) {
	return generate[Deployment]("Fairlead deployment file", "Hosts, receive locations and send ports: what runs where and goes where.")
}

var deploymentSchema = sync.OnceValues(func() (*schema, error) {
	data, err := DeploymentSchema()
	if err != nil {
		return nil, err
	}
	return compileSchema(data)
})
