package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

const extRename = "posix-rename@openssh.com" // replaces, in one step

// place is where one message goes.
type place struct {
	files.Target
	// temporary is the directory for the upload.
	temporary string
}

// place is the same at every attempt. Its errors are permanent.
func (k *sink) place(m *sdk.Message) (place, error) {
	target, err := k.props.Target(k.props.Directory, k.props.Name, m)
	return place{target, cmp.Or(k.props.TemporaryDirectory, target.Directory)}, err
}

// makeDirectories makes those that are missing.
func (k *sink) makeDirectories(c *session, at place) error {
	if !k.props.CreateDirectories {
		return nil
	}
	is := func(dir string) (bool, error) {
		info, err := c.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err == nil && !info.IsDir() {
			err = found(fmt.Errorf("%s is a file", dir))
		}
		return err == nil, err
	}
	for _, dir := range []string{at.temporary, at.Directory} {
		err := k.made.Ensure(dir, func() error { return files.MakeDirectory(dir, is, c.Mkdir) })
		if err != nil {
			return err
		}
	}
	return nil
}

// errTaken says that a file of the name is there.
var errTaken = errors.New("exists already")

// name gives the whole file its final name.
func (k *sink) name(ctx context.Context, c *session, temp string, at place, id string, sums *files.Sums) error {
	var err error
	for _, name := range at.Names() {
		target := path.Join(at.Directory, name)
		err = k.writeSidecar(ctx, c, at, name, sums, id)
		if err == nil {
			err = c.run(ctx, func() error { return k.rename(c, temp, target) })
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, errTaken) {
			return fmt.Errorf("give the file the name %s: %w", target, err)
		}
	}
	if at.Second != "" {
		return fmt.Errorf("files %s and %s exist already in %s; one of them has to be taken away", at.Name, at.Second, at.Directory)
	}
	return fmt.Errorf("file %s exists already in %s; it has to be taken away, or if_exists: replace or rename", at.Name, at.Directory)
}

func (k *sink) rename(c *session, temp, target string) error {
	if k.props.IfExists != files.ExistsReplace {
		// The protocol's own rename does not replace (version 3, section 6.5), but some
		// servers' does.
		if err := free(c, target); err != nil {
			return err
		}
		err := c.Rename(temp, target)
		if err != nil && isAnswer(err) && errors.Is(free(c, target), errTaken) {
			return found(errTaken) // by somebody between the look and the rename
		}
		return err
	}
	return replace(c, temp, target)
}

// replace renames over what is there, in one step where the server can.
func replace(c *session, temp, target string) error {
	if _, ok := c.HasExtension(extRename); ok {
		return c.PosixRename(temp, target)
	}
	if err := c.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take the file away that is to be replaced: %w", err)
	}
	return c.Rename(temp, target)
}

func free(c *session, target string) error {
	_, err := c.Lstat(target)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = found(errTaken)
	}
	return err
}
