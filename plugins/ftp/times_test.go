package main

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fairlead-io/fairlead/sdk/files"
)

// fakeTimes is a server of one directory as MDTM sees it.
type fakeTimes struct {
	exact map[string]time.Time
	asked int
	err   error
}

func (f *fakeTimes) askers() []asker {
	return []asker{func(files []file) ([]answer, error) {
		var answers []answer
		for _, of := range files {
			f.asked++
			t, ok := f.exact[of.name]
			answers = append(answers, answer{modified: t, exists: ok})
		}
		return answers, f.err
	}}
}

// listed is the time as LIST words it at the moment now.
func listed(modified, now time.Time) time.Time {
	if now.Sub(modified) > 182*24*time.Hour || modified.After(now) {
		return modified.Truncate(24 * time.Hour)
	}
	return modified.Truncate(time.Minute)
}

func TestKeyStaysTheSameAtEveryAgeOfAFile(t *testing.T) {
	written := time.Date(2026, 3, 1, 10, 33, 17, 0, time.UTC)
	server := &fakeTimes{exact: map[string]time.Time{"a": written}}
	book, src := newTimeBook(), &source{props: receiveProperties{Directory: "/in", Taking: files.Taking{AfterDelivery: files.AfterKeep}}}
	keys := map[string]bool{}
	for _, age := range []time.Duration{
		0, time.Second, time.Minute, time.Hour, 24 * time.Hour, 100 * 24 * time.Hour,
		181 * 24 * time.Hour, 183 * 24 * time.Hour, 400 * 24 * time.Hour,
	} {
		now := written.Add(age)
		book.now = func() time.Time { return now }
		files, _, err := book.complete(server.askers(), []file{{name: "a", size: 1, modified: listed(written, now)}})
		if err != nil || len(files) != 1 {
			t.Fatalf("at the age of %s: %d files, %v", age, len(files), err)
		}
		keys[src.key("/in", &files[0])] = true
		// Another node, which has not seen the file before.
		other := newTimeBook()
		other.now = book.now
		files, _, err = other.complete(server.askers(), []file{{name: "a", size: 1, modified: listed(written, now)}})
		if err != nil {
			t.Fatal(err)
		}
		keys[src.key("/in", &files[0])] = true
	}
	if len(keys) != 1 {
		t.Errorf("the file has %d keys over its life: %v", len(keys), keys)
	}
}

func TestKeyWithoutExactTimes(t *testing.T) {
	written := time.Date(2026, 3, 1, 10, 33, 17, 0, time.UTC)
	young, old := listed(written, written), listed(written, written.AddDate(1, 0, 0))
	kept := &source{props: receiveProperties{Taking: files.Taking{AfterDelivery: files.AfterKeep}}}
	if a, b := kept.key(".", &file{name: "a", modified: young}), kept.key(".", &file{name: "a", modified: old}); a != b {
		t.Errorf("the key of a kept file changes with its age: %q, %q", a, b)
	}
	taken := &source{props: receiveProperties{Taking: files.Taking{AfterDelivery: files.AfterDelete}}}
	if a, b := taken.key(".", &file{name: "a", modified: young}), taken.key(".", &file{name: "a", modified: young.Add(time.Minute)}); a == b {
		t.Errorf("files of different minutes have the same key %q", a)
	}
}

func TestKeysTellNamesApartThatAreNotUTF8(t *testing.T) {
	s := &source{props: receiveProperties{Taking: files.Taking{AfterDelivery: files.AfterDelete}}}
	a, b := s.key("/in", &file{name: "gr\xf6\xdfe"}), s.key("/in", &file{name: "gr\xf6\xdfe\xff"})
	if a == b {
		t.Errorf("both keys are %q", a)
	}
}

// Whatever happens to a file, at whatever times it is listed, its key is that of
// its exact state, unless the server's clock was set back.
func TestBookNeverMissesAChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
		server := &fakeTimes{exact: map[string]time.Time{}}
		// The server's clock may be off by up to a day.
		skew := time.Duration(rapid.IntRange(-24*3600, 24*3600).Draw(t, "skew")) * time.Second
		book := newTimeBook()
		book.now = func() time.Time { return now }
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 200).Draw(t, "pause")) * time.Second)
			name := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				server.exact[name] = now.Add(skew)
			case 1:
				delete(server.exact, name)
			default:
				var files []file
				for name, exact := range server.exact {
					files = append(files, file{name: name, size: 1, modified: exact.Truncate(time.Minute)})
				}
				got, refused, err := book.complete(server.askers(), files)
				if err != nil || len(refused) > 0 || len(got) != len(server.exact) {
					t.Fatalf("%d files, refused %q, %v", len(got), refused, err)
				}
				for _, f := range got {
					if !f.modified.Equal(server.exact[f.name]) {
						t.Fatalf("%s is of %s in the book, of %s at the server", f.name, f.modified, server.exact[f.name])
					}
				}
			}
		}
	})
}

