package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// builtAdapters are real ones.
func builtAdapters(t *testing.T, names ...string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds adapters")
	}
	dir := t.TempDir()
	for _, name := range names {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "fairlead-adapter-"+name), "../../plugins/"+name)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	return dir
}

// silence is a server that takes connections and says nothing.
func silence(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func TestValidateLiveSaysWhatTheEndpointsSay(t *testing.T) {
	adapters, dir := builtAdapters(t, "file", "ftp"), t.TempDir()
	in := filepath.Join(dir, "in")
	if err := os.Mkdir(in, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.edi", "b.edi", "c.txt"} {
		write(t, filepath.Join(in, name), "five!")
	}
	t.Setenv("FAIRLEAD_TEST_SECRET", "s3cret-Passw0rd")
	app := filepath.Join(dir, "app.yaml")
	write(t, app, fmt.Sprintf(`hosts: {h: {clustered: true}}
receive_locations:
  good: {host: h, adapter: file, endpoint: {directory: %q, pattern: "*.edi", stable_for: 0s}, to: [out]}
  hangs: {host: h, adapter: ftp, endpoint: {address: %q, user: u, password: "${env:FAIRLEAD_TEST_SECRET}", timeout: 10m}, to: [out]}
  unresolved: {host: h, adapter: ftp, endpoint: {address: "127.0.0.1:1", user: u, password: "${env:FAIRLEAD_TEST_NONE}"}, to: [out]}
send_ports:
  out: {host: h, adapter: file, endpoint: {directory: %q}}
`, in, silence(t), filepath.Join(dir, "missing")))

	r := fairlead(t, "validate", app, "--adapters", adapters, "--live", "--items", "1", "--endpoint-timeout", "2s")
	if r.code != exitWrong || !strings.Contains(r.err, "3 problems") {
		t.Errorf("exit status %d: %s", r.code, r.err)
	}
	for _, want := range []string{
		"receive location good (file)\n", "  would be taken: 2\n    a.edi (5 bytes, ", "    and 1 more\n", "  left there: 1: pattern \"*.edi\"\n    c.txt\n",
		"receive location hangs (ftp)\n  error: no answer within 2s", "error: on this machine: password: environment variable FAIRLEAD_TEST_NONE",
		"send port out (file)\n  error: look: directory: ",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("output lacks %q:\n%s", want, r.out)
		}
	}
	if strings.Contains(r.out+r.err, "s3cret") {
		t.Errorf("the password is shown:\n%s%s", r.out, r.err)
	}

	r = fairlead(t, "validate", app, "--adapters", adapters, "--live", "--only", "good", "-o", "json")
	var all []verdict
	if err := json.Unmarshal([]byte(r.out), &all); err != nil || r.code != exitDone {
		t.Fatalf("exit status %d, %v:\n%s%s", r.code, err, r.out, r.err)
	}
	if !all[0].OK || len(all[0].Live) != 1 || all[0].Live[0].Count != 2 || all[0].Live[0].Rejected[0].Names[0] != "c.txt" {
		t.Errorf("found %+v", all)
	}
}

func TestFlagsOfValidateLive(t *testing.T) {
	app := filepath.Join(t.TempDir(), "app.yaml")
	write(t, app, goodDeployment)
	for _, args := range [][]string{{"--only", "x"}, {"--items", "3"}, {"--live", "--items", "-1"}, {"--live", "--endpoint-timeout", "0s"}} {
		if r := fairlead(t, append([]string{"validate", app}, args...)...); r.code != exitWrong {
			t.Errorf("%q: exit status %d: %s", args, r.code, r.err)
		}
	}
	r := fairlead(t, "validate", app, "--live", "--only", "nobody")
	if r.code != exitWrong || !strings.Contains(r.out, "no receive location or send port of this name") {
		t.Errorf("exit status %d:\n%s%s", r.code, r.out, r.err)
	}
	if r := fairlead(t, "validate", app, "--live"); r.code != exitWrong || !strings.Contains(r.out, "adapter ftp is not here; say where with --adapters") {
		t.Errorf("exit status %d:\n%s%s", r.code, r.out, r.err)
	}
}
