package config

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// watched runs Watch on a file in a bubble of its own time.
type watched struct {
	path     string
	contents []string
	errors   []string
}

// watchFile runs the steps, each with the watcher's time well past a look at the
// file, and returns what was reported.
func watchFile(t *testing.T, steps ...func(t *testing.T, w *watched)) *watched {
	w := &watched{path: filepath.Join(t.TempDir(), "app.yaml")}
	write(t, w.path, "one")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Watch(ctx, w.path, func(data []byte) { w.contents = append(w.contents, string(data)) },
				func(err error) { w.errors = append(w.errors, err.Error()) })
		}()
		synctest.Wait()
		for _, step := range steps {
			step(t, w)
			time.Sleep(3 * watchInterval)
			synctest.Wait()
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("watch ended with %v, want nil", err)
		}
	})
	return w
}

// writes counts what was written, so that every write has a time of its own: the
// file system's clock is coarse.
var writes int

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	writes++
	at := time.Unix(1_700_000_000+int64(writes), 0)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func writing(content string) func(*testing.T, *watched) {
	return func(t *testing.T, w *watched) { write(t, w.path, content) }
}

func (w *watched) wantContents(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(w.contents, want) {
		t.Errorf("got contents %q, want %q", w.contents, want)
	}
}

func TestWatchReportsTheFirstContentAndEveryOther(t *testing.T) {
	w := watchFile(t, writing("two"), func(*testing.T, *watched) {}, writing("three"))
	w.wantContents(t, "one", "two", "three")
	if len(w.errors) > 0 {
		t.Errorf("got errors %q", w.errors)
	}
}

func TestWatchDoesNotReportTheSameContentAgain(t *testing.T) {
	watchFile(t, writing("one"), writing("one")).wantContents(t, "one")
}

func TestWatchFollowsAFileThatIsReplaced(t *testing.T) {
	w := watchFile(t, func(t *testing.T, w *watched) {
		write(t, w.path+".new", "two")
		if err := os.Rename(w.path+".new", w.path); err != nil {
			t.Fatal(err)
		}
	})
	w.wantContents(t, "one", "two")
}

func TestWatchWaitsUntilAFileIsWhole(t *testing.T) {
	w := watchFile(t, func(t *testing.T, w *watched) {
		for _, part := range []string{"t", "tw", "two", "two and", "two and a half"} {
			write(t, w.path, part)
			time.Sleep(watchDebounce - time.Millisecond)
		}
	}, writing("three"))
	for _, part := range []string{"t", "tw", "two", "two and"} {
		if slices.Contains(w.contents, part) {
			t.Errorf("got contents %q, with a half-written file", w.contents)
		}
	}
	w.wantContents(t, "one", "two and a half", "three")
}

func TestWatchSurvivesAFileThatIsGoneForAWhile(t *testing.T) {
	remove := func(t *testing.T, w *watched) {
		if err := os.Remove(w.path); err != nil {
			t.Fatal(err)
		}
	}
	w := watchFile(t, remove, writing("one"), remove, writing("two"))
	w.wantContents(t, "one", "two")
	want := w.path + ": there is no such file; look at the path"
	if !slices.Equal(w.errors, []string{want, want}) {
		t.Errorf("got errors %q, want %q twice: once each time it went", w.errors, want)
	}
}

func TestWatchRefusesAFileThatIsNotThereAtTheBeginning(t *testing.T) {
	err := Watch(t.Context(), filepath.Join(t.TempDir(), "none"), func([]byte) { t.Error("something was reported") })
	if err == nil {
		t.Error("got no error")
	}
}
