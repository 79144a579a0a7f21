package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/pkg/sftp"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// readAhead is how much of a file is asked for at once: many requests of the usual 32
// KiB, whose answers share the way there and back.
const readAhead = 1 << 20

// source is one receive location. Its methods keep no state but connections and claims.
type source struct {
	props  receiveProperties
	env    sdk.Env
	pool   *pool
	filter *files.Filter
	claims *files.Claims
}

var _ sdk.PolledSource = (*source)(nil)

func openSource(_ context.Context, p receiveProperties, env sdk.Env) (sdk.PolledSource, error) {
	filter, err := p.Filter()
	if err != nil {
		return nil, err
	}
	connections, err := newPool(p.connection)
	if err != nil {
		return nil, err
	}
	warnOfAnyHost(p.connection, env)
	return &source{props: p, env: env, pool: connections, filter: filter, claims: files.NewClaims(env)}, nil
}

func warnOfAnyHost(c connection, env sdk.Env) {
	if c.InsecureIgnoreHostKey {
		env.Log.Warn("insecure_ignore_host_key is set: anybody on the way to the server can take its place, and the files", "server", c.Address)
	}
}

// Close ends the connections.
func (s *source) Close() error {
	s.pool.close()
	return nil
}

// listed is the version of a file that was in a listing: the Handle of its item.
type listed struct {
	name     string // its path in the directory
	at       string // the path where it is, another one if it is claimed
	size     int64
	modified int64 // seconds since 1970: the protocol has no more
}

func listedOf(n files.Name, info fs.FileInfo) listed {
	return listed{name: n.Path, at: n.At, size: info.Size(), modified: info.ModTime().Unix()}
}

// file is what the filter wants to know.
func (l listed) file() files.File {
	return files.File{Name: l.name, Size: l.size, Modified: time.Unix(l.modified, 0), Claimed: l.at != l.name}
}

// is reports whether this is what the server has now.
func (l listed) is(info fs.FileInfo) bool {
	return info.Mode().IsRegular() && info.Size() == l.size && info.ModTime().Unix() == l.modified
}

func (s *source) join(name string) string { return path.Join(s.props.Directory, name) }

// path is where the file is now.
func (s *source) path(l listed) string { return s.join(s.claims.Now(l.name, l.at, s.versioned(l))) }

// versioned is the file's path with what tells this version of it from others.
func (s *source) versioned(l listed) string {
	return fmt.Sprintf("%s|%d|%s", printable(s.join(l.name)), l.size, time.Unix(l.modified, 0).UTC().Format(time.RFC3339))
}

// List returns the regular files that the filter takes. Symbolic links are left alone:
// they may point anywhere, and deleting one does not delete what was delivered.
func (s *source) List(ctx context.Context) ([]sdk.Item, error) {
	now := time.Now()
	list := func() ([]listed, error) { return s.walk(ctx, now) }
	if s.props.Claim {
		once := list
		list = func() ([]listed, error) { return files.Steady(s.claims, once, listed.file) }
	}
	taken, err := list()
	if err != nil {
		return nil, err
	}
	files.Sort(s.filter, taken, listed.file)
	items := make([]sdk.Item, len(taken))
	for i, l := range taken {
		items[i] = s.item(l, now)
	}
	return items, nil
}

// walk returns the files that the filter takes, of the directory and those below it.
func (s *source) walk(ctx context.Context, now time.Time) (taken []listed, err error) {
	err = s.filter.Walk(ctx, func(ctx context.Context, dir string) ([]string, error) {
		entries, err := s.read(ctx, dir)
		if err != nil {
			return nil, err
		}
		found, below := s.sift(dir, entries, now)
		taken = append(taken, found...)
		return below, nil
	}, func(dir string) bool { return s.join(dir) == s.props.Archive(s.props.Directory) })
	return taken, err
}

// read returns what a directory holds.
func (s *source) read(ctx context.Context, dir string) (entries []fs.FileInfo, err error) {
	err = s.pool.with(ctx, func(c *session) error {
		entries, err = c.ReadDirContext(ctx, s.join(dir))
		if dir == "" || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// It was taken away since the listing of the one above, unless all is away.
		entries = nil
		_, err = c.Lstat(s.props.Directory)
		return err
	})
	if err != nil {
		return nil, outOfReach(fmt.Errorf("list %s: %w", printable(s.join(dir)), err))
	}
	return entries, nil
}

// sift returns the files of one directory that are taken, and its subdirectories.
func (s *source) sift(dir string, entries []fs.FileInfo, now time.Time) (taken []listed, below []string) {
	var names []string
	var regular []fs.FileInfo
	for _, info := range entries {
		switch {
		case info.IsDir():
			below = append(below, info.Name())
		case info.Mode().IsRegular():
			names, regular = append(names, info.Name()), append(regular, info)
		default:
			s.filter.Skip(path.Join(dir, info.Name()), "it is a link, or no regular file")
		}
	}
	for i, n := range s.filter.Sift(dir, names, s.claims) {
		l := listedOf(n, regular[i])
		if n.Rejected == "" && s.filter.Rejects(l.file(), now) == "" {
			taken = append(taken, l)
		}
	}
	return taken, below
}

