package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/pkg/sftp"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// appending are the turns of all send ports of the process.
var appending files.Turns

// appendTo adds the content to the file. Nothing marks what was added, so that once the
// first byte is on its way no look at the file can tell whether the message has arrived:
// errors say that it may have. Those of before are sdk.Disconnected or sdk.Permanent.
func (k *sink) appendTo(ctx context.Context, m *sdk.Message, at place) error {
	if err := files.CheckContent(m.Body()); err != nil {
		return err
	}
	target := path.Join(at.Directory, at.Name)
	done, err := appending.Take(ctx, k.pool.end.addr+" "+target)
	if err != nil {
		return sdk.Disconnected(err)
	}
	defer done()
	stale, err := k.appendOnce(ctx, m, at, target)
	if stale && ctx.Err() == nil {
		k.pool.dropIdle()
		_, err = k.appendOnce(ctx, m, at, target)
	}
	if err != nil {
		k.made.Forget(at.Directory)
	}
	return err
}

// appendOnce returns stale set if a connection that was used before broke before
// anything was written.
func (k *sink) appendOnce(ctx context.Context, m *sdk.Message, at place, target string) (stale bool, err error) {
	content, err := m.Body().Open()
	if err != nil {
		return false, sdk.Disconnected(fmt.Errorf("open content: %w", err))
	}
	defer content.Close()
	c, err := k.pool.acquire(ctx)
	if err != nil {
		return false, err
	}
	defer k.pool.release(c)
	used := c.used
	var file *sftp.File
	var end int64
	err = c.run(ctx, func() (err error) {
		if err := k.makeDirectories(c, at); err != nil {
			return err
		}
		file, end, err = openToAppend(c, target)
		return err
	})
	if errors.Is(err, errNoFile) {
		return false, sdk.Permanent(fmt.Errorf("append to %s: %w", target, err))
	}
	if err != nil {
		return used && c.isDead(), sdk.Disconnected(fmt.Errorf("append to %s: %w%s", target, err, rights(err)))
	}
	if err := k.add(ctx, c, file, content); err != nil {
		c.kill() // with the file, whose handle is open
		return false, fmt.Errorf("append to %s: %w; part of the message may be in it", target, err)
	}
	err = c.run(ctx, func() error {
		if err := errors.Join(k.settle(c, file), file.Close()); err != nil {
			return err
		}
		info, err := c.Lstat(target)
		// Others may have appended as well.
		if err == nil && info.Size() < end+m.Body().Size {
			err = found(fmt.Errorf("the file had %d bytes, and after %d more it has %d", end, m.Body().Size, info.Size()))
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("append to %s: %w", target, err)
	}
	return false, nil
}

var errNoFile = errors.New("it is no regular file")

// openToAppend opens the file with its end as the place to write to. Servers that know
// the flag write to the end whatever we say; others write where we say.
func openToAppend(c *session, target string) (file *sftp.File, end int64, err error) {
	info, err := c.Lstat(target)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, 0, found(errNoFile)
	case err == nil:
		end = info.Size()
	case !errors.Is(err, fs.ErrNotExist):
		return nil, 0, err
	}
	if file, err = c.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_APPEND); err != nil {
		return nil, 0, err
	}
	_, err = file.Seek(end, io.SeekStart)
	return file, end, err
}

// add writes with one request on its way at a time: the server may carry several out in
// any order, and each goes to the end.
func (k *sink) add(ctx context.Context, c *session, file *sftp.File, in io.Reader) error {
	piece := make([]byte, writeBuffer)
	for {
		n, readErr := io.ReadFull(in, piece)
		if n > 0 {
			err := c.run(ctx, func() error {
				_, err := file.Write(piece[:n])
				return err
			})
			if err != nil {
				return err
			}
		}
		if errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF) {
			return nil
		}
		if readErr != nil {
			return fmt.Errorf("read content: %w", readErr)
		}
	}
}
