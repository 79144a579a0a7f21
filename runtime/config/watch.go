package config

import (
	"context"
	"crypto/sha256"
	"io/fs"
	"os"
	"time"
)

const (
	// watchInterval is the time between two looks at a watched file.
	watchInterval = time.Second
	// watchDebounce is how long a changed file must stay as it is before it is
	// read, so that half a file is not taken for the whole.
	watchDebounce = 250 * time.Millisecond
)

// Watch calls changed with the content of the file: first with what it holds now,
// then whenever it holds something else. It returns when ctx ends, with nil, or at
// once if the file cannot be read at the beginning.
//
// It looks at time and size every second and reads the file only when they differ
// and have been the same for 250 ms; what has the same content as before is not
// reported. It polls, because that works on every file system and survives editors
// that replace the file and volumes that swap links. While the file is missing or
// unreadable nothing is reported to changed: what was read last stays in force.
// failed, if given, is told why, once per cause.
//
// changed and failed are called one after the other, from the caller's goroutine.
func Watch(ctx context.Context, path string, changed func(data []byte), failed ...func(error)) error {
	w := watch{path: path}
	data, err := w.read()
	if err != nil {
		return err
	}
	changed(data)
	said := ""
	for {
		if !sleep(ctx, watchInterval) {
			return nil
		}
		data, err := w.next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && data != nil:
			said = ""
			changed(data)
		case err == nil:
			said = ""
		case err.Error() != said:
			said = err.Error()
			for _, f := range failed {
				f(err)
			}
		}
	}
}

// watch is what is known of a watched file.
type watch struct {
	path string
	seen fs.FileInfo
	sum  [sha256.Size]byte
}

// next returns the new content, nil if there is none.
func (w *watch) next(ctx context.Context) ([]byte, error) {
	info, err := os.Stat(w.path)
	if err != nil {
		w.seen = nil
		_, err = readFile(w.path)
		return nil, err
	}
	if same(w.seen, info) {
		return nil, nil
	}
	for {
		if !sleep(ctx, watchDebounce) {
			return nil, nil
		}
		settled, err := os.Stat(w.path)
		if err == nil && same(info, settled) {
			break
		}
		if err != nil {
			return nil, nil // gone again; the next look says so
		}
		info = settled
	}
	before := w.sum
	data, err := w.read()
	if err != nil || w.sum == before {
		return nil, err
	}
	return data, nil
}

// read reads the file and remembers what it was.
func (w *watch) read() ([]byte, error) {
	// Before the content: a change in between makes the next look differ.
	info, err := os.Stat(w.path)
	data, readErr := readFile(w.path)
	if readErr != nil {
		w.seen = nil
		return nil, readErr
	}
	if err == nil {
		w.seen = info
	}
	w.sum = sha256.Sum256(data)
	return data, nil
}

func same(a, b fs.FileInfo) bool {
	return a != nil && b != nil && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && os.SameFile(a, b)
}

// sleep reports whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