// outOfReach marks an error of the directory as a whole.
func outOfReach(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w; check directory, which counts from the login directory unless it begins with a slash", err)
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("%w; check the user's rights on it", err)
	}
	return sdk.Disconnected(err)
}

func (s *source) item(l listed, now time.Time) sdk.Item {
	key, version := s.props.Identity(printable(s.join(l.name)), s.versioned(l), now)
	return sdk.Item{
		Key: key,
		Context: map[string]string{
			"sftp.name":      printable(path.Base(l.name)),
			"sftp.path":      printable(l.name),
			"sftp.directory": printable(path.Dir(s.join(l.name))),
			"sftp.size":      strconv.FormatInt(l.size, 10),
			"sftp.modified":  time.Unix(l.modified, 0).UTC().Format(time.RFC3339),
		},
		Size:      l.size,
		Kept:      s.props.AfterDelivery == files.AfterKeep,
		StableFor: s.props.StableFor.D(),
		Version:   version,
		Handle:    l,
	}
}

// printable returns the text as UTF-8 that tells names with other bytes apart.
func printable(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	return strconv.Quote(text)
}

func handle(item sdk.Item) (listed, error) {
	l, ok := item.Handle.(listed)
	if !ok {
		return listed{}, fmt.Errorf("item %s was not listed by this location", item.Key)
	}
	return l, nil
}

// claim renames the file to where nobody else takes it, if it is not there already.
func (s *source) claim(c *session, l listed) error {
	claimed, err := s.claims.Path(l.name, s.versioned(l))
	if err != nil {
		return found(err)
	}
	from := s.path(l)
	if from == s.join(claimed) {
		return nil
	}
	// The protocol's own rename does not replace (version 3, section 6.5).
	err = c.Rename(from, s.join(claimed))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if info, err := c.Lstat(s.join(claimed)); err != nil || !l.is(info) {
			return s.same(c, l) // which says that it is gone, or that all is
		}
		// By an attempt whose answer got lost.
	case err != nil:
		return fmt.Errorf("claim: rename %s to %s: %w%s", printable(from), printable(path.Base(claimed)), err, claimRights(err))
	}
	s.claims.Made(claimed)
	return nil
}

func claimRights(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "; check the user's rights on the directory, or set claim: false"
	}
	return ""
}

// same looks at a file again. It returns [sdk.Gone] if the name is free or belongs to
// another version.
func (s *source) same(c *session, l listed) (err error) {
	defer func() {
		if sdk.IsGone(err) {
			s.claims.Forget(l.name, s.versioned(l))
		}
	}()
	info, err := c.Lstat(s.path(l))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Of a directory that is away nothing is known, least of all that a file is gone.
		if _, err := c.Lstat(s.props.Directory); err != nil {
			return outOfReach(fmt.Errorf("look at %s: %w", s.props.Directory, err))
		}
		return s.missing(c, l)
	case err != nil:
		return fmt.Errorf("look at %q: %w", printable(l.name), err)
	case !l.is(info):
		return sdk.Gone(found(fmt.Errorf("file %q has changed since it was listed", printable(l.name))))
	}
	return nil
}

// missing says what a file is that has not been found: gone, unless it has got another
// name.
func (s *source) missing(c *session, l listed) error {
	err := found(fmt.Errorf("file %q is not there any more", printable(l.name)))
	entries, listErr := c.ReadDir(path.Dir(s.join(l.name)))
	if listErr != nil && !errors.Is(listErr, fs.ErrNotExist) {
		return fmt.Errorf("look for %q: %w", printable(l.name), listErr)
	}
	names := func(yield func(string) bool) {
		for _, e := range entries {
			if !yield(e.Name()) {
				return
			}
		}
	}
	if s.claims.Hold(names, l.name, s.versioned(l)) {
		return fmt.Errorf("%w: it is claimed under another name, and is looked for again", err)
	}
	return sdk.Gone(err)
}

