package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// directoryMode is what the process's umask is applied to.
const directoryMode = 0o777

// open opens a message's directory. Names under the result cannot lead out of it, and
// it is not out of base, whatever links are there.
func (s *sink) open(directory string, create bool) (*os.Root, error) {
	root, err := s.openBase(create)
	if err != nil {
		return nil, err
	}
	below, err := filepath.Rel(s.base, filepath.Clean(directory))
	if err != nil || below == "." {
		return root, err
	}
	defer root.Close()
	sub, err := root.OpenRoot(below)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err := makeBelow(root, below); err != nil {
			return nil, sdk.Disconnected(err)
		}
		sub, err = root.OpenRoot(below)
	}
	if err != nil {
		return nil, sdk.Disconnected(fmt.Errorf("open directory: %w%s", err, remedy(err)))
	}
	return sub, nil
}

func (s *sink) openBase(create bool) (*os.Root, error) {
	err := reachable(s.base, s.p.Marker)
	if create && s.p.Marker == "" && errors.Is(err, fs.ErrNotExist) {
		err = files.MakeDirectory(s.base, isDirectory(os.Stat), func(dir string) error {
			return errors.Join(exists(os.Mkdir(dir, directoryMode)), syncPath(filepath.Dir(dir)))
		})
		if err != nil {
			return nil, sdk.Disconnected(err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, remedy(err))
	}
	root, err := os.OpenRoot(s.base)
	if err != nil {
		return nil, sdk.Disconnected(fmt.Errorf("open directory: %w", err))
	}
	return root, nil
}

// makeBelow makes directories that last: a file in them is not there if they are not.
func makeBelow(root *os.Root, below string) error {
	return files.MakeDirectory(below, isDirectory(root.Stat), func(dir string) error {
		if err := exists(root.Mkdir(dir, directoryMode)); err != nil {
			return err
		}
		parent, err := root.Open(filepath.Dir(dir))
		if err != nil {
			return err
		}
		defer parent.Close()
		return syncDir(parent)
	})
}

// exists takes the error away of a directory that another has made at the same time,
// and not synced perhaps.
func exists(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func isDirectory(stat func(string) (fs.FileInfo, error)) func(string) (bool, error) {
	return func(dir string) (bool, error) {
		info, err := stat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is a file", dir)
		}
		return err == nil, err
	}
}

func remedy(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "; make it, or set create_directories: true"
	}
	return ""
}
