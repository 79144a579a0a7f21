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

	"github.com/fairlead-io/fairlead/sdk"
)

// writeBackEvery is how many bytes of a large file are written before the disk is set
// to work on them: it then has little left to do when the file is synced.
const writeBackEvery = 8 << 20

// contentReader reads a message's content, ends with ctx, and remembers whether an
// error was the content's.
type contentReader struct {
	ctx  context.Context
	r    io.Reader
	sum  hash.Hash
	size int64
	err  error
}

// Read implements io.Reader.
func (c *contentReader) Read(p []byte) (int, error) {
	if c.err = c.ctx.Err(); c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(p)
	c.sum.Write(p[:n])
	c.size += int64(n)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// copyTo writes the content to a file, and has the disk begin with what is written.
func (c *contentReader) copyTo(file *os.File) error {
	for begun := int64(0); ; begun = c.size {
		n, err := io.CopyN(file, c, writeBackEvery)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		beginWriteBack(file, begun, n)
	}
}

// check compares what was read with what the message says.
func (c *contentReader) check(part *sdk.MessagePart) error {
	if c.size != part.Size {
		return fmt.Errorf("content is %d bytes and should be %d", c.size, part.Size)
	}
	if len(part.SHA256) == sha256.Size && !bytes.Equal(c.sum.Sum(nil), part.SHA256) {
		return fmt.Errorf("content of %d bytes is damaged: its checksum is wrong", c.size)
	}
	return nil
}

func digest(ctx context.Context, r io.Reader) ([]byte, error) {
	in := &contentReader{ctx: ctx, r: r, sum: sha256.New()}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, err
	}
	return in.sum.Sum(nil), nil
}
