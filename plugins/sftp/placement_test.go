package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

func send(t testing.TB, k *sink, m *sdk.Message) {
	t.Helper()
	if err := k.Send(testContext(t), m); err != nil {
		t.Fatal(err)
	}
}

func wantProbe(t testing.TB, k *sink, m *sdk.Message, want sdk.Arrival) {
	t.Helper()
	got, err := k.Probe(testContext(t), m)
	if err != nil || got != want {
		t.Fatalf("probe says %d, %v, want %d (1 arrived, 2 absent, 3 unknown)", got, err, want)
	}
}

func (s *testServer) content(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestTakenNameGetsAMarkAndNothingIsOverwritten(t *testing.T) {
	s := startServer(t)
	s.write(t, "a", []byte("somebody else's"))
	k := newSink(t, with(s.props, "name", "{{sftp.name}}", "if_exists", "rename"))
	m := newMessage(t, "new")
	marked := files.MarkedName("a", m.ID)
	send(t, k, m)
	if got := s.names(t); !slices.Equal(got, []string{"a", marked}) {
		t.Fatalf("the server has %q", got)
	}
	if s.content(t, "a") != "somebody else's" || s.content(t, marked) != "new" {
		t.Error("wrong contents")
	}
	wantProbe(t, k, m, sdk.Arrived)
	// Sent again after a crash behind the rename, with the usual name free by now.
	if err := os.Remove(filepath.Join(s.Dir, "a")); err != nil {
		t.Fatal(err)
	}
	m.Redelivered = true
	wantProbe(t, k, m, sdk.Arrived)
	send(t, k, m)
	if got := s.names(t); !slices.Equal(got, []string{marked}) {
		t.Errorf("the server has %q, want one file", got)
	}
	other := newMessage(t, "other")
	s.write(t, "a", []byte("x"))
	s.write(t, files.MarkedName("a", other.ID), []byte("somebody else's too"))
	if err := k.Send(testContext(t), other); err == nil || sdk.IsPermanent(err) || !strings.Contains(err.Error(), "taken away") {
		t.Errorf("both names taken: %v", err)
	}
	if got := s.content(t, files.MarkedName("a", other.ID)); got != "somebody else's too" {
		t.Errorf("overwritten with %q", got)
	}
	if got := s.names(t); len(got) != 3 {
		t.Errorf("the server has %q", got)
	}
}

// Two equal payments are two payments: the file of the first is not the second's.
func TestEqualContentOfAnotherMessageIsNotTakenForThisOneOnItsFirstAttempt(t *testing.T) {
	s := startServer(t)
	k := newSink(t, with(s.props, "name", "{{sftp.name}}", "if_exists", "rename"))
	first, second := newMessage(t, "100 EUR"), newMessage(t, "100 EUR")
	send(t, k, second)
	send(t, k, first)
	if got := s.names(t); !slices.Equal(got, []string{"a", files.MarkedName("a", first.ID)}) {
		t.Errorf("the server has %q, want two files", got)
	}
}

func TestMissingDirectoriesAreMade(t *testing.T) {
	s := startServer(t)
	props := with(s.props, "directory", s.Dir+"/{{now:2006}}/for-{{sftp.name}}", "temporary_directory", s.Dir+"/tmp/x", "create_directories", true, "connections", 4)
	k := newSink(t, props)
	m := newMessage(t, "x")
	wantProbe(t, k, m, sdk.Unknown)
	var sends sync.WaitGroup
	for range 10 {
		sends.Go(func() {
			if err := k.Send(testContext(t), newMessage(t, "x")); err != nil {
				t.Errorf("send: %v", err)
			}
		})
	}
	sends.Wait()
	send(t, k, m)
	wantProbe(t, k, m, sdk.Arrived)
	made, _ := files.IDTime(m.ID)
	dir := filepath.Join(s.Dir, made.UTC().Format("2006"), "for-a")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 11 {
		t.Errorf("%d files, %v", len(entries), err)
	}
	// Somebody takes the directory away: the attempt after the failed one makes it again.
	if err := os.RemoveAll(filepath.Join(s.Dir, "tmp")); err != nil {
		t.Fatal(err)
	}
	late := newMessage(t, "x")
	_ = k.Send(testContext(t), late)
	send(t, k, late)
	for _, name := range []string{"..", "", "a/b"} {
		m := newMessage(t, "x")
		m.Context["sftp.name"] = name
		if err := newSink(t, with(s.props, "directory", "{{sftp.name}}")).Send(testContext(t), m); !sdk.IsPermanent(err) {
			t.Errorf("%q as a directory: %v, want a Permanent error", name, err)
		}
	}
}

func TestDirectoryThatCannotBeMadeIsNamed(t *testing.T) {
	s := startServer(t)
	s.write(t, "file", nil)
	k := newSink(t, with(s.props, "directory", s.Dir+"/file/sub/dir", "create_directories", true))
	if err := k.Send(testContext(t), newMessage(t, "x")); !sdk.IsDisconnected(err) || !strings.Contains(err.Error(), s.Dir+"/file") {
		t.Errorf("%v; want Disconnected, with the part that is in the way", err)
	}
}

func TestOpenSSHMakesDirectoriesAndMarksNames(t *testing.T) {
	dir, props := startOpenSSH(t)
	k := newSink(t, with(props, "directory", "x/y", "name", "{{sftp.name}}", "create_directories", true, "if_exists", "rename"))
	one, two := newMessage(t, "1"), newMessage(t, "2")
	send(t, k, one)
	send(t, k, two)
	wantProbe(t, k, two, sdk.Arrived)
	entries, err := os.ReadDir(filepath.Join(dir, "x", "y"))
	if err != nil || len(entries) != 2 || entries[1].Name() != files.MarkedName("a", two.ID) {
		t.Errorf("%v, %v", entries, err)
	}
}
