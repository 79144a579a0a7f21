package sdk

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/invopop/jsonschema"
)

// Template is a property that makes a name from a message's context, such as
//
//	{{ftp.name}}   {{fairlead.id}}   {{now:20060102T150405Z}}
//
// `now` takes a layout of Go's time package and is in UTC. A property that no
// adapter sets is an error when the deployment is validated, never part of a name.
type Template struct {
	text  string
	parts []templatePart
}

type templatePart struct {
	literal  string
	property string // a context property's name, if not empty
	layout   string // of `now`, if not empty
}

// knownProperties are the context properties' names; a trailing dot stands for a
// family with free names.
var knownProperties = []string{
	"fairlead.id", "fairlead.location", "fairlead.received_at", "fairlead.redelivered",
	"ftp.name", "ftp.path", "ftp.directory", "ftp.size", "ftp.modified",
	"sftp.name", "sftp.path", "sftp.directory", "sftp.size", "sftp.modified",
	"file.name", "file.path", "file.directory", "file.size", "file.modified",
	"mail.message_id", "mail.uid", "mail.from", "mail.to", "mail.subject", "mail.date", "mail.header.",
	"queue.message_id", "queue.destination", "queue.correlation_id", "queue.header.",
	"custom.",
}

// ParseTemplate checks the text and returns the template.
func ParseTemplate(text string) (Template, error) {
	t := Template{text: text}
	for rest := text; rest != ""; {
		before, after, found := strings.Cut(rest, "{{")
		if before != "" {
			t.parts = append(t.parts, templatePart{literal: before})
		}
		if !found {
			break
		}
		name, tail, closed := strings.Cut(after, "}}")
		if !closed {
			return Template{}, fmt.Errorf("%q: {{ without }}", text)
		}
		p, err := parsePlaceholder(strings.TrimSpace(name))
		if err != nil {
			return Template{}, fmt.Errorf("%q: %w", text, err)
		}
		t.parts = append(t.parts, p)
		rest = tail
	}
	return t, nil
}

func parsePlaceholder(name string) (templatePart, error) {
	if layout, ok := strings.CutPrefix(name, "now:"); ok && layout != "" {
		return templatePart{layout: layout}, nil
	}
	for _, known := range knownProperties {
		family := strings.HasSuffix(known, ".")
		if name == known && !family || family && strings.HasPrefix(name, known) && name != known {
			return templatePart{property: name}, nil
		}
	}
	if near := nearest(name, knownProperties); near != "" {
		return templatePart{}, fmt.Errorf("unknown property {{%s}}; did you mean {{%s}}?", name, near)
	}
	return templatePart{}, fmt.Errorf("unknown property {{%s}}; known are {{now:LAYOUT}} and the context properties: %s",
		name, strings.Join(knownProperties, ", "))
}

// Expand returns the name for one message. A property that the message lacks is
// a permanent error.
func (t Template) Expand(m *Message, now time.Time) (string, error) {
	return t.expand(m, now, func(string, string) error { return nil })
}

// ExpandPath is Expand for a path of several elements, separated by slashes. Slashes
// are those of the text and of {{now:...}}: the value of a property fills one element
// or a part of it, and cannot lead out of the path, since a sender far away may have
// chosen it. Errors are permanent.
func (t Template) ExpandPath(m *Message, now time.Time) (string, error) {
	path, err := t.expand(m, now, checkElement)
	if err != nil || !t.Varies() {
		return path, err
	}
	for element := range strings.SplitSeq(path, "/") {
		if element == "." || element == ".." {
			return "", Permanent(fmt.Errorf("path %q, from %q, has the element %q, which would lead elsewhere", path, t.text, element))
		}
	}
	return path, nil
}

func checkElement(property, value string) error {
	switch {
	case value == "":
		return fmt.Errorf("property %s is empty", property)
	case strings.ContainsAny(value, "/\\"):
		return fmt.Errorf("property %s is %q, and what has a slash or backslash is no name of a directory", property, value)
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("property %s is %q, which contains a control character", property, value)
	}
	return nil
}

func (t Template) expand(m *Message, now time.Time, check func(property, value string) error) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		value := p.literal
		switch {
		case p.layout != "":
			value = now.UTC().Format(p.layout)
		case p.property == "fairlead.id":
			value = m.ID
		case p.property != "":
			var ok bool
			if value, ok = m.Context[p.property]; !ok {
				return "", Permanent(fmt.Errorf("name %q: the message has no property %s", t.text, p.property))
			}
		}
		if p.property != "" {
			if err := check(p.property, value); err != nil {
				return "", Permanent(fmt.Errorf("name %q: %w", t.text, err))
			}
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

// Varies reports whether the name has placeholders, and so is not the same for all
// messages.
func (t Template) Varies() bool {
	return slices.ContainsFunc(t.parts, func(p templatePart) bool { return p.layout != "" || p.property != "" })
}

// Unique reports whether the name differs for every message.
func (t Template) Unique() bool {
	for _, p := range t.parts {
		if p.property == "fairlead.id" {
			return true
		}
	}
	return false
}

// Properties are the context properties that the name is made from.
func (t Template) Properties() (names []string) {
	for _, p := range t.parts {
		if p.property != "" {
			names = append(names, p.property)
		}
	}
	return names
}

// String returns the template as it was written.
func (t Template) String() string { return t.text }

// MarshalText writes the template as it was written.
func (t Template) MarshalText() ([]byte, error) { return []byte(t.text), nil }

// UnmarshalText is ParseTemplate; an empty template is an error.
func (t *Template) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errors.New("is empty; write a name such as {{fairlead.id}}.xml")
	}
	parsed, err := ParseTemplate(string(text))
	*t = parsed
	return err
}

// JSONSchema says that a template is written as a string.
func (Template) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", MinLength: ptr(uint64(1)), Examples: []any{"{{fairlead.id}}.xml"}}
}

func ptr[T any](v T) *T { return &v }
