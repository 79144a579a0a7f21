package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk"
)

// everyServer runs a test against all TLS modes, with MLSD and with LIST.
func everyServer(t *testing.T, test func(t *testing.T, s *testServer)) {
	for _, mode := range []ftpd.TLSMode{ftpd.Plain, ftpd.Explicit, ftpd.Implicit} {
		for _, mlsd := range []bool{true, false} {
			name := "plain"
			if mode != ftpd.Plain {
				name = string(mode)
			}
			if mlsd {
				name += " with MLSD"
			} else {
				name += " with LIST"
			}
			t.Run(name, func(t *testing.T) {
				test(t, startServer(t, ftpd.Config{TLS: mode, DisableMLSD: !mlsd}))
			})
		}
	}
}

var oddNames = []string{
	"plain.edi", "-dash.edi", " leading space.edi", "two  spaces.edi", "quote\"s'.edi",
	"größe 中文.edi", "100%.edi", "semi;colon=.edi", "back\\slash.edi", "[brackets].edi", "star*.edi",
}

func TestFilesAreListedReadAndDeleted(t *testing.T) {
	everyServer(t, func(t *testing.T, s *testServer) {
		want := map[string][]byte{"empty.edi": {}, "big.edi": noise(1, 3<<20)}
		for i, name := range oddNames {
			want[name] = noise(byte(i), 1000+i)
		}
		for name, content := range want {
			s.write(t, name, content)
		}
		if err := os.Mkdir(filepath.Join(s.Dir, "directory.edi"), 0o755); err != nil {
			t.Fatal(err)
		}
		s.write(t, temporaryName("0190"), []byte("an upload under way"))

		src := newSource(t, s.props)
		items := list(t, src)
		for name, content := range want {
			item, ok := items[name]
			if !ok {
				t.Errorf("%q is not listed", name)
				continue
			}
			if item.Size != int64(len(content)) || item.StableFor != 2*time.Second || item.Kept {
				t.Errorf("%q: size %d, stable for %s, kept %t", name, item.Size, item.StableFor, item.Kept)
			}
			got, err := read(t, src, item)
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("read %q: %d bytes, %v; want %d", name, len(got), err, len(content))
			}
			if err := src.Settle(testContext(t), item); err != nil {
				t.Errorf("settle %q: %v", name, err)
			}
		}
		if len(items) != len(want) {
			t.Errorf("listed are %q, want %d files", itemNames(items), len(want))
		}
		if left := s.names(t); len(left) != 2 {
			t.Errorf("left are %q, want the directory and the upload under way", left)
		}
	})
}

func TestPatternChoosesFiles(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	for _, name := range []string{"a.edi", "b.EDI", "c.edi.tmp", "d1.edi", ".hidden.edi"} {
		s.write(t, name, []byte("x"))
	}
	for pattern, want := range map[string][]string{
		"*.edi":       {"a.edi", "d1.edi"},
		".*.edi":      {".hidden.edi"},
		"*.tmp":       {"c.edi.tmp"},
		"?.edi":       {"a.edi"},
		"[a-c].*":     {"a.edi", "b.EDI"},
		"nothing":     {},
		"*.[eE][dD]*": {"a.edi", "b.EDI", "d1.edi"},
	} {
		if got := itemNames(list(t, newSource(t, with(s.props, "pattern", pattern)))); !slices.Equal(got, want) {
			t.Errorf("pattern %s takes %q, want %q", pattern, got, want)
		}
	}
}

func TestMissingDirectoryIsAnErrorAndNotAnEmptyListing(t *testing.T) {
	everyServer(t, func(t *testing.T, s *testServer) {
		for _, dir := range []string{"/missing", "missing"} {
			_, err := newSource(t, with(s.props, "directory", dir)).List(testContext(t))
			mustContain(t, err, "change to directory", "missing")
		}
	})
}

