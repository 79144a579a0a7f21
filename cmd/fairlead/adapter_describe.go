package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead-io/fairlead/runtime/api"
)

// renderAdapter writes the reference of an adapter's endpoints.
func renderAdapter(p *page, a *api.Adapter) {
	p.say(bold, "%s", strings.TrimSpace("adapter "+a.Name+" "+a.Version))
	if a.Summary != "" {
		p.say(plain, "%s", a.Summary)
	}
	if a.Error != "" {
		p.say(bad, "cannot be used: %s", a.Error)
		return
	}
	if a.Path != "" {
		p.say(dim, "%s", a.Path)
	}
	if a.Receive != nil {
		renderSide(p, "RECEIVE LOCATIONS", a.Receive)
		if a.Receive.Exclusive {
			p.say(warn, "Hosts with such locations must be clustered: two readers would take items twice.")
		}
	}
	if a.Send != nil {
		renderSide(p, "SEND PORTS", a.Send)
		if a.Send.Probes {
			p.say(plain, "Can tell whether a message has arrived: nothing stays in doubt that it can answer.")
		}
	}
}

func renderSide(p *page, title string, side *api.AdapterSide) {
	props, err := properties("", side.Schema)
	if err != nil {
		p.section(title, nil, nil)
		p.say(bad, "the adapter's schema cannot be read: %v", err)
		return
	}
	rows := make([][]cell, 0, len(props))
	for _, r := range props {
		required := cell{text: yes(r.required)}
		if r.required {
			required.style = bold
		}
		rows = append(rows, []cell{{r.name, bold}, {text: r.kind}, required, {text: r.value}, {text: r.meaning}})
	}
	p.section(title, []string{"PROPERTY", "TYPE", "REQUIRED", "DEFAULT", "MEANING"}, rows)
}

// property is one line of the reference.
type property struct {
	name, kind, value, meaning string
	required                   bool
}

// schema is the part of JSON Schema that endpoint properties use.
type schema struct {
	Type        string          `json:"type"`
	Description string          `json:"description"`
	Default     any             `json:"default"`
	Enum        []any           `json:"enum"`
	Examples    []any           `json:"examples"`
	Required    []string        `json:"required"`
	Properties  orderedSchemas  `json:"properties"`
	Items       json.RawMessage `json:"items"`
	WriteOnly   bool            `json:"writeOnly"`
	Minimum     json.Number     `json:"minimum"`
	Maximum     json.Number     `json:"maximum"`
}

// orderedSchemas keeps the author's order, which a map would lose.
type orderedSchemas []namedSchema

type namedSchema struct {
	name string
	raw  json.RawMessage
}

// UnmarshalJSON reads an object member by member.
func (o *orderedSchemas) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("properties are %s, want an object", data)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		s := namedSchema{name: fmt.Sprint(key)}
		if err := d.Decode(&s.raw); err != nil {
			return err
		}
		*o = append(*o, s)
	}
	return nil
}

func properties(prefix string, raw json.RawMessage) ([]property, error) {
	s, err := parseSchema(raw)
	if err != nil {
		return nil, err
	}
	var all []property
	for _, named := range s.Properties {
		inner, err := parseSchema(named.raw)
		if err != nil {
			return nil, fmt.Errorf("property %s: %w", named.name, err)
		}
		all = append(all, property{
			name:     prefix + named.name,
			kind:     inner.kind(),
			required: slices.Contains(s.Required, named.name),
			value:    literal(inner.Default),
			meaning:  inner.meaning(),
		})
		if len(inner.Properties) == 0 {
			continue
		}
		nested, err := properties(prefix+named.name+".", named.raw)
		if err != nil {
			return nil, err
		}
		all = append(all, nested...)
	}
	return all, nil
}

func parseSchema(raw json.RawMessage) (schema, error) {
	var s schema
	if trimmed := bytes.TrimSpace(raw); bytes.Equal(trimmed, []byte("true")) || len(trimmed) == 0 {
		return s, nil // anything is allowed
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	err := d.Decode(&s)
	return s, err
}

// kind is the type in words that fit YAML.
func (s schema) kind() string {
	switch {
	case len(s.Enum) > 0:
		values := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			values[i] = literal(v)
		}
		return strings.Join(values, "|")
	case s.WriteOnly:
		return "secret"
	case s.Type == "array":
		if item, err := parseSchema(s.Items); err == nil && item.kind() != "any" {
			return "list of " + item.kind()
		}
		return "list"
	case s.Type == "":
		return "any"
	default:
		return s.Type
	}
}

func (s schema) meaning() string {
	text := s.Description
	add := func(format string, args ...any) {
		if text != "" {
			text = strings.TrimRight(text, " ") + " "
		}
		text += fmt.Sprintf(format, args...)
	}
	switch {
	case s.Minimum != "" && s.Maximum != "":
		add("From %s to %s.", s.Minimum, s.Maximum)
	case s.Minimum != "":
		add("At least %s.", s.Minimum)
	case s.Maximum != "":
		add("At most %s.", s.Maximum)
	}
	if len(s.Examples) > 0 {
		examples := make([]string, len(s.Examples))
		for i, e := range s.Examples {
			examples[i] = literal(e)
		}
		add("Such as %s.", strings.Join(examples, ", "))
	}
	return text
}

// literal writes a value as one would in YAML.
func literal(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		if v == "" {
			return `""`
		}
		return v
	default:
		data, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(data)
	}
}
