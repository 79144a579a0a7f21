package datadir

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// fileName is the locked file's, in the data directory. It stays when the lock ends:
// deleting it would make the next lock another one.
const fileName = "lock"

const (
	// firstPause and longestPause are between two attempts. The first are quick: after
	// a kill the kernel needs some milliseconds to close a process's files.
	firstPause   = 2 * time.Millisecond
	longestPause = 250 * time.Millisecond
	// complainAfter is how long a wait may be before the log says who is in the way,
	// and complainEvery how often it repeats that.
	complainAfter = 2 * time.Second
	complainEvery = 30 * time.Second
)

// errHeld: another open file has the lock.
var errHeld = errors.New("locked by another process")

// HeldError is the end of a wait for a lock that somebody else kept.
type HeldError struct {
	// Path is the locked file.
	Path string
	// Holders are the processes that were found to hold it, at most a few. There may
	// be others: of other users, or in other containers.
	Holders []Holder
	// Err is the error of the context that ended the wait.
	Err error
}

// Holder is a process that has the locked file open.
type Holder struct {
	PID int
	// Name is the process's short name, as ps shows it.
	Name string
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("lock %s: %s: %v", e.Path, advice(e.Holders), e.Err)
}

func (e *HeldError) Unwrap() error { return e.Err }

// advice says who is in the way, and what to do about it.
func advice(holders []Holder) string {
	if len(holders) == 0 {
		return "it is held by a process that cannot be seen from here, of another user or in another container: stop the node that uses this node.data_dir, or give this one its own"
	}
	text := "it is held by"
	for i, h := range holders {
		if i > 0 {
			text += ","
		}
		text += fmt.Sprintf(" process %d (%s)", h.PID, h.Name)
	}
	return text + ": if that is another node, give this one its own node.data_dir; if it was left by an earlier run of this one, kill it"
}

// Option changes how Open works.
type Option func(*options)

type options struct{ log *slog.Logger }

// WithLog makes Open log whom it waits for, and what it cannot prove. Default: it
// keeps silent and tells by its error only.
func WithLog(log *slog.Logger) Option { return func(o *options) { o.log = log } }

// Lock is the lock on a data directory, which also every process has that inherited
// [Lock.File]. All methods may be called at the same time.
type Lock struct {
	file *os.File
	id   string
}

// Open makes the directory if there is none, and takes its lock. It tries until ctx
// ends; then the error is a [*HeldError] that names the processes in the way, if it
// was held. Closing the lock is the caller's business.
func Open(ctx context.Context, dir string, opts ...Option) (*Lock, error) {
	o := options{log: slog.New(slog.DiscardHandler)}
	for _, set := range opts {
		set(&o)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("node.data_dir: %w", err)
	}
	path := filepath.Join(dir, fileName)
	file, err := wait(ctx, path, o.log)
	if err != nil {
		return nil, err
	}
	id, err := identify(file)
	if err != nil {
		o.log.Warn("what is left of an earlier run cannot be proved gone by the data directory's lock; its lease has to run out",
			"file", path, "reason", err)
	}
	return &Lock{file: file, id: id}, nil
}

// File is the open file whose inheritance passes the lock on. It is closed on exec
// here: a child has it only if it is given to it. It stays the lock's.
func (l *Lock) File() *os.File { return l.file }

// ID names the lock among those of all machines: hex digits, equal for two locks only
// if getting the one proves that the other's processes are gone. Empty where nothing
// can be proved; see the package comment.
func (l *Lock) ID() string { return l.id }

// Close closes the file here. The lock ends when all processes that inherited it
// have closed it, too. It may be called more than once.
func (l *Lock) Close() error {
	if err := l.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// wait tries to lock the file until ctx ends.
func wait(ctx context.Context, path string, log *slog.Logger) (*os.File, error) {
	begun := time.Now()
	pause, complain := firstPause, complainAfter
	for {
		file, err := try(path)
		if !errors.Is(err, errHeld) {
			return file, err
		}
		if waited := time.Since(begun); waited >= complain {
			complain = waited + complainEvery
			log.Warn("waiting for the data directory's lock", "file", path, "reason", advice(holders(path)))
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
			pause = min(2*pause, longestPause)
		case <-ctx.Done():
			timer.Stop()
			return nil, &HeldError{Path: path, Holders: holders(path), Err: ctx.Err()}
		}
	}
}

// try makes one attempt. The error is errHeld if somebody else has the lock.
func try(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("node.data_dir: %w", err)
	}
	if err := lockFile(file); err != nil {
		if !errors.Is(err, errHeld) {
			err = fmt.Errorf("lock %s: %w: node.data_dir has to be on a file system with locks", path, err)
		}
		return nil, errors.Join(err, file.Close())
	}
	same, err := leadsTo(path, file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
	}
	if !same {
		// Deleted or replaced between opening and locking: whoever opens the path now
		// would not meet this lock.
		return nil, errors.Join(errHeld, file.Close())
	}
	return file, nil
}

// leadsTo tells whether the path still leads to the file.
func leadsTo(path string, file *os.File) (bool, error) {
	opened, err := file.Stat()
	if err != nil {
		return false, err
	}
	found, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return os.SameFile(opened, found), nil
}
