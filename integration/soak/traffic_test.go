package soak

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/demo/cluster"
	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/demo/natsd"
)

const (
	user     = "soak"
	password = "dummy-password"
	// every is the time between two items of a flow.
	every = 200 * time.Millisecond
	// Most items are small; every largeEvery-th goes through the spool.
	smallItem, largeItem, largeEvery = 12 << 10, 400 << 10, 40
)

// outside is what the cluster works with: servers, and the folders behind them.
type outside struct {
	t    *testing.T
	root string // of the FTP servers, with the folders ftp-in, file-in, file-out, ...
	js   jetstream.JetStream

	mu     sync.Mutex
	source *ftpd.Server
	dest   *ftpd.Server
	broker *natsd.Server
	store  string // of the broker
}

// folders below the root.
var folders = []string{"ftp-in", "file-in", "from-ftp", "from-queue", "ftp-out"}

func newOutside(t *testing.T) *outside {
	t.Helper()
	o := &outside{t: t, root: t.TempDir(), store: t.TempDir()}
	for _, f := range folders {
		if err := os.Mkdir(filepath.Join(o.root, f), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if o.source, err = ftpd.Start(ftpd.Config{Root: o.root, User: user, Password: password}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.source.Stop(); err != nil {
			t.Error(err)
		}
	})
	if o.dest, err = ftpd.Start(ftpd.Config{Root: o.root, User: user, Password: password}); err != nil {
		t.Fatal(err)
	}
	if o.broker, err = natsd.Start(natsd.Config{Dir: o.store, MaxPayload: 2 * largeItem}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.stop)
	nc, err := nats.Connect(o.broker.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if o.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []jetstream.StreamConfig{
		{Name: "IN-FILE", Subjects: []string{"in.file"}, Retention: jetstream.WorkQueuePolicy},
		{Name: "IN-FTP", Subjects: []string{"in.ftp"}, Retention: jetstream.WorkQueuePolicy},
		{Name: "DEAD", Subjects: []string{"dead"}},
		{Name: "OUT", Subjects: []string{"out"}},
	} {
		if _, err := o.js.CreateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// stop ends the servers that outages stop and start.
func (o *outside) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.broker.Stop()
	if err := o.dest.Stop(); err != nil {
		o.t.Error(err)
	}
}

// ftpOutage takes the destination's FTP server down for the time.
func (o *outside) ftpOutage(ctx context.Context, d time.Duration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	address := o.dest.Addr()
	if err := o.dest.Stop(); err != nil {
		return err
	}
	pause(ctx, d)
	s, err := ftpd.Start(ftpd.Config{Addr: address, Root: o.root, User: user, Password: password})
	if err == nil {
		o.dest = s
	}
	return err
}

// brokerOutage takes the broker down for the time: a source and a destination.
func (o *outside) brokerOutage(ctx context.Context, d time.Duration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	address := o.broker.Addr()
	o.broker.Stop()
	pause(ctx, d)
	s, err := natsd.Start(natsd.Config{Addr: address, Dir: o.store, MaxPayload: 2 * largeItem})
	if err == nil {
		o.broker = s
	}
	return err
}

// pause lets the traffic run for a while: how long a fault lasts is the test's input.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// plan is the deployment: four flows, over hosts that move and hosts that are
// everywhere.
func (o *outside) plan() string {
	login := fmt.Sprintf("user: %s, password: %s", user, password)
	return fmt.Sprintf(`
hosts:
  ftp-intake: {clustered: true, restart: {max: 100, within: 1m}, failover: {max: 60, within: 1h}}
  file-intake: {clustered: true, restart: {max: 100, within: 1m}, failover: {max: 60, within: 1h}}
  queue-intake: {clustered: true, restart: {max: 100, within: 1m}, failover: {max: 60, within: 1h}}
  delivery: {clustered: true, restart: {max: 100, within: 1m}, failover: {max: 60, within: 1h}}
  outbound: {clustered: false}
receive_locations:
  ftp-files:
    {host: ftp-intake, adapter: ftp, endpoint: {address: %[1]q, %[4]s, directory: /ftp-in, stable_for: 0s}, schedule: {every: 500ms}, to: [from-ftp]}
  files:
    {host: file-intake, adapter: file, endpoint: {directory: %[5]q, stable_for: 0s}, schedule: {every: 500ms}, to: [stream]}
  queue-to-file:
    {host: queue-intake, adapter: queue, endpoint: {broker: %[3]q, stream: IN-FILE, consumer: soak, ack_wait: 5s, dead_letter_subject: dead}, to: [from-queue]}
  queue-to-ftp:
    {host: queue-intake, adapter: queue, endpoint: {broker: %[3]q, stream: IN-FTP, consumer: soak, ack_wait: 5s, dead_letter_subject: dead}, to: [upload]}
send_ports:
  from-ftp: {host: delivery, adapter: file, endpoint: {directory: %[6]q}, retry: {attempts: 100, interval: 1s}}
  stream: {host: outbound, adapter: queue, endpoint: {broker: %[3]q, stream: OUT, subject: out}, retry: {attempts: 100, interval: 1s}}
  from-queue: {host: outbound, adapter: file, endpoint: {directory: %[7]q}, retry: {attempts: 100, interval: 1s}}
  upload: {host: delivery, adapter: ftp, endpoint: {address: %[2]q, %[4]s, directory: /ftp-out}, retry: {attempts: 100, interval: 1s}}
`, o.source.Addr(), o.dest.Addr(), o.broker.URL(), login,
		filepath.Join(o.root, "file-in"), filepath.Join(o.root, "from-ftp"), filepath.Join(o.root, "from-queue"))
}

// movingHosts are those with an owner.
var movingHosts = []string{"ftp-intake", "file-intake", "queue-intake", "delivery"}

// flow is one way through the cluster.
type flow struct {
	name string
	// put gives the source one item; it waits out the source's outages.
	put func(ctx context.Context, number int, content []byte) error
	// waiting is how many items the source still has.
	waiting func(ctx context.Context) (int, error)
	// out returns the hashes of what has arrived.
	out func(ctx context.Context) ([]string, error)
	// in are the hashes of what was put in.
	in []string
}

func (o *outside) flows() []*flow {
	return []*flow{
		{name: "ftp to file", put: o.toFolder("ftp-in"), waiting: o.inFolder("ftp-in"), out: o.ofFolder("from-ftp")},
		{name: "file to queue", put: o.toFolder("file-in"), waiting: o.inFolder("file-in"), out: o.ofStream},
		{name: "queue to file", put: o.toQueue("in.file"), waiting: o.inStream("IN-FILE"), out: o.ofFolder("from-queue")},
		{name: "queue to ftp", put: o.toQueue("in.ftp"), waiting: o.inStream("IN-FTP"), out: o.ofFolder("ftp-out")},
	}
}

// feed puts items in at a steady rate until ctx ends. seed makes the contents differ
// between flows.
func (f *flow) feed(ctx context.Context, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		content := made(rng, n, seed)
		// An item that was begun is finished: whether it is there must be known.
		if err := f.put(context.WithoutCancel(ctx), n, content); err != nil {
			return fmt.Errorf("%s: item %d: %w", f.name, n, err)
		}
		f.in = append(f.in, cluster.Hash(content))
	}
}

// made makes a content unlike all others.
func made(rng *rand.Rand, number int, seed uint64) []byte {
	size := 16 + rng.IntN(smallItem)
	if number%largeEvery == largeEvery-1 {
		size = largeItem
	}
	content := make([]byte, size)
	for i := 16; i+8 <= size; i += 8 {
		binary.LittleEndian.PutUint64(content[i:], rng.Uint64())
	}
	binary.LittleEndian.PutUint64(content, seed)
	binary.LittleEndian.PutUint64(content[8:], uint64(number))
	return content
}

// verdict says what is lost or doubled; empty: nothing.
func (f *flow) verdict(out []string) string {
	balance := map[string]int{}
	for _, h := range f.in {
		balance[h]++
	}
	for _, h := range out {
		balance[h]--
	}
	lost, doubled := 0, 0
	for _, n := range balance {
		lost += max(n, 0)
		doubled += max(-n, 0)
	}
	if lost+doubled == 0 {
		return ""
	}
	return fmt.Sprintf("%s: in %d, out %d, lost %d, doubled %d", f.name, len(f.in), len(out), lost, doubled)
}

func (o *outside) toFolder(name string) func(context.Context, int, []byte) error {
	dir := filepath.Join(o.root, name)
	return func(_ context.Context, number int, content []byte) error {
		staged := filepath.Join(o.root, "."+name)
		if err := os.WriteFile(staged, content, 0o600); err != nil {
			return err
		}
		return os.Rename(staged, filepath.Join(dir, fmt.Sprintf("item-%06d.edi", number)))
	}
}

// publishWithin bounds the attempts to publish one item, outages included.
const publishWithin = 2 * time.Minute

func (o *outside) toQueue(subject string) func(context.Context, int, []byte) error {
	return func(ctx context.Context, number int, content []byte) error {
		ctx, cancel := context.WithTimeout(ctx, publishWithin)
		defer cancel()
		// With an ID, so that it can be tried again when the answer was lost.
		id := jetstream.WithMsgID(fmt.Sprintf("%s-%d", subject, number))
		for {
			attempt, done := context.WithTimeout(ctx, 2*time.Second)
			_, err := o.js.Publish(attempt, subject, content, id)
			done()
			if err == nil || ctx.Err() != nil {
				return err
			}
			pause(ctx, every)
		}
	}
}

func (o *outside) inFolder(name string) func(context.Context) (int, error) {
	return func(context.Context) (int, error) {
		left, err := os.ReadDir(filepath.Join(o.root, name))
		return len(left), err
	}
}

func (o *outside) inStream(name string) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		s, err := o.js.Stream(ctx, name)
		if err != nil {
			return 0, err
		}
		return int(s.CachedInfo().State.Msgs), nil
	}
}

