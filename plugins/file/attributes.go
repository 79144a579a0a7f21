package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// setAttributes gives the file its mode and its time. It comes before the sync, which
// makes them last with the content.
func (s *sink) setAttributes(root *os.Root, file *os.File, temp string, m *sdk.Message) error {
	if err := s.setMode(file); err != nil {
		return err
	}
	if t, ok := s.p.TimeFor(m); ok {
		if err := root.Chtimes(temp, t, t); err != nil {
			s.noTimes.Do(func() {
				s.env.Log.Warn("files cannot be given the time of their source; they are sent without", "error", err)
			})
		}
	}
	return nil
}

func (s *sink) setMode(file *os.File) error {
	mode, ok := s.p.FileMode()
	if !ok {
		return nil
	}
	if err := file.Chmod(mode); err != nil {
		return sdk.Disconnected(fmt.Errorf("set mode %s: %w; if the file system has no modes, take mode away", s.p.Mode, err))
	}
	return nil
}

// writeSidecar puts the checksum file of this name there. The file itself must not be
// there without it, so it comes first; but one that belongs to another file must stay:
// fs.ErrExist says that there is another file.
func (s *sink) writeSidecar(root *os.Root, name string, m *sdk.Message, sums *files.Sums) error {
	sidecar := s.p.SidecarName(name)
	if sidecar == "" {
		return nil
	}
	if s.p.IfExists != files.ExistsReplace {
		if _, err := root.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return existsOr(err)
		}
	}
	// It is found and taken away with what an attempt leaves, and like that it proves
	// that the attempt has not come to its end.
	temp := files.AttemptName(m.ID)
	if err := s.writeSmall(root, temp, s.p.Sidecar(name, sums)); err != nil {
		s.discard(root, temp, m.ID)
		return sdk.Disconnected(fmt.Errorf("write checksum file: %w", err))
	}
	// The rename of the file itself follows, in the same directory, which is synced then.
	if err := root.Rename(temp, sidecar); err != nil {
		s.discard(root, temp, m.ID)
		return sdk.Disconnected(fmt.Errorf("give the checksum file its name: %w", err))
	}
	return nil
}

func (s *sink) writeSmall(root *os.Root, temp string, content []byte) error {
	file, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	defer file.Close() // a second time, when all went well
	if _, err := file.Write(content); err != nil {
		return err
	}
	if err := s.setMode(file); err != nil {
		return err
	}
	if err := s.contents.do(file); err != nil {
		return err
	}
	return file.Close()
}
