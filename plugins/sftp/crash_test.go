package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// Wherever an owner dies, the next one makes exactly one whole file of the message, and
// overwrites nothing.
func TestCrashAnywhereEndsInOneWholeFile(t *testing.T) {
	for name, c := range map[string]struct {
		properties []any
		taken      bool // the usual name, by another file
		size       int
	}{
		"replace":        {[]any{"checksum", "md5", "keep_time", true, "mode", "0600"}, false, 50},
		"fail":           {[]any{"name", "{{sftp.name}}", "if_exists", "fail", "checksum", "sha256"}, false, 50},
		"rename, free":   {[]any{"name", "{{sftp.name}}", "if_exists", "rename", "checksum", "sha256"}, false, 50},
		"rename, taken":  {[]any{"name", "{{sftp.name}}", "if_exists", "rename", "checksum", "sha256"}, true, 50},
		"rename, resume": {[]any{"name", "{{sftp.name}}", "if_exists", "rename", "resume", true}, true, 5 << 19},
	} {
		t.Run(name, func(t *testing.T) {
			used := &meter{}
			s := startServer(t, meteredBy(used))
			step := max(30, c.size/9)
			for said := 20; crashAfter(t, s, used, said, c.properties, c.taken, c.size); said += step {
				if said > 4*c.size+20_000 {
					t.Fatal("never came to its end")
				}
			}
		})
	}
}

// crashAfter reports whether the first owner died.
func crashAfter(t *testing.T, s *testServer, used *meter, said int, properties []any, taken bool, size int) (died bool) {
	t.Helper()
	dir, err := os.MkdirTemp(s.Dir, "")
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("x", size)
	if taken {
		if err := os.WriteFile(filepath.Join(dir, "a"), []byte(strings.ToUpper(body)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	props := with(with(s.props, "directory", dir), properties...)
	m := newMessage(t, body)
	m.Context["sftp.modified"] = "2020-01-01T00:00:00Z"
	first := newSink(t, props)
	used.set(said)
	died = first.Send(testContext(t), m) != nil
	first.Close()
	used.set(1 << 30)
	m.Redelivered = true
	next := newSink(t, props)
	arrival, err := next.Probe(testContext(t), m)
	if err != nil {
		t.Fatalf("after %d bytes: probe: %v", said, err)
	}
	before := arrivedFiles(t, dir, body, next.props.Placement)
	if (arrival == sdk.Arrived) != (len(before) == 1) {
		t.Errorf("after %d bytes: probe says %d, and there are %q", said, arrival, before)
	}
	if arrival != sdk.Arrived {
		send(t, next, m)
	}
	if got := arrivedFiles(t, dir, body, next.props.Placement); len(got) != 1 {
		t.Errorf("after %d bytes, probe %d: the message is in %q", said, arrival, got)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "a")); taken && (err != nil || string(data) != strings.ToUpper(body)) {
		t.Errorf("after %d bytes: somebody else's file was overwritten", said)
	}
	return died
}

// arrivedFiles returns the files with this content that a consumer sees, and makes sure that
// none is there in part or without its checksum.
func arrivedFiles(t *testing.T, dir, body string, p files.Placement) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		switch ext := filepath.Ext(e.Name()); {
		case err != nil:
			t.Error(err)
		case files.IsTemporary(e.Name()) || ext == ".sha256" || ext == ".md5":
		case string(data) == body:
			all = append(all, e.Name())
			if sidecar := p.SidecarName(e.Name()); sidecar != "" {
				if sum, err := os.ReadFile(filepath.Join(dir, sidecar)); err != nil || !strings.HasSuffix(string(sum), "  "+e.Name()+"\n") {
					t.Errorf("%s is there without its checksum: %q, %v", e.Name(), sum, err)
				}
			}
		case string(data) != strings.ToUpper(body):
			t.Errorf("%s has %d bytes that nobody sent", e.Name(), len(data))
		}
	}
	return all
}
