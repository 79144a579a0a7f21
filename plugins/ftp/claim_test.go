package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// atEveryServer is everyRealServer besides the embedded one, with both kinds of listing.
func atEveryServer(t *testing.T, test func(t *testing.T, dir string, props map[string]any)) {
	for name, cfg := range map[string]ftpd.Config{"embedded": {}, "embedded with LIST": {DisableMLSD: true}} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, cfg)
			test(t, s.Dir, s.props)
		})
	}
	if testing.Short() {
		return
	}
	everyRealServer(t, func(t *testing.T, s *realServer) { test(t, s.Dir, s.props) })
}

// owner is the location's under an epoch.
func owner(t testing.TB, epoch uint64, props map[string]any) *source {
	t.Helper()
	s := newSource(t, props)
	env := testEnv(t)
	env.Epoch = epoch
	s.claims = files.NewClaims(env)
	return s
}

func mustRead(t testing.TB, s *source, item sdk.Item, want string) {
	t.Helper()
	if got, err := read(t, s, item); err != nil || string(got) != want {
		t.Errorf("%s: read %q, %v; want %q", item.Key, got, err, want)
	}
}

func put(t testing.TB, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	for at := filepath.Dir(path); at != dir; at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o777); err != nil { // the server's user works in it
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestASuccessorAdoptsTheClaimsOfADeadOwner(t *testing.T) {
	atEveryServer(t, func(t *testing.T, dir string, props map[string]any) {
		put(t, dir, "a b.edi", "content")
		props = with(props, "claim", true, "stable_for", "0s")
		former, successor := owner(t, 1, props), owner(t, 2, props)
		item := list(t, former)["a b.edi"]
		mustRead(t, former, item, "content")
		put(t, dir, "a b.edi", "the writer's next one")

		items, err := successor.List(testContext(t))
		if err != nil || len(items) != 2 {
			t.Fatalf("listed %+v, %v; want the claimed file and the new one", items, err)
		}
		at := slices.IndexFunc(items, func(i sdk.Item) bool { return i.Key == item.Key })
		if at < 0 {
			t.Fatalf("the successor lists %+v, and not %s", items, item.Key)
		}
		mustRead(t, successor, items[at], "content")
		if err := former.Settle(testContext(t), item); err == nil {
			t.Error("the former owner has settled what its successor reads")
		}
		if late := list(t, former); len(late) != 1 {
			t.Errorf("the former owner lists %+v, want the new file only", late)
		}
		for _, i := range []sdk.Item{items[at], items[1-at]} {
			if err := successor.Settle(testContext(t), i); err != nil {
				t.Error(err)
			}
		}
		if left := (&testServer{Dir: dir}).names(t); len(left) > 0 {
			t.Errorf("%q are left", left)
		}
	})
}

// The reply to the rename got lost, with the connection: the next attempt finds the file
// where the first has put it.
func TestAClaimWhoseReplyGotLostIsFound(t *testing.T) {
	atEveryServer(t, func(t *testing.T, dir string, props map[string]any) {
		put(t, dir, "a.edi", "content")
		s := owner(t, 1, with(props, "claim", true, "stable_for", "0s"))
		item := list(t, s)["a.edi"]
		f := item.Handle.(*file)
		claimed, err := s.claims.Path(f.name, s.version(f))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "a.edi"), filepath.Join(dir, claimed)); err != nil {
			t.Fatal(err)
		}
		mustRead(t, s, item, "content")
		if err := s.Settle(testContext(t), item); err != nil {
			t.Error(err)
		}
	})
}

func TestAFileThatChangedBeforeItsClaimIsNotTakenForTheOneThatWasListed(t *testing.T) {
	atEveryServer(t, func(t *testing.T, dir string, props map[string]any) {
		put(t, dir, "a.edi", "short")
		s := owner(t, 1, with(props, "claim", true, "stable_for", "0s"))
		item := list(t, s)["a.edi"]
		put(t, dir, "a.edi", "longer than it was")
		if _, err := read(t, s, item); !sdk.IsGone(err) {
			t.Fatalf("read: %v, want that the listed version is gone", err)
		}
		next := list(t, s)["a.edi"]
		mustRead(t, s, next, "longer than it was")
		if err := s.Settle(testContext(t), next); err != nil {
			t.Error(err)
		}
	})
}

func TestSubdirectoriesDoneFilesAndMoves(t *testing.T) {
	atEveryServer(t, func(t *testing.T, dir string, props map[string]any) {
		for _, name := range []string{"top.edi", "de/x y/a.edi", "de/b.edi", "archive/c.edi", ".hidden/d.edi", "skip/e.edi"} {
			put(t, dir, name, name)
			put(t, dir, name+".done", "")
		}
		put(t, dir, "fr/not-yet.edi", "")
		s := owner(t, 1, with(props, "stable_for", "0s", "max_depth", 2, "exclude_directories", []string{"sk*"}, "done_file", "{{name}}.done",
			"after_delivery", "move", "move_to", "archive/{{now:2006}}", "move_name", "{{ftp.size}}-{{ftp.name}}", "sort", "name"))
		items := list(t, s)
		if got, want := itemNames(items), []string{"a.edi", "b.edi", "top.edi"}; !slices.Equal(got, want) {
			t.Fatalf("listed %q, want %q", got, want)
		}
		if got := items["a.edi"].Context["ftp.path"]; got != "de/x y/a.edi" {
			t.Errorf("ftp.path is %q", got)
		}
		for _, item := range items {
			mustRead(t, s, item, item.Context["ftp.path"])
			if err := s.Settle(testContext(t), item); err != nil {
				t.Error(err)
			}
		}
		moved, err := filepath.Glob(filepath.Join(dir, "archive/2*/de/x y/12-a.edi"))
		if err != nil || len(moved) != 1 {
			t.Errorf("a.edi was moved to %q, %v", moved, err)
		}
		for _, gone := range []string{"top.edi", "top.edi.done", "de/b.edi", "de/b.edi.done"} {
			if _, err := os.Lstat(filepath.Join(dir, gone)); err == nil {
				t.Errorf("%s is still there", gone)
			}
		}
		if again := list(t, s); len(again) > 0 {
			t.Errorf("then listed %q", itemNames(again))
		}
	})
}

func TestADirectoryThatVanishesOrMayNotBeReadIsToldApart(t *testing.T) {
	everyRealServer(t, func(t *testing.T, s *realServer) {
		put(t, s.Dir, "closed/a.edi", "x")
		put(t, s.Dir, "b.edi", "x")
		if err := os.Chmod(filepath.Join(s.Dir, "closed"), 0); err != nil {
			t.Fatal(err)
		}
		src := newSource(t, with(s.props, "stable_for", "0s", "max_depth", 1))
		_, err := src.List(testContext(t))
		if err == nil {
			t.Fatal("a listing without a directory that is there is taken for complete")
		}
		mustContain(t, err, "closed", "exclude_directories")
		open := newSource(t, with(s.props, "stable_for", "0s", "max_depth", 1, "exclude_directories", []string{"closed"}))
		if got := itemNames(list(t, open)); !slices.Equal(got, []string{"b.edi"}) {
			t.Errorf("listed %q", got)
		}
	})
}
