package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"time"

	"github.com/pkg/sftp"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

const (
	extRename = "posix-rename@openssh.com" // replaces, in one step
	extSync   = "fsync@openssh.com"
	// writeAhead is how many requests of an upload are on their way at once.
	writeAhead = 32
	// writeBuffer is how much of the content is read at once.
	writeBuffer = 1 << 20
)

// sink is one send port.
type sink struct {
	props sendProperties
	env   sdk.Env
	pool  *pool

	mu sync.Mutex
	// left are IDs of messages that may have temporary files of earlier attempts. To
	// find them costs a listing, which no message should cost that has none.
	left map[string]bool
}

var _ sdk.Prober = (*sink)(nil)

func openSink(_ context.Context, p sendProperties, env sdk.Env) (sdk.Sink, error) {
	if p.TemporaryDirectory == "" {
		p.TemporaryDirectory = p.Directory
	}
	connections, err := newPool(p.connection)
	if err != nil {
		return nil, err
	}
	warnOfAnyHost(p.connection, env)
	return &sink{props: p, env: env, pool: connections, left: map[string]bool{}}, nil
}

// Close ends the connections.
func (k *sink) Close() error {
	k.pool.close()
	return nil
}

// Send writes the content under a temporary name and renames it. Until the rename is
// asked for nothing has happened that counts; every attempt has a temporary name of its
// own, so that a former owner who wakes up finds nothing to rename.
func (k *sink) Send(ctx context.Context, m *sdk.Message) error {
	if n := len(m.Parts); n != 1 {
		return sdk.Permanent(fmt.Errorf("message has %d parts and a file holds one; route it to another adapter", n))
	}
	name, err := files.FinalName(k.props.Name, m)
	if err != nil {
		return err
	}
	stale, err := k.once(ctx, m, name)
	if !stale || ctx.Err() != nil {
		return err
	}
	// One that lay idle may have been closed by the server long ago, and others with it.
	// What breaks on a new one as well has another reason.
	k.pool.dropIdle()
	_, err = k.once(ctx, m, name)
	return err
}

// once is Send on connections as they are; stale is as in attempt.
func (k *sink) once(ctx context.Context, m *sdk.Message, name string) (stale bool, err error) {
	arrived := false
	err = k.pool.with(ctx, func(c *session) (err error) {
		arrived, err = k.prepare(ctx, c, m, name)
		return err
	})
	if err != nil {
		return false, sdk.Disconnected(fmt.Errorf("look at %s: %w", k.props.Directory, err))
	}
	if arrived {
		return false, nil
	}
	return k.attempt(ctx, m, name)
}

// prepare reports whether the message has arrived before, and takes away what earlier
// attempts left: a temporary file of the past would be taken for proof of absence.
func (k *sink) prepare(ctx context.Context, c *session, m *sdk.Message, name string) (arrived bool, err error) {
	if k.props.Name.Unique() || m.Redelivered {
		if arrived, err = k.holds(c, name, m); err != nil {
			return false, err
		}
	}
	if !m.Redelivered && !k.hasLeft(m.ID) {
		return arrived, nil
	}
	return arrived, k.removeTemps(ctx, c, m.ID)
}

// attempt uploads and renames, on one connection. stale says that this was one that
// was used before and broke, and that nothing has arrived.
func (k *sink) attempt(ctx context.Context, m *sdk.Message, name string) (stale bool, err error) {
	c, err := k.pool.acquire(ctx)
	if err != nil {
		return false, err
	}
	defer k.pool.release(c)
	used := c.used
	temp := path.Join(k.props.TemporaryDirectory, files.AttemptName(m.ID))
	if err := k.upload(ctx, c, temp, m.Body()); err != nil {
		stale = used && c.isDead()
		k.discard(ctx, c, temp, m.ID)
		return stale, err
	}
	target := path.Join(k.props.Directory, name)
	err = c.run(ctx, func() error { return k.rename(c, temp, target) })
	if err == nil {
		return false, nil
	}
	k.discard(ctx, c, temp, m.ID)
	return false, fmt.Errorf("give the file the name %s: %w", target, err)
}

