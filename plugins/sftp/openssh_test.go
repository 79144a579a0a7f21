package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/internal/freeport"
	"github.com/fairlead-io/fairlead/sdk"
)

// startOpenSSH starts a real sshd by its script, or skips the test.
func startOpenSSH(t testing.TB, settings ...string) (data string, props map[string]any) {
	t.Helper()
	if testing.Short() {
		t.Skip("real servers are left out of short tests")
	}
	scripts := os.Getenv("FAIRLEAD_SERVERS")
	if scripts == "" {
		scripts = filepath.Join("..", "..", "..", "shared", "servers")
	}
	if _, err := os.Stat(filepath.Join(scripts, "start-sshd")); err != nil {
		t.Skip("no script to start sshd; name its folder in FAIRLEAD_SERVERS")
	}
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} { // sessions run as another user
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	port, release, err := freeport.Take(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	cmd := exec.Command(filepath.Join(scripts, "start-sshd"), dir, fmt.Sprint(port))
	cmd.Env = append(os.Environ(), append(settings, fmt.Sprintf("OWNER_PID=%d", os.Getpid()))...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		if strings.Contains(string(out), "run ./install first") || strings.Contains(string(out), "needs root") {
			t.Skipf("sshd cannot be started here: %s", out)
		}
		t.Fatalf("start sshd: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(filepath.Join(scripts, "stop"), dir).CombinedOutput(); err != nil {
			t.Errorf("stop sshd: %v\n%s", err, out)
		}
	})
	field := func(name string) string {
		m := regexp.MustCompile(`\b` + name + `=(\S*)`).FindSubmatch(out)
		if m == nil {
			t.Fatalf("no %s in %s", name, out)
		}
		return string(m[1])
	}
	file := func(name string) string {
		data, err := os.ReadFile(field(name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	return filepath.Join(dir, "data"), map[string]any{
		"address": fmt.Sprintf("127.0.0.1:%d", port), "user": field("user"), "password": field("password"),
		"host_keys": []string{file("host_key")}, "private_key": file("key"),
	}
}

func TestOpenSSH(t *testing.T) {
	for name, setting := range map[string]string{"password": "PASSWORDS=1", "key": "PASSWORDS=0"} {
		t.Run(name, func(t *testing.T) {
			dir, props := startOpenSSH(t, setting)
			if name == "password" {
				delete(props, "private_key")
			} else {
				delete(props, "password")
			}
			in := filepath.Join(dir, "in")
			if err := os.Mkdir(in, 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(in, 0o777); err != nil {
				t.Fatal(err)
			}
			k := newSink(t, with(props, "directory", "in", "name", "{{sftp.name}}"))
			want := map[string][]byte{"empty": {}, "größe \"1\"\n.edi": []byte("x"), "big": make([]byte, 5<<20+7)}
			_, _ = rand.Read(want["big"])
			for name, content := range want {
				m := newMessage(t, string(content))
				m.Context["sftp.name"] = strings.ReplaceAll(name, "\n", "_")
				for range 2 { // the second one replaces
					if err := k.Send(testContext(t), m); err != nil {
						t.Fatal(err)
					}
				}
				if got, err := k.Probe(testContext(t), m); err != nil || got != sdk.Arrived {
					t.Errorf("probe: %v, %v, want arrived", got, err)
				}
			}
			src := newSource(t, with(props, "directory", "in", "stable_for", "0s"))
			items := list(t, src)
			if len(items) != len(want) {
				t.Fatalf("%d items, want %d", len(items), len(want))
			}
			for name, content := range want {
				item := items[strings.ReplaceAll(name, "\n", "_")]
				got, err := read(t, src, item)
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("%q: %d bytes, %v; want %d", name, len(got), err, len(content))
				}
				if err := src.Settle(testContext(t), item); err != nil {
					t.Error(err)
				}
			}
			if entries, err := os.ReadDir(in); err != nil || len(entries) != 0 {
				t.Errorf("left are %v, %v", entries, err)
			}
		})
	}
}

func TestOpenSSHRefusesToReplaceAndToReadForbiddenFiles(t *testing.T) {
	dir, props := startOpenSSH(t)
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("root's own"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b"), []byte("everybody's"), 0o644); err != nil {
		t.Fatal(err)
	}
	src := newSource(t, with(props, "stable_for", "0s"))
	items := list(t, src)
	if _, err := read(t, src, items["a"]); err == nil || sdk.IsGone(err) || sdk.IsDisconnected(err) || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("a forbidden file: %v; want an error of this file alone", err)
	}
	if data, err := read(t, src, items["b"]); err != nil || string(data) != "everybody's" {
		t.Errorf("the file after it: %q, %v", data, err)
	}
	m := newMessage(t, "new")
	m.Context["sftp.name"] = "b"
	if err := newSink(t, with(props, "name", "{{sftp.name}}", "if_exists", "fail")).Send(testContext(t), m); err == nil {
		t.Error("sent over a file")
	}
	names := []string{}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if err != nil || !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("left are %q, %v", names, err)
	}
}
