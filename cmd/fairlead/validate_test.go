package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/runtime/config"
)

const goodDeployment = `hosts:
  intake: {clustered: true}
receive_locations:
  orders:
    host: intake
    adapter: ftp
    endpoint: {address: "ftp.example:21"}
    to: [erp]
send_ports:
  erp:
    host: intake
    adapter: queue
    endpoint: {broker: "nats://127.0.0.1:4222"}
`

func TestGoodFilesAreOK(t *testing.T) {
	dir := t.TempDir()
	app, node := filepath.Join(dir, "app.yaml"), filepath.Join(dir, "node.yaml")
	write(t, app, goodDeployment)
	write(t, node, "node: {name: node-a}\ncluster: {gossip_key: \"${file:/etc/fairlead/gossip.key}\"}\n")
	r := fairlead(t, "validate", app, node)
	if r.code != exitDone {
		t.Fatalf("exit status %d:\n%s%s", r.code, r.out, r.err)
	}
	for _, want := range []string{app + ": ok (deployment)", node + ": ok (node)"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("output lacks %q:\n%s", want, r.out)
		}
	}
	if !strings.Contains(r.out, "warning: ") {
		t.Errorf("nothing says that the adapters were not checked:\n%s", r.out)
	}
}

func TestAllFindingsOfAllFilesComeAtOnce(t *testing.T) {
	dir := t.TempDir()
	app, node := filepath.Join(dir, "app.yaml"), filepath.Join(dir, "node.yaml")
	write(t, app, strings.Replace(strings.Replace(goodDeployment, "clustered:", "clusterd:", 1), "to: [erp]", "to: [epr]", 1))
	write(t, node, "node:\n  role: boss\n")
	r := fairlead(t, "validate", app, node)
	if r.code != exitWrong || !strings.Contains(r.err, "problems found") {
		t.Errorf("exit status %d, want 2: %s", r.code, r.err)
	}
	for _, place := range []string{app + ":2:12: ", app + ":8:10: ", node + ":2:9: "} {
		if !strings.Contains(r.out, place) {
			t.Errorf("no finding at %s:\n%s", place, r.out)
		}
	}
	if strings.Contains(r.out, "ok (") {
		t.Errorf("a wrong file is called ok:\n%s", r.out)
	}
}

func TestFindingsForPrograms(t *testing.T) {
	file := filepath.Join(t.TempDir(), "node.yaml")
	write(t, file, "node:\n  role: boss\n")
	r := fairlead(t, "validate", file, "-o", "json")
	var got []verdict
	if err := json.Unmarshal([]byte(r.out), &got); err != nil {
		t.Fatalf("%q: %v", r.out, err)
	}
	if len(got) != 1 || got[0].OK || got[0].Kind != nodeFile || len(got[0].Findings) == 0 {
		t.Fatalf("got %+v", got)
	}
	if f := got[0].Findings[0]; f.Severity != config.Error || f.File != file || f.Line != 2 || f.Path != "node.role" {
		t.Errorf("got finding %+v", f)
	}
}

func TestFilesThatCannotBeReadAreWrongInput(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.yaml")
	write(t, broken, "hosts:\n  a: [\n")
	for path, says := range map[string]string{
		filepath.Join(dir, "none.yaml"): "no such file",
		dir:                             "is a directory",
		broken:                          "1 problem found",
	} {
		if r := fairlead(t, "validate", path); r.code != exitWrong || !strings.Contains(r.err, says) {
			t.Errorf("%s: exit status %d, %q, want 2 and %q", path, r.code, r.err, says)
		}
	}
}

func TestKindOfFileIsToldByItsKeys(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"a.yaml", "node: {name: a}", nodeFile},
		{"a.yaml", "cluster: {name: x}\nlog: {level: info}", nodeFile},
		{"a.yaml", "hosts: {}", deploymentFile},
		{"a.yaml", "send_ports: {}\nnode: {}\nroutes: []", deploymentFile},
		{"a.yaml", "", deploymentFile},
		{"a.yaml", "something: else", deploymentFile},
		{"a.yaml", "node:\n\tname: tabs are wrong", nodeFile},
		{"a.yaml", "hosts:\n  x: [", deploymentFile},
		{"a.toml", "[node]\nname = \"a\"", nodeFile},
		{"a.toml", "[hosts.intake]\nclustered = true", deploymentFile},
		{"a.toml", "[node]\nname = ", nodeFile},
		{"a.json", `{"listen": {"http": ""}}`, nodeFile},
		{"a.json", `{"hosts": {}}`, deploymentFile},
		{"a.json", "{\n  \"node\": {", nodeFile},
	} {
		if got := kindOf(tt.name, []byte(tt.text)); got != tt.want {
			t.Errorf("%s %q: got %s, want %s", tt.name, tt.text, got, tt.want)
		}
	}
}

func TestAdaptersAreLookedForNextToTheBinary(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"bin/adapters", "lib/fairlead/adapters"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c := &cli{env: environment{executable: filepath.Join(root, "bin", "fairlead")}}
	want := filepath.Join(root, "bin/adapters") + " " + filepath.Join(root, "lib/fairlead/adapters")
	if got := strings.Join(c.adapterDirs(nil), " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := c.adapterDirs([]string{"/x"}); len(got) != 1 || got[0] != "/x" {
		t.Errorf("with directories given: got %v", got)
	}
}

func TestLocalAdaptersAreAskedWithoutANode(t *testing.T) {
	dir := t.TempDir()
	if r := fairlead(t, "adapter", "list", "--adapters", dir); r.code != exitDone {
		t.Errorf("empty directory: exit status %d: %s", r.code, r.err)
	}
	if r := fairlead(t, "adapter", "describe", "ftp", "--adapters", dir); r.code != exitNoSuchThing || !strings.Contains(r.err, dir) {
		t.Errorf("missing adapter: exit status %d: %s", r.code, r.err)
	}
	broken := filepath.Join(dir, "fairlead-adapter-broken")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := fairlead(t, "adapter", "list", "--adapters", dir, "-o", "json")
	if r.code != exitDone || !strings.Contains(r.out, `"name": "broken"`) || !strings.Contains(r.out, `"error"`) {
		t.Errorf("a file that is no adapter: exit status %d: %s", r.code, r.out)
	}
}
