package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/fairlead-io/fairlead/sdk/files"
)

// discard takes away the temporary file of an attempt that failed, now or before the
// next.
func (k *sink) discard(ctx context.Context, c *session, temp, id string) {
	if c.isDead() || c.run(ctx, func() error { return c.Remove(temp) }) != nil {
		k.setLeft(id, true)
	}
}

func (k *sink) hasLeft(id string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.left[id]
}

func (k *sink) setLeft(id string, left bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if left {
		k.left[id] = true
	} else {
		delete(k.left, id)
	}
}

// temps lists the temporary files of a message.
func (k *sink) temps(ctx context.Context, c *session, at place, id string) ([]string, error) {
	entries, err := c.ReadDirContext(ctx, at.temporary)
	if k.props.CreateDirectories && errors.Is(err, fs.ErrNotExist) {
		return nil, nil // not even the directory, which Send makes
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", at.temporary, err)
	}
	var names []string
	for _, e := range entries {
		if files.IsAttemptOf(e.Name(), id) {
			names = append(names, path.Join(at.temporary, e.Name()))
		}
	}
	return names, nil
}

func (k *sink) removeTemps(ctx context.Context, c *session, at place, id string) error {
	names, err := k.temps(ctx, c, at, id)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what an earlier attempt left: %w", err)
		}
	}
	k.setLeft(id, false)
	return nil
}
