package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// fileMode is what the process's umask is applied to.
const fileMode = 0o666

// mtimeSlack is how far the time that a file system gives a file may lag behind the
// clock.
const mtimeSlack = 20 * time.Millisecond

// sink writes into one directory.
type sink struct {
	p   sendProperties
	env sdk.Env
	// contents and names make files last, those of several sends together.
	contents *together[*os.File]
	names    *together[naming]

	mu sync.Mutex
	// left are IDs of messages that may have temporary files of earlier attempts. To
	// find them costs a listing, which no message should cost that has none.
	left map[string]bool
}

var _ sdk.Prober = (*sink)(nil)

func openSink(_ context.Context, p sendProperties, env sdk.Env) (sdk.Sink, error) {
	p.Directory = filepath.Clean(p.Directory)
	return &sink{
		p: p, env: env, left: map[string]bool{},
		contents: newTogether(syncContents),
		names:    newTogether(nameFiles),
	}, nil
}

// Close implements sdk.Sink.
func (s *sink) Close() error { return nil }

// Send writes the content under a temporary name in the directory, syncs it, and
// renames it. Until the rename nothing has happened that counts, so that trouble
// with the directory (missing, full, read-only) makes the port wait and uses up no
// attempt.
func (s *sink) Send(ctx context.Context, m *sdk.Message) error {
	if n := len(m.Parts); n != 1 {
		return sdk.Permanent(fmt.Errorf("message has %d parts and a file holds one; route it to another adapter", n))
	}
	name, err := files.FinalName(s.p.Name, m)
	if err != nil {
		return err
	}
	root, err := s.open()
	if err != nil {
		return err
	}
	defer root.Close()
	// Only this message has a name with its ID in it, and an earlier attempt gave it
	// only to a whole file. Any other file of the name may be another message's.
	if s.p.Name.Unique() || m.Redelivered {
		there, err := s.holds(ctx, root, name, m)
		if err != nil {
			return err
		}
		if there {
			s.tidy(root, m.ID)
			return nil
		}
	}
	if m.Redelivered || s.hasLeft(m.ID) {
		if err := s.removeTemps(root, m.ID); err != nil {
			return err
		}
	}
	temp := files.AttemptName(m.ID)
	err = s.writeTemp(ctx, root, temp, m.Body())
	if err == nil {
		err = s.names.do(naming{root: root, from: temp, to: name, mayReplace: s.p.IfExists != existsFail})
	}
	var open *notSynced
	if err != nil && !errors.As(err, &open) {
		s.discard(root, temp, m.ID)
	}
	return err
}

// open opens the directory. Names under the result cannot lead out of it.
func (s *sink) open() (*os.Root, error) {
	if err := reachable(s.p.Directory, s.p.Marker); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(s.p.Directory)
	if err != nil {
		return nil, sdk.Disconnected(fmt.Errorf("open directory: %w", err))
	}
	return root, nil
}

// discard takes away the temporary file of an attempt that failed.
func (s *sink) discard(root *os.Root, temp, id string) {
	if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.setLeft(id, true)
	}
}

// tidy takes away what earlier attempts left, after the message has arrived.
func (s *sink) tidy(root *os.Root, id string) {
	if err := s.removeTemps(root, id); err != nil {
		s.env.Log.Warn("temporary files of a message that has arrived stay behind", "id", id, "error", err)
	}
}

func (s *sink) hasLeft(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left[id]
}

func (s *sink) setLeft(id string, left bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if left {
		s.left[id] = true
	} else {
		delete(s.left, id)
	}
}

// rename gives the whole file its final name.
func (n naming) rename() error {
	rename := n.root.Rename
	if !n.mayReplace {
		rename = func(from, to string) error { return renameNoReplace(n.root, from, to) }
	}
	err := rename(n.from, n.to)
	if errors.Is(err, fs.ErrExist) && !n.mayReplace {
		return fmt.Errorf("file %q exists already; it has to be taken away, or if_exists: replace", n.to)
	}
	if err != nil {
		return fmt.Errorf("give the file its name: %w", err)
	}
	return nil
}

