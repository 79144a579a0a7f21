package tracking

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestQuerySeesEveryNoteBeforeIt(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 50 {
		id := fmt.Sprintf("m%d", i)
		w.travel(id)
		got := w.query(Query{Message: id})
		if len(got) != 1 || kinds(got[0]) != "received routed sent settled" {
			t.Fatalf("%s: got %+v", id, got)
		}
	}
}

func TestRecordTellsWhatWasNoted(t *testing.T) {
	w := newWorld(t, nil)
	w.travel("m1")
	r := w.query(Query{Message: "m1"})[0]
	if r.Location != "orders" || r.Key != "/in/m1" || r.Name != "m1.xml" || r.Size != 4711 || r.Context["ftp.name"] != "m1.xml" {
		t.Errorf("got %+v", r)
	}
	if r.State != StateSettled || r.Ports["erp"] != Sent || len(r.Ports) != 1 {
		t.Errorf("state %s, ports %v", r.State, r.Ports)
	}
	if !r.First.Equal(noon.Add(time.Millisecond)) || !r.Last.Equal(noon.Add(4*time.Millisecond)) {
		t.Errorf("first %v, last %v", r.First, r.Last)
	}
	if st := r.Steps[2]; st.Port != "erp" || st.Attempt != 1 || st.Node != "node-a" || !st.At.Equal(noon.Add(3*time.Millisecond)) {
		t.Errorf("sent: %+v", st)
	}
	if st := r.Steps[0]; st.Context != nil || st.Name != "" {
		t.Errorf("context is given twice: %+v", st)
	}
}

func TestNewestFirstWithLimit(t *testing.T) {
	w := newWorld(t, nil)
	for _, id := range []string{"a", "b", "c"} {
		w.note(id, Received)
	}
	w.note("a", Settled)
	records, truncated, err := w.Query(soon(t), Query{Limit: 2})
	if err != nil || !truncated || messages(records) != "a c" {
		t.Errorf("got %s, truncated %v, %v", messages(records), truncated, err)
	}
	if kinds(records[0]) != "received settled" {
		t.Errorf("a: %s", kinds(records[0]))
	}
	records, truncated, err = w.Query(soon(t), Query{Limit: 3})
	if err != nil || truncated || messages(records) != "a c b" {
		t.Errorf("got %s, truncated %v, %v", messages(records), truncated, err)
	}
}

func TestQuerySelects(t *testing.T) {
	w := newWorld(t, nil)
	w.travel("o1")
	w.travel("i1", in("invoices"))
	w.travel("o2")
	w.note("o3", Received)
	w.note("o3", Suspended, func(st *Step) { st.Text = "no route" })
	ms := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Millisecond) }
	for _, c := range []struct {
		name string
		q    Query
		want string
	}{
		{"all", Query{}, "o3 o2 i1 o1"},
		{"location", Query{Location: "orders"}, "o3 o2 o1"},
		{"other location", Query{Location: "invoices"}, "i1"},
		{"no such location", Query{Location: "returns"}, ""},
		{"message", Query{Message: "o2"}, "o2"},
		{"no such message", Query{Message: "o9"}, ""},
		{"message of another location", Query{Message: "o2", Location: "invoices"}, ""},
		{"since", Query{Since: ms(9)}, "o3 o2"},
		{"until", Query{Until: ms(5)}, "o1"},
		{"within", Query{Since: ms(4), Until: ms(6)}, "i1 o1"},
		{"message outside", Query{Message: "o1", Since: ms(5)}, ""},
		{"match", Query{Match: func(r *Record) bool { return r.State == StateSuspended }}, "o3"},
		{"match properties", Query{Match: func(r *Record) bool { return r.Context["ftp.name"] == "o1.xml" }}, "o1"},
		{"far away", Query{Since: time.Unix(-1<<40, 0), Until: time.Unix(1<<40, 0)}, "o3 o2 i1 o1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := messages(w.query(c.q)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if r := w.query(Query{Since: ms(4), Until: ms(5)})[0]; kinds(r) != "received routed sent settled" {
		t.Errorf("steps outside the time are missing: %s", kinds(r))
	}
}

