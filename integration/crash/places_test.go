package crash

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/demo/cluster"
	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/demo/natsd"
)

// kinds are the adapters under test.
var kinds = []string{"ftp", "file", "queue"}

// claimedFTP is a source besides them: ftp whose files are renamed before they are read.
const claimedFTP = "ftp-claimed"

// A source holds items until the node has settled them.
type source interface {
	// endpoint is the location's, as one line of YAML.
	endpoint() string
	put(t testing.TB, items ...cluster.Item)
	// left says in words what has not been settled; empty: nothing.
	left(t testing.TB) string
}

// A destination keeps every arrival apart, so that one too many can be seen.
type destination interface {
	endpoint() string
	// hashes are those of all contents that have arrived.
	hashes(t testing.TB) []string
}

// world is what is outside of the node: servers that go on when it dies.
type world struct {
	root string // of the FTP server
	ftp  *ftpd.Server
	nats *natsd.Server
	js   jetstream.JetStream
}

const (
	user     = "crash"
	password = "dummy-password"
	// maxItem bounds the items in bytes, and what the broker takes.
	maxItem = 4 << 20
)

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{root: t.TempDir()}
	w.serveFTP(t, ftpd.Config{Root: w.root})
	var err error
	if w.nats, err = natsd.Start(natsd.Config{Dir: t.TempDir(), MaxPayload: maxItem}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.nats.Stop)
	nc, err := nats.Connect(w.nats.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if w.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	return w
}

// serveFTP starts the FTP server, in the place of an earlier one.
func (w *world) serveFTP(t testing.TB, cfg ftpd.Config) {
	t.Helper()
	cfg.User, cfg.Password = user, password
	s, err := ftpd.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	w.ftp = s
}

// source makes a source of the kind. The name tells it from others.
func (w *world) source(t testing.TB, kind, name string) source {
	t.Helper()
	switch kind {
	case "ftp":
		f := w.folder(t, name+"-in")
		f.text = w.ftpEndpoint(name+"-in") + ", stable_for: 0s}"
		return f
	case claimedFTP:
		f := w.folder(t, name+"-in")
		f.text = w.ftpEndpoint(name+"-in") + ", stable_for: 0s, claim: true}"
		return f
	case "file":
		f := w.folder(t, name+"-in")
		f.text = fmt.Sprintf("{directory: %q, stable_for: 0s}", f.dir)
		return f
	case "queue":
		return w.inbox(t, name)
	}
	t.Fatalf("no source of the kind %q", kind)
	return nil
}

// destination makes a destination of the kind. Files are named by the message's ID:
// a message that comes twice under two IDs is there twice.
func (w *world) destination(t testing.TB, kind, name string) destination {
	t.Helper()
	switch kind {
	case "ftp":
		f := w.folder(t, name+"-out")
		f.text, f.server = w.ftpEndpoint(name+"-out")+"}", w.ftp
		return f
	case "file":
		f := w.folder(t, name+"-out")
		f.text = fmt.Sprintf("{directory: %q}", f.dir)
		return f
	case "queue":
		return w.outbox(t, name, jetstream.StreamConfig{Duplicates: 2 * time.Minute})
	}
	t.Fatalf("no destination of the kind %q", kind)
	return nil
}

// ftpEndpoint is an endpoint's beginning.
func (w *world) ftpEndpoint(directory string) string {
	return fmt.Sprintf("{address: %q, user: %s, password: %s, directory: /%s", w.ftp.Addr(), user, password, directory)
}

// folder is a directory, of the FTP server or read by the node itself.
type folder struct {
	dir, staging string
	text         string
	server       *ftpd.Server // of a destination on it; nil: none
}

