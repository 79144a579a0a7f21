package config

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// adapterCheckTimeout bounds one call of an adapter's own check.
const adapterCheckTimeout = 10 * time.Second

// endpoints checks the properties of every endpoint against its adapter.
func (c *deploymentCheck) endpoints() error {
	e := endpointCheck{deploymentCheck: c, schemas: map[string]*schema{}, broken: map[string]bool{}}
	warned := false
	for _, section := range []string{"receive_locations", "send_ports"} {
		for _, name := range c.names(section) {
			if c.facts.Adapters == nil && !warned {
				warned = true
				c.add(Warning, keyPath{section}, true, "adapters and their properties are not checked: none are known here", "validate it on a node, or name the adapters' directory")
			}
			if err := e.run(section, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// endpointCheck checks endpoints. It keeps what is the same for all of an adapter.
type endpointCheck struct {
	*deploymentCheck
	schemas map[string]*schema // by adapter and direction; nil: not usable
	broken  map[string]bool    // adapters whose own check could not be made
}

func (e *endpointCheck) run(section, name string) error {
	p := keyPath{section, name, "endpoint"}
	values, ok := e.lookup(p).(map[string]any)
	if !ok {
		return nil // the schema of the deployment says so
	}
	before := e.errors()
	referring := e.references(values, p)
	adapter := e.text(section, name, "adapter")
	s := e.schemaOf(section, name, adapter)
	if s == nil {
		return nil
	}
	e.referringTypes(s, p, referring)
	if _, err := e.check(s, p, values); err != nil {
		return err
	}
	e.literalSecrets(s.raw, s.raw, values, p)
	if e.errors() == before {
		e.ownCheck(section, name, adapter, s, values)
	}
	return nil
}

// errors counts the errors so far.
func (e *endpointCheck) errors() int {
	n := 0
	for _, f := range e.findings {
		if f.Severity == Error {
			n++
		}
	}
	return n
}

// references checks the references in the properties and returns where they are.
// Their values are not known here, so the schema has nothing to say of them.
func (e *endpointCheck) references(v any, p keyPath) []keyPath {
	var found []keyPath
	switch v := v.(type) {
	case map[string]any:
		for _, k := range sortedKeys(v) {
			found = append(found, e.references(v[k], p.with(k))...)
		}
	case []any:
		for i, item := range v {
			found = append(found, e.references(item, p.with(strconv.Itoa(i)))...)
		}
	case string:
		refs, err := references(v)
		if err != nil {
			e.errorf(p, err.remedy, "%s", err.problem)
			e.handle(p)
		} else if len(refs) > 0 {
			found = append(found, p)
		}
	}
	return found
}

// referringTypes refuses references where no text is wanted.
func (e *endpointCheck) referringTypes(s *schema, base keyPath, referring []keyPath) {
	for _, p := range referring {
		sub := subschema(s.raw, p[len(base):]...)
		if want, ok := sub["type"].(string); ok && want != "string" {
			e.errorf(p, "write the value itself", "a reference gives text, want %s", wanted([]string{want}, sub))
		}
		if sub != nil { // otherwise the key itself is unknown, which must be said
			e.handle(p)
		}
	}
}

// schemaOf returns the schema for the endpoint, nil if there is none to check with.
func (e *endpointCheck) schemaOf(section, name, adapter string) *schema {
	p := keyPath{section, name, "adapter"}
	if e.facts.Adapters == nil || adapter == "" {
		return nil
	}
	facts, ok := e.facts.Adapters[adapter]
	if !ok {
		known := sortedKeys(e.facts.Adapters)
		e.errorf(p, suggestion(adapter, known, "adapters", "put fairlead-adapter-"+adapter+" into a directory of node.adapter_dirs"), "there is no adapter %s", quoted(adapter))
		return nil
	}
	data, verb, other := facts.ReceiveSchema, "receive", "send_ports"
	if section == "send_ports" {
		data, verb, other = facts.SendSchema, "send", "receive_locations"
	}
	if len(data) == 0 {
		e.errorf(p, "use another adapter, or put it under "+other, "adapter %s cannot %s", adapter, verb)
		return nil
	}
	key := adapter + " " + verb
	s, ok := e.schemas[key]
	if !ok {
		var err error
		if s, err = compileSchema(data); err != nil {
			e.errorf(p, "install another version of it, and tell its author", "adapter %s %s has a schema that cannot be used: %v", adapter, facts.Version, err)
		}
		e.schemas[key] = s
	}
	return s
}

// literalSecrets warns of secrets that stand in the file.
func (e *endpointCheck) literalSecrets(root, s map[string]any, v any, p keyPath) {
	s = resolveRef(root, s)
	switch v := v.(type) {
	case map[string]any:
		for _, k := range sortedKeys(v) {
			sub := object(object(s, "properties"), k)
			if sub == nil {
				sub = object(s, "additionalProperties")
			}
			e.literalSecrets(root, sub, v[k], p.with(k))
		}
	case []any:
		for i, item := range v {
			e.literalSecrets(root, object(s, "items"), item, p.with(strconv.Itoa(i)))
		}
	case string:
		refs, err := references(v)
		if s["writeOnly"] == true && v != "" && err == nil && len(refs) == 0 {
			e.warnf(p, "write ${file:/path} or ${env:NAME}", "is a secret and stands in the file, where everybody can read it who reads the file")
		}
	}
}

// ownCheck lets the adapter say what its schema cannot.
func (e *endpointCheck) ownCheck(section, name, adapter string, s *schema, values map[string]any) {
	check := e.facts.Adapters[adapter].Check
	if check == nil || e.broken[adapter] {
		return
	}
	p := keyPath{section, name, "endpoint"}
	data, err := json.Marshal(e.checkable(s, values))
	if err != nil {
		e.errorf(p, "", "cannot be written as JSON")
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), adapterCheckTimeout)
	defer cancel()
	problems, err := check(ctx, section == "receive_locations", data)
	if err != nil {
		e.broken[adapter] = true
		e.errorf(keyPath{section, name, "adapter"}, "look whether the adapter starts: fairlead adapter describe "+adapter, "adapter %s could not check its properties: %s", adapter, withoutSecrets(err.Error(), s, values))
		return
	}
	for _, found := range problems {
		at := p
		if found.Property != "" {
			at = p.with(strings.Split(found.Property, ".")...)
		}
		if !e.isHandled(at) {
			e.errorf(at, "", "%s", withoutSecrets(found.Problem, s, values))
		}
	}
}

// checkable leaves out references where the adapter would try to understand the
// text, as in a duration.
func (e *endpointCheck) checkable(s *schema, values map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range values {
		sub := subschema(s.raw, k)
		understood := sub["pattern"] != nil || sub["enum"] != nil || sub["format"] != nil
		if text, ok := v.(string); ok && understood {
			if refs, _ := references(text); len(refs) > 0 {
				continue
			}
		}
		out[k] = v
	}
	return out
}

// withoutSecrets hides the values of secrets in what an adapter says.
func withoutSecrets(text string, s *schema, values map[string]any) string {
	for k, v := range values {
		if secret, ok := v.(string); ok && secret != "" && subschema(s.raw, k)["writeOnly"] == true {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return text
}

// sameSources refuses two locations that take from the same source.
func (c *deploymentCheck) sameSources() {
	first, schemas := map[string]string{}, map[string]*schema{}
	for _, name := range c.inFileOrder("receive_locations") {
		values, ok := c.lookup(keyPath{"receive_locations", name, "endpoint"}).(map[string]any)
		adapter := c.text("receive_locations", name, "adapter")
		if !ok || adapter == "" || len(values) == 0 {
			continue
		}
		if _, ok := schemas[adapter]; !ok {
			// One that cannot be read was reported; it has no defaults then.
			schemas[adapter], _ = compileSchema(c.facts.Adapters[adapter].ReceiveSchema)
		}
		key := adapter + " " + source(schemas[adapter], values)
		other, ok := first[key]
		if !ok {
			first[key] = name
			continue
		}
		severity := Error
		if !c.flag("receive_locations", name, "enabled", true) || !c.flag("receive_locations", other, "enabled", true) {
			severity = Warning
		}
		c.add(severity, keyPath{"receive_locations", name, "endpoint"}, true,
			"is the same source as "+c.spot(keyPath{"receive_locations", other, "endpoint"})+": they would take each other's items",
			"remove one of the two, or make what they take differ")
	}
}

// source is what an endpoint takes from, for comparing: its properties with the
// defaults written out and without secrets, which may be written in many ways.
func source(s *schema, values map[string]any) string {
	out := map[string]any{}
	for k, v := range values {
		out[k] = v
	}
	if s != nil {
		for k, sub := range object(s.raw, "properties") {
			about, _ := sub.(map[string]any)
			if _, ok := out[k]; !ok && about["default"] != nil {
				out[k] = about["default"]
			}
			if about["writeOnly"] == true {
				delete(out, k)
			}
		}
	}
	data, err := json.Marshal(out)
	if err != nil {
		return ""
	}
	return string(data)
}

// inFileOrder returns the names of a section as the file has them.
func (c *deploymentCheck) inFileOrder(section string) []string {
	t := c.root.child(section)
	if t == nil || t.kind != mapKind {
		return nil
	}
	return slices.Clone(t.keys)
}
