package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

func TestTakenNameGetsAMarkAndNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "orders.csv", "somebody else's")
	s := newSink(t, dir, map[string]any{"name": "{{ftp.name}}", "if_exists": "rename"})
	m := message(newID(t), "orders.csv", "new")
	marked := files.MarkedName("orders.csv", m.ID)
	probe(t, s, m, sdk.Unknown)
	send(t, s, m)
	if got := names(t, dir); !slices.Equal(got, []string{marked, "orders.csv"}) {
		t.Fatalf("directory holds %q", got)
	}
	if read(t, filepath.Join(dir, "orders.csv")) != "somebody else's" || read(t, filepath.Join(dir, marked)) != "new" {
		t.Error("wrong contents")
	}
	probe(t, s, m, sdk.Arrived)

	// Sent again after a crash behind the rename, with the usual name free by now.
	if err := os.Remove(filepath.Join(dir, "orders.csv")); err != nil {
		t.Fatal(err)
	}
	m.Redelivered = true
	probe(t, s, m, sdk.Arrived)
	send(t, s, m)
	if got := names(t, dir); !slices.Equal(got, []string{marked}) {
		t.Errorf("directory holds %q, want one file", got)
	}

	// Both names are taken: nothing is overwritten.
	other := message(newID(t), "orders.csv", "other")
	write(t, dir, "orders.csv", "x")
	write(t, dir, files.MarkedName("orders.csv", other.ID), "somebody else's too")
	err := s.Send(t.Context(), other)
	if err == nil || sdk.IsPermanent(err) || sdk.IsDisconnected(err) || !strings.Contains(err.Error(), "taken away") {
		t.Errorf("both names taken: %v, want an error to try again after", err)
	}
	if got := read(t, filepath.Join(dir, files.MarkedName("orders.csv", other.ID))); got != "somebody else's too" {
		t.Errorf("overwritten with %q", got)
	}
}

// Two equal payments are two payments: the file of the first is not the second's.
func TestEqualContentOfAnotherMessageIsNotTakenForThisOneOnItsFirstAttempt(t *testing.T) {
	dir := t.TempDir()
	s := newSink(t, dir, map[string]any{"name": "{{ftp.name}}", "if_exists": "rename"})
	first, second := message(newID(t), "pay.xml", "100 EUR"), message(newID(t), "pay.xml", "100 EUR")
	send(t, s, second)
	send(t, s, first)
	want := []string{files.MarkedName("pay.xml", first.ID), "pay.xml"}
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("directory holds %q, want %q", got, want)
	}
}

// A former owner was frozen right before its rename, and wakes up in the middle of the
// next attempt.
func TestFrozenAttemptCannotAddASecondFileUnderTheOtherName(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a", "somebody else's")
	s := newSink(t, dir, map[string]any{"name": "{{ftp.name}}", "if_exists": "rename"})
	m := message(newID(t), "a", "hello")
	frozen := write(t, dir, files.AttemptName(m.ID), "hello")
	probe(t, s, m, sdk.Absent)
	m.Redelivered = true
	send(t, s, m)
	if err := os.Rename(frozen, filepath.Join(dir, "b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the frozen attempt can still rename: %v", err)
	}
	if got := names(t, dir); len(got) != 2 {
		t.Errorf("directory holds %q", got)
	}
}

func TestMissingDirectoriesAreMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b", "c")
	m := message(newID(t), "", "x")
	if err := newSink(t, dir, nil).Send(t.Context(), m); !sdk.IsDisconnected(err) || !strings.Contains(err.Error(), "create_directories") {
		t.Errorf("without create_directories: %v", err)
	}
	s := newSink(t, dir, map[string]any{"create_directories": true})
	probe(t, s, m, sdk.Unknown)
	if _, err := os.Stat(dir); err == nil {
		t.Error("a probe has made the directory")
	}
	var sends sync.WaitGroup
	for range 20 {
		sends.Go(func() {
			if err := s.Send(t.Context(), message(newID(t), "", "x")); err != nil {
				t.Errorf("send: %v", err)
			}
		})
	}
	sends.Wait()
	if got := names(t, dir); len(got) != 20 {
		t.Errorf("%d files, want 20", len(got))
	}
}

func TestDirectoryThatCannotBeMadeIsNamed(t *testing.T) {
	parent := t.TempDir()
	blocked := write(t, parent, "file", "")
	s := newSink(t, filepath.Join(blocked, "sub", "dir"), map[string]any{"create_directories": true})
	err := s.Send(t.Context(), message(newID(t), "", "x"))
	if !sdk.IsDisconnected(err) || !strings.Contains(err.Error(), blocked) {
		t.Errorf("%v; want Disconnected, with %s", err, blocked)
	}
}

func TestDirectoryMayDependOnTheMessage(t *testing.T) {
	dir := t.TempDir()
	s := newSink(t, dir+"/{{now:2006/01}}/for-{{ftp.name}}", map[string]any{"create_directories": true, "marker": "READY"})
	m := message(newID(t), "acme", "x")
	made, err := files.IDTime(m.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), m); !sdk.IsDisconnected(err) || len(names(t, dir)) != 0 {
		t.Errorf("without the marker: %v, and %q", err, names(t, dir))
	}
	write(t, dir, "READY", "")
	send(t, s, m)
	if got := read(t, filepath.Join(dir, made.UTC().Format("2006/01"), "for-acme", m.ID)); got != "x" {
		t.Errorf("content %q", got)
	}
	probe(t, s, m, sdk.Arrived)
	for _, name := range []string{"", "..", "a/b", `a\b`, "x\ny"} {
		bad := newSink(t, dir+"/{{ftp.name}}", map[string]any{"create_directories": true})
		if err := bad.Send(t.Context(), message(newID(t), name, "x")); !sdk.IsPermanent(err) {
			t.Errorf("%q as a directory: %v, want a Permanent error", name, err)
		}
	}
	// A link on the way does not lead out either.
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	err = newSink(t, dir+"/{{ftp.name}}", map[string]any{"create_directories": true}).Send(t.Context(), message(newID(t), "link", "x"))
	if err == nil || len(names(t, outside)) != 0 {
		t.Errorf("through a link: %v, and %q", err, names(t, outside))
	}
}
