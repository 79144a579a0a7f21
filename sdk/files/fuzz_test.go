package files

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/uuid"
)

// A Selection without problems makes a filter, and one with problems does not. Whatever
// the filter is, it takes nothing that Fairlead is writing, and says the same twice.
func FuzzSelection(f *testing.F) {
	for _, seed := range []struct {
		pattern, regexp, exclude, done, name string
		fold                                 bool
	}{
		{"*", "", "*.bak", "", "a.edi", false}, {".*", "", "", "{{name}}.done", ".fairlead-x.part", false},
		{"[a-", "", "[", "", "a", true}, {"*.EDI", `ORD\d+`, "x*", "{{stem}}.ok", "ord1.edi", true},
		{"?", "(?i", "\\", "READY", "/", false}, {"*", `a)|(b`, "*", "{{name}}{{stem}}", "\xff", true},
		{"*.tmp", "", "", "{{name}}", "İ.TMP", true}, {"[^a]*", `\x{10FFFF}`, "", "", "\x00", true},
	} {
		f.Add(seed.pattern, seed.regexp, seed.exclude, seed.done, seed.name, seed.fold)
	}
	f.Fuzz(func(t *testing.T, pattern, expression, exclude, doneFile, name string, fold bool) {
		s := Selection{Pattern: pattern, Regexp: expression, Exclude: []string{exclude}, DoneFile: doneFile, IgnoreCase: fold, Sort: SortName}
		filter, err := s.Filter()
		if (err != nil) != (len(s.Problems()) > 0) {
			t.Fatalf("problems %v, and the filter says %v", s.Problems(), err)
		}
		if err != nil {
			return
		}
		now := time.Date(2026, 1, 5, 10, 33, 0, 0, time.UTC)
		file := File{Name: name, Size: 5, Modified: now}
		why := filter.Rejects(file, now)
		if again := filter.Rejects(file, now); again != why {
			t.Errorf("%q is rejected for %q and then for %q", name, why, again)
		}
		if why == "" && IsTemporary(filepath.Base(name)) {
			t.Errorf("%q is taken, which is being written", name)
		}
		if filter.RejectsName(name) != "" && why == "" {
			t.Errorf("%q is rejected for its name and taken all the same", name)
		}
		if done := filter.DoneFile(name); why == "" && done == name {
			t.Errorf("%q is its own done file", name)
		}
	})
}

// A name that is allowed stays in its directory, breaks no command, and is never mistaken
// for one that is being written.
func FuzzCheckName(f *testing.F) {
	for _, seed := range []string{"", ".", "..", "a", "a/b", `a\b`, "a\r\nDELE b", "\x00", ".fairlead-", strings.Repeat("ü", 128), "\xff", "..a", "a\u0085b", " "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckName(name) != nil {
			return
		}
		if filepath.Join("/in", name) != "/in/"+name || strings.ContainsFunc(name, func(r rune) bool { return r < 0x80 && unicode.IsControl(r) }) {
			t.Errorf("%q is allowed", name)
		}
		if IsTemporary(name) || len(name) > 255 {
			t.Errorf("%q is allowed", name)
		}
	})
}

// An ID that has a time is a UUIDv7, and the time is the one in it.
func FuzzIDTime(f *testing.F) {
	for _, seed := range []string{"01a2094b-0f1e-756c-9dcf-e638b4cc8291", "", "{01a2094b-0f1e-756c-9dcf-e638b4cc8291}", "urn:uuid:01a2094b-0f1e-756c-9dcf-e638b4cc8291", "01a2094b0f1e756c9dcfe638b4cc8291", "00000000-0000-4000-8000-000000000000", "ffffffff-ffff-7fff-bfff-ffffffffffff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		made, err := IDTime(id)
		if err != nil {
			return
		}
		u, parseErr := uuid.Parse(id)
		if parseErr != nil || u.Version() != 7 {
			t.Fatalf("%q has the time %v and is no UUIDv7", id, made)
		}
		if sec, nsec := u.Time().UnixTime(); !time.Unix(sec, nsec).Truncate(time.Millisecond).Equal(made) {
			t.Errorf("%q was made at %v, and not at %v", id, time.Unix(sec, nsec), made)
		}
	})
}

// The name of an attempt is that of its message alone, and always a temporary one.
func FuzzAttemptName(f *testing.F) {
	f.Add("01a2094b-0f1e-756c-9dcf-e638b4cc8291", "01a2094b-0f1e-756c-9dcf-e638b4cc8292")
	f.Add("a", "a.b")
	f.Fuzz(func(t *testing.T, id, other string) {
		name := AttemptName(id)
		if !IsTemporary(name) || !IsAttemptOf(name, id) {
			t.Errorf("%q is not an attempt of %q", name, id)
		}
		if len(id) == len(other) && id != other && IsAttemptOf(name, other) {
			t.Errorf("%q is an attempt of %q as well as of %q", name, id, other)
		}
	})
}
