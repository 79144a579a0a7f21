package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// listBatch is how many entries of a directory are read at once.
const listBatch = 1024

// source reads one directory. Its methods keep no state.
type source struct {
	p      receiveProperties
	env    sdk.Env
	filter *files.Filter
}

var _ sdk.PolledSource = (*source)(nil)

func openSource(_ context.Context, p receiveProperties, env sdk.Env) (sdk.PolledSource, error) {
	p.Directory = filepath.Clean(p.Directory)
	filter, err := p.Filter()
	if err != nil {
		return nil, err
	}
	return &source{p: p, env: env, filter: filter}, nil
}

// Close implements sdk.PolledSource.
func (s *source) Close() error { return nil }

// stamp tells one version of a file from the next. Inode numbers take no part:
// on network file systems they differ between nodes, and after a remount, and a
// key must be the same everywhere.
type stamp struct {
	size     int64
	modified int64 // nanoseconds since 1970
}

func stampOf(info fs.FileInfo) stamp {
	return stamp{info.Size(), info.ModTime().UnixNano()}
}

// found is a listed file: the Handle of its item.
type found struct {
	name  string // as it is on disk, of any bytes
	stamp stamp
}

// file is what the filter wants to know.
func (f found) file() files.File {
	return files.File{Name: f.name, Size: f.stamp.size, Modified: time.Unix(0, f.stamp.modified)}
}