func TestSegmentsAreClosedAndFound(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxBytes = 4 << 20 })
	w.note("long", Received)
	n := w.fill("m", 700<<10)
	w.note("long", Settled)
	w.settle()
	for _, again := range []bool{false, true} {
		if again {
			w.reopen()
		}
		if st := w.Stats(); st.Segments < 8 || st.Steps != 4*n+2 || st.Lost != 0 || st.Damaged != 0 {
			t.Fatalf("got %+v for %d messages", st, n)
		}
		for i := range n {
			id := fmt.Sprintf("m-%06d", i)
			if got := w.query(Query{Message: id}); len(got) != 1 || kinds(got[0]) != "received routed sent settled" {
				t.Fatalf("%s: got %+v", id, got)
			}
		}
		if r := w.query(Query{Limit: 1})[0]; r.Message != "long" || kinds(r) != "received settled" {
			t.Errorf("got %+v", r)
		}
		all := w.query(Query{Location: "orders", Limit: MaxLimit})
		if len(all) != n+1 {
			t.Errorf("the location has %d messages, want %d", len(all), n+1)
		}
		for i, r := range all[1:] {
			if want := fmt.Sprintf("m-%06d", n-1-i); r.Message != want || len(r.Steps) != 4 {
				t.Fatalf("at %d: got %s with %s, want %s", i, r.Message, kinds(r), want)
			}
		}
	}
}

func TestBytesAreBounded(t *testing.T) {
	w := newWorld(t, small)
	n := 0
	for range 6 {
		n += w.fill(fmt.Sprintf("m%d", n), 512<<10)
		if got := w.onDiskBytes(); got > w.cfg.MaxBytes {
			t.Fatalf("%d bytes on the disk, at most %d are allowed", got, w.cfg.MaxBytes)
		}
	}
	st := w.Stats()
	if st.Bytes < w.cfg.MaxBytes*3/4 || st.Lost != 0 {
		t.Errorf("too little is kept: %+v", st)
	}
	if got := w.query(Query{Message: "m0-000000"}); got != nil {
		t.Errorf("the oldest is still there: %+v", got)
	}
}

func TestAgeIsBounded(t *testing.T) {
	w := newWorld(t, nil)
	w.travel("old")
	w.settle()
	w.clock.pass(6 * 24 * time.Hour)
	w.travel("newer")
	if got := messages(w.query(Query{})); got != "newer old" {
		t.Fatalf("got %s", got)
	}
	w.clock.pass(24 * time.Hour)
	if got := messages(w.query(Query{})); got != "newer" {
		t.Errorf("after seven days: got %s", got)
	}
	w.clock.pass(12 * time.Hour)
	w.settle()
	if st := w.Stats(); st.Segments != 1 || st.Steps != 4 || len(w.files()) != 1 {
		t.Errorf("the old segment is still there: %+v, %v", st, w.files())
	}
	w.clock.pass(30 * 24 * time.Hour)
	w.reopen()
	if st := w.Stats(); st.Steps != 0 || st.Bytes != 0 {
		t.Errorf("after a month: %+v", st)
	}
}

func TestOldStepsMakeNoFilesOfTheirOwn(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 20 {
		w.note(fmt.Sprint("m", i), Received, func(st *Step) { st.At = noon.Add(-6 * 24 * time.Hour) })
		w.settle()
	}
	if st := w.Stats(); st.Segments != 1 || st.Steps != 20 {
		t.Errorf("got %+v", st)
	}
}

func TestRestartsMakeNoFilesOfTheirOwn(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 20 {
		w.travel(fmt.Sprint("m", i))
		w.reopen()
	}
	if st := w.Stats(); st.Segments != 1 || st.Steps != 80 {
		t.Errorf("got %+v", st)
	}
}

func TestTimeOfAStepIsNeverToCome(t *testing.T) {
	w := newWorld(t, nil)
	w.Note(Step{Message: "zero", Kind: Received})
	w.Note(Step{Message: "future", Kind: Received, At: noon.Add(time.Hour)})
	w.Note(Step{Message: "past", Kind: Received, At: noon.Add(-time.Hour)})
	for id, want := range map[string]time.Time{"zero": noon, "future": noon, "past": noon.Add(-time.Hour)} {
		if got := w.query(Query{Message: id})[0].First; !got.Equal(want) {
			t.Errorf("%s: got %v, want %v", id, got, want)
		}
	}
}

