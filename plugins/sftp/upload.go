package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/pkg/sftp"

	"github.com/fairlead-io/fairlead/sdk"
)

const (
	extSync = "fsync@openssh.com"
	// writeAhead is how many requests of an upload are on their way at once.
	writeAhead = 32
	// writeBuffer is how much of the content is read at once.
	writeBuffer = 1 << 20
)

// upload writes the content, has the server put it on its disk where it can, and
// compares sizes. Its errors are of before the rename: nothing has arrived.
func (k *sink) upload(ctx context.Context, c *session, temp string, part *sdk.MessagePart) error {
	content, err := part.Open()
	if err != nil {
		return fmt.Errorf("open content: %w", err)
	}
	defer content.Close()
	sum := sha256.New()
	in := io.TeeReader(content, sum)
	var file *sftp.File
	err = c.run(ctx, func() (err error) {
		file, err = c.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		return err
	})
	if err != nil {
		return sdk.Disconnected(fmt.Errorf("create %s: %w%s", temp, err, rights(err)))
	}
	if bad, err := k.copy(ctx, c, file, in); err != nil {
		if bad {
			return fmt.Errorf("read content: %w", err)
		}
		return sdk.Disconnected(fmt.Errorf("write %s: %w", temp, err))
	}
	if err := checkSum(sum, part); err != nil {
		c.kill() // with the file, whose handle is open
		return err
	}
	err = c.run(ctx, func() error {
		if _, ok := c.HasExtension(extSync); ok {
			if err := file.Sync(); err != nil {
				return err
			}
		}
		if err := file.Close(); err != nil {
			return err
		}
		info, err := c.Lstat(temp)
		if err == nil && info.Size() != part.Size {
			err = found(fmt.Errorf("the server has %d bytes of %d", info.Size(), part.Size))
		}
		return err
	})
	if err != nil {
		return sdk.Disconnected(fmt.Errorf("write %s: %w", temp, err))
	}
	return nil
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

func checkSum(sum hash.Hash, part *sdk.MessagePart) error {
	if len(part.SHA256) == sha256.Size && !bytes.Equal(sum.Sum(nil), part.SHA256) {
		return errors.New("content is damaged: its checksum is wrong")
	}
	return nil
}
