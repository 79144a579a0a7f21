package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// parseJSON reads one JSON value.
func (d *document) parseJSON(data []byte) *tree {
	const remedy = "look for a missing or superfluous comma, quote or brace, here or just before"
	var all json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		at := 0
		var wrong *json.SyntaxError
		if errors.As(err, &wrong) {
			at = int(wrong.Offset) - 1 // of the first byte that does not fit
		}
		text := err.Error()
		if strings.Contains(text, "unexpected end") {
			at, text = len(data), "it ends too early"
		}
		if strings.Contains(text, "max depth") {
			text = "it is nested too deeply"
		}
		d.syntax(positionOf(data, at), "is not JSON: "+text, remedy)
		return nil
	}
	r := jsonReader{d: d, data: data, dec: json.NewDecoder(bytes.NewReader(data))}
	r.dec.UseNumber()
	t, err := r.read(0)
	if err != nil {
		d.syntax(positionOf(data, int(r.dec.InputOffset())), "is not usable JSON: "+err.Error(), remedy)
		return nil
	}
	return t
}

// jsonReader makes a tree of JSON tokens.
type jsonReader struct {
	d     *document
	data  []byte
	dec   *json.Decoder
	nodes int
}

// next returns where the next token begins: the decoder only tells where the last
// one ended.
func (r *jsonReader) next() position {
	at := int(r.dec.InputOffset())
	for at < len(r.data) && strings.IndexByte(" \t\r\n,:", r.data[at]) >= 0 {
		at++
	}
	return positionOf(r.data, at)
}

func (r *jsonReader) read(depth int) (*tree, error) {
	if r.nodes++; depth > maxDepth || r.nodes > maxNodes {
		return nil, errors.New("it is nested too deeply or holds too much")
	}
	at := r.next()
	token, err := r.dec.Token()
	if err != nil {
		return nil, err
	}
	switch v := token.(type) {
	case json.Delim:
		if v == '{' {
			return r.object(at, depth)
		}
		t := &tree{kind: listKind, at: at}
		for r.dec.More() {
			item, err := r.read(depth + 1)
			if err != nil {
				return nil, err
			}
			t.items = append(t.items, item)
		}
		_, err := r.dec.Token()
		return t, err
	case json.Number:
		n, err := jsonNumber(v)
		return &tree{at: at, value: n}, err
	default:
		return &tree{at: at, value: v}, nil
	}
}

func (r *jsonReader) object(at position, depth int) (*tree, error) {
	t := newMap(at)
	for r.dec.More() {
		at := r.next()
		token, err := r.dec.Token()
		if err != nil {
			return nil, err
		}
		key, ok := token.(string)
		if !ok {
			return nil, errors.New("a key must be text in quotes")
		}
		v, err := r.read(depth + 1)
		if err != nil {
			return nil, err
		}
		if first, ok := t.fields[key]; ok {
			r.d.syntax(at, fmt.Sprintf("key %s stands twice; the first is at line %d", quoted(key), first.key.line), "remove one of them")
			continue
		}
		v.key = at
		t.set(key, v)
	}
	_, err := r.dec.Token()
	return t, err
}

func jsonNumber(n json.Number) (any, error) {
	if i, err := strconv.ParseInt(n.String(), 10, 64); err == nil {
		return i, nil
	}
	if u, err := strconv.ParseUint(n.String(), 10, 64); err == nil {
		return u, nil
	}
	f, err := n.Float64()
	if err != nil {
		return nil, fmt.Errorf("%s is not a number that can be used here", n)
	}
	return f, nil
}
