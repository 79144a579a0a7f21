package main

import (
	"fmt"
	"maps"
	"path"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// at is the path in the directory where the file is now.
func (s *source) at(f *file) string { return s.claims.Now(f.name, f.at, s.version(f)) }

// version is the file's path with what tells this version of it from others.
func (s *source) version(f *file) string { return s.key(path.Clean(s.props.Directory), f) }

// claim renames the file to where nobody else takes it, if it is not there already.
func (s *source) claim(c *session, f *file) error {
	if !s.props.Claim {
		return nil
	}
	claimed, err := s.claims.Path(f.name, s.version(f))
	if err != nil {
		return found("%w", err)
	}
	dir, from := c.absolute(s.props.Directory), s.at(f)
	if from == claimed {
		return nil
	}
	// One that is missing may have been renamed by an attempt whose reply got lost.
	renamed := c.ftp.Rename(join(dir, from), join(dir, claimed))
	if renamed != nil && !isMissing(renamed) {
		return fmt.Errorf("claim: rename %s to %s: %w; check the user's right to rename, or set claim: false", from, path.Base(claimed), renamed)
	}
	// What was renamed may be another version than the one that was listed.
	now, err := c.look(dir, claimed)
	switch {
	case err != nil:
		return err
	case now.exists && !f.differs(now):
		s.claims.Made(claimed)
		return nil
	case renamed != nil:
		return fmt.Errorf("claim: rename %s: %w", from, renamed)
	}
	return sdk.Gone(found("%s has changed before it was claimed", f.name))
}

// missing says what a file is that the server tells nothing of. Servers answer the same
// to "no such file" and to "not allowed": a listing tells them apart, and whether the
// file has got another name.
func (s *source) missing(listed func(below string) (map[string]bool, error), dir string, f *file) error {
	at := s.at(f)
	names, err := listed(path.Dir(at))
	switch {
	case err != nil:
		return err
	case names[path.Base(at)]:
		return found("the server lists %s in %s but tells nothing about it; check its permissions", at, dir)
	case s.claims.Hold(maps.Keys(names), f.name, s.version(f)):
		return found("%s is claimed under another name, and is looked for again", f.name)
	}
	return sdk.Gone(found("%s is not in %s any more", f.name, dir))
}

// move renames the file to where move_to says. What is there under its name already is
// kept: the new one then gets a mark.
func (s *source) move(c *session, from string, f *file, item sdk.Item) error {
	to, base := s.props.Target(s.props.Directory, f.name, item, time.Now())
	dir := c.absolute(to)
	for _, name := range []string{base, files.Marked(base, item.Key)} {
		taken, err := c.size(dir, name)
		if err != nil {
			return err
		}
		if taken.exists {
			continue
		}
		target := join(dir, name)
		err = c.ftp.Rename(from, target)
		if isRefusal(err) {
			// Servers answer the same to a directory that is missing and to much else.
			if err = c.makeDirectory(dir); err == nil {
				err = c.ftp.Rename(from, target)
			}
		}
		if err != nil {
			return fmt.Errorf("move %s to %s: %w", from, target, err)
		}
		return nil
	}
	return found("move %s to %s: %w", from, dir, files.ErrTaken)
}

// removeDone takes the file's own done file away, after the file: without it the file
// would not be listed, and count as gone. If it stays behind, it is not taken.
func (s *source) removeDone(c *session, dir string, f *file) error {
	done := s.filter.DoneFile(f.name)
	if done == "" {
		return nil
	}
	err := c.ftp.Delete(join(dir, done))
	if err == nil || isMissing(err) {
		return nil
	}
	if !isRefusal(err) {
		return err
	}
	s.env.Log.Warn("a file was delivered and its done file stays behind: take it away before a file of that name comes again", "done_file", printable(done), "error", err)
	return nil
}
