package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fairlead-io/fairlead/sdk"
)

// hardNames are those that a directory may well have: any bytes but a slash and a NUL.
var hardNames = []string{
	"gr\xf6\xdfe in Latin-1.edi", "\xff\xfe.edi", "größe.edi", "new\nline.edi", "cr\rhere.edi", "tab\t.edi", "esc\x1b[31m.edi",
	"quote'\"s.edi", "-rf.edi", " leading.edi", "trailing ", "back\\slash.edi", "*?[x].edi", "~.edi", "$HOME`id`.edi",
	strings.Repeat("x", 255), strings.Repeat("é", 127),
}

// folderFor makes a directory of the server that its user may write to.
func folderFor(t *testing.T, dir, name string) string {
	t.Helper()
	folder := filepath.Join(dir, name)
	if err := errors.Join(os.Mkdir(folder, 0o777), os.Chmod(folder, 0o777)); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return folder
}

func writeFile(t *testing.T, dir, name, content string, mode fs.FileMode) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := errors.Join(os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// takeAll reads and settles every item that is listed, and returns the contents by name
// and the errors.
func takeAll(t *testing.T, src *source) (got map[string]string, failed map[string]error) {
	t.Helper()
	got, failed = map[string]string{}, map[string]error{}
	for name, item := range list(t, src) {
		data, err := read(t, src, item)
		if err == nil {
			got[name] = string(data)
			err = src.Settle(testContext(t), item)
		}
		if err != nil {
			failed[name] = err
		}
	}
	return got, failed
}

func TestOpenSSHHardNames(t *testing.T) {
	dir, props := startOpenSSH(t)
	for i, more := range []map[string]any{{}, {"after_delivery": "move", "move_to": "done"}} {
		t.Run(fmt.Sprint(more), func(t *testing.T) {
			folder := folderFor(t, dir, fmt.Sprint("in-", i))
			for _, name := range hardNames {
				writeFile(t, folder, name, "content of "+name, 0o644)
			}
			props := with(props, "directory", filepath.Base(folder), "stable_for", "0s")
			for k, v := range more {
				props[k] = v
			}
			got, failed := takeAll(t, newSource(t, props))
			for name, err := range failed {
				t.Errorf("%q: %v", name, err)
			}
			for _, name := range hardNames {
				if content := got[printable(name)]; content != "content of "+name {
					t.Errorf("%q: read %q", name, content)
				}
			}
			for name := range got {
				if !utf8.ValidString(name) {
					t.Errorf("%q is told as no UTF-8", name)
				}
			}
			left := slices.DeleteFunc(namesIn(t, folder), func(name string) bool { return name == "done" })
			if len(left) != 0 {
				t.Errorf("left are %q", left)
			}
			if more["move_to"] == nil {
				return
			}
			if moved := namesIn(t, filepath.Join(folder, "done")); !slices.Equal(moved, slices.Sorted(slices.Values(hardNames))) {
				t.Errorf("moved are %q", moved)
			}
		})
	}
}

// One file that may not be read, and links of all kinds, stop nothing.
func TestOpenSSHTakesWhatItMayAndLeavesTheRest(t *testing.T) {
	dir, props := startOpenSSH(t)
	folder := folderFor(t, dir, "in")
	writeFile(t, folder, "a.edi", "a", 0o644)
	writeFile(t, folder, "closed.edi", "secret", 0o600)
	writeFile(t, folder, "z.edi", "z", 0o644)
	for name, target := range map[string]string{"dangling.edi": "nowhere", "file.edi": "a.edi", "dir.edi": "..", "loop.edi": "loop.edi"} {
		if err := os.Symlink(target, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	src := newSource(t, with(props, "directory", "in", "stable_for", "0s", "max_depth", 3))
	got, failed := takeAll(t, src)
	if len(got) != 2 || got["a.edi"] != "a" || got["z.edi"] != "z" {
		t.Errorf("received are %q", got)
	}
	err := failed["closed.edi"]
	if len(failed) != 1 || err == nil || sdk.IsGone(err) || sdk.IsDisconnected(err) || !strings.Contains(err.Error(), "closed.edi") {
		t.Errorf("failed are %v; want closed.edi alone", failed)
	}
	if left := namesIn(t, folder); !slices.Equal(left, []string{"closed.edi", "dangling.edi", "dir.edi", "file.edi", "loop.edi"}) {
		t.Errorf("left are %q", left)
	}
}

// A server that lets nobody write is read with after_delivery: keep; else the error says
// which right is missing, and no file is lost.
func TestOpenSSHReadOnly(t *testing.T) {
	dir, props := startOpenSSH(t, "SFTP_ONLY=0", "EXTRA=ForceCommand internal-sftp -R -d \"%d\"")
	writeFile(t, dir, "a.edi", "a", 0o644)
	keep := with(props, "directory", dir, "stable_for", "0s", "after_delivery", "keep")
	for range 2 {
		got, failed := takeAll(t, newSource(t, keep))
		if got["a.edi"] != "a" || len(failed) != 0 {
			t.Errorf("received %q, failed %v", got, failed)
		}
	}
	for name, more := range map[string]map[string]any{"delete": {}, "move": {"after_delivery": "move", "move_to": "done"}} {
		props := with(keep, "after_delivery", "delete")
		for k, v := range more {
			props[k] = v
		}
		_, failed := takeAll(t, newSource(t, props))
		if err := failed["a.edi"]; err == nil || sdk.IsGone(err) || !strings.Contains(err.Error(), "keep") {
			t.Errorf("%s: %v; want advice to keep", name, err)
		}
	}
	if left := namesIn(t, dir); !slices.Equal(left, []string{"a.edi"}) {
		t.Errorf("left are %q", left)
	}
}

// A directory that is away for a while is out of reach, never empty, and what comes back
// is taken. One below it may go at any time.
func TestOpenSSHDirectoryThatComesAndGoes(t *testing.T) {
	dir, props := startOpenSSH(t)
	folder, away := folderFor(t, dir, "in"), filepath.Join(dir, "away")
	below := folderFor(t, folder, "below")
	writeFile(t, folder, "a.edi", "a", 0o644)
	writeFile(t, below, "b.edi", "b", 0o644)
	src := newSource(t, with(props, "directory", "in", "stable_for", "0s", "max_depth", 1))
	before := list(t, src)
	if len(before) != 2 {
		t.Fatalf("listed are %d files", len(before))
	}
	if err := os.Rename(folder, away); err != nil {
		t.Fatal(err)
	}
	if items, err := src.List(testContext(t)); !sdk.IsDisconnected(err) || !strings.Contains(err.Error(), "check directory") {
		t.Errorf("away: %d items, %v; want out of reach", len(items), err)
	}
	if _, err := read(t, src, before["a.edi"]); err == nil || sdk.IsGone(err) {
		t.Errorf("a file of a directory that is away: %v; nothing says that it is gone", err)
	}
	if err := errors.Join(os.Rename(away, folder), os.RemoveAll(below)); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t, src, before["b.edi"]); !sdk.IsGone(err) {
		t.Errorf("a file of a directory below that is away: %v, want gone", err)
	}
	got, failed := takeAll(t, src)
	if len(got) != 1 || got["a.edi"] != "a" || len(failed) != 0 {
		t.Errorf("received %q, failed %v", got, failed)
	}
}