func TestSettledFilesAreNotAskedForAgain(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 30, 0, time.UTC)
	server := &fakeTimes{exact: map[string]time.Time{"new": now, "old": now.AddDate(0, -1, 0)}}
	book := newTimeBook()
	book.now = func() time.Time { return now }
	poll := func() int {
		t.Helper()
		before := server.asked
		var files []file
		for name, exact := range server.exact {
			files = append(files, file{name: name, modified: listed(exact, now)})
		}
		if _, _, err := book.complete(server.askers(), files); err != nil {
			t.Fatal(err)
		}
		return server.asked - before
	}
	for i, step := range []struct {
		pause time.Duration
		want  int
	}{{0, 2}, {time.Second, 1}, {10 * time.Second, 1}, {settledAfter, 1}, {time.Second, 0}, {time.Hour, 0}} {
		now = now.Add(step.pause)
		if got := poll(); got != step.want {
			t.Errorf("poll %d asked for %d times, want %d", i, got, step.want)
		}
	}
	delete(server.exact, "old")
	poll()
	if len(book.known) != 1 {
		t.Errorf("%d files are remembered, want 1", len(book.known))
	}
	book.forget("new")
	if got := poll(); got != 1 {
		t.Errorf("a forgotten file was asked for %d times", got)
	}
}

func TestFileBeingReadIsNotAskedFor(t *testing.T) {
	now := time.Now()
	server := &fakeTimes{exact: map[string]time.Time{"a": now}}
	book := newTimeBook()
	files := []file{{name: "a", modified: now.Truncate(time.Minute)}}
	ask := func() int {
		before := server.asked
		if _, _, err := book.complete(server.askers(), append([]file(nil), files...)); err != nil {
			t.Fatal(err)
		}
		return server.asked - before
	}
	ask()
	book.take(&files[0])
	if n := ask(); n != 0 {
		t.Errorf("asked %d times during the reading", n)
	}
	book.untake("a")
	if n := ask(); n != 1 {
		t.Errorf("asked %d times after the reading", n)
	}
}

func TestTimeAloneTellsOnlyOfColdFilesThatWereReadHere(t *testing.T) {
	start := time.Date(2026, 6, 1, 12, 0, 30, 0, time.UTC)
	for _, test := range []struct {
		name  string
		age   time.Duration
		touch bool // written to just before the reading
		whole bool
		size  int64 // when settled
		want  bool
	}{
		{"cold and read", coldAfter, false, true, 5, true},
		{"just seen", coldAfter - time.Millisecond, false, true, 5, false},
		{"not read to the end", coldAfter, false, false, 5, false},
		{"another version", coldAfter, false, true, 6, false},
		{"written to just now", coldAfter, true, true, 5, false},
	} {
		now := start
		book := newTimeBook()
		book.now = func() time.Time { return now }
		server := &fakeTimes{exact: map[string]time.Time{"a": start}}
		files, _, err := book.complete(server.askers(), []file{{name: "a", size: 5, modified: start.Truncate(time.Minute)}})
		if err != nil {
			t.Fatal(err)
		}
		now = now.Add(test.age)
		if test.touch {
			server.exact["a"] = now
			files[0].modified, files[0].precise = start.Truncate(time.Minute), false
			if files, _, err = book.complete(server.askers(), files[:1]); err != nil {
				t.Fatal(err)
			}
		}
		book.take(&files[0])
		if test.whole {
			book.readWhole(&files[0])
		}
		settled := files[0]
		settled.size = test.size
		if got := book.timeTells(&settled); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
	if newTimeBook().timeTells(&file{name: "a"}) {
		t.Error("of a file that was never read the time alone tells")
	}
}

func TestErrorOfMDTMFailsTheListing(t *testing.T) {
	server := &fakeTimes{err: errors.New("broken"), exact: map[string]time.Time{}}
	if _, _, err := newTimeBook().complete(server.askers(), []file{{name: "a"}}); err == nil {
		t.Error("the listing is complete without the time")
	}
}
