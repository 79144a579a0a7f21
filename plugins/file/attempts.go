package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// discard takes away the temporary file of an attempt that failed.
func (s *sink) discard(root *os.Root, temp, id string) {
	if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.setLeft(id, true)
	}
}

// tidy takes away what earlier attempts left, after the message has arrived.
func (s *sink) tidy(root *os.Root, id string) {
	if err := s.removeTemps(root, id); err != nil {
		s.env.Log.Warn("temporary files of a message that has arrived stay behind", "id", id, "error", err)
	}
}

func (s *sink) hasLeft(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left[id]
}

func (s *sink) setLeft(id string, left bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if left {
		s.left[id] = true
	} else {
		delete(s.left, id)
	}
}

// temps lists the temporary files of a message.
func temps(root *os.Root, id string) ([]string, error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, sdk.Disconnected(fmt.Errorf("open directory: %w", err))
	}
	defer dir.Close()
	var names []string
	for {
		entries, err := dir.ReadDir(listBatch)
		for _, e := range entries {
			if files.IsAttemptOf(e.Name(), id) {
				names = append(names, e.Name())
			}
		}
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		if err != nil {
			return nil, sdk.Disconnected(fmt.Errorf("list directory: %w", err))
		}
	}
}

// removeTemps takes away what earlier attempts left. It must succeed before a new
// attempt begins: a temporary file of the past would be taken for proof of absence
// later.
func (s *sink) removeTemps(root *os.Root, id string) error {
	names, err := temps(root, id)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return sdk.Disconnected(fmt.Errorf("remove what an earlier attempt left: %w", err))
		}
	}
	s.setLeft(id, false)
	return nil
}