func TestRelativeDirectoryCountsFromTheLoginAtEveryPoll(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	if err := os.MkdirAll(filepath.Join(s.Dir, "out", "done"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.write(t, "out/a", []byte("x"))
	src := newSource(t, with(s.props, "directory", "out", "after_delivery", "move", "move_to", "done"))
	for range 3 {
		if got := itemNames(list(t, src)); !slices.Equal(got, []string{"a"}) {
			t.Fatalf("listed are %q", got)
		}
	}
	if err := src.Settle(testContext(t), list(t, src)["a"]); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "out", "done", "a")); err != nil {
		t.Error(err)
	}
}

func TestMoveKeepsWhatIsThereUnderTheSameName(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	if err := os.Mkdir(filepath.Join(s.Dir, "done"), 0o755); err != nil {
		t.Fatal(err)
	}
	src := newSource(t, with(s.props, "after_delivery", "move", "move_to", "done"))
	for _, content := range []string{"monday", "tuesday!"} {
		s.write(t, "orders", []byte(content))
		if err := src.Settle(testContext(t), list(t, src)["orders"]); err != nil {
			t.Fatal(err)
		}
	}
	moved, err := filepath.Glob(filepath.Join(s.Dir, "done", "orders*"))
	if err != nil || len(moved) != 2 {
		t.Errorf("moved are %q, %v; want both", moved, err)
	}
}

func TestKeptFileStaysAndKeepsItsKey(t *testing.T) {
	everyServer(t, func(t *testing.T, s *testServer) {
		s.write(t, "a", []byte("x"))
		src := newSource(t, with(s.props, "after_delivery", "keep"))
		first := list(t, src)["a"]
		if _, err := read(t, src, first); err != nil {
			t.Fatal(err)
		}
		again := list(t, newSource(t, with(s.props, "after_delivery", "keep")))["a"]
		if !first.Kept || first.Key != again.Key {
			t.Errorf("kept %t, keys %q and %q", first.Kept, first.Key, again.Key)
		}
	})
}

func TestMLSDAndLISTGiveTheSameKey(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	for name, age := range map[string]time.Duration{"new": 0, "month": 30 * 24 * time.Hour, "old": 400 * 24 * time.Hour} {
		s.write(t, name, []byte("x"))
		when := time.Now().Add(-age)
		if err := os.Chtimes(filepath.Join(s.Dir, name), when, when); err != nil {
			t.Fatal(err)
		}
	}
	byMLSD := list(t, newSource(t, s.props))
	byLIST := list(t, newSource(t, with(s.props, "listing", listingLIST)))
	for name, item := range byMLSD {
		if item.Key != byLIST[name].Key {
			t.Errorf("%s: key %q by MLSD, %q by LIST", name, item.Key, byLIST[name].Key)
		}
	}
	if len(byMLSD) != 3 || len(byLIST) != 3 {
		t.Errorf("%d and %d files, want 3", len(byMLSD), len(byLIST))
	}
}

func TestFileThatChangedAfterReadingIsNotDeleted(t *testing.T) {
	everyServer(t, func(t *testing.T, s *testServer) {
		change := map[string]func(path string) error{
			"other size": func(path string) error { return os.WriteFile(path, []byte("longer than before"), 0o644) },
			"same size, other time": func(path string) error {
				later := time.Now().Add(3 * time.Second)
				return os.Chtimes(path, later, later)
			},
		}
		for name, change := range change {
			s.write(t, "a", []byte("first"))
			src := newSource(t, s.props)
			item := list(t, src)["a"]
			if _, err := read(t, src, item); err != nil {
				t.Fatal(err)
			}
			if err := change(filepath.Join(s.Dir, "a")); err != nil {
				t.Fatal(err)
			}
			if err := src.Settle(testContext(t), item); !sdk.IsGone(err) {
				t.Errorf("%s: settle says %v, want gone", name, err)
			}
			if fresh, ok := list(t, src)["a"]; !ok || fresh.Key == item.Key {
				t.Errorf("%s: the new version is listed %t under key %q, before %q", name, ok, fresh.Key, item.Key)
			}
		}
	})
}

