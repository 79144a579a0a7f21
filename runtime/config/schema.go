package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// schema is a JSON Schema, to validate with and to read.
type schema struct {
	compiled *jsonschema.Schema
	raw      map[string]any
}

// compileSchema takes a JSON Schema (2020-12 unless it says otherwise). It may
// refer to nothing outside of itself.
func compileSchema(data []byte) (*schema, error) {
	const url = "schema.json"
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("parse schema: %w", err)
	}
	raw, ok := doc.(map[string]any)
	if !ok {
		return nil, errors.New("parse schema: want a JSON object")
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(jsonschema.SchemeURLLoader{})
	if err := c.AddResource(url, doc); err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	compiled, err := c.Compile(url)
	if err != nil {
		return nil, fmt.Errorf("compile schema: %w", err)
	}
	return &schema{compiled, raw}, nil
}

// object returns the object under a key of a schema, nil if there is none.
func object(s map[string]any, key string) map[string]any {
	o, _ := s[key].(map[string]any)
	return o
}

// subschema returns what a schema says of a key or an index, nil if nothing.
func subschema(root map[string]any, segments ...string) map[string]any {
	s := resolveRef(root, root)
	for _, segment := range segments {
		next := object(object(s, "properties"), segment)
		if next == nil {
			next = object(s, "additionalProperties")
		}
		if next == nil {
			next = object(s, "items")
		}
		s = resolveRef(root, next)
	}
	return s
}

// resolveRef follows a reference within the schema.
func resolveRef(root, s map[string]any) map[string]any {
	for range 8 { // against references in a circle
		ref, ok := s["$ref"].(string)
		if !ok || !strings.HasPrefix(ref, "#/") {
			return s
		}
		var at any = root
		for _, part := range strings.Split(ref[2:], "/") {
			m, _ := at.(map[string]any)
			at = m[part]
		}
		s, _ = at.(map[string]any)
	}
	return s
}

// properties returns the names a schema knows.
func properties(s map[string]any) []string {
	return sortedKeys(object(s, "properties"))
}

// withDefaults sets in v, and below it, what the schema has defaults for and v
// lacks. Sections are made where they may hold a default.
func withDefaults(root, s, v map[string]any) map[string]any {
	s = resolveRef(root, s)
	for name := range object(s, "properties") {
		if _, ok := v[name]; ok {
			continue
		}
		sub := resolveRef(root, object(object(s, "properties"), name))
		if def, ok := sub["default"]; ok {
			v[name] = def
		} else if sub["properties"] != nil {
			v[name] = map[string]any{}
		}
	}
	for name, value := range v {
		section, ok := value.(map[string]any)
		if !ok {
			continue
		}
		sub := object(object(s, "properties"), name)
		if sub == nil {
			sub = object(s, "additionalProperties")
		}
		withDefaults(root, sub, section)
	}
	return v
}

// violation is one leaf of a schema's verdict.
type violation struct {
	at   keyPath // relative to the validated value
	kind jsonschema.ErrorKind
}

// violations validates the value.
func (s *schema) violations(v any) ([]violation, error) {
	err := s.compiled.Validate(v)
	if err == nil {
		return nil, nil
	}
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return nil, err
	}
	var out []violation
	var walk func(e *jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		switch e.ErrorKind.(type) {
		case *kind.AnyOf, *kind.OneOf, *kind.Not, *kind.PropertyNames, *kind.Contains:
			// What is below speaks of alternatives, of which none need be meant.
		default:
			if len(e.Causes) > 0 {
				for _, c := range e.Causes {
					walk(c)
				}
				return
			}
		}
		out = append(out, violation{at: e.InstanceLocation, kind: e.ErrorKind})
	}
	walk(invalid)
	return out, nil
}

var english = message.NewPrinter(language.English)

// check validates the value that stands at base, adds what is wrong, except where
// a finding has been made already, and returns the paths of wrong values and
// unknown keys.
func (d *document) check(s *schema, base keyPath, v any) ([]keyPath, error) {
	found, err := s.violations(v)
	if err != nil {
		return nil, err
	}
	// Unknown keys come first: one may be the misspelt name of a missing one.
	slices.SortStableFunc(found, func(a, b violation) int { return cmp.Compare(a.rank(), b.rank()) })
	var wrong []keyPath
	for _, f := range found {
		if d.isHandled(base.with(f.at...)) {
			wrong = append(wrong, base.with(f.at...))
			continue
		}
		wrong = append(wrong, d.explain(s, base, f)...)
	}
	return wrong, nil
}

func (v violation) rank() int {
	if _, ok := v.kind.(*kind.AdditionalProperties); ok {
		return 0
	}
	return 1
}

// suspect notes that a value is wrong, or stands under a misspelt key, so that
// rules which depend on it say nothing.
func (d *document) suspect(p keyPath) {
	if d.suspects == nil {
		d.suspects = map[string]bool{}
	}
	d.suspects[joined(p)] = true
}

// isSuspect reports whether the value, or one around it, is wrong.
func (d *document) isSuspect(p keyPath) bool {
	for n := len(p); n > 0; n-- {
		if d.suspects[joined(p[:n])] {
			return true
		}
	}
	return false
}

// handle notes that the value, and what is below it, needs no further finding.
func (d *document) handle(p keyPath) {
	if d.handled == nil {
		d.handled = map[string]bool{}
	}
	d.handled[joined(p)] = true
}

func (d *document) isHandled(p keyPath) bool {
	for n := len(p); n > 0; n-- {
		if d.handled[joined(p[:n])] {
			return true
		}
	}
	return false
}

// explain adds the findings of one violation and returns their paths.
func (d *document) explain(s *schema, base keyPath, v violation) []keyPath {
	p := base.with(v.at...)
	sub := subschema(s.raw, v.at...)
	switch k := v.kind.(type) {
	case *kind.AdditionalProperties:
		var wrong []keyPath
		for _, name := range k.Properties {
			wrong = append(wrong, p.with(name))
			if d.isHandled(p.with(name)) {
				continue
			}
			if meant := didYouMean(name, properties(sub)); meant != "" {
				d.suspect(p.with(meant))
			}
			d.keyErrorf(p.with(name), unknownRemedy(sub, name), "unknown key")
		}
		return wrong
	case *kind.FalseSchema:
		d.keyErrorf(p, "remove it", "is not allowed here")
	case *kind.Required:
		for _, name := range k.Missing {
			if !d.isSuspect(p.with(name)) {
				d.add(Error, p.with(name), true, "is missing", "write it here"+aboutOf(subschema(s.raw, v.at.with(name)...)))
			}
			d.suspect(p.with(name))
		}
		return nil
	case *kind.PropertyNames:
		// The library does not say reliably where. Names of our own files are
		// checked by a rule.
		if len(base) > 0 {
			d.errorf(base, "rename it", "holds the key %s, which the adapter does not allow", quoted(k.Property))
		}
		return nil
	default:
		problem, remedy := wrongValue(v.kind, d.lookup(p), sub)
		d.errorf(p, remedy, "%s", problem)
	}
	d.suspect(p)
	return []keyPath{p}
}

// unknownRemedy says what to do with a key that is not known in a section.
func unknownRemedy(section map[string]any, name string) string {
	known := properties(section)
	if didYouMean(name, known) == "" {
		for _, k := range known {
			if object(object(object(object(section, "properties"), k), "properties"), name) != nil {
				return "it belongs under " + k
			}
		}
		if object(object(section, "properties"), "endpoint") != nil {
			return "known keys: " + list(known) + "; the adapter's own properties belong under endpoint"
		}
	}
	return suggestion(name, known, "known keys", "remove it")
}