// ofFolder leaves out what has a temporary name.
func (o *outside) ofFolder(name string) func(context.Context) ([]string, error) {
	return func(context.Context) (hashes []string, err error) {
		entries, err := os.ReadDir(filepath.Join(o.root, name))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".fairlead-") {
				continue
			}
			content, err := os.ReadFile(filepath.Join(o.root, name, e.Name()))
			if err != nil {
				return nil, err
			}
			hashes = append(hashes, cluster.Hash(content))
		}
		return hashes, nil
	}
}

func (o *outside) ofStream(ctx context.Context) (hashes []string, err error) {
	s, err := o.js.Stream(ctx, "OUT")
	if err != nil {
		return nil, err
	}
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, err
	}
	for range s.CachedInfo().State.Msgs {
		m, err := consumer.Next(jetstream.FetchMaxWait(10 * time.Second))
		if err != nil {
			return nil, fmt.Errorf("after %d messages of stream OUT: %w", len(hashes), err)
		}
		hashes = append(hashes, cluster.Hash(m.Data()))
	}
	return hashes, nil
}

func TestAVerdictFindsWhatIsLostAndDoubled(t *testing.T) {
	in := []string{"a", "b", "c"}
	for _, c := range []struct {
		name string
		out  []string
		want string
	}{
		{"all", []string{"c", "a", "b"}, ""},
		{"one lost", []string{"c", "a"}, "lost 1, doubled 0"},
		{"one doubled", []string{"c", "a", "b", "b"}, "lost 0, doubled 1"},
		{"one in the place of another", []string{"a", "b", "b"}, "lost 1, doubled 1"},
		{"one that never went in", append(slices.Clone(in), "x"), "lost 0, doubled 1"},
	} {
		got := (&flow{name: "test", in: in}).verdict(c.out)
		if (got == "") != (c.want == "") || !strings.HasSuffix(got, c.want) {
			t.Errorf("%s: verdict %q, want one that ends with %q", c.name, got, c.want)
		}
	}
}
