package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/fairlead-io/fairlead/sdk"
)

// What is waiting when a round begins is its work, each call gets its own outcome, and
// no two rounds overlap.
func TestCallsThatWaitAreDoneTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		odd := errors.New("odd")
		release := make(chan struct{})
		var rounds []int
		var working atomic.Int64
		group := newTogether(func(what []int) []error {
			if working.Add(1) > 1 {
				t.Error("two rounds at the same time")
			}
			defer working.Add(-1)
			rounds = append(rounds, len(what))
			<-release
			errs := make([]error, len(what))
			for i, n := range what {
				if n%2 == 1 {
					errs[i] = odd
				}
			}
			return errs
		})
		var calls sync.WaitGroup
		call := func(n int) {
			calls.Go(func() {
				if err := group.do(n); errors.Is(err, odd) != (n%2 == 1) {
					t.Errorf("call %d: %v", n, err)
				}
			})
		}
		call(0)
		synctest.Wait() // the first works alone
		for n := 1; n <= commitMax+10; n++ {
			call(n)
		}
		synctest.Wait() // the others wait
		close(release)
		calls.Wait()
		if want := []int{1, commitMax, 10}; fmt.Sprint(rounds) != fmt.Sprint(want) {
			t.Errorf("rounds of %v calls, want %v", rounds, want)
		}
	})
}

// Each file of a batch is placed, or not, by itself.
func TestFilesNamedTogetherHaveEachItsOwnOutcome(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	roots := make([]*os.Root, 3)
	for i, dir := range []string{one, one, two} {
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		roots[i] = root
	}
	write(t, one, "a.part", "a")
	write(t, one, "b.part", "b")
	write(t, one, "b", "somebody else's")
	write(t, two, "c.part", "c")
	errs := nameFiles([]naming{
		{root: roots[0], from: "a.part", to: "a"},
		{root: roots[1], from: "b.part", to: "b"},
		{root: roots[2], from: "c.part", to: "c", mayReplace: true},
		{root: roots[2], from: "missing", to: "d", mayReplace: true},
	})
	for i, failed := range []bool{false, true, false, true} {
		if (errs[i] != nil) != failed {
			t.Errorf("file %d: %v", i, errs[i])
		}
	}
	if got := read(t, filepath.Join(one, "b")); got != "somebody else's" {
		t.Errorf("the file that was there holds %q now", got)
	}
	if got := read(t, filepath.Join(two, "c")); got != "c" {
		t.Errorf("c holds %q", got)
	}
}

// A directory that cannot be synced is the error of everything that was renamed in
// it, and not one that says that nothing has happened.
func TestDirectoryThatCannotBeSyncedFailsAllThatWasRenamedInIt(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	info, err := root.Stat(".")
	if err != nil {
		t.Fatal(err)
	}
	broken := &notSynced{errors.New("disk is broken")}
	synced := directories{{info, broken}}
	for range 2 {
		err := synced.sync(root)
		if !errors.Is(err, broken) || sdk.IsDisconnected(err) {
			t.Errorf("got %v, want the error of the directory", err)
		}
	}
}

// Of many sends at once every file is whole, and no temporary one stays.
func TestManySendsAtOnceAllArriveWhole(t *testing.T) {
	dir := t.TempDir()
	s := newSink(t, dir, map[string]any{"name": "{{ftp.name}}"})
	var sends sync.WaitGroup
	content := func(i int) string { return fmt.Sprintf("content %d %s", i, make([]byte, i*100)) }
	for i := range 200 {
		sends.Go(func() {
			if err := s.Send(t.Context(), message(newID(t), fmt.Sprintf("file-%d", i), content(i))); err != nil {
				t.Errorf("send %d: %v", i, err)
			}
		})
	}
	sends.Wait()
	for i := range 200 {
		if got := read(t, filepath.Join(dir, fmt.Sprintf("file-%d", i))); got != content(i) {
			t.Errorf("file %d has %d bytes, want %d", i, len(got), len(content(i)))
		}
	}
	if got := names(t, dir); len(got) != 200 {
		t.Errorf("%d files are there, want 200", len(got))
	}
}

// A large file goes to the disk in pieces, and the end of a piece may be its end.
func TestLargeFileIsCopiedWhole(t *testing.T) {
	for _, size := range []int{writeBackEvery - 1, writeBackEvery, 2*writeBackEvery + 5} {
		dir := t.TempDir()
		m := message(newID(t), "", string(noise(size)))
		send(t, newSink(t, dir, nil), m)
		if got := read(t, filepath.Join(dir, m.ID)); got != string(noise(size)) {
			t.Errorf("of %d bytes %d arrived, or other ones", size, len(got))
		}
	}
}
