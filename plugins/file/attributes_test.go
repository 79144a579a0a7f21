package main

import (
	"crypto/md5" //nolint:gosec // as the property says
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

func TestFileGetsItsMode(t *testing.T) {
	for _, mode := range []os.FileMode{0o640, 0o444, 0o777} {
		dir := t.TempDir()
		s := newSink(t, dir, map[string]any{"mode": "0" + octal(mode), "checksum": "md5"})
		m := message(newID(t), "", "x")
		send(t, s, m)
		for _, name := range []string{m.ID, m.ID + ".md5"} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil || info.Mode().Perm() != mode {
				t.Errorf("%v, %v; want %v", info.Mode(), err, mode)
			}
		}
	}
	for _, wrong := range []string{"0999", "01777", "rw-r-----", "-1", ""} {
		_, err := decode[sendProperties](t, map[string]any{"directory": "/out", "mode": wrong})
		if (err == nil) != (wrong == "") {
			t.Errorf("mode %q: %v", wrong, err)
		}
	}
}

func octal(mode os.FileMode) string {
	return string([]byte{'0' + byte(mode>>6&7), '0' + byte(mode>>3&7), '0' + byte(mode&7)})
}

func TestFileKeepsTheTimeOfItsSource(t *testing.T) {
	dir := t.TempDir()
	s := newSink(t, dir, map[string]any{"name": "{{ftp.name}}", "keep_time": true, "if_exists": "fail"})
	was := time.Date(2020, 2, 29, 1, 2, 3, 0, time.UTC)
	m := message(newID(t), "a", "hello")
	m.Context["ftp.modified"] = was.Format(time.RFC3339)
	send(t, s, m)
	info, err := os.Stat(filepath.Join(dir, "a"))
	if err != nil || !info.ModTime().Equal(was) {
		t.Errorf("time %v, %v; want %v", info.ModTime(), err, was)
	}
	// Although the file is older than the message, it is the message's.
	m.Redelivered = true
	probe(t, s, m, sdk.Arrived)
	send(t, s, m)
	// Another message of the same content, from a file of another time.
	other := message(newID(t), "a", "hello")
	other.Context["ftp.modified"] = was.Add(time.Hour).Format(time.RFC3339)
	probe(t, s, other, sdk.Unknown)

	without := message(newID(t), "b", "hello")
	send(t, s, without)
	if info, err := os.Stat(filepath.Join(dir, "b")); err != nil || time.Since(info.ModTime()) > time.Minute {
		t.Errorf("a message without a time: %v, %v", info, err)
	}
}

func TestChecksumFileIsThereBeforeTheFile(t *testing.T) {
	dir := t.TempDir()
	m := message(newID(t), "a b.csv", "hello")
	sum := sha256.Sum256([]byte("hello"))
	want := hex.EncodeToString(sum[:]) + "  a b.csv\n"
	// The file cannot get its name: a directory has it. The checksum is there by then.
	if err := os.Mkdir(filepath.Join(dir, "a b.csv"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := newSink(t, dir, map[string]any{"name": "{{ftp.name}}", "checksum": "sha256"})
	if err := s.Send(t.Context(), m); err == nil {
		t.Fatal("a directory was replaced by a file")
	}
	if got := read(t, filepath.Join(dir, "a b.csv.sha256")); got != want {
		t.Errorf("checksum file %q, want %q", got, want)
	}
	if err := os.Remove(filepath.Join(dir, "a b.csv")); err != nil {
		t.Fatal(err)
	}
	// As after a crash right there.
	m.Redelivered = true
	write(t, dir, files.AttemptName(m.ID), "hello")
	probe(t, s, m, sdk.Absent)
	send(t, s, m)
	probe(t, s, m, sdk.Arrived)
	if got := names(t, dir); !slices.Equal(got, []string{"a b.csv", "a b.csv.sha256"}) {
		t.Errorf("directory holds %q", got)
	}
	md5sum := md5.Sum([]byte("hello")) //nolint:gosec // as the property says
	send(t, newSink(t, dir, map[string]any{"checksum": "md5"}), m)
	if got := read(t, filepath.Join(dir, m.ID+".md5")); got != hex.EncodeToString(md5sum[:])+"  "+m.ID+"\n" {
		t.Errorf("MD5 file %q", got)
	}
}

// A checksum file that belongs to somebody else's file stays as it is.
func TestChecksumFileOfATakenNameIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a", "other")
	write(t, dir, "a.sha512", "other's")
	m := message(newID(t), "a", "hello")
	fails := newSink(t, dir, map[string]any{"name": "{{ftp.name}}", "checksum": "sha512", "if_exists": "fail"})
	if err := fails.Send(t.Context(), m); err == nil {
		t.Error("sent over a file")
	}
	send(t, newSink(t, dir, map[string]any{"name": "{{ftp.name}}", "checksum": "sha512", "if_exists": "rename"}), m)
	if got := read(t, filepath.Join(dir, "a.sha512")); got != "other's" {
		t.Errorf("the other's checksum file holds %q", got)
	}
	marked := files.MarkedName("a", m.ID)
	if got := read(t, filepath.Join(dir, marked+".sha512")); !strings.HasSuffix(got, "  "+marked+"\n") {
		t.Errorf("checksum file %q", got)
	}
	long := message(newID(t), strings.Repeat("x", 255), "hello")
	if err := fails.Send(t.Context(), long); !sdk.IsPermanent(err) || !strings.Contains(err.Error(), "checksum file") {
		t.Errorf("a name that is too long with its suffix: %v", err)
	}
}
