package files

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fairlead-io/fairlead/sdk"
)

// What a send does when the final name is taken: the values of if_exists.
const (
	ExistsReplace = "replace"
	ExistsFail    = "fail"
	ExistsRename  = "rename"
	ExistsAppend  = "append"
)

// Placement is the part of a send port's endpoint properties that says how a file is
// put into its directory. Embed it in the properties' struct, and call Problems from
// its Validate.
type Placement struct {
	IfExists          string `json:"if_exists" jsonschema:"enum=replace,enum=fail,enum=rename,enum=append,default=replace" jsonschema_description:"When the name is taken: replace the file; fail and try again later; rename: leave it, and put a mark made from the message's ID before the new file's extension; or append to it. Appending is not atomic: after a failure in its middle nobody can tell what has arrived, and in_doubt of the port decides."`
	CreateDirectories bool   `json:"create_directories" jsonschema:"default=false" jsonschema_description:"Make the directories that are missing, with their parents."`
	Mode              string `json:"mode,omitempty" jsonschema_description:"Permissions of the file in octal digits, as \"0640\", set before it gets its name. Default: what the system gives it."`
	KeepTime          bool   `json:"keep_time" jsonschema:"default=false" jsonschema_description:"Give the file the time of the file that the message came from (file.modified, ftp.modified or sftp.modified). A message that came otherwise gets the usual time."`
	Checksum          string `json:"checksum" jsonschema:"enum=none,enum=sha256,enum=sha512,enum=md5,default=none" jsonschema_description:"Write a second file with the checksum, before the file gets its name: NAME.sha256 in the format of sha256sum, or .sha512, .md5."`
}

// Problems are the findings of Validate, one [sdk.PropertyError] each.
func (p Placement) Problems() []error {
	var errs []error
	if _, err := ParseMode(p.Mode); p.Mode != "" && err != nil {
		errs = append(errs, problem("mode", "%v", err))
	}
	for property, set := range map[string]bool{"mode": p.Mode != "", "keep_time": p.KeepTime, "checksum": p.SidecarName("") != ""} {
		if set {
			errs = append(errs, p.WithAppend(property))
		}
	}
	return errs
}

// WithAppend is the finding about a property that is set and has no meaning for a file
// that is appended to, nil if files are not.
func (p Placement) WithAppend(property string) error {
	if p.IfExists != ExistsAppend {
		return nil
	}
	return problem(property, "contradicts if_exists: append, which adds to a file that is there; take one of them away")
}

// FileMode is the mode that files get; set is false if the property is not there.
func (p Placement) FileMode() (mode fs.FileMode, set bool) {
	mode, err := ParseMode(p.Mode)
	return mode, p.Mode != "" && err == nil
}

