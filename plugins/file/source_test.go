package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fairlead-io/fairlead/sdk"
)

func TestListTakesFinishedRegularFilesOldestFirst(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	for i, name := range []string{"newest.edi", "middle.edi", "oldest.edi"} {
		touch(t, write(t, dir, name, "x"), now.Add(-time.Duration(i)*time.Hour))
	}
	for _, name := range []string{"other.txt", ".hidden.edi", ".fairlead-x.edi", "growing.edi.part", "a.tmp", "b.filepart", "READY"} {
		write(t, dir, name, "x")
	}
	if err := os.Mkdir(filepath.Join(dir, "sub.edi"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link.edi")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.edi"), 0o600); err != nil {
		t.Fatal(err)
	}
	listed := func(pattern string) []string {
		var got []string
		for _, item := range list(t, newSource(t, dir, map[string]any{"pattern": pattern, "marker": "READY"})) {
			got = append(got, item.Context["file.name"])
		}
		return got
	}
	if got, want := listed("*.edi"), []string{"oldest.edi", "middle.edi", "newest.edi"}; !slices.Equal(got, want) {
		t.Errorf("*.edi: got %q, want %q", got, want)
	}
	if got, want := listed("*.tmp"), []string{"a.tmp"}; !slices.Equal(got, want) {
		t.Errorf("*.tmp: got %q, want %q", got, want)
	}
	if got, want := listed(".*"), []string{".hidden.edi"}; !slices.Equal(got, want) {
		t.Errorf(".*: got %q, want %q", got, want)
	}
	if got := listed("*"); len(got) != 4 {
		t.Errorf("*: got %q, want four names", got)
	}
}

func TestSelectionOfADirectory(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	for i, name := range []string{"c1.edi", "B2.EDI", "a3.edi", "x.bak"} {
		touch(t, write(t, dir, name, strings.Repeat("x", i+1)), now.Add(-time.Duration(4-i)*time.Hour))
	}
	touch(t, write(t, dir, "a4.edi", "just now"), now)
	for _, c := range []struct {
		properties map[string]any
		want       []string
	}{
		{map[string]any{"sort": "name", "exclude": []string{"*.bak"}}, []string{"B2.EDI", "a3.edi", "a4.edi", "c1.edi"}},
		{map[string]any{"pattern": "*.edi", "ignore_case": true, "min_age": "1h"}, []string{"c1.edi", "B2.EDI", "a3.edi"}},
		{map[string]any{"regexp": `[a-c]\d\.edi`, "sort": "size", "descending": true, "max_size": 7}, []string{"a3.edi", "c1.edi"}},
	} {
		got := []string{}
		for _, item := range list(t, newSource(t, dir, c.properties)) {
			got = append(got, item.Context["file.name"])
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v takes %q, want %q", c.properties, got, c.want)
		}
	}
}

func TestItemSaysWhatIsKnownOfTheFile(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 2, 3, 4, 5, 6, 789, time.UTC)
	touch(t, write(t, dir, "a b.txt", "hello"), at)
	item := one(t, newSource(t, dir, map[string]any{"stable_for": "3s"}))
	for name, want := range map[string]string{
		"file.name": "a b.txt", "file.directory": dir, "file.size": "5", "file.modified": "2026-02-03T04:05:06.000000789Z",
	} {
		if got := item.Context[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if item.Size != 5 || item.Kept || item.StableFor != 3*time.Second {
		t.Errorf("item %+v", item)
	}
	if !one(t, newSource(t, dir, map[string]any{"after_delivery": "keep"})).Kept {
		t.Error("after_delivery: keep is not Kept")
	}
}

func TestKeyIsThatOfTheVersionAndNotOfTheInode(t *testing.T) {
	dir := t.TempDir()
	at := time.Now().Add(-time.Hour)
	path := write(t, dir, "a", "hello")
	touch(t, path, at)
	s := newSource(t, dir, nil)
	key := one(t, s).Key

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	touch(t, write(t, dir, "a", "hello"), at)
	if got := one(t, s).Key; got != key {
		t.Errorf("same name, size and time, but the key went from %q to %q", key, got)
	}
	touch(t, path, at.Add(time.Nanosecond))
	if got := one(t, s).Key; got == key {
		t.Error("another time, and still the same key")
	}
	touch(t, write(t, dir, "a", "hello!"), at)
	if got := one(t, s).Key; got == key {
		t.Error("another size, and still the same key")
	}
}

func TestOddNamesAreReadAndSettled(t *testing.T) {
	for _, name := range []string{
		" leading", "trailing ", "-rf", "two\nlines", "tab\t", "quote'\"`", "Zoë", "100%", "Zo\xeb", "\xff\xfe", "back\\slash", "a:b:1:2", "*?[x]",
	} {
		dir := t.TempDir()
		path := write(t, dir, name, "content of "+name)
		s := newSource(t, dir, nil)
		item := one(t, s)
		if !utf8.ValidString(item.Key) || !utf8.ValidString(item.Context["file.name"]) {
			t.Errorf("%q: key %q or name %q is not UTF-8", name, item.Key, item.Context["file.name"])
		}
		if got := item.Context["file.name"]; utf8.ValidString(name) && got != name {
			t.Errorf("file.name is %q, want %q", got, name)
		}
		c, err := s.Open(t.Context(), item)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if got, err := consume(t, c, nil); err != nil || got != "content of "+name {
			t.Errorf("%q: read %q, %v", name, got, err)
		}
		if err := s.Settle(t.Context(), item); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%q is still there", name)
		}
	}
}

