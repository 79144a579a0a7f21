package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// appending are the turns of all send ports of the process.
var appending files.Turns

// appendTo adds the content to the file. Nothing marks what was added, so that once the
// first byte is written no look at the file can tell whether the message has arrived:
// errors say that it may have. Those of before are sdk.Disconnected or sdk.Permanent.
func (s *sink) appendTo(ctx context.Context, root *os.Root, at files.Target, m *sdk.Message) error {
	if err := files.CheckContent(m.Body()); err != nil {
		return err
	}
	done, err := appending.Take(ctx, filepath.Join(at.Directory, at.Name))
	if err != nil {
		return sdk.Disconnected(err)
	}
	defer done()
	file, isNew, err := openToAppend(root, at.Name)
	if err != nil {
		return err
	}
	defer file.Close() // a second time, when all went well
	content, err := m.Body().Open()
	if err != nil {
		return sdk.Disconnected(fmt.Errorf("open content: %w", err))
	}
	defer content.Close()
	in := &contentReader{ctx: ctx, r: content, sums: files.NewSums()}
	if err := in.copyTo(file); err != nil {
		if in.sums.Size() == 0 {
			return sdk.Disconnected(fmt.Errorf("append: %w", err))
		}
		return fmt.Errorf("append to file %q: %w; part of the message may be in it", at.Name, err)
	}
	if err := in.sums.Check(m.Body()); err != nil {
		return err
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("sync file %q: %w", at.Name, err)
	}
	if isNew {
		if err := syncRoot(root); err != nil {
			return &notSynced{err}
		}
	}
	return nil
}

// openToAppend does not follow links, as the other ways to place a file do not.
func openToAppend(root *os.Root, name string) (file *os.File, isNew bool, err error) {
	info, err := root.Lstat(name)
	isNew = errors.Is(err, fs.ErrNotExist)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, false, sdk.Permanent(fmt.Errorf("append to %q: it is no regular file", name))
	case err != nil && !isNew:
		return nil, false, sdk.Disconnected(fmt.Errorf("look for file: %w", err))
	}
	file, err = root.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, fileMode)
	if err != nil {
		return nil, false, sdk.Disconnected(fmt.Errorf("open file: %w", err))
	}
	return file, isNew, nil
}
