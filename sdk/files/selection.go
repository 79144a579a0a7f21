// Package files holds what adapters for files have in common, whatever the protocol:
// which files of a directory are taken and in what order, how files that are being
// written are called, and what a final name may be. The adapters file, ftp and sftp use
// it; one for WebDAV or an object store can as well.
package files

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

// Orders in which files are taken: the values of the property sort.
const (
	SortModified = "modified"
	SortName     = "name"
	SortSize     = "size"
)

// Selection is the part of a receive location's endpoint properties that says which
// files of its directory are taken. Embed it in the properties' struct, and call
// Problems from its Validate.
type Selection struct {
	Pattern    string       `json:"pattern" jsonschema:"default=*" jsonschema_description:"Names to take: * matches any characters, ? one, [a-z] a range. Names that begin with a dot, and names of files under way (.part, .tmp, .filepart), are taken only if the pattern begins or ends so too."`
	Regexp     string       `json:"regexp,omitempty" jsonschema_description:"Regular expression (RE2) that the whole name has to match as well."`
	Exclude    []string     `json:"exclude,omitempty" jsonschema_description:"Patterns of names that are not taken, whatever pattern and regexp say."`
	IgnoreCase bool         `json:"ignore_case" jsonschema:"default=false" jsonschema_description:"Capitals and small letters are the same in pattern, regexp and exclude."`
	MinAge     sdk.Duration `json:"min_age" jsonschema:"default=0s" jsonschema_description:"How long ago a file must have been written, by its time and this node's clock. Files whose time is not known are not taken."`
	MaxSize    int64        `json:"max_size" jsonschema:"minimum=0,default=0" jsonschema_description:"Size in bytes of the largest files that are taken; larger ones stay where they are. 0: any size."`
	Sort       string       `json:"sort" jsonschema:"enum=modified,enum=name,enum=size,default=modified" jsonschema_description:"Order in which files are taken: by modified (oldest first), name, or size (smallest first). Equals go by name."`
	Descending bool         `json:"descending" jsonschema:"default=false" jsonschema_description:"Turn the order round."`

	MaxDepth           int      `json:"max_depth" jsonschema:"minimum=0,maximum=32,default=0" jsonschema_description:"How many levels of subdirectories are read, too. 0: none. Symbolic links, and directories whose names begin with a dot, are not entered."`
	ExcludeDirectories []string `json:"exclude_directories,omitempty" jsonschema_description:"Patterns of names of subdirectories that are not read."`
	DoneFile           string   `json:"done_file,omitempty" jsonschema_description:"Name of a file that must be there, too, before a file is taken: {{name}}.done (a.edi needs a.edi.done), {{stem}}.ok (a.ok), deleted after the file; or one for the directory, such as READY, which is left. Done files are not taken themselves."`
}

// File is what a listing says of a file.
type File struct {
	// Name is its path in the location's directory. Patterns are about the last part.
	Name string
	// Size in bytes, -1 if the listing does not say.
	Size int64
	// Modified is when it was written last, zero if the listing does not say.
	Modified time.Time
	// Claimed: it is there under another name (see [Claims]).
	Claimed bool
}

// underWay end the names that programs give to files that they are still writing.
var underWay = []string{".part", ".tmp", ".filepart"}

// Filter decides about files. It is made by Selection.Filter, and may be used by
// several goroutines.
type Filter struct {
	selection Selection
	pattern   string
	exclude   []string
	regexp    *regexp.Regexp // nil: any name
	done      *done          // nil: none is needed

	excludeDirectories []string

	// told is set while somebody examines the source.
	told func(name, reason string)
}

// Problems are the findings of Validate, one [sdk.PropertyError] each.
func (s Selection) Problems() []error {
	var errs []error
	problem := func(property, format string, args ...any) {
		errs = append(errs, &sdk.PropertyError{Property: property, Problem: fmt.Sprintf(format, args...)})
	}
	check := func(property, pattern string) {
		switch _, err := path.Match(pattern, ""); {
		case pattern == "":
			problem(property, "is empty and matches nothing; want * for every name")
		case err != nil:
			problem(property, "%q is not a pattern: a [ without ], or a trailing backslash", pattern)
		case strings.Contains(pattern, "/"):
			problem(property, "%q contains a slash; name the directory under directory", pattern)
		}
	}
	check("pattern", s.Pattern)
	for i, pattern := range s.Exclude {
		check(fmt.Sprintf("exclude.%d", i), pattern)
	}
	for i, pattern := range s.ExcludeDirectories {
		check(fmt.Sprintf("exclude_directories.%d", i), pattern)
	}
	if len(s.ExcludeDirectories) > 0 && s.MaxDepth == 0 {
		problem("exclude_directories", "has no effect with max_depth: 0, which reads no subdirectory")
	}
	if s.MaxDepth < 0 {
		problem("max_depth", "is %d, want 0 (no subdirectories) or more", s.MaxDepth)
	}
	if why := s.doneProblem(); why != "" {
		problem("done_file", "%s", why)
	}
	if _, err := s.compile(); err != nil {
		problem("regexp", "is no regular expression of RE2: %v", errors.Unwrap(err))
	}
	if s.MinAge.D() < 0 {
		problem("min_age", "is %v, want 0s or more", s.MinAge.D())
	}
	if s.MaxSize < 0 {
		problem("max_size", "is %d, want 0 (any size) or more", s.MaxSize)
	}
	return errs
}

