package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// listBatch is how many entries of a directory are read at once.
const listBatch = 1024

// source reads one directory. Besides its claims its methods keep no state.
type source struct {
	p      receiveProperties
	env    sdk.Env
	filter *files.Filter
	claims *files.Claims
}

var _ sdk.PolledSource = (*source)(nil)

func openSource(_ context.Context, p receiveProperties, env sdk.Env) (sdk.PolledSource, error) {
	p.Directory = filepath.Clean(p.Directory)
	filter, err := p.Filter()
	if err != nil {
		return nil, err
	}
	return &source{p: p, env: env, filter: filter, claims: files.NewClaims(env)}, nil
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
	name  string // its path in the directory, of any bytes
	at    string // the path where it is, another one if it is claimed
	stamp stamp
}

// file is what the filter wants to know.
func (f found) file() files.File {
	return files.File{Name: f.name, Size: f.stamp.size, Modified: time.Unix(0, f.stamp.modified), Claimed: f.at != f.name}
}

// List returns the regular files that the filter takes.
func (s *source) List(ctx context.Context) ([]sdk.Item, error) {
	if err := reachable(s.p.Directory, s.p.Marker); err != nil {
		return nil, err
	}
	now := time.Now()
	list := func() ([]found, error) { return s.walk(ctx, now) }
	if s.p.Claim {
		once := list
		list = func() ([]found, error) { return files.Steady(s.claims, once, found.file) }
	}
	taken, err := list()
	if err != nil {
		return nil, err
	}
	files.Sort(s.filter, taken, found.file)
	items := make([]sdk.Item, len(taken))
	for i, f := range taken {
		items[i] = s.item(f, now)
	}
	return items, nil
}

// walk returns the files that the filter takes, of the directory and those below it.
func (s *source) walk(ctx context.Context, now time.Time) (taken []found, err error) {
	err = s.filter.Walk(ctx, func(ctx context.Context, dir string) ([]string, error) {
		names, below, err := s.read(ctx, dir)
		if err != nil {
			return nil, sdk.Disconnected(fmt.Errorf("list directory: %w", err))
		}
		for _, n := range s.filter.Sift(dir, names, s.claims) {
			f, ok, err := s.look(n)
			if err != nil {
				return nil, fmt.Errorf("list directory: %w", err)
			}
			if ok && s.filter.Rejects(f.file(), now) == "" {
				taken = append(taken, f)
			}
		}
		return below, nil
	}, s.isArchive)
	return taken, err
}

func (s *source) isArchive(dir string) bool {
	return s.abs(dir) == s.p.Archive(s.p.Directory)
}

func (s *source) abs(path string) string { return filepath.Join(s.p.Directory, path) }

// read returns the names of a directory's regular files and of its subdirectories.
// Symbolic links are left alone: they may point anywhere, and deleting one does not
// delete what was delivered.
func (s *source) read(ctx context.Context, path string) (names, below []string, err error) {
	dir, err := os.Open(s.abs(path))
	if path != "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil // it was taken away since the listing of the one above
	}
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(listBatch)
		for _, e := range entries {
			switch {
			case e.IsDir():
				below = append(below, e.Name())
			case e.Type().IsRegular() && (path != "" || e.Name() != s.p.Marker):
				names = append(names, e.Name())
			default:
				s.filter.Skip(filepath.Join(path, e.Name()), "it is the marker, a link, or no regular file")
			}
		}
		if errors.Is(err, io.EOF) {
			return names, below, nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, nil, err
		}
	}
}

// look asks for size and time of one that is not rejected by its name.
func (s *source) look(n files.Name) (found, bool, error) {
	if n.Rejected != "" {
		return found{}, false, nil
	}
	info, err := os.Lstat(s.abs(n.At))
	if errors.Is(err, fs.ErrNotExist) {
		return found{}, false, nil // taken by somebody since the listing
	}
	if err != nil {
		return found{}, false, err
	}
	return found{n.Path, n.At, stampOf(info)}, info.Mode().IsRegular(), nil
}

func (s *source) item(f found, now time.Time) sdk.Item {
	key, version := s.p.Identity(escapePath(s.abs(f.name)), s.versioned(f), now)
	return sdk.Item{
		Key: key,
		Context: map[string]string{
			"file.name":      readableName(filepath.Base(f.name)),
			"file.path":      readableName(f.name),
			"file.directory": readableName(filepath.Dir(s.abs(f.name))),
			"file.size":      strconv.FormatInt(f.stamp.size, 10),
			"file.modified":  time.Unix(0, f.stamp.modified).UTC().Format(time.RFC3339Nano),
		},
		Size:      f.stamp.size,
		Kept:      s.p.AfterDelivery == files.AfterKeep,
		StableFor: s.p.StableFor.D(),
		Version:   version,
		Handle:    f,
	}
}