// Open reads a file, if it is still the one that was listed, and makes sure at the end
// that it was not written to or replaced meanwhile. The content holds a connection
// until it is closed.
func (s *source) Open(ctx context.Context, item sdk.Item) (*sdk.Content, error) {
	l, err := handle(item)
	if err != nil {
		return nil, err
	}
	for {
		c, err := s.pool.acquire(ctx)
		if err != nil {
			return nil, err
		}
		b := &body{source: s, listed: l, session: c, ctx: ctx}
		stale := c.used
		err = c.run(ctx, func() (err error) {
			if s.props.Claim {
				if err := s.claim(c, l); err != nil {
					return err
				}
			}
			if err := s.same(c, l); err != nil {
				return err
			}
			b.remote, err = c.Open(s.path(l))
			return err
		})
		if err == nil {
			size := max(16, min(l.size+1, readAhead)) // one more, to see the end at once
			b.buffered = bufio.NewReaderSize(readFunc(b.fetch), int(size))
			return sdk.Body(b), nil
		}
		again := stale && c.isDead() && ctx.Err() == nil
		s.pool.release(c)
		if !again {
			return nil, fmt.Errorf("read %q: %w", printable(l.name), err)
		}
	}
}

type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// body reads one file. One goroutine uses it.
type body struct {
	source   *source
	listed   listed
	session  *session
	remote   *sftp.File
	buffered *bufio.Reader
	ctx      context.Context // the reading's
	n        int64
	ended    bool
	failed   error
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) { return b.buffered.Read(p) }

// fetch asks the server.
func (b *body) fetch(p []byte) (n int, err error) {
	if b.failed != nil {
		return 0, b.failed
	}
	if b.ended {
		return 0, io.EOF
	}
	err = b.session.run(b.ctx, func() error {
		n, err = b.remote.Read(p)
		if errors.Is(err, io.EOF) {
			b.ended = true
			return nil
		}
		return err
	})
	b.n += int64(n)
	switch {
	case err != nil:
		b.failed = fmt.Errorf("read %q after %d bytes: %w", printable(b.listed.name), b.n, err)
		return n, b.failed
	case b.n > b.listed.size:
		b.failed = sdk.Gone(fmt.Errorf("file %q has grown since it was listed", printable(b.listed.name)))
		return n, b.failed
	case b.ended:
		return n, io.EOF
	}
	return n, nil
}

// Close reports whether what was read is the whole of one version of the file.
func (b *body) Close() error {
	defer b.source.pool.release(b.session)
	if !b.ended || b.failed != nil {
		// Answers to what was asked ahead may still be on their way.
		b.session.kill()
		return b.failed
	}
	err := b.session.run(b.ctx, func() error {
		if err := b.remote.Close(); err != nil {
			return err
		}
		return b.source.same(b.session, b.listed)
	})
	if err != nil {
		return fmt.Errorf("read %q: %w", printable(b.listed.name), err)
	}
	if b.n != b.listed.size {
		return fmt.Errorf("read %q: got %d of %d bytes", printable(b.listed.name), b.n, b.listed.size)
	}
	return nil
}

// Settle deletes or moves a delivered file, if it is still that one.
func (s *source) Settle(ctx context.Context, item sdk.Item) error {
	l, err := handle(item)
	if err != nil {
		return err
	}
	return s.pool.with(ctx, func(c *session) error {
		if err := s.same(c, l); err != nil {
			return err
		}
		from := s.path(l)
		switch s.props.AfterDelivery {
		case files.AfterDelete:
			if err := c.Remove(from); err != nil {
				return fmt.Errorf("delete %s: %w%s", printable(from), err, rights(err))
			}
		case files.AfterMove:
			if err := s.move(c, l, from, item); err != nil {
				return err
			}
		}
		s.claims.Forget(l.name, s.versioned(l))
		s.removeDone(c, l)
		return nil
	})
}

// removeDone takes the file's own done file away, after the file: without it the file
// would not be listed, and count as gone. If it stays behind, it is not taken.
func (s *source) removeDone(c *session, l listed) {
	done := s.filter.DoneFile(l.name)
	if done == "" {
		return
	}
	if err := c.Remove(s.join(done)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.env.Log.Warn("a file was delivered and its done file stays behind: take it away before a file of that name comes again", "done_file", printable(done), "error", err)
	}
}

// move takes a file to where move_to says. A name that is taken there is never
// overwritten.
func (s *source) move(c *session, l listed, from string, item sdk.Item) error {
	to, base := s.props.Target(s.props.Directory, l.name, item, time.Now())
	if err := c.MkdirAll(to); err != nil {
		return fmt.Errorf("make move_to %s: %w%s", to, err, rights(err))
	}
	for _, name := range []string{path.Join(to, base), path.Join(to, files.Marked(base, item.Key))} {
		if _, err := c.Lstat(name); err == nil {
			continue // taken
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look at %s: %w", printable(name), err)
		}
		// The protocol's own rename does not replace (version 3, section 6.5).
		if err := c.Rename(from, name); err != nil {
			return fmt.Errorf("move %s to %s: %w%s", printable(from), printable(name), err, rights(err))
		}
		return nil
	}
	return found(fmt.Errorf("move %s to %s: %w", printable(s.join(l.name)), printable(to), files.ErrTaken))
}

// rights is what to do about a refusal.
func rights(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "; check the user's rights on the directory, or use after_delivery: keep"
	}
	return ""
}
