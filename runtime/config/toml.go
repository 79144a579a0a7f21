package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/knadh/koanf/parsers/toml/v2"
	gotoml "github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// parseTOML reads a TOML file: the values by koanf's parser, then the places of
// the keys from the syntax tree. Values have no places of their own; messages
// point to their keys.
func (d *document) parseTOML(data []byte) *tree {
	// The library recurses for every bracket, without a bound of its own.
	if deepest(data) > maxDepth {
		d.syntax(position{1, 1}, "is nested too deeply", "nest less deeply")
		return nil
	}
	values, err := toml.Parser().Unmarshal(data)
	if err != nil {
		at := position{1, 1}
		var wrong *gotoml.DecodeError
		if errors.As(err, &wrong) {
			at.line, at.column = wrong.Position()
		} else if key, first, second, ok := tomlTwice(data); ok {
			// The library does not say where.
			d.syntax(second, fmt.Sprintf("key %s stands twice; the first is at line %d", quoted(key), first.line), "remove one of them")
			return nil
		}
		text := strings.TrimPrefix(err.Error(), "toml: ")
		d.syntax(at, "is not TOML: "+text, "look for a missing quote, a missing bracket or a key that stands twice")
		return nil
	}
	places := tomlPlaces(data)
	return d.tomlTree(values, nil, places, position{1, 1})
}

// deepest returns how many brackets are open at most. Brackets in texts and
// comments count too, which is good enough for a bound.
func deepest(data []byte) int {
	depth, most := 0, 0
	for _, c := range data {
		switch c {
		case '[', '{':
			depth++
			most = max(most, depth)
		case ']', '}':
			depth = max(0, depth-1)
		}
	}
	return most
}

func (d *document) tomlTree(v any, path []string, places map[string]position, parent position) *tree {
	at, ok := places[joined(path)]
	if !ok {
		at = parent
	}
	switch v := v.(type) {
	case map[string]any:
		t := newMap(at)
		for k, value := range v {
			t.set(k, d.tomlTree(value, append(slices.Clone(path), k), places, at))
		}
		slices.SortStableFunc(t.keys, func(a, b string) int {
			return t.fields[a].key.compare(t.fields[b].key)
		})
		t.key = at
		return t
	case []any:
		t := &tree{kind: listKind, key: at, at: at}
		for i, value := range v {
			t.items = append(t.items, d.tomlTree(value, append(slices.Clone(path), strconv.Itoa(i)), places, at))
		}
		return t
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			d.syntax(at, "is not a finite number", "write a number such as 1.5")
			return &tree{key: at, at: at}
		}
		return &tree{key: at, at: at, value: v}
	case string, bool, int64, uint64:
		return &tree{key: at, at: at, value: v}
	default: // dates and times
		return &tree{key: at, at: at, value: fmt.Sprint(v)}
	}
}

// tomlPlaces returns where the keys stand, by their joined paths.
func tomlPlaces(data []byte) map[string]position {
	r := tomlReader{data: data, places: map[string]position{}, tables: map[string]int{}}
	p := unstable.Parser{}
	p.Reset(data)
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table:
			r.prefix = r.note(nil, e.Key())
		case unstable.ArrayTable:
			r.prefix = r.note(nil, e.Key())
			n := r.tables[joined(r.prefix)]
			r.tables[joined(r.prefix)] = n + 1
			at := r.places[joined(r.prefix)]
			r.prefix = append(r.prefix, strconv.Itoa(n))
			r.places[joined(r.prefix)] = at
		case unstable.KeyValue:
			r.keyValue(r.prefix, e)
		}
	}
	return r.places
}

// tomlTwice finds the first table or key that is defined twice.
func tomlTwice(data []byte) (key string, first, second position, found bool) {
	seen := map[string]position{}
	r := tomlReader{data: data, places: map[string]position{}, tables: map[string]int{}}
	p := unstable.Parser{}
	p.Reset(data)
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.Table && e.Kind != unstable.KeyValue {
			if e.Kind == unstable.ArrayTable {
				seen = map[string]position{} // its tables begin anew
				r.prefix = r.note(nil, e.Key())
			}
			continue
		}
		prefix := r.prefix
		if e.Kind == unstable.Table {
			prefix = nil
		}
		path := r.note(prefix, e.Key())
		if e.Kind == unstable.Table {
			r.prefix = path
		}
		keys := e.Key()
		keys.Next()
		at := positionOf(data, int(keys.Node().Raw.Offset))
		if first, ok := seen[joined(path)]; ok {
			return strings.Join(path, "."), first, at, true
		}
		seen[joined(path)] = at
	}
	return "", position{}, position{}, false
}

type tomlReader struct {
	data   []byte
	prefix []string
	places map[string]position
	tables map[string]int // entries so far of each array of tables
}

// note records the keys of a dotted key and returns the whole path.
func (r *tomlReader) note(prefix []string, keys unstable.Iterator) []string {
	path := slices.Clone(prefix)
	for keys.Next() {
		// A table under an array of tables belongs to the latest entry.
		if n := r.tables[joined(path)]; n > 0 {
			path = append(path, strconv.Itoa(n-1))
		}
		k := keys.Node()
		path = append(path, string(k.Data))
		if _, ok := r.places[joined(path)]; !ok {
			r.places[joined(path)] = positionOf(r.data, int(k.Raw.Offset))
		}
	}
	return path
}

func (r *tomlReader) keyValue(prefix []string, e *unstable.Node) {
	r.value(r.note(prefix, e.Key()), e.Value())
}

func (r *tomlReader) value(path []string, v *unstable.Node) {
	children := v.Children()
	switch v.Kind {
	case unstable.InlineTable:
		for children.Next() {
			r.keyValue(path, children.Node())
		}
	case unstable.Array:
		for i := 0; children.Next(); {
			if children.Node().Kind == unstable.Comment {
				continue
			}
			r.value(append(slices.Clone(path), strconv.Itoa(i)), children.Node())
			i++
		}
	}
}
