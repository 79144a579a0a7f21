package main

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

func send(t testing.TB, s *sink, m *sdk.Message) {
	t.Helper()
	if err := s.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

func probe(t testing.TB, s *sink, m *sdk.Message, want sdk.Arrival) {
	t.Helper()
	got, err := s.Probe(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("probe says %d, want %d (1 arrived, 2 absent, 3 unknown)", got, want)
	}
}

func TestSentFileIsThereUnderItsNameAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	m := message(newID(t), "Zoë 1.txt", "hello")
	send(t, newSink(t, dir, map[string]any{"name": "{{ftp.name}}-{{fairlead.id}}.bin"}), m)
	want := "Zoë 1.txt-" + m.ID + ".bin"
	if got := names(t, dir); !slices.Equal(got, []string{want}) {
		t.Fatalf("directory holds %q, want only %q", got, want)
	}
	if got := read(t, filepath.Join(dir, want)); got != "hello" {
		t.Errorf("content %q", got)
	}
}

func TestNowIsTheTimeOfTheIDSoThatTheNameStaysTheSame(t *testing.T) {
	id := uuid.MustParse(newID(t))
	at := time.Date(2025, 12, 31, 23, 59, 58, 0, time.UTC)
	for i := range 6 {
		id[i] = byte(at.UnixMilli() >> (8 * (5 - i)))
	}
	dir := t.TempDir()
	s := newSink(t, dir, map[string]any{"name": "{{now:20060102T150405Z}}"})
	m := message(id.String(), "", "x")
	send(t, s, m)
	if got := names(t, dir); !slices.Equal(got, []string{"20251231T235958Z"}) {
		t.Errorf("directory holds %q", got)
	}
	probe(t, s, m, sdk.Arrived)
}

func TestNamesThatLeaveTheDirectoryAreRefused(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "out")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := newSink(t, dir, map[string]any{"name": "{{ftp.name}}"})
	for _, name := range []string{
		"", ".", "..", "../evil", "/etc/evil", "a/b", `..\evil`, "nul\x00", "line\n", files.TemporaryPrefix + "x", strings.Repeat("ä", 128),
	} {
		if err := s.Send(t.Context(), message(newID(t), name, "x")); !sdk.IsPermanent(err) {
			t.Errorf("%q: %v, want a Permanent error", name, err)
		}
	}
	m := message(newID(t), "", "x")
	delete(m.Context, "ftp.name")
	if err := s.Send(t.Context(), m); !sdk.IsPermanent(err) {
		t.Errorf("no name at all: %v, want a Permanent error", err)
	}
	if got := names(t, parent); !slices.Equal(got, []string{"out"}) {
		t.Errorf("written outside: %q", got)
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("written: %q", got)
	}
}

func TestNameThatIsALinkIsReplacedAndNotFollowed(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	target := write(t, outside, "precious", "keep me")
	if err := os.Symlink(target, filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	s := newSink(t, dir, map[string]any{"name": "{{ftp.name}}"})
	m := message(newID(t), "a", "keep me")
	m.Redelivered = true
	probe(t, s, m, sdk.Unknown)
	send(t, s, m)
	if read(t, target) != "keep me" || read(t, filepath.Join(dir, "a")) != "keep me" {
		t.Error("wrong content")
	}
	if info, err := os.Lstat(filepath.Join(dir, "a")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("the link was not replaced: %v, %v", info, err)
	}
}

func TestTakenNameIsReplacedOrLeftAlone(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "a", "old")
	fails := newSink(t, dir, map[string]any{"name": "{{ftp.name}}", "if_exists": "fail"})
	err := fails.Send(t.Context(), message(newID(t), "a", "new"))
	if err == nil || sdk.IsPermanent(err) || sdk.IsDisconnected(err) || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("if_exists: fail: %v, want a retryable error", err)
	}
	if got := read(t, path); got != "old" {
		t.Errorf("the file became %q", got)
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left behind: %q", got)
	}
	replaces := newSink(t, dir, map[string]any{"name": "{{ftp.name}}"})
	send(t, replaces, message(newID(t), "a", "new"))
	if got := read(t, path); got != "new" {
		t.Errorf("if_exists: replace: the file is %q", got)
	}
}

func TestEqualFileOfAnEarlierMessageIsNotTakenForThisOne(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "daily.csv", "same every day")
	touch(t, path, time.Now().Add(-24*time.Hour))
	s := newSink(t, dir, map[string]any{"name": "{{ftp.name}}", "if_exists": "fail"})
	m := message(newID(t), "daily.csv", "same every day")
	if err := s.Send(t.Context(), m); err == nil {
		t.Error("sent over a file that was there")
	}
	probe(t, s, m, sdk.Unknown)
	m.Redelivered = true
	if err := s.Send(t.Context(), m); err == nil {
		t.Error("an older file was taken for the message")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	send(t, s, m)
	probe(t, s, m, sdk.Arrived)
	send(t, s, m) // again, after a lost answer: it is there, and that is fine
}

