package files

import (
	"context"
	"fmt"
	"path"
	"strings"
)

// directoriesMax bounds how many directories one listing reads: a tree without an end,
// such as one that contains itself, is an error and not a listing that never ends.
const directoriesMax = 10_000

// Name is one name of a directory that Sift has looked at.
type Name struct {
	// Path of the file in the location's directory, by the name under which it was put
	// there.
	Path string
	// At is the path under which it is there now: another one if it is claimed.
	At string
	// Rejected says in words why it is not taken, "" if it may be.
	Rejected string
}

// Sift looks at all names of regular files of one directory: dir is its path in the
// location's directory, "" for that itself. The result is in the order of the names.
// What is rejected by its name needs no question for its size and time. claims are the
// location's, or nil if it makes none and never did.
func (f *Filter) Sift(dir string, names []string, claims *Claims) []Name {
	var there map[string]bool
	if f.done != nil {
		there = make(map[string]bool, len(names))
		for _, base := range names {
			there[base] = true
		}
	}
	sifted := make([]Name, len(names))
	prefix := ""
	if dir != "" {
		prefix = dir + "/"
	}
	for i, base := range names {
		original, why := claims.original(base)
		n := Name{Path: prefix + original, At: prefix + base, Rejected: why}
		if why == "" {
			n.Rejected = f.RejectsName(original)
		}
		// A claimed file was released when it was claimed.
		if n.Rejected == "" && f.done != nil && original == base {
			if done := f.done.of(base); !there[done] {
				n.Rejected = fmt.Sprintf("done_file %q is not there", done)
			}
		}
		f.tell(n.Path, n.Rejected)
		sifted[i] = n
	}
	return sifted
}

// DoneFile returns the path of the done file that belongs to the file of this path
// alone, and goes with it; "" if there is none.
func (f *Filter) DoneFile(name string) string {
	if f.done == nil || !f.done.own {
		return ""
	}
	dir, base := path.Split(name)
	return dir + f.done.of(base)
}

// Recursive reports whether subdirectories are read.
func (f *Filter) Recursive() bool { return f.selection.MaxDepth > 0 }

// Walk reads a location's directory and those below it, down to max_depth. read gets
// the path of a directory in the location's, "" for that itself, and returns the names
// of its subdirectories. skip names paths that are not entered, besides those that
// exclude_directories or a leading dot rule out.
//
// What read fails with ends the walk: a listing without a directory that is there would
// say that its files are gone. [fs.ErrNotExist] of a subdirectory is for read to judge.
func (f *Filter) Walk(ctx context.Context, read func(ctx context.Context, dir string) ([]string, error), skip func(dir string) bool) error {
	type level struct {
		dir   string
		depth int
	}
	for open, seen := []level{{}}, 1; len(open) > 0; {
		at := open[0]
		open = open[1:]
		below, err := read(ctx, at.dir)
		if err != nil {
			return err
		}
		if at.depth == f.selection.MaxDepth {
			continue
		}
		for _, base := range below {
			dir := path.Join(at.dir, base)
			if f.rejectsDirectory(base) || skip(dir) {
				continue
			}
			if seen++; seen > directoriesMax {
				return fmt.Errorf("there are more than %d directories; lower max_depth, or name some in exclude_directories", directoriesMax)
			}
			open = append(open, level{dir, at.depth + 1})
		}
	}
	return nil
}

func (f *Filter) rejectsDirectory(base string) bool {
	if strings.HasPrefix(base, ".") {
		return true
	}
	if f.selection.IgnoreCase {
		base = strings.ToLower(base)
	}
	for _, pattern := range f.excludeDirectories {
		if matches(pattern, base) {
			return true
		}
	}
	return false
}

const (
	doneName = "{{name}}"
	doneStem = "{{stem}}"
)

// done is the property done_file, parsed.
type done struct {
	text string
	// own: every file has one of its own, whose name lies around the placeholder.
	own            bool
	before, behind string
}

func parseDone(text string) *done {
	if text == "" {
		return nil
	}
	d := &done{text: text}
	for _, placeholder := range []string{doneName, doneStem} {
		if before, after, ok := strings.Cut(text, placeholder); ok {
			d.own, d.before, d.behind = true, before, after
		}
	}
	return d
}

// of is the name of a file's done file.
func (d *done) of(base string) string {
	stem := strings.TrimSuffix(base, path.Ext(base))
	return strings.NewReplacer(doneName, base, doneStem, stem).Replace(d.text)
}

// is reports whether a name is that of a done file, whether its file is there or not.
func (d *done) is(base string) bool {
	if !d.own {
		return base == d.text
	}
	return len(base) > len(d.before)+len(d.behind) && strings.HasPrefix(base, d.before) && strings.HasSuffix(base, d.behind)
}
