package files

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fairlead-io/fairlead/sdk"
)

// What becomes of a file after delivery: the values of after_delivery.
const (
	AfterDelete = "delete"
	AfterMove   = "move"
	AfterKeep   = "keep"
)

// When a file that is kept is taken again: the values of retake.
const (
	RetakeChanged = "changed"
	RetakeNever   = "never"
)

// Taking is the part of a receive location's endpoint properties that says how files
// are taken and what becomes of them. Embed it in the properties' struct beside a
// [Selection], and call Problems from its Validate.
type Taking struct {
	StableFor      sdk.Duration `json:"stable_for" jsonschema:"default=2s" jsonschema_description:"How long size and time of a file must not have changed before it is taken. 0s takes it at once: only where files appear whole, by a rename."`
	AfterDelivery  string       `json:"after_delivery" jsonschema:"enum=delete,enum=move,enum=keep,default=delete" jsonschema_description:"What happens to a delivered file: delete it, move it to move_to, or keep it where it is."`
	MoveTo         sdk.Template `json:"move_to,omitzero" jsonschema_description:"Directory for after_delivery: move, on the same file system; made when missing. Relative to directory unless it begins with a slash. May use {{now:2006/01/02}}, the time of the move. Files of subdirectories keep theirs."`
	MoveName       sdk.Template `json:"move_name,omitzero" jsonschema_description:"Name in move_to, from the file's own context properties and {{now:LAYOUT}}. Default: the file's name. A name that is taken there is never overwritten: the newcomer's gets a mark."`
	Claim          bool         `json:"claim" jsonschema:"default=false" jsonschema_description:"Rename a file in its directory before it is read, to a name with the owner's epoch: nobody else takes it, whoever writes to its name again makes a new file, and a former owner cannot touch it. A successor adopts the claims of a dead owner. The user needs the right to rename."`
	Retake         string       `json:"retake" jsonschema:"enum=changed,enum=never,default=changed" jsonschema_description:"With after_delivery: keep, when a file is taken again: when its size or time has changed, or never as long as its name is there."`
	RetakeInterval sdk.Duration `json:"retake_interval" jsonschema:"default=0s" jsonschema_description:"With after_delivery: keep, take every file again this often, at multiples of the interval since 1970 in UTC. 0s: not for its age alone."`
}

// Problems are the findings of Validate, one [sdk.PropertyError] each. directory is
// the one that is read.
func (t Taking) Problems(directory string) []error {
	var errs []error
	problem := func(property, format string, args ...any) {
		errs = append(errs, &sdk.PropertyError{Property: property, Problem: fmt.Sprintf(format, args...)})
	}
	if t.StableFor.D() < 0 {
		problem("stable_for", "is %v, want 0s (at once) or more", t.StableFor.D())
	}
	to := t.MoveTo.String()
	switch {
	case t.AfterDelivery == AfterMove && to == "":
		problem("move_to", "is missing; after_delivery: move needs a directory to move to")
	case t.AfterDelivery != AfterMove && to != "":
		problem("move_to", "has no effect with after_delivery: %s; want after_delivery: move", t.AfterDelivery)
	case to != "" && t.Archive(directory) == path.Clean(directory):
		problem("move_to", "is the directory that is read, where files would be taken again, or may be at some time; want a fixed directory first, such as archive/{{now:2006}}")
	}
	if len(t.MoveTo.Properties()) > 0 {
		problem("move_to", "uses {{%s}}; want {{now:LAYOUT}} only, as other values come from outside and could lead anywhere", t.MoveTo.Properties()[0])
	}
	if name := t.MoveName.String(); name != "" && t.AfterDelivery != AfterMove {
		problem("move_name", "has no effect with after_delivery: %s; want after_delivery: move", t.AfterDelivery)
	} else if strings.ContainsAny(name, "/\\") {
		problem("move_name", "%q contains a slash or backslash; name the directory under move_to", name)
	}
	if t.MoveName.Unique() {
		problem("move_name", "uses {{fairlead.id}}, which a file does not have; want its own properties, such as {{file.name}}")
	}
	keep := t.AfterDelivery == AfterKeep
	if t.Claim && keep {
		problem("claim", "contradicts after_delivery: keep, since a claimed file does not keep its name; want delete or move")
	}
	if !keep && t.Retake == RetakeNever {
		problem("retake", "has no effect with after_delivery: %s; want after_delivery: keep", t.AfterDelivery)
	}
	if !keep && t.RetakeInterval.D() != 0 {
		problem("retake_interval", "has no effect with after_delivery: %s; want after_delivery: keep", t.AfterDelivery)
	} else if d := t.RetakeInterval.D(); d < 0 || d > 0 && d < time.Second {
		problem("retake_interval", "is %v, want 0s (never for its age) or a second and more", d)
	}
	return errs
}

// Identity returns the key of a file's item, and its version where the key is that of
// all versions. path is the file's, versioned the path with what tells this version of
// it from others.
func (t Taking) Identity(path, versioned string, now time.Time) (key, version string) {
	key = versioned
	if t.Retake == RetakeNever {
		key, version = path, versioned
	}
	if d := t.RetakeInterval.D(); d > 0 {
		key = fmt.Sprintf("%s|%d", key, now.UnixNano()/int64(d))
	}
	return key, version
}

// Archive is the part of move_to that is the same at all times, as seen from where
// directory is: what lies there is not received. It is "" without a move_to.
func (t Taking) Archive(directory string) string {
	to := t.MoveTo.String()
	if to == "" {
		return ""
	}
	if fixed, _, changing := strings.Cut(to, "{{"); changing {
		to = fixed[:strings.LastIndexByte(fixed, '/')+1]
	}
	return from(directory, to)
}

// from is a path as seen from where directory is.
func from(directory, to string) string {
	if path.IsAbs(to) {
		return path.Clean(to)
	}
	return path.Join(directory, to)
}

// Target is where a delivered file is moved: the directory, as seen from where the
// location's is, and the name. name is the file's path in the location's directory,
// item its item. A delivered file has to go somewhere: characters of its properties
// that no name can have become _, and where move_name still makes no name of a file, the
// file keeps its own.
func (t Taking) Target(directory, name string, item sdk.Item, now time.Time) (dir, base string) {
	m := &sdk.Message{Context: item.Context}
	below, base := path.Split(name)
	if t.MoveName.String() != "" {
		if made, err := t.MoveName.Expand(m, now); err == nil {
			if made = strings.Map(usable, made); CheckName(made) == nil {
				base = made
			}
		}
	}
	to, err := t.MoveTo.Expand(m, now)
	if err != nil {
		to = t.Archive(directory) // Problems lets {{now}} through only, which expands
	}
	return path.Join(from(directory, to), below), base
}

func usable(r rune) rune {
	if r < ' ' || r == 0x7f || r == '/' || r == '\\' {
		return '_'
	}
	return r
}

// Marked is another name for a file whose name is taken where it is moved: made from
// its key, so that it is the same at every attempt. The end of a very long name makes
// room for the mark.
func Marked(base, key string) string {
	sum := sha256.Sum256([]byte(key))
	mark := "." + hex.EncodeToString(sum[:6])
	for len(base)+len(mark) > nameMax {
		_, last := utf8.DecodeLastRuneInString(base)
		base = base[:len(base)-last]
	}
	return base + mark
}

// ErrTaken says that a name and its [Marked] form are both taken.
var ErrTaken = errors.New("the name and the same with a mark are taken there; take one away")
