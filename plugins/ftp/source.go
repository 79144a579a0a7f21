package main

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// minuteHold is how long a file is held back where its time is known to the
// minute only: a file of the same name and size that comes after it was taken
// then has another key.
const minuteHold = 61 * time.Second

// filesPerHelper is how many files it takes to make another connection worth
// while for asking for their times.
const filesPerHelper = 50

// source is one receive location.
type source struct {
	props  receiveProperties
	env    sdk.Env
	pool   *pool
	times  *timeBook
	queue  *settleQueue
	filter *files.Filter
	claims *files.Claims
}

var _ sdk.PolledSource = (*source)(nil)

// file is the handle of an item: the version of the file that was listed.
type file struct {
	name     string    // its path in the directory
	at       string    // the path where it is, another one if it is claimed
	size     int64     // -1: not known
	modified time.Time // zero: not known
	// precise is whether modified is good to the second.
	precise bool
}

func openSource(_ context.Context, p receiveProperties, env sdk.Env) (sdk.PolledSource, error) {
	filter, err := p.Filter()
	if err != nil {
		return nil, err
	}
	connections, err := newPool(p.connection, env.Log, p.Directory)
	if err != nil {
		return nil, err
	}
	if p.NoPipelining {
		connections.end.pipelining.state.Store(pipeliningOff)
	}
	return &source{props: p, env: env, pool: connections, times: newTimeBook(), queue: newSettleQueue(), filter: filter, claims: files.NewClaims(env)}, nil
}

// List returns the files that the filter takes.
func (s *source) List(ctx context.Context) ([]sdk.Item, error) {
	list := func() ([]file, error) { return s.list(ctx) }
	if s.props.Claim {
		once := list
		list = func() ([]file, error) { return files.Steady(s.claims, once, file.file) }
	}
	listed, err := list()
	if isUnknownCommand(err) && s.props.Listing != listingMLSD && !s.pool.noMLSD.Swap(true) {
		// It offers MLSD but does not know it. Sessions from now on use LIST.
		s.env.Log.Info("server refuses MLSD, using LIST", "error", err)
		s.pool.dropIdle()
		listed, err = list()
	}
	if err != nil {
		return nil, err
	}
	now := time.Now()
	listed = slices.DeleteFunc(listed, func(f file) bool { return s.filter.Rejects(f.file(), now) != "" })
	files.Sort(s.filter, listed, file.file)
	items := make([]sdk.Item, len(listed))
	for i := range listed {
		items[i] = s.item(&listed[i], now)
	}
	return items, nil
}

// file is what the filter wants to know.
func (f file) file() files.File {
	return files.File{Name: f.name, Size: f.size, Modified: f.modified, Claimed: f.at != f.name}
}

func (s *source) list(ctx context.Context) ([]file, error) {
	var listed []file
	err := s.pool.with(ctx, func(c *session) error {
		dir := c.absolute(s.props.Directory)
		matching, err := s.walk(ctx, c, dir)
		if err != nil {
			return err
		}
		where := make(map[string]string, len(matching))
		for _, f := range matching {
			where[f.name] = f.at
		}
		var refused []string
		listed, refused, err = s.withTimes(ctx, c, dir, matching)
		if err != nil {
			return err
		}
		// They went away in between, or the server lists what it tells nothing
		// about: then the listing is not complete.
		names := namesBelow(c, dir)
		for _, name := range refused {
			there, err := names(path.Dir(name))
			if err != nil {
				return err
			}
			if there[path.Base(where[name])] {
				return found("the server lists %s in %s but does not tell its time (MDTM); check its permissions", name, dir)
			}
		}
		return nil
	})
	return listed, err
}

// namesBelow returns a function that lists a directory below the given one, each once. One
// that was taken away has no names.
func namesBelow(c *session, dir string) func(below string) (map[string]bool, error) {
	known := map[string]map[string]bool{}
	return func(below string) (map[string]bool, error) {
		if known[below] == nil {
			names, err := c.names(path.Clean(join(dir, below)))
			if below != "." && isMissing(err) {
				names, err = map[string]bool{}, stillThere(c, dir, below, err)
			}
			if err != nil {
				return nil, err
			}
			known[below] = names
		}
		return known[below], nil
	}
}