func TestTornTailIsCut(t *testing.T) {
	w := newWorld(t, nil)
	w.travel("m1")
	w.settle()
	before := w.Stats().Bytes
	w.note("m2", Received, func(st *Step) { st.Context = map[string]string{"a": "b"} })
	w.settle()
	last := int(w.Stats().Bytes-before) - 2*entrySize
	w.close()
	path := w.files()[0]
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for missing := range last + 1 {
		if err := os.WriteFile(path, whole[:len(whole)-missing], 0o600); err != nil {
			t.Fatal(err)
		}
		w.open()
		w.note("m3", Received)
		want := "m3 m1"
		if missing == 0 {
			want = "m3 m2 m1"
		}
		if got := messages(w.query(Query{})); got != want {
			t.Errorf("%d bytes missing: got %s, want %s", missing, got, want)
		}
		w.reopen()
		if got := messages(w.query(Query{})); got != want {
			t.Errorf("%d bytes missing, opened again: got %s, want %s", missing, got, want)
		}
		w.close()
	}
	if w.log.lines("not written completely") != last-1 {
		t.Errorf("%d lines in the log about %d torn tails", w.log.lines("not written completely"), last-1)
	}
	w.open()
}

func TestTornTablesAreMadeAgain(t *testing.T) {
	w := newWorld(t, small)
	n := w.fill("m", 200<<10)
	w.close()
	path := w.files()[0]
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, missing := range []int64{1, tailSize, tailSize + 1, 5000} {
		if err := os.Truncate(path, info.Size()-missing); err != nil {
			t.Fatal(err)
		}
		w.open()
		if st := w.Stats(); st.Steps != 4*n || st.Damaged != 0 {
			t.Errorf("%d bytes missing: %+v, want %d steps", missing, st, 4*n)
		}
		if again, err := os.Stat(path); err != nil || again.Size() != info.Size() {
			t.Errorf("%d bytes missing: the file has %d bytes, want %d (%v)", missing, again.Size(), info.Size(), err)
		}
		w.close()
	}
	w.open()
}

// spoil changes one byte of a file.
func spoil(t *testing.T, path string, at int64) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= 0x55
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedStepIsLeftOut(t *testing.T) {
	for _, c := range []struct {
		name   string
		closed bool
	}{{"growing", false}, {"closed", true}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, small)
			w.travel("m1")
			n := 1
			if c.closed {
				n += w.fill("m", 100<<10)
			}
			w.close()
			spoil(t, w.files()[0], int64(len(segmentMagic)+frameHeader+9))
			w.open()
			if r := w.query(Query{Message: "m1"})[0]; kinds(r) != "routed sent settled" {
				t.Errorf("got %s", kinds(r))
			}
			if got := w.query(Query{Limit: MaxLimit}); len(got) != n {
				t.Errorf("%d messages are left of %d", len(got), n)
			}
			if w.Stats().Damaged == 0 || w.log.lines("damaged") != 1 {
				t.Errorf("%+v, %d lines in the log", w.Stats(), w.log.lines("damaged"))
			}
		})
	}
}

func TestUnreadableSegmentIsPassedOverAndGoesInTime(t *testing.T) {
	w := newWorld(t, small)
	w.fill("m", 100<<10)
	w.close()
	first, last := w.files()[0], w.files()[len(w.files())-1]
	spoil(t, first, 0)
	old := noon.Add(-8 * 24 * time.Hour)
	w.open()
	if w.log.lines("passed over") != 1 || len(w.query(Query{})) == 0 {
		t.Errorf("%d lines in the log, found %s", w.log.lines("passed over"), messages(w.query(Query{})))
	}
	w.close()
	spoil(t, last, 0)
	for _, path := range []string{first, last} {
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	w.open()
	if _, err := os.Stat(first); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unreadable file is still there after its time (%v)", err)
	}
	w.travel("next")
	if got := messages(w.query(Query{Limit: 1})); got != "next" {
		t.Errorf("got %s", got)
	}
}

