package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/fairlead-io/fairlead/sdk"
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

// attempt is a temporary file of a message.
type attempt struct {
	path string
	size int64
}

// temps lists the temporary files of a message.
func (k *sink) temps(ctx context.Context, c *session, at place, id string) ([]attempt, error) {
	entries, err := c.ReadDirContext(ctx, at.temporary)
	if k.props.CreateDirectories && errors.Is(err, fs.ErrNotExist) {
		return nil, nil // not even the directory, which Send makes
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", at.temporary, err)
	}
	var all []attempt
	for _, e := range entries {
		if files.IsAttemptOf(e.Name(), id) {
			all = append(all, attempt{path.Join(at.temporary, e.Name()), e.Size()})
		}
	}
	return all, nil
}

func (k *sink) removeTemps(ctx context.Context, c *session, at place, id string) error {
	temps, err := k.temps(ctx, c, at, id)
	if err == nil {
		err = removeAll(c, temps)
	}
	if err == nil {
		k.setLeft(id, false)
	}
	return err
}

func removeAll(c *session, temps []attempt) error {
	for _, t := range temps {
		if err := c.Remove(t.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what an earlier attempt left: %w", err)
		}
	}
	return nil
}

// takeOver makes the best of the earlier attempts' files the next attempt's, and removes
// the others; it returns how much of the file is good, 0 if there is none.
//
// Its new name fences the attempt that had it, as removing does: there is nothing to
// rename under the old one. Whoever has the file open still, and was frozen, writes the
// same bytes to the same places when it wakes up.
func (k *sink) takeOver(ctx context.Context, c *session, m *sdk.Message, at place, temp string) (good int64, err error) {
	if !k.props.Resume {
		return 0, k.removeTemps(ctx, c, at, m.ID)
	}
	temps, err := k.temps(ctx, c, at, m.ID)
	if err != nil {
		return 0, err
	}
	best := -1
	for i, t := range temps {
		if g := whole(t.size); t.size <= m.Body().Size && g > good {
			best, good = i, g
		}
	}
	if best >= 0 {
		from := temps[best].path
		if from == temp {
			temps = slices.Delete(temps, best, best+1)
		} else if err := c.Rename(from, temp); err == nil {
			temps = slices.Delete(temps, best, best+1)
		} else if !isAnswer(err) {
			return 0, err
		} else {
			good = 0
		}
	}
	if err := removeAll(c, temps); err != nil {
		return 0, err
	}
	k.setLeft(m.ID, good > 0)
	return good, nil
}

// whole is how much of a file of this size has certainly been written. The requests of a
// piece may have been carried out in any order: the last piece may have holes.
func whole(size int64) int64 { return max(0, size-1) / writeBuffer * writeBuffer }