func (w *world) folder(t testing.TB, name string) *folder {
	t.Helper()
	f := &folder{dir: filepath.Join(w.root, name), staging: t.TempDir()}
	if err := os.Mkdir(f.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *folder) endpoint() string { return f.text }

// put lets the items appear whole, in their order.
func (f *folder) put(t testing.TB, items ...cluster.Item) {
	t.Helper()
	for _, item := range items {
		staged := filepath.Join(f.staging, "staged")
		if err := os.WriteFile(staged, item.Content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(staged, filepath.Join(f.dir, item.Name)); err != nil {
			t.Fatal(err)
		}
	}
}

func (f *folder) left(t testing.TB) string {
	t.Helper()
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) > 0 {
		return fmt.Sprintf("%d files are still in %s, such as %q", len(entries), f.dir, entries[0].Name())
	}
	return ""
}

// hashes leaves out what has a temporary name: nobody would take it.
func (f *folder) hashes(t testing.TB) (hashes []string) {
	t.Helper()
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".fairlead-") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(f.dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		hash := cluster.Hash(data)
		hashes = append(hashes, hash)
		if f.server == nil {
			continue
		}
		renames := f.renames(e.Name())
		if renames == 0 {
			t.Errorf("the server's journal does not tell how %s got its name: it cannot be judged", e.Name())
		}
		// A file that was put there again over itself has arrived again: somebody may
		// have taken the first.
		for range renames - 1 {
			hashes = append(hashes, hash)
		}
	}
	return hashes
}

// renames is how often a client of the FTP server gave a file its final name.
func (f *folder) renames(name string) (n int) {
	for _, e := range f.server.Events() {
		if e.Command == "RNTO" && e.Err == nil && e.To == path.Join("/", filepath.Base(f.dir), name) {
			n++
		}
	}
	return n
}

// queue is one stream of the broker.
type queue struct {
	w       *world
	text    string
	stream  jetstream.Stream
	subject string
	dead    jetstream.Stream // of a source: where given up messages go
}

// inbox is a work queue: what is acknowledged is gone from it.
func (w *world) inbox(t testing.TB, name string) *queue {
	t.Helper()
	q := &queue{w: w, subject: "in." + name}
	q.stream = w.stream(t, jetstream.StreamConfig{
		Name: "IN-" + name, Subjects: []string{q.subject}, Retention: jetstream.WorkQueuePolicy,
	})
	q.dead = w.stream(t, jetstream.StreamConfig{Name: "DEAD-" + name, Subjects: []string{"dead." + name}})
	q.text = fmt.Sprintf("{broker: %q, stream: IN-%s, consumer: crash, ack_wait: 1s, retry_delay: 100ms, dead_letter_subject: dead.%s}",
		w.nats.URL(), name, name)
	return q
}

// outbox is a stream that keeps all that came, with the given properties.
func (w *world) outbox(t testing.TB, name string, cfg jetstream.StreamConfig) *queue {
	t.Helper()
	q := &queue{w: w, subject: "out." + name}
	cfg.Name, cfg.Subjects = "OUT-"+name, []string{q.subject}
	q.stream = w.stream(t, cfg)
	q.text = fmt.Sprintf("{broker: %q, stream: OUT-%s, subject: %s}", w.nats.URL(), name, q.subject)
	return q
}

func (w *world) stream(t testing.TB, cfg jetstream.StreamConfig) jetstream.Stream {
	t.Helper()
	s, err := w.js.CreateStream(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (q *queue) endpoint() string { return q.text }

func (q *queue) put(t testing.TB, items ...cluster.Item) {
	t.Helper()
	for _, item := range items {
		if _, err := q.w.js.Publish(t.Context(), q.subject, item.Content); err != nil {
			t.Fatal(err)
		}
	}
}

func (q *queue) left(t testing.TB) string {
	t.Helper()
	if n := count(t, q.stream); n > 0 {
		return fmt.Sprintf("%d messages are still in the source's stream", n)
	}
	if n := count(t, q.dead); n > 0 {
		return fmt.Sprintf("%d messages were given up", n)
	}
	return ""
}

func count(t testing.TB, s jetstream.Stream) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerWithin)
	defer cancel()
	info, err := s.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.State.Msgs)
}

func (q *queue) hashes(t testing.TB) (hashes []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerWithin)
	defer cancel()
	for seq := range count(t, q.stream) {
		m, err := q.stream.GetMsg(ctx, uint64(seq)+1) // nothing is ever removed from it
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, cluster.Hash(m.Data))
	}
	return hashes
}
