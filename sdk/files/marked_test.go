package files

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// A name that is as long as names may be has a marked form that can be written, too, and
// each file its own.
func TestMarkedNamesAreNoLongerThanFileSystemsTake(t *testing.T) {
	for _, base := range []string{"a.edi", strings.Repeat("x", 242), strings.Repeat("x", 243), strings.Repeat("x", 255), strings.Repeat("é", 127), strings.Repeat("\xe9", 255)} {
		one, other := Marked(base, "one"), Marked(base, "other")
		if len(one) > nameMax {
			t.Errorf("a name of %d bytes becomes one of %d", len(base), len(one))
		}
		if one == other || one != Marked(base, "one") {
			t.Errorf("%q and %q are the marked names of two files", one, other)
		}
		if utf8.ValidString(base) && !utf8.ValidString(one) {
			t.Errorf("%q is cut within a character", one)
		}
	}
	if got := Marked("a.edi", "key"); !strings.HasPrefix(got, "a.edi.") {
		t.Errorf("%q does not begin with the whole name", got)
	}
}
