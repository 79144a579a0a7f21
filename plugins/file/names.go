package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/fairlead-io/fairlead/sdk"
)

const (
	// tempPrefix begins the names of files that this adapter is writing. They are
	// never received.
	tempPrefix = ".fairlead-"
	tempSuffix = ".part"
)

// otherTempSuffixes end the names that other programs give to files they are
// writing. They are not received unless the pattern asks for them.
var otherTempSuffixes = []string{".part", ".tmp", ".filepart"}

// wanted reports whether a name is to be received. As in a shell, a name that
// begins with a dot is hidden from a pattern that does not.
func wanted(pattern, name string) bool {
	if strings.HasPrefix(name, tempPrefix) {
		return false
	}
	if strings.HasPrefix(name, ".") && !strings.HasPrefix(pattern, ".") {
		return false
	}
	for _, suffix := range otherTempSuffixes {
		if strings.HasSuffix(name, suffix) && !strings.HasSuffix(pattern, suffix) {
			return false
		}
	}
	matched, err := path.Match(pattern, name)
	return err == nil && matched
}

// escapePath makes any path valid UTF-8, and different for different paths: bytes
// that are not UTF-8, control characters and % become %XX.
func escapePath(p string) string { return escape(p, true) }

// readableName makes a file's name valid UTF-8. A name that is stays as it is.
func readableName(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	return escape(name, false)
}

func escape(s string, all bool) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n <= 1:
			fmt.Fprintf(&b, "%%%02X", s[i])
			n = 1
		case all && (r == '%' || r < ' ' || r == 0x7f):
			fmt.Fprintf(&b, "%%%02X", r)
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// finalName is the name for a message. It is the same at every attempt: `now` is
// the time in the message's ID.
func finalName(t sdk.Template, m *sdk.Message) (string, error) {
	made, err := idTime(m.ID)
	if err != nil {
		return "", sdk.Permanent(err)
	}
	name, err := t.Expand(m, made)
	if err != nil {
		return "", err
	}
	if err := checkFinalName(name); err != nil {
		return "", sdk.Permanent(fmt.Errorf("name %q, from %q: %w", name, t, err))
	}
	return name, nil
}

// checkFinalName refuses what would leave the directory or look like a file that
// is being written. A sender far away may have chosen part of the name.
func checkFinalName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return errors.New("is no name of a file")
	case strings.ContainsAny(name, "/\\"):
		return errors.New("contains a slash or backslash, and files are written to one directory only")
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errors.New("contains a control character")
	case strings.HasPrefix(name, tempPrefix):
		return fmt.Errorf("begins with %s, which marks files that are being written", tempPrefix)
	case len(name) > 255:
		return fmt.Errorf("is %d bytes long and file systems take 255", len(name))
	}
	return nil
}

// idTime is when a UUIDv7 was made, to the millisecond (RFC 9562, section 5.7).
func idTime(id string) (time.Time, error) {
	u, err := uuid.Parse(id)
	if err != nil {
		return time.Time{}, fmt.Errorf("message ID %q: %w", id, err)
	}
	if u.Version() != 7 {
		return time.Time{}, fmt.Errorf("message ID %q is a UUID of version %d, want 7", id, u.Version())
	}
	var ms int64
	for _, b := range u[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms), nil
}

// tempName is the name of one attempt to write a message. Attempts differ, so that
// a new one can take the file of an old one away: whoever wrote that, and was
// frozen just before its rename, will find nothing to rename.
func tempName(id string) string {
	var salt [4]byte
	_, _ = rand.Read(salt[:]) // never fails
	return tempPrefix + id + "." + hex.EncodeToString(salt[:]) + tempSuffix
}

// isTempOf reports whether name is one that tempName makes for the ID.
func isTempOf(name, id string) bool {
	return strings.HasPrefix(name, tempPrefix+id+".") && strings.HasSuffix(name, tempSuffix)
}
