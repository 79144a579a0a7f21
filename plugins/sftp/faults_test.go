package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// decodeLoosely applies the defaults and does not validate.
func decodeLoosely(t testing.TB, props map[string]any) receiveProperties {
	t.Helper()
	data, err := json.Marshal(props)
	if err != nil {
		t.Fatal(err)
	}
	p := receiveProperties{
		connection: connection{Connections: 2, Timeout: sdk.Duration(time.Second)},
		Selection:  files.Selection{Pattern: "*", Sort: files.SortModified},
		Directory:  ".",
		Taking:     files.Taking{AfterDelivery: files.AfterDelete},
	}
	if err := json.Unmarshal(data, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// faulty is an SFTP channel that hangs or breaks after a number of bytes.
type faulty struct {
	io.ReadWriteCloser
	mu    sync.Mutex
	left  int // bytes that the server may still say
	hangs chan struct{}
}

func (f *faulty) Write(p []byte) (int, error) {
	f.mu.Lock()
	f.left -= len(p)
	over := f.left < 0
	f.mu.Unlock()
	if !over {
		return f.ReadWriteCloser.Write(p)
	}
	if f.hangs != nil {
		<-f.hangs
	}
	f.ReadWriteCloser.Close()
	return 0, io.ErrClosedPipe
}

// A server that falls silent at any point, or goes away at any point, costs a time-out
// at most, loses nothing, and leaves no connection and no goroutine behind.
func TestServerThatHangsOrBreaksAnywhere(t *testing.T) {
	for _, hangs := range []bool{true, false} {
		t.Run(fmt.Sprintf("hangs %v", hangs), func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			release := make(chan struct{})
			var say atomic.Int64 // read by the server's goroutines
			s := startServer(t, func(s *testServer) {
				s.wrap = func(rwc io.ReadWriteCloser) io.ReadWriteCloser {
					f := &faulty{ReadWriteCloser: rwc, left: int(say.Load())}
					if hangs {
						f.hangs = release
					}
					return f
				}
			})
			s.write(t, "a.edi", bytes.Repeat([]byte("x"), 100_000))
			props := with(s.props, "stable_for", "0s", "timeout", "150ms")
			done := false
			for n := 0; n < 120_000 && !done; n += max(40, n/3) {
				say.Store(int64(n))
				src := newSource(t, props)
				items, err := src.List(testContext(t))
				if err == nil && len(items) != 1 {
					t.Fatalf("after %d bytes: a listing of %d items and no error", n, len(items))
				}
				if err == nil {
					var data []byte
					if data, err = read(t, src, items[0]); err == nil && len(data) != 100_000 {
						t.Fatalf("after %d bytes: %d bytes and no error", n, len(data))
					}
				}
				if err == nil {
					err = src.Settle(testContext(t), items[0])
				}
				if sdk.IsGone(err) || sdk.IsPermanent(err) {
					t.Fatalf("after %d bytes: %v, which gives the item up", n, err)
				}
				done = err == nil
				src.Close()
			}
			if !done {
				t.Error("never came to its end")
			}
			close(release)
			s.down(t)
		})
	}
}

func TestAnIdleConnectionThatWasCutIsReplaced(t *testing.T) {
	s := startServer(t)
	s.write(t, "a.edi", []byte("x"))
	src := newSource(t, s.props)
	list(t, src)
	s.cut()
	item := list(t, src)["a.edi"]
	s.cut()
	if data, err := read(t, src, item); err != nil || string(data) != "x" {
		t.Fatalf("%q, %v", data, err)
	}
	if _, accepted := s.connections(); accepted != 3 {
		t.Errorf("%d connections, want 3", accepted)
	}
}

func TestAnIdleConnectionThatWasCutCostsNoAttempt(t *testing.T) {
	s := startServer(t)
	k := newSink(t, with(s.props, "name", "{{sftp.name}}")) // which nothing is asked about before
	for range 3 {
		if err := k.Send(testContext(t), newMessage(t, "content")); err != nil {
			t.Fatal(err)
		}
		s.cut()
	}
	if got := s.names(t); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the server has %q", got)
	}
}

func TestConnectionsAreNotUsedForLongerThanAllowed(t *testing.T) {
	s := startServer(t)
	src := newSource(t, with(s.props, "max_connection_age", "1ns"))
	for range 3 {
		list(t, src)
	}
	if _, accepted := s.connections(); accepted != 3 {
		t.Errorf("%d connections, want 3", accepted)
	}
}

