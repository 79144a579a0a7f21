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
}

// File is what a listing says of a file.
type File struct {
	// Name in its directory.
	Name string
	// Size in bytes, -1 if the listing does not say.
	Size int64
	// Modified is when it was written last, zero if the listing does not say.
	Modified time.Time
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
	f := &Filter{selection: s, pattern: s.Pattern, exclude: slices.Clone(s.Exclude)}
	if s.IgnoreCase {
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
	given, folded := name, name
	if f.selection.IgnoreCase {
		folded = strings.ToLower(name)
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

// Sort puts the listed into the order in which they are taken; of says what each is.
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
		if f.selection.Descending {
			return -order
		}
		return order
	})
}
