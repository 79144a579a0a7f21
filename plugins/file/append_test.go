package main

import (
	"context"
	"crypto/sha256"
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
	dir := t.TempDir()
	one, two := newSink(t, dir, map[string]any{"name": "log", "if_exists": "append"}), newSink(t, dir, map[string]any{"name": "log", "if_exists": "append"})
	var sends sync.WaitGroup
	lines := []string{}
	for i := range 40 {
		// More than one write each, so that they would mix.
		line := strings.Repeat(string(rune('A'+i)), 300_000) + "\n"
		lines = append(lines, line)
		sends.Go(func() {
			if err := []*sink{one, two}[i%2].Send(t.Context(), message(newID(t), "", line)); err != nil {
				t.Errorf("send: %v", err)
			}
		})
	}
	sends.Wait()
	got := strings.SplitAfter(read(t, filepath.Join(dir, "log")), "\n")
	got = got[:len(got)-1]
	slices.Sort(got)
	slices.Sort(lines)
	if !slices.Equal(got, lines) {
		t.Errorf("%d lines arrived, or mixed ones, want %d", len(got), len(lines))
	}
	if got := names(t, dir); !slices.Equal(got, []string{"log"}) {
		t.Errorf("directory holds %q", got)
	}
}

func TestNobodyKnowsWhetherWhatWasAppendedHasArrived(t *testing.T) {
	dir := t.TempDir()
	s := newSink(t, dir, map[string]any{"name": "log", "if_exists": "append"})
	m := message(newID(t), "", "hello")
	probe(t, s, m, sdk.Unknown)
	send(t, s, m)
	probe(t, s, m, sdk.Unknown)
	// What is known before the first byte says so.
	damaged := message(newID(t), "", "hello")
	damaged.Parts[0].SHA256 = make([]byte, sha256.Size)
	if err := s.Send(t.Context(), damaged); !sdk.IsPermanent(err) {
		t.Errorf("damaged content: %v, want a Permanent error", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Send(ended, m); !sdk.IsDisconnected(err) {
		t.Errorf("after the end of the context: %v, want a Disconnected error", err)
	}
	if got := read(t, filepath.Join(dir, "log")); got != "hello" {
		t.Errorf("the file holds %q", got)
	}
	outside := write(t, t.TempDir(), "precious", "")
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := newSink(t, dir, map[string]any{"name": "link", "if_exists": "append"}).Send(t.Context(), m); !sdk.IsPermanent(err) || read(t, outside) != "" {
		t.Errorf("through a link: %v", err)
	}
}

func TestWhatContradictsAppendIsRefused(t *testing.T) {
	for property, value := range map[string]any{"mode": "0640", "keep_time": true, "checksum": "md5"} {
		_, err := decode[sendProperties](t, map[string]any{"directory": "/out", "if_exists": "append", property: value})
		if err == nil || !strings.Contains(err.Error(), property+": contradicts if_exists: append") {
			t.Errorf("%s: %v", property, err)
		}
	}
}

func TestSinkConformanceWhenAppending(t *testing.T) {
	adaptertest.Sink(t, adaptertest.SinkCase{
		Adapter: adapter(),
		New: func(t testing.TB) adaptertest.SinkFixture {
			p := newPlace(t)
			return adaptertest.SinkFixture{
				Properties: map[string]any{"directory": p.dir, "name": "{{fairlead.id}}", "if_exists": "append"},
				Received:   p.received, Down: p.rename("", ".away"), Up: p.rename(".away", ""),
			}
		},
	})
}