// rename gives the whole file its final name.
func (k *sink) rename(c *session, temp, target string) error {
	if k.props.IfExists == existsFail {
		// The protocol's own rename does not replace (version 3, section 6.5), but some
		// servers' does.
		if _, err := c.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
			if err == nil {
				err = found(errors.New("a file of this name exists already; it has to be taken away, or if_exists: replace"))
			}
			return err
		}
		return c.Rename(temp, target)
	}
	if _, ok := c.HasExtension(extRename); ok {
		return c.PosixRename(temp, target)
	}
	if err := c.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take the file away that is to be replaced: %w", err)
	}
	return c.Rename(temp, target)
}

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
func (k *sink) temps(ctx context.Context, c *session, id string) ([]string, error) {
	entries, err := c.ReadDirContext(ctx, k.props.TemporaryDirectory)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", k.props.TemporaryDirectory, err)
	}
	var names []string
	for _, e := range entries {
		if files.IsAttemptOf(e.Name(), id) {
			names = append(names, path.Join(k.props.TemporaryDirectory, e.Name()))
		}
	}
	return names, nil
}

func (k *sink) removeTemps(ctx context.Context, c *session, id string) error {
	names, err := k.temps(ctx, c, id)
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

// Probe tells whether the message has been written.
//
//   - A file of the final name with the message's size and content is proof of arrival.
//     If the name contains the message's ID, the size is enough.
//   - A temporary file of the message without the final one is proof of absence, since
//     arriving is the renaming of the last temporary file.
//   - Nothing of either is Unknown: either nothing was written, or the file has arrived
//     and was taken by its consumer.
func (k *sink) Probe(ctx context.Context, m *sdk.Message) (sdk.Arrival, error) {
	if len(m.Parts) != 1 {
		return sdk.Absent, nil // Send refuses it
	}
	name, err := files.FinalName(k.props.Name, m)
	if err != nil {
		return sdk.Absent, nil // Send refuses it, and says why
	}
	arrival := sdk.Unknown
	err = k.pool.with(ctx, func(c *session) error {
		// Temporary files first: one that is renamed between the two looks is then seen
		// in the second.
		temps, err := k.temps(ctx, c, m.ID)
		if err != nil {
			return err
		}
		there, err := k.holds(c, name, m)
		switch {
		case err != nil:
			return err
		case there:
			arrival = sdk.Arrived
			return k.removeTemps(ctx, c, m.ID)
		case len(temps) > 0:
			k.setLeft(m.ID, true)
			arrival = sdk.Absent
		}
		return nil
	})
	if err != nil {
		return sdk.Unknown, fmt.Errorf("probe %s: %w", name, err)
	}
	return arrival, nil
}

// holds reports whether the final name belongs to a file with the message's content.
// Where files are replaced, a file of the same name and content counts whoever wrote
// it, as writing it again would change nothing.
func (k *sink) holds(c *session, name string, m *sdk.Message) (bool, error) {
	target := path.Join(k.props.Directory, name)
	info, err := c.Lstat(target)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || !info.Mode().IsRegular() || info.Size() != m.Body().Size {
		return false, err
	}
	if k.props.Name.Unique() {
		return true, nil
	}
	if k.props.IfExists == existsFail {
		// Another message of the same content may have been first. What was written
		// before this message got its ID is not it. Servers tell seconds.
		made, err := files.IDTime(m.ID)
		if err != nil || info.ModTime().Before(made.Truncate(time.Second)) {
			return false, nil
		}
	}
	want, err := contentSum(m.Body())
	if err != nil {
		return false, found(err)
	}
	file, err := c.Open(target)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	sum := sha256.New()
	_, err = file.WriteTo(sum)
	if err := errors.Join(err, file.Close()); err != nil {
		return false, err
	}
	return bytes.Equal(sum.Sum(nil), want), nil
}

func contentSum(part *sdk.MessagePart) ([]byte, error) {
	if len(part.SHA256) == sha256.Size {
		return part.SHA256, nil
	}
	content, err := part.Open()
	if err != nil {
		return nil, fmt.Errorf("open content: %w", err)
	}
	defer content.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, content); err != nil {
		return nil, fmt.Errorf("read content: %w", err)
	}
	return sum.Sum(nil), nil
}
