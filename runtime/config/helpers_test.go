package config

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

// testFTP has one property of each kind that adapters use.
const testFTP = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object", "additionalProperties": false, "required": ["address"],
  "properties": {
    "address": {"type": "string", "minLength": 1, "description": "Server, as host or host:port."},
    "user": {"type": "string", "default": "anonymous"},
    "password": {"type": "string", "writeOnly": true},
    "directory": {"type": "string", "default": "."},
    "pattern": {"type": "string", "default": "*"},
    "tls": {"type": "string", "enum": ["none", "explicit", "implicit"], "default": "none"},
    "connections": {"type": "integer", "minimum": 1, "maximum": 64, "default": 2},
    "timeout": {"type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$|^0$", "default": "30s", "examples": ["30s", "5m"]},
    "passive": {"type": "boolean", "default": false},
    "headers": {"type": "object", "additionalProperties": {"type": "string"}},
    "names": {"type": "array", "items": {"type": "string"}}
  }
}`

const testQueue = `{
  "type": "object", "additionalProperties": false, "required": ["broker"],
  "properties": {"broker": {"type": "string", "minLength": 1}, "size": {"type": "integer"}, "weight": {"type": "number"}}
}`

func testFacts() Facts {
	return Facts{
		Nodes: []string{"node-a", "node-b", "node-c"},
		Adapters: map[string]AdapterFacts{
			"ftp":   {Version: "1.0.0", ReceiveSchema: []byte(testFTP), Exclusive: true},
			"queue": {Version: "1.0.0", ReceiveSchema: []byte(testQueue), SendSchema: []byte(testQueue)},
			"file":  {Version: "1.0.0", SendSchema: []byte(`{"type": "object"}`)},
		},
	}
}

// withCheck lets the adapter ftp check its properties itself.
func withCheck(f Facts, check func(ctx context.Context, receive bool, properties []byte) ([]Problem, error)) Facts {
	ftp := f.Adapters["ftp"]
	ftp.Check = check
	f.Adapters["ftp"] = ftp
	return f
}

// file makes a file of an indented raw string.
func file(text string) []byte { return []byte(strings.TrimPrefix(text, "\n")) }

// wantFindings compares the findings of an error with the lines that are wanted.
func wantFindings(t *testing.T, err error, want ...string) {
	t.Helper()
	var got Findings
	if err != nil && !errors.As(err, &got) {
		t.Fatalf("got error of type %T, want Findings: %v", err, err)
	}
	wantLines(t, got, want...)
}

func wantLines(t *testing.T, got Findings, want ...string) {
	t.Helper()
	lines := make([]string, len(got))
	for i, f := range got {
		lines[i] = f.String()
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got:\n  %s\nwant:\n  %s", strings.Join(lines, "\n  "), strings.Join(want, "\n  "))
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	return string(data)
}

const goodDeployment = `
hosts:
  intake: {clustered: true}
  outbound: {}
receive_locations:
  orders:
    host: intake
    adapter: ftp
    endpoint: {address: "ftp.example:21"}
    to: [erp]
send_ports:
  erp:
    host: outbound
    adapter: queue
    endpoint: {broker: "nats://queue.example:4222"}
`
