package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// fileMode is what the process's umask is applied to.
const fileMode = 0o666

// sink writes into one directory.
type sink struct {
	p   sendProperties
	env sdk.Env
	// base is the part of the directory that is the same for all messages.
	base string
	// contents and names make files last, those of several sends together.
	contents *together[*os.File]
	names    *together[naming]

	// noTimes warns once of a file system that takes no times.
	noTimes sync.Once

	mu sync.Mutex
	// left are IDs of messages that may have temporary files of earlier attempts. To
	// find them costs a listing, which no message should cost that has none.
	left map[string]bool
}

var _ sdk.Prober = (*sink)(nil)

func openSink(_ context.Context, p sendProperties, env sdk.Env) (sdk.Sink, error) {
	return &sink{
		p: p, env: env, base: filepath.Clean(files.Fixed(p.Directory)), left: map[string]bool{},
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
	at, err := s.p.Target(s.p.Directory, s.p.Name, m)
	if err != nil {
		return err
	}
	root, err := s.open(at.Directory, s.p.CreateDirectories)
	if err != nil {
		return err
	}
	defer root.Close()
	if s.p.IfExists == files.ExistsAppend {
		return s.appendTo(ctx, root, at, m)
	}
	// First, so that the look for what has arrived is the last word: an earlier attempt
	// that was frozen before its rename finds nothing to rename.
	if m.Redelivered || s.hasLeft(m.ID) {
		if err := s.removeTemps(root, m.ID); err != nil {
			return err
		}
	}
	// Only this message has a name with its ID in it, and an earlier attempt gave it
	// only to a whole file. Any other file of the name may be another message's.
	if s.p.Name.Unique() || m.Redelivered {
		there, err := s.arrived(ctx, root, at, m)
		if err != nil || there {
			return err
		}
	}
	temp := files.AttemptName(m.ID)
	sums, err := s.writeTemp(ctx, root, temp, m)
	if err == nil {
		err = s.place(root, temp, at, m, sums)
	}
	var open *notSynced
	if err != nil && !errors.As(err, &open) {
		s.discard(root, temp, m.ID)
	}
	return err
}

// place gives the whole file its final name.
func (s *sink) place(root *os.Root, temp string, at files.Target, m *sdk.Message, sums *files.Sums) error {
	mayReplace := s.p.IfExists == files.ExistsReplace
	var err error
	for _, name := range at.Names() {
		err = s.writeSidecar(root, name, m, sums)
		if err == nil {
			err = s.names.do(naming{root: root, from: temp, to: name, mayReplace: mayReplace})
		}
		if mayReplace || !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if at.Second != "" {
		return fmt.Errorf("files %q and %q exist already; one of them has to be taken away", at.Name, at.Second)
	}
	return fmt.Errorf("file %q exists already; it has to be taken away, or if_exists: replace or rename", at.Name)
}

// writeTemp writes and syncs the content. Errors of the directory are
// sdk.Disconnected; those of the content are not.
func (s *sink) writeTemp(ctx context.Context, root *os.Root, temp string, m *sdk.Message) (*files.Sums, error) {
	content, err := m.Body().Open()
	if err != nil {
		return nil, fmt.Errorf("open content: %w", err)
	}
	defer content.Close()
	file, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, sdk.Disconnected(fmt.Errorf("create file: %w", err))
	}
	defer file.Close() // a second time, when all went well
	in := &contentReader{ctx: ctx, r: content, sums: files.NewSums(s.p.Checksum)}
	if err := in.copyTo(file); err != nil {
		if in.err != nil {
			return nil, fmt.Errorf("read content: %w", in.err)
		}
		return nil, sdk.Disconnected(fmt.Errorf("write file: %w", err))
	}
	if err := in.sums.Check(m.Body()); err != nil {
		return nil, err
	}
	if err := s.setAttributes(root, file, temp, m); err != nil {
		return nil, err
	}
	if err := s.syncContent(file, m.Body().Size); err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, sdk.Disconnected(fmt.Errorf("close file: %w", err))
	}
	return in.sums, nil
}

func (s *sink) syncContent(file *os.File, size int64) error {
	if size >= syncAlone {
		return syncContent(file)
	}
	return s.contents.do(file)
}