// List returns the directory's regular files that the filter takes.
func (s *source) List(ctx context.Context) ([]sdk.Item, error) {
	if err := reachable(s.p.Directory, s.p.Marker); err != nil {
		return nil, err
	}
	dir, err := os.Open(s.p.Directory)
	if err != nil {
		return nil, sdk.Disconnected(fmt.Errorf("list directory: %w", err))
	}
	defer dir.Close()
	var taken []found
	now := time.Now()
	for {
		entries, err := dir.ReadDir(listBatch)
		for _, e := range entries {
			f, ok, err := s.look(e)
			if err != nil {
				return nil, fmt.Errorf("list directory: %w", err)
			}
			if ok && s.filter.Rejects(f.file(), now) == "" {
				taken = append(taken, f)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, sdk.Disconnected(fmt.Errorf("list directory: %w", err))
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	files.Sort(s.filter, taken, found.file)
	items := make([]sdk.Item, len(taken))
	for i, f := range taken {
		items[i] = s.item(f)
	}
	return items, nil
}

// look decides about one entry. Symbolic links are left alone: they may point
// anywhere, and deleting one does not delete what was delivered.
func (s *source) look(e fs.DirEntry) (found, bool, error) {
	if !e.Type().IsRegular() || e.Name() == s.p.Marker || s.filter.RejectsName(e.Name()) != "" {
		return found{}, false, nil
	}
	info, err := e.Info() // does not follow links
	if errors.Is(err, fs.ErrNotExist) {
		return found{}, false, nil // taken by somebody since the listing
	}
	if err != nil {
		return found{}, false, err
	}
	return found{e.Name(), stampOf(info)}, info.Mode().IsRegular(), nil
}

func (s *source) item(f found) sdk.Item {
	return sdk.Item{
		Key: s.key(f),
		Context: map[string]string{
			"file.name":      readableName(f.name),
			"file.directory": readableName(s.p.Directory),
			"file.size":      strconv.FormatInt(f.stamp.size, 10),
			"file.modified":  time.Unix(0, f.stamp.modified).UTC().Format(time.RFC3339Nano),
		},
		Size:      f.stamp.size,
		Kept:      s.p.AfterDelivery == afterKeep,
		StableFor: s.p.StableFor.D(),
		Handle:    f,
	}
}

func (s *source) key(f found) string {
	return fmt.Sprintf("%s:%d:%d", escapePath(filepath.Join(s.p.Directory, f.name)), f.stamp.size, f.stamp.modified)
}

func (s *source) path(f found) string { return filepath.Join(s.p.Directory, f.name) }

func handle(item sdk.Item) (found, error) {
	f, ok := item.Handle.(found)
	if !ok {
		return found{}, fmt.Errorf("item %s was not listed by this source", item.Key)
	}
	return f, nil
}

// Open reads a file, if it is still the one that was listed, and makes sure at the
// end that it was not written to or replaced meanwhile.
func (s *source) Open(ctx context.Context, item sdk.Item) (*sdk.Content, error) {
	f, err := handle(item)
	if err != nil {
		return nil, err
	}
	before, err := s.same(f)
	if err != nil {
		return nil, err
	}
	// Not blocking, in case a pipe has taken the place of the file.
	file, err := os.OpenFile(s.path(f), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, s.gone(err)
	}
	r := &reader{ctx: ctx, s: s, f: f, file: file}
	if opened, err := file.Stat(); err != nil || !os.SameFile(before, opened) {
		file.Close()
		return nil, sdk.Gone(fmt.Errorf("file %q was replaced", readableName(f.name)))
	}
	return sdk.Body(r), nil
}

// same looks at a file again. It returns sdk.Gone if the name is free or belongs to
// another version.
func (s *source) same(f found) (fs.FileInfo, error) {
	info, err := os.Lstat(s.path(f))
	if err != nil {
		return nil, s.gone(err)
	}
	if !info.Mode().IsRegular() || stampOf(info) != f.stamp {
		return nil, sdk.Gone(fmt.Errorf("file %q has changed since it was listed", readableName(f.name)))
	}
	return info, nil
}

// gone marks the error of a file that is not there, unless it is the directory
// that is not.
func (s *source) gone(err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := reachable(s.p.Directory, s.p.Marker); err != nil {
		return err
	}
	return sdk.Gone(err)
}

// reachable looks for the directory and its marker.
func reachable(directory, marker string) error {
	_, err := os.Stat(filepath.Join(directory, marker))
	if errors.Is(err, fs.ErrNotExist) && marker != "" {
		return sdk.Disconnected(fmt.Errorf("directory %s has no marker %q; is its file system mounted?", directory, marker))
	}
	if err != nil {
		return sdk.Disconnected(fmt.Errorf("directory: %w", err))
	}
	return nil
}

// reader is a file that is being received.
type reader struct {
	ctx  context.Context
	s    *source
	f    found
	file *os.File
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.file.Read(p)
}

// Close reports whether what was read is one version of the file.
func (r *reader) Close() error {
	defer r.file.Close()
	info, err := r.s.same(r.f)
	if err != nil {
		return err
	}
	if opened, err := r.file.Stat(); err != nil || !os.SameFile(info, opened) || stampOf(opened) != r.f.stamp {
		return sdk.Gone(fmt.Errorf("file %q was replaced while it was read", readableName(r.f.name)))
	}
	return nil
}

// Settle deletes or moves a delivered file, if it is still that one.
func (s *source) Settle(ctx context.Context, item sdk.Item) error {
	f, err := handle(item)
	if err != nil {
		return err
	}
	if _, err := s.same(f); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	switch s.p.AfterDelivery {
	case afterDelete:
		if err := os.Remove(s.path(f)); err != nil {
			return s.gone(err)
		}
	case afterMove:
		if err := s.move(f, item.Key); err != nil {
			return err
		}
	}
	return syncPath(s.p.Directory)
}

// move takes a file into move_to. A name that is taken there is never overwritten:
// the newcomer's gets a mark, made from its key so that it is the same at every
// attempt.
func (s *source) move(f found, key string) error {
	to := s.p.moveTo()
	if err := os.MkdirAll(to, 0o755); err != nil {
		return fmt.Errorf("make move_to: %w", err)
	}
	err := moveNoReplace(s.path(f), filepath.Join(to, f.name))
	if errors.Is(err, fs.ErrExist) {
		mark := sha256.Sum256([]byte(key))
		err = moveNoReplace(s.path(f), filepath.Join(to, f.name+"."+hex.EncodeToString(mark[:6])))
	}
	switch {
	case errors.Is(err, syscall.EXDEV):
		return fmt.Errorf("move: %w; move_to must be on the same file system as directory", err)
	case err != nil:
		return s.gone(fmt.Errorf("move: %w", err))
	}
	return syncPath(to)
}
