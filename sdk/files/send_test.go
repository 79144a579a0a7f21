package files

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/fairlead-io/fairlead/sdk"
)

func TestMarkedNamesKeepTheirExtensionAndFit(t *testing.T) {
	const id = "01890a5d-ac96-774b-bcce-b302099a8057"
	for _, name := range []string{"orders.csv", "orders", ".hidden", "a.tar.gz", strings.Repeat("ä", 120) + ".edi", "x." + strings.Repeat("y", 250), strings.Repeat("z", 255)} {
		got := MarkedName(name, id)
		if got == name || len(got) > nameMax || !utf8.ValidString(got) || CheckName(got) != nil {
			t.Errorf("%q became %q", name, got)
		}
		if got != MarkedName(name, id) || got == MarkedName(name, strings.ToUpper(id)) {
			t.Errorf("%q: the mark is not that of the ID", name)
		}
	}
	if got := MarkedName("orders.csv", id); !strings.HasPrefix(got, "orders-") || path.Ext(got) != ".csv" {
		t.Errorf("orders.csv became %q", got)
	}
}

func TestDirectoriesAreMadeFromTheLastThatIsThere(t *testing.T) {
	there := map[string]bool{"/srv": true} // and "/" may not be looked at
	var made []string
	is := func(dir string) (bool, error) {
		if dir == "/" {
			return false, errors.New("not allowed")
		}
		return there[dir], nil
	}
	mk := func(dir string) error {
		made = append(made, dir)
		there[dir] = true
		if dir == "/srv/a/b" {
			return fmt.Errorf("mkdir: %w", fs.ErrExist)
		}
		if dir == "/srv/a/b/c" {
			return errors.New("made by another, and the server does not say so")
		}
		return nil
	}
	if err := MakeDirectory("/srv/a/b/c/d", is, mk); err != nil {
		t.Fatal(err)
	}
	if want := []string{"/srv/a", "/srv/a/b", "/srv/a/b/c", "/srv/a/b/c/d"}; !slices.Equal(made, want) {
		t.Errorf("made are %q, want %q", made, want)
	}
	err := MakeDirectory("/srv/x/y", is, func(string) error { return errors.New("full") })
	if err == nil || !strings.Contains(err.Error(), "/srv/x:") {
		t.Errorf("%v; want the part that could not be made", err)
	}
}

func TestMadeAsksOncePerDirectoryUntilItIsForgotten(t *testing.T) {
	var k Made
	n := 0
	count := func() error { n++; return nil }
	for range 3 {
		_ = k.Ensure("a", count)
	}
	if err := k.Ensure("b", func() error { return errors.New("no") }); err == nil {
		t.Error("no error")
	}
	_ = k.Ensure("b", count)
	k.Forget("a", "c")
	_ = k.Ensure("a", count)
	if n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
	for i := range 3 * madeMax {
		_ = k.Ensure(fmt.Sprint(i), count)
	}
	if len(k.known) > madeMax {
		t.Errorf("%d directories are remembered", len(k.known))
	}
}

// Kernels give files the time of their last tick. A message that is made right after a
// second began may get a file of the second before.
func TestAFileMayBeATickOlderThanItsMessage(t *testing.T) {
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	second := time.Unix(1_800_000_000, 0)
	milli := second.UnixMilli() + 3 // RFC 9562: the first 48 bits
	for i := range 6 {
		id[i] = byte(milli >> (8 * (5 - i)))
	}
	m := &sdk.Message{ID: id.String()}
	for _, c := range []struct {
		modified  time.Time
		precision time.Duration
		want      bool
	}{
		{second.Add(3 * time.Millisecond), 1, true},
		{second.Add(-6 * time.Millisecond), 1, true},
		{second.Add(-time.Second), time.Second, true}, // as MDTM tells the one above
		{second.Add(-time.Second), 1, false},
		{second.Add(-2 * time.Second), time.Second, false},
	} {
		if got := (Placement{}).MadeFor(m, c.modified, c.precision); got != c.want {
			t.Errorf("a file of %v, known to %v, for a message of %v: %t", c.modified, c.precision, second, got)
		}
	}
}