func TestStrangeFilesAreLeftAlone(t *testing.T) {
	w := newWorld(t, nil)
	w.close()
	for _, name := range []string{"notes.txt", "1.steps", "x.steps"} {
		if err := os.WriteFile(filepath.Join(w.cfg.Dir, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.open()
	if st := w.Stats(); st.Segments != 0 {
		t.Errorf("got %+v", st)
	}
}

func TestUnwritableDiskLosesStepsAndSaysSo(t *testing.T) {
	w := newWorld(t, small)
	w.travel("m1")
	w.settle()
	// No new segment can be made while something is in the way.
	blocker := w.segmentPath(2)
	if err := os.Mkdir(blocker, 0o700); err != nil {
		t.Fatal(err)
	}
	n := w.fill("lost", 200<<10)
	lost := w.Lost()
	if lost == 0 || lost > uint64(4*n) {
		t.Fatalf("%d of %d steps are lost", lost, 4*n)
	}
	if w.log.lines("cannot be written: free space") != 1 || w.log.lines("are missing") != 1 {
		t.Errorf("log:\n%s", w.log.text.String())
	}
	if err := os.Remove(blocker); err != nil {
		t.Fatal(err)
	}
	w.travel("m2")
	if got := messages(w.query(Query{Limit: 1})); got != "m2" || w.Lost() != lost {
		t.Errorf("got %s, lost %d, before %d", got, w.Lost(), lost)
	}
	if st := w.Stats(); uint64(st.Steps)+lost != uint64(4*n+8) {
		t.Errorf("%d kept and %d lost of %d", st.Steps, lost, 4*n+8)
	}
}

func TestFullBufferLosesAndCounts(t *testing.T) {
	b := newBuffer()
	st := Step{Message: "m", Kind: Failed, Text: strings.Repeat("x", maxText)}
	n := 0
	for b.add(&st) {
		n++
	}
	if len(b.frames) > maxBuffered || len(b.frames) < maxBuffered-2*maxPayload {
		t.Errorf("%d bytes are buffered", len(b.frames))
	}
	if _, steps := b.swap(nil); steps != n || !b.add(&st) {
		t.Errorf("swapped %d of %d steps", steps, n)
	}
}

func TestStepsAreWrittenWithoutAQuery(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		s.Note(Step{Message: "m", Kind: Received})
		time.Sleep(flushEvery) // the bubble's time
		synctest.Wait()
		if st := s.Stats(); st.Steps != 1 {
			t.Errorf("after %v: %+v", flushEvery, st)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestOldSegmentsGoWhileNothingIsNoted(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(Config{Dir: dir, MaxAge: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		s.Note(Step{Message: "m", Kind: Received})
		if err := s.Content("m", 0, strings.NewReader("content")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour + 2*keepHouseEvery) // the bubble's time
		synctest.Wait()
		if st := s.Stats(); st.Steps != 0 || st.Segments != 0 || st.Contents != 0 || st.ContentBytes != 0 {
			t.Errorf("after its time: %+v", st)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCloseFlushesAndEnds(t *testing.T) {
	w := newWorld(t, nil)
	w.travel("m1")
	w.close()
	w.close() // twice is once
	if _, _, err := w.Query(soon(t), Query{}); !errors.Is(err, ErrClosed) {
		t.Errorf("query: %v", err)
	}
	if err := w.Content("m1", 0, strings.NewReader("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("content: %v", err)
	}
	w.travel("m2")
	if w.Lost() != 4 {
		t.Errorf("%d steps lost, want 4", w.Lost())
	}
	w.open()
	if got := messages(w.query(Query{})); got != "m1" {
		t.Errorf("got %s", got)
	}
}

func TestCloseWaitsNoLongerThanItsContext(t *testing.T) {
	w := newWorld(t, nil)
	started, release, copied := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() { copied <- w.Content("m", 0, &stuck{started: started, release: release}) }()
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	if err := <-copied; !errors.Is(err, ErrClosed) {
		t.Errorf("the copy ended with %v", err)
	}
	if names, _ := os.ReadDir(w.contentPath("")); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

// stuck is a reader that gives something only when it is released.
type stuck struct{ started, release chan struct{} }

func (s *stuck) Read(b []byte) (int, error) {
	select {
	case <-s.started:
	default:
		close(s.started)
	}
	<-s.release
	return len(b), nil
}

func TestQueryEndsWithItsContext(t *testing.T) {
	w := newWorld(t, nil)
	for range 3 {
		w.travel("m1")
		w.travel("m2")
	}
	ctx, cancel := context.WithCancel(t.Context())
	records, truncated, err := w.Query(ctx, Query{Match: func(*Record) bool { cancel(); return true }})
	if !errors.Is(err, context.Canceled) || !truncated || messages(records) != "m2" {
		t.Errorf("got %s, %v, %v", messages(records), truncated, err)
	}
}

func TestOnlySoManyQueriesAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	w.travel("m1")
	entered, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	for range maxQueries {
		wg.Go(func() {
			w.query(Query{Match: func(*Record) bool { entered <- struct{}{}; <-release; return true }})
		})
		<-entered
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := w.Query(ctx, Query{}); !errors.Is(err, context.Canceled) {
		t.Errorf("one more: %v", err)
	}
	close(release)
	wg.Wait()
	if got := messages(w.query(Query{})); got != "m1" {
		t.Errorf("afterwards: %s", got)
	}
}

func TestSegmentStaysWhileItIsRead(t *testing.T) {
	w := newWorld(t, small)
	w.fill("m", 100<<10)
	n := 0
	records := w.query(Query{Limit: MaxLimit, Match: func(*Record) bool {
		if n++; n == 1 {
			w.fill("x", 2<<20)
		}
		return true
	}})
	if len(records) < 200 || strings.Contains(messages(records), "x") || w.Stats().Damaged != 0 {
		t.Errorf("%d records, %+v", len(records), w.Stats())
	}
	if got := w.query(Query{Message: "m-000000"}); got != nil {
		t.Errorf("what was to go is still there: %+v", got)
	}
	if got := w.onDiskBytes(); got > w.cfg.MaxBytes {
		t.Errorf("%d bytes on the disk", got)
	}
}

func TestNoteQueryAndCloseAtTheSameTime(t *testing.T) {
	w := newWorld(t, small)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 3000 {
				w.travel(fmt.Sprintf("m-%d-%d", i, j))
				if j%100 == 0 {
					_ = w.Content(fmt.Sprintf("m-%d-%d", i, j), 0, strings.NewReader("content"))
				}
			}
		})
	}
	for _, q := range []Query{{}, {Location: "orders"}, {Message: "m-1-1"}} {
		wg.Go(func() {
			for {
				records, _, err := w.Query(soon(t), q)
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Errorf("query: %v", err)
					return
				}
				for _, r := range records {
					// The beginning may have had to go already.
					if r.Message != "main" && !strings.Contains("received routed sent settled", kinds(r)) && w.Lost() == 0 {
						t.Errorf("%s: got %s", r.Message, kinds(r))
					}
				}
				if w.Stats().Steps > 20000 {
					t.Errorf("too many steps: %+v", w.Stats())
				}
			}
		})
	}
	for ctx := soon(t); w.begun() < 10; w.settle() {
		w.travel("main")
		if ctx.Err() != nil {
			t.Fatalf("only %d segments were begun", w.begun())
		}
	}
	w.close()
	wg.Wait()
}

func TestRecordOfVeryManyStepsIsBounded(t *testing.T) {
	w := newWorld(t, nil)
	w.note("m", Received, func(st *Step) { st.Name = "first.xml" })
	for range 2 * maxSteps {
		w.note("m", Failed, at("erp"))
	}
	r := w.query(Query{Message: "m"})[0]
	if len(r.Steps) != maxSteps || r.Omitted != maxSteps+1 || r.Name != "first.xml" || r.Steps[0].Kind != Received {
		t.Errorf("%d steps, %d omitted, name %q, the first is %s", len(r.Steps), r.Omitted, r.Name, r.Steps[0].Kind)
	}
	if want := noon.Add((2*maxSteps + 1) * time.Millisecond); !r.Last.Equal(want) {
		t.Errorf("last %v, want %v", r.Last, want)
	}
}

func TestAnswerIsBoundedInBytes(t *testing.T) {
	w := newWorld(t, nil)
	long := strings.Repeat("x", maxText)
	n := maxAnswer/maxText + 100
	for i := range n {
		w.note(fmt.Sprint("m", i), Suspended, func(st *Step) { st.Text = long })
		if i%100 == 0 {
			w.settle()
		}
	}
	records, truncated, err := w.Query(soon(t), Query{Limit: MaxLimit})
	if err != nil || !truncated || len(records) >= n || len(records) < n*9/10 {
		t.Errorf("%d records of %d, truncated %v, %v", len(records), n, truncated, err)
	}
	if w.Lost() != 0 {
		t.Errorf("%d lost", w.Lost())
	}
}

func TestConfigIsChecked(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []Config{{}, {Dir: dir, MaxBytes: 1000}, {Dir: dir, MaxBytes: -1}, {Dir: dir, MaxAge: -1}, {Dir: file}} {
		if s, err := Open(cfg); err == nil {
			s.Close(t.Context())
			t.Errorf("%+v is opened", cfg)
		}
	}
}
