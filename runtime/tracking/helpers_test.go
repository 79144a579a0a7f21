package tracking

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is when the tests begin.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// clock is a clock that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// journal is a log that tests read.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) lines(with string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for line := range strings.Lines(j.text.String()) {
		if strings.Contains(line, with) {
			n++
		}
	}
	return n
}

// world is a store with a clock and a log, in a directory that outlives it.
type world struct {
	*Store
	t     testing.TB
	cfg   Config
	clock *clock
	log   *journal
}

// newWorld opens a store; set may change its config.
func newWorld(t testing.TB, set func(*Config)) *world {
	t.Helper()
	w := &world{t: t, clock: &clock{now: noon}, log: &journal{}}
	w.cfg = Config{Dir: filepath.Join(t.TempDir(), "history"), Now: w.clock.Now, Log: slog.New(slog.NewTextHandler(w.log, nil))}
	if set != nil {
		set(&w.cfg)
	}
	w.open()
	t.Cleanup(w.close)
	return w
}

func small(c *Config) { c.MaxBytes = LeastMaxBytes }

func (w *world) open() {
	w.t.Helper()
	s, err := Open(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Store = s
}

func (w *world) close() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.Close(ctx); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) reopen() {
	w.t.Helper()
	w.close()
	w.open()
}

// note notes a step of the kind, one millisecond after the last one.
func (w *world) note(message, kind string, set ...func(*Step)) {
	w.clock.pass(time.Millisecond)
	st := Step{Message: message, Location: "orders", Key: "/in/" + message, Kind: kind, Node: "node-a"}
	for _, f := range set {
		f(&st)
	}
	w.Note(st)
}

func at(port string) func(*Step)  { return func(st *Step) { st.Port = port } }
func in(place string) func(*Step) { return func(st *Step) { st.Location = place } }

// travel notes a whole way.
func (w *world) travel(message string, set ...func(*Step)) {
	w.note(message, Received, append(set, func(st *Step) {
		st.Name, st.Size, st.Context = message+".xml", 4711, map[string]string{"ftp.name": message + ".xml"}
	})...)
	w.note(message, Routed, append(set, at("erp"))...)
	w.note(message, Sent, append(set, at("erp"), func(st *Step) { st.Attempt = 1 })...)
	w.note(message, Settled, set...)
}

// fill notes whole ways until so many bytes have been written, and returns how many.
func (w *world) fill(prefix string, bytes int64) int {
	w.t.Helper()
	n := 0
	for written := int64(0); written < bytes; n++ {
		w.travel(fmt.Sprintf("%s-%06d", prefix, n))
		written += 4 * 90
		if n%500 == 0 {
			w.settle()
		}
	}
	w.settle()
	return n
}

// settle waits until all is written.
func (w *world) settle() {
	w.t.Helper()
	if err := w.flush(soon(w.t)); err != nil {
		w.t.Fatal(err)
	}
}

// soon is a context for what must end.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// query returns what the query finds.
func (w *world) query(q Query) []Record {
	w.t.Helper()
	records, _, err := w.Query(soon(w.t), q)
	if err != nil {
		w.t.Fatal(err)
	}
	return records
}

// messages are the IDs of the records.
func messages(records []Record) string {
	var ids []string
	for _, r := range records {
		ids = append(ids, r.Message)
	}
	return strings.Join(ids, " ")
}

// kinds are the kinds of the steps.
func kinds(r Record) string {
	var all []string
	for _, st := range r.Steps {
		all = append(all, st.Kind)
	}
	return strings.Join(all, " ")
}

// onDiskBytes is what the directory holds.
func (w *world) onDiskBytes() int64 {
	w.t.Helper()
	var sum int64
	err := filepath.WalkDir(w.cfg.Dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return sum
}

// begun is how many segments there have been.
func (w *world) begun() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return int(w.nextID - 1)
}

// files are the segments' paths, the oldest first.
func (w *world) files() []string {
	w.t.Helper()
	paths, err := filepath.Glob(filepath.Join(w.cfg.Dir, "*"+segmentSuffix))
	if err != nil {
		w.t.Fatal(err)
	}
	return paths
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// closedSegment is the file of a closed segment.
func closedSegment(t testing.TB) []byte {
	t.Helper()
	w := newWorld(t, small)
	w.travel("m1")
	w.settle()
	w.clock.pass(DefaultMaxAge / 2)
	w.settle()
	if st := w.Stats(); st.Segments != 1 || w.last() != nil {
		t.Fatalf("not closed: %+v", st)
	}
	return readFile(t, w.files()[0])
}