func (s Selection) doneProblem() string {
	rest := strings.Replace(strings.Replace(s.DoneFile, doneName, "", 1), doneStem, "", 1)
	switch {
	case s.DoneFile == "":
		return ""
	case rest == "":
		return "is the file's own name; want more, such as {{name}}.done"
	case strings.ContainsAny(rest, "/{}"):
		return fmt.Sprintf("%q contains a slash or a brace besides one {{name}} or {{stem}}; want a name in the same directory, such as {{name}}.done", s.DoneFile)
	case strings.Contains(s.DoneFile, doneName) && strings.Contains(s.DoneFile, doneStem):
		return fmt.Sprintf("%q has {{name}} and {{stem}}; want one of them", s.DoneFile)
	}
	return ""
}

// compile returns nil if there is no expression.
func (s Selection) compile() (*regexp.Regexp, error) {
	if s.Regexp == "" {
		return nil, nil
	}
	// By itself first: one with an odd parenthesis could match the frame's.
	if _, err := regexp.Compile(s.Regexp); err != nil {
		return nil, fmt.Errorf("regexp: %w", err)
	}
	flags := "s"
	if s.IgnoreCase {
		flags += "i"
	}
	re, err := regexp.Compile("(?" + flags + `)\A(?:` + s.Regexp + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("regexp: %w", err)
	}
	return re, nil
}

// Filter returns an error for a Selection that has Problems.
func (s Selection) Filter() (*Filter, error) {
	if err := errors.Join(s.Problems()...); err != nil {
		return nil, err
	}
	f := &Filter{selection: s, pattern: s.Pattern, exclude: slices.Clone(s.Exclude), excludeDirectories: slices.Clone(s.ExcludeDirectories), done: parseDone(s.DoneFile)}
	if s.IgnoreCase {
		for i := range f.excludeDirectories {
			f.excludeDirectories[i] = strings.ToLower(f.excludeDirectories[i])
		}
		f.pattern = strings.ToLower(f.pattern)
		for i := range f.exclude {
			f.exclude[i] = strings.ToLower(f.exclude[i])
		}
	}
	var err error
	f.regexp, err = s.compile()
	return f, err
}

// RejectsName says in words why no file of this name is taken, or "" if the name is
// no reason. It is for those to whom size and time cost a question each.
func (f *Filter) RejectsName(name string) string {
	given := path.Base(name)
	folded := given
	if f.selection.IgnoreCase {
		folded = strings.ToLower(given)
	}
	if strings.HasPrefix(given, TemporaryPrefix) {
		return "its name begins with " + TemporaryPrefix + ": Fairlead is writing it"
	}
	if strings.HasPrefix(folded, ".") && !strings.HasPrefix(f.pattern, ".") {
		return "its name begins with a dot, and pattern does not"
	}
	for _, suffix := range underWay {
		if strings.HasSuffix(folded, suffix) && !strings.HasSuffix(f.pattern, suffix) {
			return "its name ends in " + suffix + ", and pattern does not: it is being written"
		}
	}
	if !matches(f.pattern, folded) {
		return fmt.Sprintf("pattern %q", f.selection.Pattern)
	}
	if f.regexp != nil && !f.regexp.MatchString(given) {
		return fmt.Sprintf("regexp %q", f.selection.Regexp)
	}
	if f.done != nil && f.done.is(given) {
		return fmt.Sprintf("done_file %q: it releases others", f.selection.DoneFile)
	}
	for i, pattern := range f.exclude {
		if matches(pattern, folded) {
			return fmt.Sprintf("exclude %q", f.selection.Exclude[i])
		}
	}
	return ""
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// Rejects says in words why the file is not taken now, or "" if it is.
func (f *Filter) Rejects(file File, now time.Time) string {
	return f.tell(file.Name, f.rejects(file, now))
}

func (f *Filter) rejects(file File, now time.Time) string {
	if why := f.RejectsName(file.Name); why != "" {
		return why
	}
	if most := f.selection.MaxSize; most > 0 && file.Size > most {
		return fmt.Sprintf("it has %d bytes, and max_size is %d", file.Size, most)
	}
	least := f.selection.MinAge.D()
	if least == 0 {
		return ""
	}
	if file.Modified.IsZero() {
		return fmt.Sprintf("its time is not known, and min_age is %v", least)
	}
	if age := now.Sub(file.Modified); age < least {
		return fmt.Sprintf("it was written %v ago, and min_age is %v", age.Round(time.Second), least)
	}
	return ""
}

// Limit returns the most bytes that may be read of one file, 0 if any number.
func (f *Filter) Limit() int64 { return f.selection.MaxSize }

// Sort puts the listed into the order in which they are taken; of says what each is. Of
// two that differ by nothing the claimed one comes first, as it has to be gone before
// the other can be claimed.
func Sort[T any](f *Filter, listed []T, of func(T) File) {
	slices.SortStableFunc(listed, func(x, y T) int {
		a, b := of(x), of(y)
		order := 0
		switch f.selection.Sort {
		case SortModified:
			order = a.Modified.Compare(b.Modified)
		case SortSize:
			order = cmp.Compare(a.Size, b.Size)
		}
		order = cmp.Or(order, strings.Compare(a.Name, b.Name))
		switch {
		case order == 0 && a.Claimed != b.Claimed:
			if a.Claimed {
				return -1
			}
			return 1
		case f.selection.Descending:
			return -order
		}
		return order
	})
}
