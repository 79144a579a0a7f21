package config

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"
	"unicode/utf8"
)

// formats are what a fuzzed file may be called.
var formats = []string{"f.yaml", "f.json", "f.toml"}

// checkPlaces fails if a finding points outside of the file.
func checkPlaces(t *testing.T, name string, data []byte, err error) {
	t.Helper()
	var findings Findings
	if !errors.As(err, &findings) {
		t.Fatalf("%s: got an error that is not Findings: %v", name, err)
	}
	if !findings.Failed() {
		t.Fatalf("%s: refused without an error among the findings: %v", name, err)
	}
	lines := bytes.Split(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), []byte("\n"))
	for _, f := range findings {
		if f.Line < 1 || f.Line > len(lines) {
			t.Fatalf("%s: the file has %d lines: %v", name, len(lines), f)
		}
		if width := utf8.RuneCount(lines[f.Line-1]); f.Column < 1 || f.Column > width+1 {
			t.Fatalf("%s: the line has %d characters: %v", name, width, f)
		}
		if f.Problem == "" {
			t.Fatalf("%s: a finding says nothing: %v", name, f)
		}
	}
}

func FuzzParseDeployment(f *testing.F) {
	f.Add(file(goodDeployment), uint8(0))
	f.Add([]byte(`{"hosts": {"a": {"clustered": 1}}, "routes": [], "x": 1e999}`), uint8(1))
	f.Add([]byte("[hosts.a]\nclustered = 1979-05-27\n[[routes]]\na.b = {c = [1, 2]}\n"), uint8(2))
	f.Add([]byte("hosts: &a\n  <<: [*a, {x: 1}]\n  ? [k]\n  : v\n"), uint8(0))
	f.Add([]byte("send_ports: {p: {host: \"${env:X}\", endpoint: {broker: \"${file:/x}\", size: ${}}}}"), uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, format uint8) {
		name := formats[int(format)%len(formats)]
		d, err := ParseDeployment(name, data, testFacts())
		if err != nil {
			checkPlaces(t, name, data, err)
			return
		}
		encoded, err := d.Encode()
		if err != nil {
			t.Fatalf("accepted, but cannot be encoded: %v", err)
		}
		if _, err := DecodeDeployment(encoded); err != nil {
			t.Fatalf("accepted and encoded, but cannot be decoded: %v", err)
		}
		d.Groups()
	})
}

func FuzzParseNode(f *testing.F) {
	f.Add([]byte("node: {name: node-a}\nlisten: {gossip: \"10.0.0.1:1\"}\n"), uint8(0))
	f.Add([]byte(`{"node": {"labels": {"a.b": 1}}, "cluster": {"join": ["[::1]:7946"]}}`), uint8(1))
	f.Add([]byte("deploy = \"x\"\n[tls]\nca = 'a'\n[cluster]\njoin = [1]\n"), uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, format uint8) {
		name := formats[int(format)%len(formats)]
		n, err := ParseNode(name, data, Offline(), withHostname("node-a"))
		if err != nil {
			checkPlaces(t, name, data, err)
			return
		}
		for _, path := range []string{n.Node.DataDir, n.Listen.Socket} {
			if !filepath.IsAbs(path) {
				t.Fatalf("accepted with the relative path %q", path)
			}
		}
	})
}
