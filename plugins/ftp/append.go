package main

import (
	"context"
	"fmt"
	"io"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// appending are the turns of all send ports of the process.
var appending files.Turns

// appendTo adds the body to the file (APPE). Nothing marks what was added, so that once
// the first byte is on its way no look at the file can tell whether the message has
// arrived: open is set.
func (k *sink) appendTo(ctx context.Context, c *session, m *sdk.Message, at place) (open bool, err error) {
	if err := files.CheckContent(m.Body()); err != nil {
		return false, fmt.Errorf("the message's body: %w", err)
	}
	content, err := m.Body().Open()
	if err != nil {
		return false, fmt.Errorf("open the message's body: %w", err)
	}
	defer content.Close()
	target := join(c.absolute(at.Directory), at.Name)
	var was fact
	err = c.run(ctx, func() (err error) {
		if err := k.makeDirectories(c, at); err != nil {
			return err
		}
		if was, err = c.size(c.absolute(at.Directory), at.Name); err != nil {
			return err
		}
		return c.commandsBefore()
	})
	if err != nil {
		return false, err
	}
	in := &appendedReader{r: content}
	err = c.run(ctx, func() error {
		c.upload = true
		defer func() { c.upload = false }()
		return c.ftp.Append(target, in)
	})
	if err != nil {
		return in.n > 0, fmt.Errorf("append to %s after %d bytes: %w", target, in.n, err)
	}
	// Some servers confirm an upload that broke off. Others may have appended as well.
	err = c.run(ctx, func() error {
		is, err := c.size(c.absolute(at.Directory), at.Name)
		if want := max(0, was.size) + m.Body().Size; err == nil && is.size < want {
			err = found("append to %s: the file had %d bytes, and after %d more it has %d", target, max(0, was.size), m.Body().Size, max(0, is.size))
		}
		return err
	})
	if err == nil {
		c.commandsAfter(ctx)
	}
	return err != nil, err
}

// appendedReader counts what was taken from it. Of an empty body nothing is written to
// the data connection, and the library does not see to it that TLS begins there.
type appendedReader struct {
	r io.Reader
	n int64
}

// Read implements io.Reader.
func (a *appendedReader) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	a.n += int64(n)
	return n, err
}

// WriteTo implements io.WriterTo.
func (a *appendedReader) WriteTo(w io.Writer) (int64, error) {
	n, err := io.Copy(w, struct{ io.Reader }{a})
	if data, ok := w.(interface{ Handshake() error }); ok && n == 0 && err == nil {
		err = data.Handshake()
	}
	return n, err
}
