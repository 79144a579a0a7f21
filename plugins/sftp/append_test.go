package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/adaptertest"
)

func TestMessagesAreAppendedWholeAndOneAfterTheOther(t *testing.T) {
	s := startServer(t)
	appendMany(t, s.props)
	wantLines(t, s.content(t, "log"))
}

func TestOpenSSHAppends(t *testing.T) {
	dir, props := startOpenSSH(t)
	appendMany(t, with(props, "directory", "."))
	data, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, string(data))
}

func appendMany(t *testing.T, props map[string]any) {
	k := newSink(t, with(props, "name", "log", "if_exists", "append", "connections", 4))
	var sends sync.WaitGroup
	for i := range 10 {
		sends.Go(func() {
			if err := k.Send(testContext(t), newMessage(t, line(i))); err != nil {
				t.Errorf("send: %v", err)
			}
		})
	}
	sends.Wait()
	send(t, k, newMessage(t, ""))
	wantProbe(t, k, newMessage(t, line(1)), sdk.Unknown)
}

// line takes several requests, so that they would mix, or come in another order.
func line(i int) string {
	return strings.Repeat(string(rune('A'+i)), 100_000) + strings.Repeat(string(rune('a'+i)), 100_000) + "\n"
}

func wantLines(t *testing.T, content string) {
	t.Helper()
	got := strings.SplitAfter(content, "\n")
	slices.Sort(got)
	want := []string{""}
	for i := range 10 {
		want = append(want, line(i))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d lines arrived, or mixed ones, want %d", len(got)-1, len(want)-1)
	}
}

// A connection that breaks in the middle leaves open what has arrived; one that breaks
// before, or a server that cannot be reached, does not.
func TestFailureToAppendSaysWhatIsKnown(t *testing.T) {
	used := &meter{left: 1 << 30}
	s := startServer(t, meteredBy(used))
	k := newSink(t, with(s.props, "name", "log", "if_exists", "append"))
	send(t, k, newMessage(t, "first\n"))
	used.set(1 << 20)
	err := k.Send(testContext(t), newMessage(t, strings.Repeat("x", 3<<20)))
	if err == nil || sdk.IsDisconnected(err) || sdk.IsPermanent(err) || !strings.Contains(err.Error(), "may be in it") {
		t.Errorf("broke off in the middle: %v, want an error that leaves the outcome open", err)
	}
	if got := s.content(t, "log"); !strings.HasPrefix(got, "first\nxxx") {
		t.Errorf("the file begins with %q", got[:min(10, len(got))])
	}
	used.set(0)
	if err := k.Send(testContext(t), newMessage(t, "x")); !sdk.IsDisconnected(err) {
		t.Errorf("broke off before: %v, want Disconnected", err)
	}
	if err := os.Mkdir(filepath.Join(s.Dir, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	used.set(1 << 30)
	if err := newSink(t, with(s.props, "name", "dir", "if_exists", "append")).Send(testContext(t), newMessage(t, "x")); !sdk.IsPermanent(err) {
		t.Errorf("to a directory: %v, want Permanent", err)
	}
}

func TestWhatContradictsAppendIsRefused(t *testing.T) {
	for property, value := range map[string]any{"mode": "0640", "keep_time": true, "checksum": "md5", "resume": true, "temporary_directory": "/tmp"} {
		p := decode[sendProperties](t, map[string]any{"address": "x", "user": "u", "password": "p", "insecure_ignore_host_key": true})
		p.IfExists = "append"
		switch property {
		case "mode":
			p.Mode = value.(string)
		case "keep_time":
			p.KeepTime = true
		case "checksum":
			p.Checksum = value.(string)
		case "resume":
			p.Resume = true
		case "temporary_directory":
			p.TemporaryDirectory = value.(string)
		}
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), property+": contradicts if_exists: append") {
			t.Errorf("%s: %v", property, err)
		}
	}
}

func TestSinkConformanceWhenAppending(t *testing.T) {
	adaptertest.Sink(t, adaptertest.SinkCase{
		Adapter: adapter(),
		New: func(t testing.TB) adaptertest.SinkFixture {
			s := startServer(t)
			return adaptertest.SinkFixture{
				Properties: with(s.props, "name", "{{fairlead.id}}", "if_exists", "append"),
				Received:   s.received, Down: s.down, Up: s.up,
			}
		},
	})
}
