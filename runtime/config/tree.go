package config

import (
	"bytes"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

const (
	// maxFileBytes bounds a file: a deployment is one entry of the ledger.
	maxFileBytes = 1 << 20
	// maxDepth and maxNodes bound what a small file can unfold to.
	maxDepth = 64
	maxNodes = 200_000
)

type treeKind int

const (
	scalarKind treeKind = iota
	mapKind
	listKind
)

// position counts from 1; the zero position is none.
type position struct{ line, column int }

// tree is one value of a file, with the place where it stands.
type tree struct {
	kind treeKind
	// key is where the value's key stands, if it has one; at the value itself.
	key, at position
	keys    []string // of a map, in the file's order
	fields  map[string]*tree
	items   []*tree
	value   any // of a scalar: string, bool, int64, uint64, float64 or nil
}

func newMap(at position) *tree {
	return &tree{kind: mapKind, at: at, fields: map[string]*tree{}}
}

func (t *tree) set(key string, v *tree) {
	if _, ok := t.fields[key]; !ok {
		t.keys = append(t.keys, key)
	}
	t.fields[key] = v
}

// child returns the value under a key or an index, nil if there is none.
func (t *tree) child(segment string) *tree {
	switch t.kind {
	case mapKind:
		return t.fields[segment]
	case listKind:
		if i, ok := index(segment); ok && i < len(t.items) {
			return t.items[i]
		}
	}
	return nil
}

// where returns the place that a message about this value points to: a scalar's
// own, a container's key.
func (t *tree) where() position {
	if t.kind != scalarKind && t.key != (position{}) {
		return t.key
	}
	return t.at
}

// plain returns the value as JSON knows it: map[string]any, []any and scalars.
func (t *tree) plain() any {
	switch t.kind {
	case mapKind:
		m := make(map[string]any, len(t.fields))
		for k, v := range t.fields {
			m[k] = v.plain()
		}
		return m
	case listKind:
		l := make([]any, len(t.items))
		for i, v := range t.items {
			l[i] = v.plain()
		}
		return l
	default:
		return t.value
	}
}

// fill makes an empty section of a key without a value where a section belongs:
// one whose lines are all commented out counts as left out.
func (t *tree) fill(schema map[string]any) {
	for _, k := range t.keys {
		v, sub := t.fields[k], subschema(schema, k)
		if v.kind == scalarKind && v.value == nil && sub["type"] == "object" {
			empty := newMap(v.at)
			empty.key = v.key
			t.fields[k] = empty
			continue
		}
		v.fill(sub)
	}
}

// parse reads a file into a tree. What the tree cannot hold becomes a finding; a
// nil tree means that the file could not be read at all.
func (d *document) parse(data []byte) {
	if len(data) > maxFileBytes {
		d.syntax(position{1, 1}, "is larger than 1 MiB", "split it, or look whether it is the right file")
		return
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	d.lines = bytes.Split(data, []byte("\n"))
	if at, bad := firstUnreadable(data); bad {
		d.syntax(at, "holds a byte that is not readable text", "save the file as UTF-8 without control characters")
		return
	}
	if len(bytes.TrimSpace(data)) == 0 {
		d.syntax(position{1, 1}, "the file is empty", "write "+d.least)
		return
	}
	switch strings.ToLower(filepath.Ext(d.file)) {
	case ".json":
		d.root = d.parseJSON(data)
	case ".toml":
		d.root = d.parseTOML(data)
	default:
		d.root = d.parseYAML(data)
	}
	if d.root != nil && d.root.kind != mapKind {
		d.syntax(d.root.at, "holds "+describe(d.root.plain())+", want keys and values", "write "+d.least)
		d.root = nil
	}
}

// firstUnreadable finds the first byte that no editor shows.
func firstUnreadable(data []byte) (position, bool) {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		control := r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r >= 0x7f && r < 0xa0
		if control || r == utf8.RuneError && n == 1 || r == 0xfeff {
			return positionOf(data, i), true
		}
		i += n
	}
	return position{}, false
}

// positionOf returns the place of a byte.
func positionOf(data []byte, offset int) position {
	offset = max(0, min(offset, len(data)))
	before := data[:offset]
	start := bytes.LastIndexByte(before, '\n') + 1
	return position{
		line:   bytes.Count(before, []byte("\n")) + 1,
		column: utf8.RuneCount(before[start:]) + 1,
	}
}