// versioned is the file's path with what tells this version of it from others.
func (s *source) versioned(f found) string {
	return fmt.Sprintf("%s:%d:%d", escapePath(s.abs(f.name)), f.stamp.size, f.stamp.modified)
}

// path is where the file is now.
func (s *source) path(f found) string { return s.abs(s.claims.Now(f.name, f.at, s.versioned(f))) }

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
	if s.p.Claim {
		if err := s.claim(f); err != nil {
			return nil, err
		}
	}
	before, err := s.same(f)
	if err != nil {
		return nil, err
	}
	// Not blocking, in case a pipe has taken the place of the file.
	file, err := os.OpenFile(s.path(f), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, s.gone(f, err)
	}
	r := &reader{ctx: ctx, s: s, f: f, file: file}
	if opened, err := file.Stat(); err != nil || !os.SameFile(before, opened) {
		file.Close()
		return nil, sdk.Gone(fmt.Errorf("file %q was replaced", readableName(f.name)))
	}
	return sdk.Body(r), nil
}

// claim renames the file to where nobody else takes it, if it is not there already.
func (s *source) claim(f found) error {
	claimed, err := s.claims.Path(f.name, s.versioned(f))
	if err != nil {
		return err
	}
	from := s.path(f)
	if from == s.abs(claimed) {
		return nil
	}
	if err := moveNoReplace(from, s.abs(claimed)); err != nil {
		return s.gone(f, fmt.Errorf("claim %q: %w", readableName(f.name), err))
	}
	s.claims.Made(claimed)
	return nil
}

// same looks at a file again. It returns sdk.Gone if the name is free or belongs to
// another version.
func (s *source) same(f found) (info fs.FileInfo, err error) {
	defer func() {
		if sdk.IsGone(err) {
			s.claims.Forget(f.name, s.versioned(f))
		}
	}()
	info, err = os.Lstat(s.path(f))
	if err != nil {
		return nil, s.gone(f, err)
	}
	if !info.Mode().IsRegular() || stampOf(info) != f.stamp {
		return nil, sdk.Gone(fmt.Errorf("file %q has changed since it was listed", readableName(f.name)))
	}
	return info, nil
}

// gone marks the error of a file that is not there, unless it is the directory that is
// not, or the file has got another name.
func (s *source) gone(f found, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := reachable(s.p.Directory, s.p.Marker); err != nil {
		return err
	}
	names, _, readErr := s.read(context.Background(), filepath.Dir(f.name))
	if readErr != nil {
		return readErr
	}
	if s.claims.Hold(slices.Values(names), f.name, s.versioned(f)) {
		return fmt.Errorf("%w: it is claimed under another name, and is looked for again", err)
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
	from := s.path(f)
	switch s.p.AfterDelivery {
	case files.AfterDelete:
		if err := os.Remove(from); err != nil {
			return s.gone(f, err)
		}
	case files.AfterMove:
		if err := s.move(f, from, item); err != nil {
			return err
		}
	}
	s.claims.Forget(f.name, s.versioned(f))
	s.removeDone(f)
	return syncPath(filepath.Dir(from))
}

// removeDone takes the file's own done file away, after the file: without it the file
// would not be listed, and count as gone. If it stays behind, it is not taken.
func (s *source) removeDone(f found) {
	done := s.filter.DoneFile(f.name)
	if done == "" {
		return
	}
	if err := os.Remove(s.abs(done)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.env.Log.Warn("a file was delivered and its done file stays behind: take it away before a file of that name comes again", "done_file", done, "error", err)
	}
}

// move takes a file to where move_to says. A name that is taken there is never
// overwritten.
func (s *source) move(f found, from string, item sdk.Item) error {
	to, name := s.p.Target(s.p.Directory, f.name, item, time.Now())
	if err := os.MkdirAll(to, 0o755); err != nil {
		return fmt.Errorf("make move_to: %w", err)
	}
	err := moveNoReplace(from, filepath.Join(to, name))
	if errors.Is(err, fs.ErrExist) {
		err = moveNoReplace(from, filepath.Join(to, files.Marked(name, item.Key)))
	}
	switch {
	case errors.Is(err, syscall.EXDEV):
		return fmt.Errorf("move: %w; move_to must be on the same file system as directory", err)
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("move %q to %s: %w", readableName(f.name), to, files.ErrTaken)
	case err != nil:
		return s.gone(f, fmt.Errorf("move: %w", err))
	}
	return syncPath(to)
}
