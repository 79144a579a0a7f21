package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// renameNoReplace renames within the directory and fails with fs.ErrExist if the
// new name is taken, in one step where the system offers that. Elsewhere it looks
// first, and a file that somebody makes between the two steps is replaced.
func renameNoReplace(root *os.Root, from, to string) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := renameatNoReplace(dir, from, dir, to); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if _, err := root.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return existsOr(err)
	}
	return root.Rename(from, to)
}

// moveNoReplace is renameNoReplace between two directories.
func moveNoReplace(from, to string) error {
	fromDir, err := os.Open(filepath.Dir(from))
	if err != nil {
		return err
	}
	defer fromDir.Close()
	toDir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer toDir.Close()
	err = renameatNoReplace(fromDir, filepath.Base(from), toDir, filepath.Base(to))
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return existsOr(err)
	}
	return os.Rename(from, to)
}

func existsOr(err error) error {
	if err == nil {
		return fs.ErrExist
	}
	return err
}

func syncRoot(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	return syncDir(dir)
}

func syncPath(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return syncDir(dir)
}

// syncDir makes renames and removals in a directory last. Some file systems cannot,
// and then nothing is lost by not doing it.
func syncDir(dir *os.File) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	err := dir.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}
