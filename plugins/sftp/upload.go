package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pkg/sftp"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

const (
	extSync = "fsync@openssh.com"
	// writeAhead is how many requests of an upload are on their way at once.
	writeAhead = 32
	// writeBuffer is how much of the content is read at once. Uploads are resumed at
	// multiples of it, also by other versions: it is not to be changed.
	writeBuffer = 1 << 20
)

// upload writes the content, has the server put it on its disk where it can, and
// compares sizes. Its errors are of before the rename: nothing has arrived. The first
// bytes, offset of them, are there already.
func (k *sink) upload(ctx context.Context, c *session, temp string, offset int64, m *sdk.Message) (*files.Sums, error) {
	content, err := m.Body().Open()
	if err != nil {
		return nil, fmt.Errorf("open content: %w", err)
	}
	defer content.Close()
	file, offset, err := k.create(ctx, c, temp, offset)
	if err != nil {
		return nil, sdk.Disconnected(fmt.Errorf("create %s: %w%s", temp, err, rights(err)))
	}
	sums := files.NewSums(k.props.Checksum)
	in := io.TeeReader(content, sums)
	if _, err := io.CopyN(io.Discard, in, offset); err != nil {
		c.kill() // with the file, whose handle is open
		return nil, fmt.Errorf("read content: %w", err)
	}
	if bad, err := k.copy(ctx, c, file, in); err != nil {
		if bad {
			return nil, fmt.Errorf("read content: %w", err)
		}
		return nil, sdk.Disconnected(fmt.Errorf("write %s: %w", temp, err))
	}
	if err := sums.Check(m.Body()); err != nil {
		c.kill() // with the file, whose handle is open
		return nil, err
	}
	err = k.finish(ctx, c, file, temp, m)
	if err == nil {
		err = k.measure(ctx, c, temp, m.Body().Size)
	}
	if err != nil {
		return nil, sdk.Disconnected(fmt.Errorf("write %s: %w", temp, err))
	}
	return sums, nil
}

// create opens a new file, or one that has the first bytes, offset of them. One that
// cannot be gone on with is given up, and begun is 0.
func (k *sink) create(ctx context.Context, c *session, temp string, offset int64) (file *sftp.File, begun int64, err error) {
	if offset > 0 {
		err := c.run(ctx, func() (err error) {
			if file, err = c.OpenFile(temp, os.O_WRONLY); err == nil {
				_, err = file.Seek(offset, io.SeekStart)
				return err
			}
			if isAnswer(err) {
				err = c.Remove(temp)
			}
			return err
		})
		if err != nil || file != nil {
			return file, offset, err
		}
	}
	err = c.run(ctx, func() (err error) {
		file, err = c.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		return err
	})
	return file, 0, err
}

// copy writes piece by piece, with many requests of a piece on their way. bad says that
// the error is the content's.
func (k *sink) copy(ctx context.Context, c *session, file *sftp.File, in io.Reader) (bad bool, err error) {
	piece := make([]byte, writeBuffer)
	for {
		n, readErr := io.ReadFull(in, piece)
		if n > 0 {
			err := c.run(ctx, func() error {
				_, err := file.ReadFromWithConcurrency(bytes.NewReader(piece[:n]), writeAhead)
				return err
			})
			if err != nil {
				c.kill() // what of the piece has been written is not known
				return false, err
			}
		}
		switch {
		case errors.Is(readErr, io.EOF), errors.Is(readErr, io.ErrUnexpectedEOF):
			return false, nil
		case readErr != nil:
			c.kill()
			return true, readErr
		}
	}
}

// finish gives the file its mode and time, puts it on the disk and closes it. Without a
// message it is a checksum file, which has the time that it has.
func (k *sink) finish(ctx context.Context, c *session, file *sftp.File, temp string, m *sdk.Message) error {
	return c.run(ctx, func() error {
		if err := errors.Join(k.settle(c, file), file.Close()); err != nil {
			return err
		}
		if m == nil {
			return nil
		}
		t, ok := k.props.TimeFor(m)
		if !ok {
			return nil
		}
		err := c.Chtimes(temp, t, t)
		if err == nil || !isAnswer(err) {
			return err
		}
		k.noTimes.Do(func() {
			k.env.Log.Warn("the server does not let files have the time of their source; they are sent without", "error", err)
		})
		return nil
	})
}

func (k *sink) settle(c *session, file *sftp.File) error {
	if mode, ok := k.props.FileMode(); ok {
		if err := file.Chmod(mode); err != nil {
			return fmt.Errorf("set mode %s: %w; if the server does not let users do that, take mode away", k.props.Mode, err)
		}
	}
	if _, ok := c.HasExtension(extSync); ok {
		return file.Sync()
	}
	return nil
}

func (k *sink) measure(ctx context.Context, c *session, temp string, size int64) error {
	return c.run(ctx, func() error {
		info, err := c.Lstat(temp)
		if err == nil && info.Size() != size {
			err = found(fmt.Errorf("the server has %d bytes of %d", info.Size(), size))
		}
		return err
	})
}