func TestKeysOfSimilarOddNamesDiffer(t *testing.T) {
	dir := t.TempDir()
	at := time.Now().Add(-time.Hour)
	for _, name := range []string{"a\xe9", "a%E9", "a\uFFFD", "a%25E9"} {
		touch(t, write(t, dir, name, "x"), at)
	}
	keys := map[string]bool{}
	for _, item := range list(t, newSource(t, dir, nil)) {
		keys[item.Key] = true
	}
	if len(keys) != 4 {
		t.Errorf("four files have %d keys: %v", len(keys), keys)
	}
}

func TestFileThatChangesIsNotTakenAndNotDeleted(t *testing.T) {
	at := time.Now().Add(-time.Hour)
	for name, change := range map[string]func(t *testing.T, path string){
		"appended to": func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteString("more"); err != nil {
				t.Fatal(err)
			}
		},
		"rewritten": func(t *testing.T, path string) { write(t, filepath.Dir(path), filepath.Base(path), "HELLO") },
		"replaced": func(t *testing.T, path string) {
			if err := os.Rename(write(t, t.TempDir(), "new", "other"), path); err != nil {
				t.Fatal(err)
			}
		},
		"replaced by a link": func(t *testing.T, path string) {
			to := write(t, t.TempDir(), "new", "hello")
			touch(t, to, at)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(to, path); err != nil {
				t.Fatal(err)
			}
		},
		"replaced by a pipe": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := write(t, dir, "a", "hello")
			touch(t, path, at)
			s := newSource(t, dir, nil)
			item := one(t, s)
			c, err := s.Open(t.Context(), item)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := consume(t, c, func() { change(t, path) }); !sdk.IsGone(err) {
				t.Errorf("close after the change: %v, want a Gone error", err)
			}
			if _, err := s.Open(t.Context(), item); !sdk.IsGone(err) {
				t.Errorf("open: %v, want a Gone error", err)
			}
			for _, after := range []map[string]any{nil, {"after_delivery": "move", "move_to": "done"}} {
				if err := newSource(t, dir, after).Settle(t.Context(), item); !sdk.IsGone(err) {
					t.Errorf("settle: %v, want a Gone error", err)
				}
			}
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("the newcomer is gone: %v", err)
			}
		})
	}
}

func TestFileReplacedByAnEqualOneWhileItIsReadIsNotTaken(t *testing.T) {
	dir := t.TempDir()
	at := time.Now().Add(-time.Hour)
	path := write(t, dir, "a", "hello")
	touch(t, path, at)
	s := newSource(t, dir, nil)
	c, err := s.Open(t.Context(), one(t, s))
	if err != nil {
		t.Fatal(err)
	}
	_, err = consume(t, c, func() {
		other := write(t, dir, "b", "HELLO")
		touch(t, other, at)
		if err := os.Rename(other, path); err != nil {
			t.Fatal(err)
		}
	})
	if !sdk.IsGone(err) {
		t.Errorf("got %v, want a Gone error", err)
	}
}

