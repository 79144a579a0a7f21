package handler

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

const (
	// maxSocketPath is the longest path of a Unix socket on the systems we run on,
	// socketSuffix what we and go-plugin add to the parent directory at most.
	maxSocketPath = 103
	socketSuffix  = len("/fl-0123456789/plugin-dir0123456789/plugin0123456789")

	socketDirPrefix = "fl-"
	ownerFile       = "owner"
)

// socketDir is a private directory for one process's socket. A locked file in it
// says that its maker lives, so that what a killed runtime left can be told from
// what is in use.
type socketDir struct {
	path  string
	owner *os.File
}

// newSocketDir makes a directory below base, or below the system's temporary
// directory where that would make the path of a socket too long. It removes the
// directories that killed runtimes have left there.
func newSocketDir(base string) (*socketDir, error) {
	parent := base
	for _, fallback := range []string{os.TempDir(), "/tmp"} {
		if parent == "" || len(parent)+socketSuffix > maxSocketPath {
			parent = fallback
		}
	}
	removeAbandoned(parent)
	path, err := os.MkdirTemp(parent, socketDirPrefix)
	if err != nil {
		return nil, err
	}
	d := &socketDir{path: path}
	if err := d.mark(); err != nil {
		d.remove()
		return nil, err
	}
	return d, nil
}

// mark makes the owner's file, under its name only when it is locked: others
// must never see it free.
func (d *socketDir) mark() (err error) {
	name := filepath.Join(d.path, ownerFile)
	if d.owner, err = os.OpenFile(name+".new", os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := lockFile(d.owner); err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			return nil // without locks nothing is marked, and nothing removed
		}
		return err
	}
	return os.Rename(name+".new", name)
}

func (d *socketDir) remove() {
	_ = os.RemoveAll(d.path) // what cannot be removed now is, by a later start
	if d.owner != nil {
		d.owner.Close()
	}
}

// removeAbandoned removes what has our mark but nobody's lock.
func removeAbandoned(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return // making ours will say why
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), socketDirPrefix) {
			continue
		}
		path := filepath.Join(parent, e.Name())
		f, err := os.OpenFile(filepath.Join(path, ownerFile), os.O_RDWR, 0)
		if err != nil {
			continue // not ours
		}
		if lockFile(f) == nil {
			_ = os.RemoveAll(path)
		}
		f.Close()
	}
}
