package main

import (
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/fairlead-io/fairlead/sdk"
)

// commitMax is how many files are committed together: more do not make a file
// cheaper, and let the first wait for the last.
const commitMax = 64

// syncAlone is the size from which a file is synced by itself: the others of its
// batch would wait for it.
const syncAlone = 1 << 20

// syncsAtOnce is how many fsyncs of a batch are under way. The disk merges their
// flushes; more only cost threads.
const syncsAtOnce = 4

// Durability of many sends at once
//
// A send is acknowledged when its content and its name are on the disk. For one file
// that takes two waits: fsync of the file before the rename, so that the final name
// never stands for less than the content, and fsync of the directory after it. On
// journaling file systems each is a commit of the journal, and a commit costs the
// same for one file as for many. So sends that wait at the same time are committed
// together, in two stages that may overlap (one batch has its names synced while the
// next has its contents synced):
//
//  1. content: the write-back of every file is begun, then every file is fsynced. The
//     first fsync commits the transaction that holds all of them, the others find
//     little left to do.
//  2. name: every file is renamed, then each directory is fsynced once.
//
// No order is given up: the rename of a file comes after the return of its own fsync,
// and its acknowledgement after the return of an fsync of the directory that began
// after its rename. What fails for one file is its own error; a directory that cannot
// be synced is the error of all files that were renamed in it.

// together gathers calls that wait, so that one of them does the work of all. Who
// comes while the work goes on waits for the next round.
type together[T any] struct {
	// work returns one outcome for each.
	work func([]T) []error
	// turnCh holds a token while somebody works.
	turnCh chan struct{}

	mu      sync.Mutex
	waiting []*turn[T]
}

type turn[T any] struct {
	what T
	done chan error // gets the outcome, once
}

func newTogether[T any](work func([]T) []error) *together[T] {
	return &together[T]{work: work, turnCh: make(chan struct{}, 1)}
}

// do has the work done on what, alone or with others, and returns its outcome. It
// lasts as long as the work that is under way, and then the next.
func (t *together[T]) do(what T) error {
	own := &turn[T]{what: what, done: make(chan error, 1)}
	t.mu.Lock()
	t.waiting = append(t.waiting, own)
	t.mu.Unlock()
	for {
		select {
		case err := <-own.done:
			return err
		case t.turnCh <- struct{}{}:
			t.round()
		}
	}
}

// round does the work of those that have waited longest, and gives the turn back.
func (t *together[T]) round() {
	defer func() { <-t.turnCh }()
	t.mu.Lock()
	n := min(commitMax, len(t.waiting))
	batch := t.waiting[:n:n]
	t.waiting = t.waiting[n:]
	t.mu.Unlock()
	if n == 0 {
		return // another has done ours in the meantime
	}
	what := make([]T, n)
	for i, w := range batch {
		what[i] = w.what
	}
	for i, err := range t.work(what) {
		batch[i].done <- err
	}
}

// syncContents makes the contents of the files last.
func syncContents(files []*os.File) []error {
	if len(files) > 1 {
		for _, f := range files {
			beginWriteBack(f, 0, 0)
		}
	}
	errs := make([]error, len(files))
	var next atomic.Int64
	var syncing sync.WaitGroup
	for range min(syncsAtOnce, len(files)) {
		syncing.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(files)); i = next.Add(1) - 1 {
				errs[i] = syncContent(files[i])
			}
		})
	}
	syncing.Wait()
	return errs
}

func syncContent(f *os.File) error {
	if err := f.Sync(); err != nil {
		return sdk.Disconnected(fmt.Errorf("sync file: %w", err))
	}
	return nil
}

// naming is a file that is whole and synced, and gets its final name.
type naming struct {
	root       *os.Root
	from, to   string
	mayReplace bool
}

// rename gives the whole file its final name. The error is fs.ErrExist if that is taken
// and may not be replaced.
func (n naming) rename() error {
	rename := n.root.Rename
	if !n.mayReplace {
		rename = func(from, to string) error { return renameNoReplace(n.root, from, to) }
	}
	if err := rename(n.from, n.to); err != nil {
		return fmt.Errorf("give the file its name: %w", err)
	}
	return nil
}

// notSynced is an error from after the rename: the file may have arrived.
type notSynced struct{ err error }

func (e *notSynced) Error() string { return "sync directory: " + e.err.Error() }
func (e *notSynced) Unwrap() error { return e.err }

// nameFiles renames the files and makes their new names last. Sends open the
// directory each for itself; mostly it is the same.
func nameFiles(files []naming) []error {
	errs := make([]error, len(files))
	var synced directories
	for i, f := range files {
		errs[i] = f.rename()
	}
	for i, f := range files {
		if errs[i] == nil {
			errs[i] = synced.sync(f.root)
		}
	}
	return errs
}

// directories are those that were synced, with their outcomes.
type directories []struct {
	info fs.FileInfo
	err  error
}

func (d *directories) sync(root *os.Root) error {
	info, err := root.Stat(".")
	if err != nil {
		return &notSynced{err}
	}
	for _, known := range *d {
		if os.SameFile(known.info, info) {
			return known.err
		}
	}
	if err = syncRoot(root); err != nil {
		err = &notSynced{err}
	}
	*d = append(*d, struct {
		info fs.FileInfo
		err  error
	}{info, err})
	return err
}