func TestMissingFileIsGoneButAMissingDirectoryIsOutOfReach(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mount")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := write(t, dir, "a", "x")
	write(t, dir, "READY", "")
	plain, marked := newSource(t, dir, nil), newSource(t, dir, map[string]any{"marker": "READY"})
	item := one(t, marked)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*source{plain, marked} {
		if _, err := s.Open(t.Context(), item); !sdk.IsGone(err) {
			t.Errorf("open: %v, want a Gone error", err)
		}
		if err := s.Settle(t.Context(), item); !sdk.IsGone(err) {
			t.Errorf("settle: %v, want a Gone error", err)
		}
	}

	// The file system is unmounted: an empty directory is left.
	if err := os.Remove(filepath.Join(dir, "READY")); err != nil {
		t.Fatal(err)
	}
	_, err := marked.List(t.Context())
	if !sdk.IsDisconnected(err) || !strings.Contains(err.Error(), "mounted") {
		t.Errorf("list: %v", err)
	}
	if err := marked.Settle(t.Context(), item); !sdk.IsDisconnected(err) {
		t.Errorf("settle: %v, want a Disconnected error", err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.List(t.Context()); !sdk.IsDisconnected(err) {
		t.Errorf("list: %v, want a Disconnected error", err)
	}
	if err := plain.Settle(t.Context(), item); !sdk.IsDisconnected(err) {
		t.Errorf("settle: %v, want a Disconnected error", err)
	}
}

func TestMoveNeverOverwritesAndCanBeRepeated(t *testing.T) {
	dir := t.TempDir()
	s := newSource(t, dir, map[string]any{"after_delivery": "move", "move_to": "done"})
	for _, content := range []string{"first", "second", "third"} {
		path := write(t, dir, "a.txt", content)
		item := one(t, s)
		if err := s.Settle(t.Context(), item); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("moved file is still there")
		}
		if err := s.Settle(t.Context(), item); !sdk.IsGone(err) {
			t.Errorf("second settle: %v, want a Gone error", err)
		}
	}
	var got []string
	for _, name := range names(t, filepath.Join(dir, "done")) {
		if !strings.HasPrefix(name, "a.txt") {
			t.Errorf("moved to the name %q", name)
		}
		got = append(got, read(t, filepath.Join(dir, "done", name)))
	}
	slices.Sort(got)
	if want := []string{"first", "second", "third"}; !slices.Equal(got, want) {
		t.Errorf("move_to holds %q, want %q", got, want)
	}
	if got := read(t, filepath.Join(dir, "done", "a.txt")); got != "first" {
		t.Errorf("the first file became %q", got)
	}
}

func TestReadingEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a", "hello")
	s := newSource(t, dir, nil)
	ctx, cancel := context.WithCancel(t.Context())
	c, err := s.Open(ctx, one(t, s))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for part := range c.Parts {
		if _, err := part.Reader.Read(make([]byte, 1)); err == nil {
			t.Error("read on after the end of the context")
		}
	}
	_ = c.Close()
	if err := s.Settle(ctx, one(t, s)); err == nil {
		t.Error("settled after the end of the context")
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("directory holds %q", got)
	}
}

func TestLargeDirectoryIsListedWhole(t *testing.T) {
	dir := t.TempDir()
	const n = 2*listBatch + 7
	for i := range n {
		write(t, dir, "f"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+time.Duration(i).String(), "")
	}
	if got := len(list(t, newSource(t, dir, nil))); got != n {
		t.Errorf("listed %d of %d files", got, n)
	}
}

// Two files of the longest name there is, one after the other: neither is lost and
// neither stays behind.
func TestLongestNameIsMovedThoughItIsTaken(t *testing.T) {
	dir, name := t.TempDir(), strings.Repeat("x", 255)
	s := newSource(t, dir, map[string]any{"after_delivery": "move", "move_to": "done"})
	for _, content := range []string{"first", "second"} {
		write(t, dir, name, content)
		if err := s.Settle(t.Context(), one(t, s)); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(t, filepath.Join(dir, "done")); len(got) != 2 {
		t.Errorf("moved are %d files, want 2", len(got))
	}
}