func TestProbeTellsByWhatIsInTheDirectory(t *testing.T) {
	for _, c := range []struct {
		name, template string
	}{{"unique name", "{{fairlead.id}}"}, {"name of the sender", "{{ftp.name}}"}} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := newSink(t, dir, map[string]any{"name": c.template})
			m := message(newID(t), "a.txt", "hello")
			probe(t, s, m, sdk.Unknown) // never written, or taken already: who knows
			temp := write(t, dir, files.AttemptName(m.ID), "hel")
			probe(t, s, m, sdk.Absent)
			write(t, dir, files.AttemptName(newID(t)), "x") // of another message
			send(t, s, m)
			if _, err := os.Lstat(temp); err == nil {
				t.Error("what the earlier attempt left is still there")
			}
			probe(t, s, m, sdk.Arrived)
			final := "a.txt"
			if c.template == "{{fairlead.id}}" {
				final = m.ID
			}
			if err := os.Remove(filepath.Join(dir, final)); err != nil {
				t.Fatal(err)
			}
			probe(t, s, m, sdk.Unknown) // its consumer has taken it
			write(t, dir, final, "another size")
			probe(t, s, m, sdk.Unknown)
			write(t, dir, final, "HELLO")
			if c.template == "{{ftp.name}}" {
				probe(t, s, m, sdk.Unknown) // same size, other content
			}
		})
	}
}

func TestProbeUsesTheContentsChecksumIfThereIsOne(t *testing.T) {
	dir := t.TempDir()
	s := newSink(t, dir, map[string]any{"name": "{{ftp.name}}"})
	m := message(newID(t), "a", "hello")
	sum := sha256.Sum256([]byte("hello"))
	m.Parts[0].SHA256 = sum[:]
	send(t, s, m)
	probe(t, s, m, sdk.Arrived)
	m.Parts[0].SHA256[0]++
	probe(t, s, m, sdk.Unknown)
}

func TestFrozenAttemptFindsNothingToRename(t *testing.T) {
	dir := t.TempDir()
	s := newSink(t, dir, nil)
	m := message(newID(t), "", "hello")
	frozen := files.AttemptName(m.ID) // whole, its owner stopped just before the rename
	write(t, dir, frozen, "hello")
	m.Redelivered = true
	send(t, s, m)
	if err := os.Remove(filepath.Join(dir, m.ID)); err != nil { // the consumer takes it
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, frozen), filepath.Join(dir, m.ID)); err == nil {
		t.Error("the frozen attempt could still make the file appear a second time")
	}
}

func TestSendingAgainLeavesOneFile(t *testing.T) {
	dir := t.TempDir()
	s := newSink(t, dir, nil)
	m := message(newID(t), "", "hello")
	send(t, s, m)
	before, err := os.Stat(filepath.Join(dir, m.ID))
	if err != nil {
		t.Fatal(err)
	}
	send(t, s, m)
	after, err := os.Stat(filepath.Join(dir, m.ID))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("the file was written again although it was there")
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("directory holds %q", got)
	}
}

func TestDirectoryOutOfReachMakesThePortWait(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	s := newSink(t, dir, nil)
	m := message(newID(t), "", "x")
	if err := s.Send(t.Context(), m); !sdk.IsDisconnected(err) {
		t.Errorf("missing directory: %v, want a Disconnected error", err)
	}
	if _, err := s.Probe(t.Context(), m); !sdk.IsDisconnected(err) {
		t.Errorf("probe: %v, want a Disconnected error", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	marked := newSink(t, dir, map[string]any{"marker": "READY"})
	if err := marked.Send(t.Context(), m); !sdk.IsDisconnected(err) {
		t.Errorf("missing marker: %v, want a Disconnected error", err)
	}
	write(t, dir, "READY", "")
	send(t, marked, m)
}

func TestDamagedOrUnreadableContentNeverAppears(t *testing.T) {
	dir := t.TempDir()
	s := newSink(t, dir, nil)
	short, damaged := message(newID(t), "", "hello"), message(newID(t), "", "hello")
	short.Parts[0].Size = 6
	damaged.Parts[0].SHA256 = make([]byte, sha256.Size)
	for _, m := range []*sdk.Message{short, damaged} {
		if err := s.Send(t.Context(), m); err == nil || sdk.IsPermanent(err) {
			t.Errorf("got %v, want a retryable error", err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Send(ended, message(newID(t), "", "hello")); err == nil {
		t.Error("sent after the end of the context")
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("directory holds %q", got)
	}
}

func TestSeveralPartsAreRefused(t *testing.T) {
	dir := t.TempDir()
	m := message(newID(t), "", "x")
	m.Parts = append(m.Parts, sdk.InlinePart("b", "", nil))
	if err := newSink(t, dir, nil).Send(t.Context(), m); !sdk.IsPermanent(err) {
		t.Errorf("got %v, want a Permanent error", err)
	}
}

func TestSentFileIsReceivedAgain(t *testing.T) {
	dir := t.TempDir()
	send(t, newSink(t, dir, nil), message(newID(t), "", "hello"))
	s := newSource(t, dir, nil)
	c, err := s.Open(t.Context(), one(t, s))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := consume(t, c, nil); err != nil || got != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}
