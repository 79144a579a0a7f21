package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
)

// writeMode writes a file with exactly these rights.
func (s *realServer) writeMode(t *testing.T, name, content string, mode fs.FileMode) {
	t.Helper()
	path := filepath.Join(s.Dir, name)
	if err := errors.Join(os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

// takeAll reads and settles every item that is listed, as the runtime does, and returns
// the contents by name and the errors.
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

// One file that may not be read, and links of all kinds, stop nothing.
func TestInteropTakesWhatItMayAndLeavesTheRest(t *testing.T) {
	everyListing(t, nil, func(t *testing.T, s *realServer, props map[string]any) {
		s.writeMode(t, "a.edi", "a", 0o644)
		s.writeMode(t, "closed.edi", "secret", 0o600)
		s.writeMode(t, "z.edi", "z", 0o644)
		if props["listing"] != listingNLST { // which cannot tell links from files
			for name, target := range map[string]string{"dangling.edi": "nowhere", "file.edi": "a.edi", "dir.edi": ".."} {
				if err := os.Symlink(target, filepath.Join(s.Dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		before := s.names(t)
		got, failed := takeAll(t, newSource(t, with(props, "max_depth", 3)))
		if len(got) != 2 || got["a.edi"] != "a" || got["z.edi"] != "z" {
			t.Errorf("received are %q", got)
		}
		err := failed["closed.edi"]
		if len(failed) != 1 || err == nil || sdk.IsGone(err) || sdk.IsDisconnected(err) {
			t.Errorf("failed are %v; want closed.edi alone", failed)
		}
		mustContain(t, err, "closed.edi", "550")
		want := slices.DeleteFunc(before, func(name string) bool { return name == "a.edi" || name == "z.edi" })
		if left := s.names(t); !slices.Equal(left, want) {
			t.Errorf("left are %q, want %q", left, want)
		}
	})
}

// A server that lets nobody write is read with after_delivery: keep; else the files stay
// and no file counts as gone.
func TestInteropReadOnlyServer(t *testing.T) {
	for name, setting := range map[string]string{
		"vsftpd": "DENY=DELE,RNFR,STOR,MKD,SITE", "proftpd": "EXTRA=<Limit WRITE>\nDenyAll\n</Limit>", "pureftpd": "EXTRA=--nochmod --norename --keepallfiles",
	} {
		t.Run(name, func(t *testing.T) {
			s := startReal(t, name, setting)
			s.write(t, "a.edi", []byte("a"))
			for range 2 {
				got, failed := takeAll(t, newSource(t, with(s.props, "after_delivery", "keep")))
				if got["a.edi"] != "a" || len(failed) != 0 {
					t.Errorf("received %q, failed %v", got, failed)
				}
			}
			for _, more := range [][]any{{"after_delivery", "delete"}, {"after_delivery", "move", "move_to", "done"}} {
				_, failed := takeAll(t, newSource(t, with(s.props, more...)))
				if err := failed["a.edi"]; err == nil || sdk.IsGone(err) {
					t.Errorf("%s: %v; want an error to try again after", more[1], err)
				} else {
					mustContain(t, err, "a.edi", "55")
				}
			}
			err := newSink(t, s.props).Send(testContext(t), newMessage(t, []byte("x")))
			if name != "pureftpd" && (err == nil || sdk.IsPermanent(err)) {
				t.Errorf("sent to a server that takes nothing: %v", err)
			}
			if _, err := os.Stat(filepath.Join(s.Dir, "a.edi")); err != nil {
				t.Error(err)
			}
		})
	}
}

// A directory that is away for a while is an error, never empty, and what comes back is
// taken.
func TestInteropDirectoryThatComesAndGoes(t *testing.T) {
	everyListing(t, nil, func(t *testing.T, s *realServer, props map[string]any) {
		s.write(t, "a.edi", []byte("a"))
		src := newSource(t, props)
		before := list(t, src)
		if err := os.Rename(s.Dir, s.Dir+"-away"); err != nil {
			t.Fatal(err)
		}
		if items, err := src.List(testContext(t)); err == nil {
			t.Errorf("away: %d items; want an error", len(items))
		} else {
			mustContain(t, err, filepath.Base(s.Dir))
		}
		if _, err := read(t, src, before["a.edi"]); err == nil || sdk.IsGone(err) {
			t.Errorf("a file of a directory that is away: %v; nothing says that it is gone", err)
		}
		if err := src.Settle(testContext(t), before["a.edi"]); err == nil || sdk.IsGone(err) {
			t.Errorf("settle in a directory that is away: %v; nothing says that the file is gone", err)
		}
		if err := os.Rename(s.Dir+"-away", s.Dir); err != nil {
			t.Fatal(err)
		}
		got, failed := takeAll(t, src)
		if got["a.edi"] != "a" || len(failed) != 0 {
			t.Errorf("received %q, failed %v", got, failed)
		}
	})
}

// With a subdirectory that went away since the listing the listing is complete, and its
// files are gone.
func TestInteropSubdirectoryThatVanishes(t *testing.T) {
	everyListing(t, nil, func(t *testing.T, s *realServer, props map[string]any) {
		put(t, s.Dir, "below/b.edi", "b")
		put(t, s.Dir, "deep/er/c.edi", "c")
		put(t, s.Dir, "a.edi", "a")
		src := newSource(t, with(props, "max_depth", 2))
		before := list(t, src)
		if len(before) != 3 {
			t.Fatalf("listed are %q", itemNames(before))
		}
		if err := errors.Join(os.RemoveAll(filepath.Join(s.Dir, "below")), os.RemoveAll(filepath.Join(s.Dir, "deep"))); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"b.edi", "c.edi"} {
			if err := src.Settle(testContext(t), before[name]); !sdk.IsGone(err) {
				t.Errorf("settle %s of a directory that went away: %v, want gone", name, err)
			}
			if _, err := read(t, src, before[name]); !sdk.IsGone(err) {
				t.Errorf("read %s of a directory that went away: %v, want gone", name, err)
			}
		}
		if got := itemNames(list(t, src)); !slices.Equal(got, []string{"a.edi"}) {
			t.Errorf("listed are %q", got)
		}
	})
}