// writeTemp writes and syncs the content. Errors of the directory are
// sdk.Disconnected; those of the content are not.
func (s *sink) writeTemp(ctx context.Context, root *os.Root, temp string, part *sdk.MessagePart) error {
	content, err := part.Open()
	if err != nil {
		return fmt.Errorf("open content: %w", err)
	}
	defer content.Close()
	file, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return sdk.Disconnected(fmt.Errorf("create file: %w", err))
	}
	defer file.Close() // a second time, when all went well
	in := &contentReader{ctx: ctx, r: content, sum: sha256.New()}
	if err := in.copyTo(file); err != nil {
		if in.err != nil {
			return fmt.Errorf("read content: %w", in.err)
		}
		return sdk.Disconnected(fmt.Errorf("write file: %w", err))
	}
	if err := in.check(part); err != nil {
		return err
	}
	if err := s.syncContent(file, part.Size); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return sdk.Disconnected(fmt.Errorf("close file: %w", err))
	}
	return nil
}

func (s *sink) syncContent(file *os.File, size int64) error {
	if size >= syncAlone {
		return syncContent(file)
	}
	return s.contents.do(file)
}

// Probe tells whether the message has been written.
//
//   - A file of the final name with the message's size and content is proof of
//     arrival. If the name contains the message's ID, the size is enough.
//   - A temporary file of the message without the final one is proof of absence,
//     since arriving is the renaming of the last temporary file.
//   - Nothing of either is Unknown: either nothing was written, or the file has
//     arrived and was taken by its consumer.
func (s *sink) Probe(ctx context.Context, m *sdk.Message) (sdk.Arrival, error) {
	if len(m.Parts) != 1 {
		return sdk.Absent, nil // Send refuses it
	}
	name, err := files.FinalName(s.p.Name, m)
	if err != nil {
		return sdk.Absent, nil // Send refuses it, and says why
	}
	root, err := s.open()
	if err != nil {
		return 0, err
	}
	defer root.Close()
	// Temporary files first: one that is renamed between the two looks is then seen
	// in the second.
	temps, err := temps(root, m.ID)
	if err != nil {
		return 0, err
	}
	there, err := s.holds(ctx, root, name, m)
	switch {
	case err != nil:
		return 0, err
	case there:
		s.tidy(root, m.ID)
		return sdk.Arrived, nil
	case len(temps) > 0:
		s.setLeft(m.ID, true)
		return sdk.Absent, nil
	}
	return sdk.Unknown, nil
}

// holds reports whether the final name belongs to a file with the message's
// content. Where files are replaced, a file of the same name and content counts
// whoever wrote it, as writing it again would change nothing.
func (s *sink) holds(ctx context.Context, root *os.Root, name string, m *sdk.Message) (bool, error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, sdk.Disconnected(fmt.Errorf("look for file: %w", err))
	}
	if !info.Mode().IsRegular() || info.Size() != m.Body().Size {
		return false, nil
	}
	if s.p.Name.Unique() {
		return true, nil
	}
	if s.p.IfExists == existsFail {
		// Another message of the same content may have been first. What was written
		// before this message got its ID is not it.
		made, err := files.IDTime(m.ID)
		if err != nil || info.ModTime().Before(made.Add(-mtimeSlack)) {
			return false, nil
		}
	}
	file, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read file: %w", err)
	}
	defer file.Close()
	got, err := digest(ctx, file)
	if err != nil {
		return false, fmt.Errorf("read file: %w", err)
	}
	want, err := contentDigest(ctx, m.Body())
	if err != nil {
		return false, err
	}
	return bytes.Equal(got, want), nil
}

func contentDigest(ctx context.Context, part *sdk.MessagePart) ([]byte, error) {
	if len(part.SHA256) == sha256.Size {
		return part.SHA256, nil
	}
	content, err := part.Open()
	if err != nil {
		return nil, fmt.Errorf("open content: %w", err)
	}
	defer content.Close()
	sum, err := digest(ctx, content)
	if err != nil {
		return nil, fmt.Errorf("read content: %w", err)
	}
	return sum, nil
}

// temps lists the temporary files of a message.
func temps(root *os.Root, id string) ([]string, error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, sdk.Disconnected(fmt.Errorf("open directory: %w", err))
	}
	defer dir.Close()
	var names []string
	for {
		entries, err := dir.ReadDir(listBatch)
		for _, e := range entries {
			if files.IsAttemptOf(e.Name(), id) {
				names = append(names, e.Name())
			}
		}
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		if err != nil {
			return nil, sdk.Disconnected(fmt.Errorf("list directory: %w", err))
		}
	}
}

// removeTemps takes away what earlier attempts left. It must succeed before a new
// attempt begins: a temporary file of the past would be taken for proof of absence
// later.
func (s *sink) removeTemps(root *os.Root, id string) error {
	names, err := temps(root, id)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return sdk.Disconnected(fmt.Errorf("remove what an earlier attempt left: %w", err))
		}
	}
	s.setLeft(id, false)
	return nil
}