func TestFilesThatChangeAreNotTakenAndNotDeleted(t *testing.T) {
	s := startServer(t)
	s.write(t, "a.edi", []byte("first"))
	src := newSource(t, s.props)
	item := list(t, src)["a.edi"]
	s.write(t, "a.edi", []byte("second, longer"))
	if _, err := read(t, src, item); !sdk.IsGone(err) {
		t.Errorf("read: %v, want Gone", err)
	}
	if err := src.Settle(testContext(t), item); !sdk.IsGone(err) {
		t.Errorf("settle: %v, want Gone", err)
	}
	if got := s.names(t); !slices.Equal(got, []string{"a.edi"}) {
		t.Errorf("left are %q", got)
	}
	item = list(t, src)["a.edi"]
	if err := os.Rename(s.Dir, s.Dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := src.Settle(testContext(t), item); !sdk.IsDisconnected(err) {
		t.Errorf("settle without the directory: %v, want Disconnected", err)
	}
	if err := os.Rename(s.Dir+".away", s.Dir); err != nil {
		t.Fatal(err)
	}
}

func TestLinksAndDirectoriesAreLeftAlone(t *testing.T) {
	s := startServer(t)
	s.write(t, "a.edi", nil)
	if err := errors.Join(os.Symlink("/etc/passwd", filepath.Join(s.Dir, "link.edi")), os.Mkdir(filepath.Join(s.Dir, "sub.edi"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if items := list(t, newSource(t, s.props)); len(items) != 1 || items["a.edi"].Key == "" {
		t.Errorf("takes %v", items)
	}
}

func TestMoveNeverOverwrites(t *testing.T) {
	s := startServer(t)
	src := newSource(t, with(s.props, "after_delivery", "move", "move_to", "done/today"))
	for i := range 2 {
		s.write(t, "a.edi", fmt.Appendf(nil, "content %d", i))
		if err := src.Settle(testContext(t), list(t, src)["a.edi"]); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(s.Dir, "done", "today"))
	if err != nil || len(entries) != 2 || entries[0].Name() != "a.edi" || !strings.HasPrefix(entries[1].Name(), "a.edi.") {
		t.Errorf("%v, %v", entries, err)
	}
	if first, _ := os.ReadFile(filepath.Join(s.Dir, "done", "today", "a.edi")); string(first) != "content 0" {
		t.Errorf("the first is %q now", first)
	}
}

func TestTakenNames(t *testing.T) {
	s := startServer(t)
	s.write(t, "a", []byte("old"))
	m := newMessage(t, "new content")
	fail := newSink(t, with(s.props, "name", "{{sftp.name}}", "if_exists", "fail"))
	if err := fail.Send(testContext(t), m); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("send over a file: %v", err)
	}
	if got := s.names(t); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the server has %q", got)
	}
	if err := newSink(t, with(s.props, "name", "{{sftp.name}}")).Send(testContext(t), m); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(filepath.Join(s.Dir, "a")); string(data) != "new content" {
		t.Errorf("the file has %q", data)
	}
}

// A former owner that was frozen just before its rename finds nothing to rename when
// the next one has sent.
func TestAnAttemptOfAFormerOwnerIsTakenAway(t *testing.T) {
	s := startServer(t)
	m := newMessage(t, "content")
	frozen := files.AttemptName(m.ID)
	s.write(t, frozen, []byte("cont"))
	k := newSink(t, s.props)
	if got, err := k.Probe(testContext(t), m); err != nil || got != sdk.Absent {
		t.Fatalf("probe: %v, %v, want absent", got, err)
	}
	m.Redelivered = true
	if err := k.Send(testContext(t), m); err != nil {
		t.Fatal(err)
	}
	if got := s.names(t); !slices.Equal(got, []string{m.ID}) {
		t.Errorf("the server has %q", got)
	}
	if got, err := k.Probe(testContext(t), m); err != nil || got != sdk.Arrived {
		t.Errorf("probe: %v, %v, want arrived", got, err)
	}
	if err := os.Remove(filepath.Join(s.Dir, m.ID)); err != nil {
		t.Fatal(err)
	}
	if got, err := k.Probe(testContext(t), m); err != nil || got != sdk.Unknown {
		t.Errorf("probe after the consumer: %v, %v, want unknown", got, err)
	}
}

func TestADirectoryThatIsNotWritableHoldsThePortBack(t *testing.T) {
	s := startServer(t)
	err := newSink(t, with(s.props, "directory", s.Dir+"/missing")).Send(testContext(t), newMessage(t, "x"))
	if !sdk.IsDisconnected(err) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v; want Disconnected, not there", err)
	}
}