func TestFileThatWentAwayIsGone(t *testing.T) {
	everyServer(t, func(t *testing.T, s *testServer) {
		s.write(t, "a", []byte("x"))
		src := newSource(t, s.props)
		item := list(t, src)["a"]
		if err := os.Remove(filepath.Join(s.Dir, "a")); err != nil {
			t.Fatal(err)
		}
		if _, err := read(t, src, item); !sdk.IsGone(err) {
			t.Errorf("open says %v, want gone", err)
		}
		if err := src.Settle(testContext(t), item); !sdk.IsGone(err) {
			t.Errorf("settle says %v, want gone", err)
		}
	})
}

func TestFileThatGrewSinceTheListingIsNotTaken(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	s.write(t, "a", noise(1, 1000))
	src := newSource(t, s.props)
	item := list(t, src)["a"]
	s.write(t, "a", noise(1, 1500))
	if _, err := read(t, src, item); !sdk.IsGone(err) {
		t.Errorf("reading a grown file says %v, want gone", err)
	}
	s.write(t, "a", noise(1, 500))
	_, err := read(t, src, item)
	mustContain(t, err, "500 of 1000 bytes")
}

// A writer that appends in pieces must never be taken in the middle by anybody
// who waits until the key has stayed the same, whatever the pace.
func TestGrowingFileHasANewKeyAfterEveryPiece(t *testing.T) {
	everyServer(t, func(t *testing.T, s *testServer) {
		src := newSource(t, s.props)
		keys := map[string]int{}
		const pieces = 20
		for n := 1; n <= pieces; n++ {
			s.write(t, "growing", noise(1, n*10))
			keys[list(t, src)["growing"].Key]++
		}
		if len(keys) != pieces {
			t.Errorf("%d keys for %d states of the file", len(keys), pieces)
		}
	})
}

// A file that is written over in place keeps its size; only its time tells.
func TestFileWrittenOverInPlaceGetsANewKey(t *testing.T) {
	everyServer(t, func(t *testing.T, s *testServer) {
		src := newSource(t, s.props)
		// All within the same minute of LIST.
		start := time.Now().Truncate(time.Minute)
		keys := map[string]bool{}
		for i := range 5 {
			s.write(t, "a", noise(byte(i), 100))
			when := start.Add(time.Duration(i) * time.Second)
			if err := os.Chtimes(filepath.Join(s.Dir, "a"), when, when); err != nil {
				t.Fatal(err)
			}
			keys[list(t, src)["a"].Key] = true
		}
		if len(keys) != 5 {
			t.Errorf("%d keys for 5 versions", len(keys))
		}
	})
}

func TestEverySelectionWorksOverFTP(t *testing.T) {
	everyServer(t, func(t *testing.T, s *testServer) {
		old, older := time.Now().Add(-2*time.Hour), time.Now().Add(-3*time.Hour)
		for name, size := range map[string]int{"ord1": 3, "ord2": 2, "ORD3": 1, "ord4.bak": 1, "inv5": 1, "large": 100} {
			s.write(t, name, noise(1, size))
			at := old
			if name == "ord2" {
				at = older
			}
			if err := os.Chtimes(filepath.Join(s.Dir, name), at, at); err != nil {
				t.Fatal(err)
			}
		}
		s.write(t, "ord6", []byte("new"))
		for _, c := range []struct {
			properties []any
			want       []string
		}{
			{[]any{"regexp", `ord\d`, "max_size", 50}, []string{"ord2", "ord1", "ord6"}},
			{[]any{"regexp", `ord\d`, "ignore_case", true, "sort", "name"}, []string{"ORD3", "ord1", "ord2", "ord6"}},
			{[]any{"pattern", "ord*", "exclude", []string{"*.bak", "ord1"}}, []string{"ord2", "ord6"}},
			{[]any{"pattern", "ord?", "min_age", "1h", "sort", "size", "descending", true}, []string{"ord1", "ord2"}},
			{[]any{"max_size", 99, "exclude", []string{"ord*", "ORD*"}}, []string{"inv5"}},
		} {
			props := s.props
			for i := 0; i < len(c.properties); i += 2 {
				props = with(props, c.properties[i].(string), c.properties[i+1])
			}
			items, err := newSource(t, props).List(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			got := []string{}
			for _, item := range items {
				got = append(got, item.Context["ftp.name"])
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%v takes %q, want %q", c.properties, got, c.want)
			}
		}
	})
}
