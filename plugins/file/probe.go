package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// Probe tells whether the message has been written.
//
//   - A file of the final name with the message's size and content is proof of
//     arrival. If the name contains the message's ID, the size is enough.
//   - A temporary file of the message without the final one is proof of absence,
//     since arriving is the renaming of the last temporary file.
//   - Nothing of either is Unknown: either nothing was written, or the file has
//     arrived and was taken by its consumer.
//   - What was appended to a file leaves no trace of its own: Unknown.
func (s *sink) Probe(ctx context.Context, m *sdk.Message) (sdk.Arrival, error) {
	if len(m.Parts) != 1 {
		return sdk.Absent, nil // Send refuses it
	}
	at, err := s.p.Target(s.p.Directory, s.p.Name, m)
	if err != nil {
		return sdk.Absent, nil // Send refuses it, and says why
	}
	if s.p.IfExists == files.ExistsAppend {
		return sdk.Unknown, nil
	}
	root, err := s.open(at.Directory, false)
	if s.p.CreateDirectories && errors.Is(err, fs.ErrNotExist) {
		return sdk.Unknown, nil // nothing is there, not even the directory, which Send makes
	}
	if err != nil {
		return 0, err
	}
	defer root.Close()
	// Temporary files first: one that is renamed between the two looks is then seen
	// in the second.
	temps, err := temps(root, m.ID)
	if err != nil {
		return 0, err
	}
	there, err := s.arrived(ctx, root, at, m)
	switch {
	case err != nil:
		return 0, err
	case there:
		s.tidy(root, m.ID)
		return sdk.Arrived, nil
	case len(temps) > 0:
		s.setLeft(m.ID, true)
		return sdk.Absent, nil
	}
	return sdk.Unknown, nil
}

// arrived looks at all names that the file may have.
func (s *sink) arrived(ctx context.Context, root *os.Root, at files.Target, m *sdk.Message) (bool, error) {
	for _, name := range at.Names() {
		unique := s.p.Name.Unique() || name == at.Second
		if there, err := s.holds(ctx, root, name, unique, m); there || err != nil {
			return there, err
		}
	}
	return false, nil
}

// holds reports whether the final name belongs to a file with the message's
// content. Where files are replaced, a file of the same name and content counts
// whoever wrote it, as writing it again would change nothing.
func (s *sink) holds(ctx context.Context, root *os.Root, name string, unique bool, m *sdk.Message) (bool, error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, sdk.Disconnected(fmt.Errorf("look for file: %w", err))
	}
	if !info.Mode().IsRegular() || info.Size() != m.Body().Size {
		return false, nil
	}
	if unique {
		return true, nil
	}
	if s.p.IfExists != files.ExistsReplace && !s.p.MadeFor(m, info.ModTime(), 1) {
		return false, nil
	}
	file, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read file: %w", err)
	}
	defer file.Close()
	got, err := digest(ctx, file)
	if err != nil {
		return false, fmt.Errorf("read file: %w", err)
	}
	want, err := contentDigest(ctx, m.Body())
	if err != nil {
		return false, err
	}
	return bytes.Equal(got, want), nil
}

func contentDigest(ctx context.Context, part *sdk.MessagePart) ([]byte, error) {
	if len(part.SHA256) == sha256.Size {
		return part.SHA256, nil
	}
	content, err := part.Open()
	if err != nil {
		return nil, fmt.Errorf("open content: %w", err)
	}
	defer content.Close()
	sum, err := digest(ctx, content)
	if err != nil {
		return nil, fmt.Errorf("read content: %w", err)
	}
	return sum, nil
}
