package files

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fairlead-io/fairlead/sdk"
)

const (
	// TemporaryPrefix begins the names of files that an adapter is writing. They are
	// never received, so that a directory can be written to and read.
	TemporaryPrefix = ".fairlead-"
	temporarySuffix = ".part"
	// nameMax is the longest name in bytes that usual file systems take.
	nameMax = 255
)

// IsTemporary reports whether an adapter gave the name to a file that it was writing.
func IsTemporary(name string) bool {
	return strings.HasPrefix(name, TemporaryPrefix) && strings.HasSuffix(name, temporarySuffix)
}

// AttemptName is the name of one attempt to write a message. Attempts differ, so that
// a new one can take the file of an old one away: whoever wrote that, and was frozen
// just before its rename, will find nothing to rename.
func AttemptName(id string) string {
	var salt [4]byte
	_, _ = rand.Read(salt[:]) // never fails
	return TemporaryPrefix + id + "." + hex.EncodeToString(salt[:]) + temporarySuffix
}

// IsAttemptOf reports whether name is one that AttemptName makes for the ID.
func IsAttemptOf(name, id string) bool {
	return strings.HasPrefix(name, TemporaryPrefix+id+".") && strings.HasSuffix(name, temporarySuffix)
}

// FinalName is the name for a message. It is the same at every attempt: `now` is the
// time in the message's ID. Errors are [sdk.Permanent].
func FinalName(t sdk.Template, m *sdk.Message) (string, error) {
	made, err := IDTime(m.ID)
	if err != nil {
		return "", sdk.Permanent(err)
	}
	name, err := t.Expand(m, made)
	if err != nil {
		return "", err
	}
	if err := CheckName(name); err != nil {
		return "", sdk.Permanent(fmt.Errorf("name %q, from %q: %w", name, t, err))
	}
	return name, nil
}

// CheckName refuses final names that would leave the directory, break a protocol's
// command, or look like a file that is being written. A sender far away may have
// chosen part of the name.
func CheckName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return errors.New("is no name of a file")
	case strings.ContainsAny(name, "/\\"):
		return errors.New("contains a slash or backslash, and files are written to one directory only")
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errors.New("contains a control character")
	case strings.HasPrefix(name, TemporaryPrefix):
		return fmt.Errorf("begins with %s, which marks files that are being written", TemporaryPrefix)
	case len(name) > nameMax:
		return fmt.Errorf("is %d bytes long and file systems take %d", len(name), nameMax)
	}
	return nil
}

// IDTime is when a message's ID was made, to the millisecond: it is a UUIDv7 (RFC
// 9562, section 5.7).
func IDTime(id string) (time.Time, error) {
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
