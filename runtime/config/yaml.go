package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// parseYAML reads one YAML document. Aliases and merge keys (<<) are followed.
func (d *document) parseYAML(data []byte) *tree {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			d.syntax(position{1, 1}, "the file holds only comments", "write "+d.least)
			return nil
		}
		d.yamlError(data, err)
		return nil
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		d.syntax(position{second.Line, second.Column}, "a second document begins here (after ---)", "one file holds one document; put it into a file of its own")
		return nil
	case !errors.Is(err, io.EOF):
		d.yamlError(data, err)
		return nil
	}
	if len(doc.Content) == 0 {
		return nil
	}
	r := yamlReader{d: d, open: map[*yaml.Node]bool{}}
	t := r.read(doc.Content[0], 0)
	if r.tooMuch {
		d.syntax(position{doc.Content[0].Line, doc.Content[0].Column}, "unfolds to too much", "nest less deeply and use fewer aliases")
		return nil
	}
	if t.kind == scalarKind && t.value == nil {
		d.syntax(position{1, 1}, "the file holds nothing", "write "+d.least)
		return nil
	}
	return t
}

// yamlReader makes a tree of YAML nodes.
type yamlReader struct {
	d       *document
	open    map[*yaml.Node]bool // being read, against aliases to themselves
	nodes   int
	tooMuch bool
}

func (r *yamlReader) read(n *yaml.Node, depth int) *tree {
	at := position{n.Line, n.Column}
	if r.nodes++; r.nodes > maxNodes || depth > maxDepth {
		r.tooMuch = true
	}
	if r.tooMuch {
		return &tree{at: at}
	}
	switch n.Kind {
	case yaml.MappingNode:
		return r.mapping(n, depth)
	case yaml.SequenceNode:
		t := &tree{kind: listKind, at: at}
		for _, c := range n.Content {
			t.items = append(t.items, r.read(c, depth+1))
		}
		return t
	case yaml.AliasNode:
		if r.open[n.Alias] {
			r.d.syntax(at, "alias *"+n.Value+" contains itself", "write the values out")
			return &tree{at: at}
		}
		t := *r.read(n.Alias, depth+1)
		t.at = at // the place where it is used
		return &t
	default:
		return &tree{at: at, value: r.scalar(n)}
	}
}

func (r *yamlReader) mapping(n *yaml.Node, depth int) *tree {
	r.open[n] = true
	defer delete(r.open, n)
	t := newMap(position{n.Line, n.Column})
	var merged []*tree
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		at := position{k.Line, k.Column}
		if k.ShortTag() == "!!merge" {
			merged = append(merged, r.mergeSources(v, depth)...)
			continue
		}
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode || k.ShortTag() == "!!null" {
			r.d.syntax(at, "a key must be a word", "write it as name: value")
			continue
		}
		if first, ok := t.fields[k.Value]; ok {
			r.d.syntax(at, fmt.Sprintf("key %s stands twice; the first is at line %d", quoted(k.Value), first.key.line), "remove one of them")
			continue
		}
		v2 := r.read(v, depth+1)
		v2.key = at
		t.set(k.Value, v2)
	}
	for _, m := range merged {
		for _, k := range m.keys {
			if _, ok := t.fields[k]; !ok {
				t.set(k, m.fields[k])
			}
		}
	}
	return t
}

// mergeSources returns the maps that a merge key names, the strongest first.
func (r *yamlReader) mergeSources(v *yaml.Node, depth int) []*tree {
	t := r.read(v, depth+1)
	sources := []*tree{t}
	if t.kind == listKind {
		sources = t.items
	}
	for _, s := range sources {
		if s.kind != mapKind {
			r.d.syntax(position{v.Line, v.Column}, "<< wants a map, or a list of maps", "name an anchor that stands on a map, as <<: *name")
			return nil
		}
	}
	return sources
}

func (r *yamlReader) scalar(n *yaml.Node) any {
	at := position{n.Line, n.Column}
	switch n.ShortTag() {
	case "!!str", "!!timestamp":
		return n.Value
	case "!!null":
		return nil
	case "!!bool", "!!int", "!!float":
		var v any
		if err := n.Decode(&v); err != nil {
			r.d.syntax(at, quoted(n.Value)+" is not a value", "write text in quotes")
			return nil
		}
		return r.number(at, v)
	default:
		r.d.syntax(at, "the tag "+quoted(n.Tag)+" is not known here", "write the value without a tag")
		return nil
	}
}

// number leaves the types of a tree's scalars.
func (r *yamlReader) number(at position, v any) any {
	switch v := v.(type) {
	case int:
		return int64(v)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			r.d.syntax(at, "is not a finite number", "write a number such as 1.5")
			return nil
		}
	}
	return v
}

var yamlErrorLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(?s:(.*))$`)

// yamlError turns the library's message into a finding. The library names the
// line where the construct began, not the column.
func (d *document) yamlError(data []byte, err error) {
	line, text := 1, err.Error()
	if m := yamlErrorLine.FindStringSubmatch(text); m != nil {
		text = m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
	}
	lines := bytes.Split(data, []byte("\n"))
	// A tab is the one mistake that cannot be seen: look for it first.
	for i, l := range lines {
		rest := bytes.TrimLeft(l, " ")
		if len(rest) > 0 && rest[0] == '\t' && len(bytes.TrimSpace(rest)) > 0 && strings.Contains(text, "cannot start any token") {
			d.syntax(position{i + 1, len(l) - len(rest) + 1}, "the indentation contains a tab", "indent with spaces")
			return
		}
	}
	line = max(1, min(line, len(lines)))
	// The library has named where the construct began: look a little further.
	for i := max(0, line-2); i < min(len(lines), line+2); i++ {
		if column, ok := bareReference(lines[i]); ok {
			d.syntax(position{i + 1, column}, "is not YAML: a reference between brackets without quotes", `inside { } and [ ] write it as "${...}"`)
			return
		}
	}
	own := lines[line-1]
	column := len(own) - len(bytes.TrimLeft(own, " \t\r")) + 1
	d.syntax(position{line, column}, "is not YAML: "+text, yamlRemedy(text))
}

// bareReference finds ${ without quotes inside of brackets.
func bareReference(line []byte) (column int, found bool) {
	i := bytes.Index(line, []byte("${"))
	if i <= 0 || line[i-1] == '"' || line[i-1] == '\'' || !bytes.ContainsAny(line[:i], "{[") {
		return 0, false
	}
	return utf8.RuneCount(line[:i]) + 1, true
}

func yamlRemedy(text string) string {
	switch {
	case strings.Contains(text, "mapping values are not allowed"):
		return "look for a missing line break or wrong indentation near here; text that contains \": \" needs quotes"
	case strings.Contains(text, "cannot start any token"):
		return "text that begins with @, `, %, * or & needs quotes"
	case strings.Contains(text, "unknown anchor"), strings.Contains(text, "alphabetic or numeric character"):
		return "text that begins with * needs quotes, as in pattern: \"*.edi\""
	}
	return "look for wrong indentation, an unclosed bracket or an unclosed quote, here or just below"
}