// TimeFor is the time that the message's file gets; set is false if it is to have the
// usual one.
func (p Placement) TimeFor(m *sdk.Message) (t time.Time, set bool) {
	if !p.KeepTime {
		return time.Time{}, false
	}
	for _, property := range []string{"file.modified", "ftp.modified", "sftp.modified"} {
		// What is there and no time was set by somebody else: it is none for us.
		if t, err := time.Parse(time.RFC3339, m.Context[property]); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func problem(property, format string, args ...any) error {
	return &sdk.PropertyError{Property: property, Problem: fmt.Sprintf(format, args...)}
}

// DirectoryProblem is the finding of Validate about a directory that may have
// placeholders.
func DirectoryProblem(property string, t sdk.Template) error {
	text := t.String()
	switch {
	case strings.ContainsAny(text, "\r\n\x00"):
		return problem(property, "contains a line break or a NUL")
	case !t.Varies():
		return nil
	case slices.ContainsFunc(strings.Split(text, "/"), func(e string) bool { return e == "." || e == ".." }):
		return problem(property, "%q has placeholders and . or .. as an element; write the directory without", text)
	}
	return nil
}

// FinalDirectory is the directory for a message, the same at every attempt. Errors are
// [sdk.Permanent].
func FinalDirectory(t sdk.Template, m *sdk.Message) (string, error) {
	made, err := IDTime(m.ID)
	if err != nil {
		return "", sdk.Permanent(err)
	}
	return t.ExpandPath(m, made)
}

// Target is the place of one message: the same at every attempt and on every node, so
// that a probe looks for what an earlier owner wrote.
type Target struct {
	Directory string
	Name      string
	// Second is the name if the first is taken, empty unless if_exists: rename. Only
	// this message has it.
	Second string
}

// Target expands the templates. Errors are [sdk.Permanent].
func (p Placement) Target(directory, name sdk.Template, m *sdk.Message) (Target, error) {
	var t Target
	var err error
	if t.Directory, err = FinalDirectory(directory, m); err != nil {
		return Target{}, err
	}
	if t.Name, err = FinalName(name, m); err != nil {
		return Target{}, err
	}
	if p.IfExists == ExistsRename {
		t.Second = MarkedName(t.Name, m.ID)
	}
	if name := p.SidecarName(t.Name); name != "" {
		if err := CheckName(name); err != nil {
			return Target{}, sdk.Permanent(fmt.Errorf("name of the checksum file %q: %w", name, err))
		}
	}
	return t, nil
}

// Names are those that the file may have, the usual one first.
func (t Target) Names() []string {
	if t.Second == "" {
		return []string{t.Name}
	}
	return []string{t.Name, t.Second}
}

// MarkedName is the name of a message's file when the usual one is taken: with a mark
// made from the message's ID, so that it is the same at every attempt and no other
// message has it. orders.csv becomes orders-3f0a9c1b72de.csv.
func MarkedName(name, id string) string {
	sum := sha256.Sum256([]byte(id))
	mark := "-" + hex.EncodeToString(sum[:6])
	extension := path.Ext(name)
	if extension == name || len(extension) > nameMax/2 {
		extension = "" // a hidden file, or one with a dot near the beginning
	}
	stem := strings.TrimSuffix(name, extension)
	for len(stem)+len(mark)+len(extension) > nameMax-sidecarMax {
		_, last := utf8.DecodeLastRuneInString(stem)
		stem = stem[:len(stem)-last]
	}
	return stem + mark + extension
}

// clockLag is how far the time that a system gives a file may be behind its own clock:
// kernels look at the clock a few hundred times a second.
const clockLag = 20 * time.Millisecond

// timePrecision is that of the coarsest file system in use (FAT).
const timePrecision = 2 * time.Second

// MadeFor reports whether a file that has this time can have been written for the
// message: it is not older than the message's ID, or has the time that the message's
// file gets. Another message of the same content may have been first, and what was
// there before is not this one. precision is that of the time.
func (p Placement) MadeFor(m *sdk.Message, modified time.Time, precision time.Duration) bool {
	if kept, ok := p.TimeFor(m); ok && modified.Sub(kept).Abs() < timePrecision {
		return true
	}
	made, err := IDTime(m.ID)
	return err == nil && !modified.Before(made.Add(-clockLag).Truncate(precision))
}

// MakeDirectory makes a directory and the parents that it lacks, by a protocol's own
// means: is reports whether there is a directory of this path, mk makes one. Somebody
// may make the same at the same time; what is there then will do.
func MakeDirectory(dir string, is func(dir string) (bool, error), mk func(dir string) error) error {
	var missing []string
	// From the end: the account may not be allowed to see where its directory lies.
	for at := path.Clean(dir); ; at = path.Dir(at) {
		there, err := is(at)
		if err != nil {
			return fmt.Errorf("look for directory %s: %w", at, err)
		}
		if there || at == path.Dir(at) {
			break
		}
		missing = append(missing, at)
	}
	for _, at := range slices.Backward(missing) {
		if err := mk(at); err != nil && !errors.Is(err, fs.ErrExist) {
			if there, lookErr := is(at); lookErr == nil && there {
				continue
			}
			return fmt.Errorf("make directory %s: %w; make it, or give the account the right to", at, err)
		}
	}
	return nil
}

// ParseMode reads permissions as chmod(1) takes them, in octal digits.
func ParseMode(text string) (fs.FileMode, error) {
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil || mode > 0o777 {
		return 0, fmt.Errorf("%q is not a mode; write it in octal digits up to 0777, as \"0640\"", text)
	}
	return fs.FileMode(mode), nil
}
