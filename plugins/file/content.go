package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/fairlead-io/fairlead/sdk/files"
)

// writeBackEvery is how many bytes of a large file are written before the disk is set
// to work on them: it then has little left to do when the file is synced.
const writeBackEvery = 8 << 20

// contentReader reads a message's content, ends with ctx, and remembers whether an
// error was the content's.
type contentReader struct {
	ctx  context.Context
	r    io.Reader
	sums *files.Sums
	err  error
}

// Read implements io.Reader.
func (c *contentReader) Read(p []byte) (int, error) {
	if c.err = c.ctx.Err(); c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(p)
	_, _ = c.sums.Write(p[:n])
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// copyTo writes the content to a file, and has the disk begin with what is written.
func (c *contentReader) copyTo(file *os.File) error {
	for begun := int64(0); ; begun = c.sums.Size() {
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

func digest(ctx context.Context, r io.Reader) ([]byte, error) {
	in := &contentReader{ctx: ctx, r: r, sums: files.NewSums()}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, err
	}
	return in.sums.Sum(files.SumSHA256), nil
}