// walk lists the directory and those below it. It asks the filter about names only:
// most of what it rejects needs no question for its time.
func (s *source) walk(ctx context.Context, c *session, root string) (matching []file, err error) {
	err = s.filter.Walk(ctx, func(_ context.Context, dir string) ([]string, error) {
		entries, below, err := c.listBoth(path.Clean(join(root, dir)))
		if dir != "" && isMissing(err) {
			return nil, stillThere(c, root, dir, err)
		}
		if err != nil {
			return nil, err
		}
		names := make([]string, len(entries))
		for i, e := range entries {
			names[i] = e.name
		}
		for i, n := range s.filter.Sift(dir, names, s.claims) {
			if e := entries[i]; n.Rejected == "" {
				matching = append(matching, file{name: n.Path, at: n.At, size: e.size, modified: e.modified, precise: e.precise})
			}
		}
		return below, nil
	}, func(dir string) bool {
		return path.Join(s.props.Directory, dir) == s.props.Archive(s.props.Directory)
	})
	return matching, err
}

// stillThere returns an error for a subdirectory that cannot be entered, unless it was
// taken away since the listing of the one above: servers answer the same to both.
func stillThere(c *session, root, dir string, refusal error) error {
	above, base := path.Dir(dir), path.Base(dir)
	_, below, err := c.listBoth(path.Clean(join(root, above)))
	if above != "." && isMissing(err) {
		return stillThere(c, root, above, err) // which went with it
	}
	if err != nil {
		return err
	}
	if slices.Contains(below, base) {
		return fmt.Errorf("%w; give the user the right to read it, or name it in exclude_directories", refusal)
	}
	return nil
}

// withTimes finds out the exact times of the files, on every connection that
// nobody else uses now.
func (s *source) withTimes(ctx context.Context, c *session, dir string, files []file) ([]file, []string, error) {
	askers := []asker{func(files []file) ([]answer, error) { return c.modifiedAll(dir, files) }}
	for len(askers) <= len(files)/filesPerHelper && !c.ftp.IsTimePreciseInList() {
		helper, ok := s.pool.tryAcquire(ctx)
		if !ok {
			break
		}
		defer s.pool.release(helper)
		askers = append(askers, func(files []file) (answers []answer, err error) {
			err = helper.run(ctx, func() error {
				answers, err = helper.modifiedAll(dir, files)
				return err
			})
			return answers, err
		})
	}
	return s.times.complete(askers, files)
}

// item describes one file to the runtime.
func (s *source) item(f *file, now time.Time) sdk.Item {
	stable := s.props.StableFor.D()
	if !f.precise && stable > 0 {
		stable = max(stable, minuteHold)
	}
	directory := path.Clean(s.props.Directory)
	properties := map[string]string{
		"ftp.name":      printable(path.Base(f.name)),
		"ftp.path":      printable(f.name),
		"ftp.directory": printable(path.Join(directory, path.Dir(f.name))),
	}
	if f.size >= 0 {
		properties["ftp.size"] = strconv.FormatInt(f.size, 10)
	}
	if !f.modified.IsZero() {
		properties["ftp.modified"] = f.modified.UTC().Format(time.RFC3339Nano)
	}
	key, version := s.props.Identity(printable(path.Join(directory, f.name)), s.key(directory, f), now)
	return sdk.Item{
		Key:       key,
		Context:   properties,
		Size:      f.size,
		Kept:      s.props.AfterDelivery == files.AfterKeep,
		StableFor: stable,
		Version:   version,
		Handle:    f,
	}
}

// key is the path, the size and the time of modification. It must be the same
// however the server words the time: where only LIST is to be had, a file older
// than half a year loses its minutes, so the key of a file that is kept has the
// day only. (A file that is deleted or moved does not grow that old here, and
// the minutes tell it from its successor.)
func (s *source) key(directory string, f *file) string {
	modified := f.modified.UTC()
	if !f.precise && s.props.AfterDelivery == files.AfterKeep {
		// The day in server_time_zone, in which the time was read: one that is told without
		// the hour begins at the midnight there.
		year, month, day := f.modified.Date()
		modified = time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	}
	text := ""
	if !f.modified.IsZero() {
		text = modified.Format(time.RFC3339Nano)
	}
	return fmt.Sprintf("%s|%d|%s", printable(path.Join(directory, f.name)), f.size, text)
}

// Close ends the connections.
func (s *source) Close() error {
	s.pool.close()
	return nil
}

// differs reports whether the server now has another version of the file.
func (f *file) differs(now fact) bool {
	if f.size >= 0 && now.size >= 0 && f.size != now.size {
		return true
	}
	if f.modified.IsZero() || now.modified.IsZero() {
		return false
	}
	if !f.precise {
		return !f.modified.Truncate(time.Minute).Equal(now.modified.Truncate(time.Minute))
	}
	return !f.modified.Equal(now.modified)
}
