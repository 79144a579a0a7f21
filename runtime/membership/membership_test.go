package membership

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of these tests.
const patience = 30 * time.Second

// gossip starts a node. Without an address in the configuration it takes a port of
// its own.
func gossip(t *testing.T, cfg Config) *Membership {
	t.Helper()
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:0"
	}
	cfg.Profile = "local"
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, m) })
	return m
}

func stop(t *testing.T, m *Membership) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := m.Stop(ctx); err != nil {
		t.Errorf("stop %s: %v", m.cfg.Node, err)
	}
}

// crash ends a node without a word to the others.
func crash(t *testing.T, m *Membership) {
	t.Helper()
	m.stopOnce.Do(func() {
		m.cancel()
		m.tasks.Wait()
		if err := m.list.Shutdown(); err != nil {
			t.Error(err)
		}
	})
}

func addressOf(m *Membership) string { return m.Address() }

// sees waits until m has a member that fits.
func sees(t *testing.T, m *Membership, name, what string, fits func(Member) bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for {
		if member, ok := m.Member(name); ok && fits(member) {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s does not see %s %s: %+v", m.cfg.Node, name, what, m.Members())
		}
	}
}

func in(state State) func(Member) bool { return func(m Member) bool { return m.State == state } }

func born(incarnation string) func(Member) bool {
	return func(m Member) bool { return m.State == Alive && m.Incarnation == incarnation }
}

func TestThreeNodesFindEachOtherAndHearWhatEachSays(t *testing.T) {
	said := func(name string) Meta {
		return Meta{Incarnation: name + "1", ClusterAddress: name + ":7300", Role: "member", Version: "1.0", Expect: 3}
	}
	a := gossip(t, Config{Node: "a", Meta: said("a")})
	b := gossip(t, Config{Node: "b", Meta: said("b"), Join: []string{addressOf(a)}})
	c := gossip(t, Config{Node: "c", Meta: said("c"), Join: []string{addressOf(b)}})
	for _, m := range []*Membership{a, b, c} {
		for _, name := range []string{"a", "b", "c"} {
			sees(t, m, name, "with its words", func(m Member) bool { return m.State == Alive && m.Meta == said(name) })
		}
		var names []string
		for _, member := range m.Members() {
			names = append(names, member.Name)
		}
		if got := strings.Join(names, ","); got != "a,b,c" {
			t.Errorf("%s lists %s", m.cfg.Node, got)
		}
	}

	if err := b.Update(func(m *Meta) { m.Draining, m.HasState = true, true }); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*Membership{a, b, c} {
		sees(t, m, "b", "draining", func(m Member) bool { return m.Draining && m.HasState && m.Incarnation == "b1" })
	}
	if _, ok := a.Member("nobody"); ok {
		t.Error("a member that was never there")
	}
}

func TestChangesAreSignalled(t *testing.T) {
	a := gossip(t, Config{Node: "a"})
	one, stopOne := a.Changes()
	two, stopTwo := a.Changes()
	defer stopTwo()
	gossip(t, Config{Node: "b", Join: []string{addressOf(a)}})
	for _, changes := range []<-chan struct{}{one, two} {
		for alive := false; !alive; {
			select {
			case <-changes:
				b, _ := a.Member("b")
				alive = b.State == Alive
			case <-time.After(patience):
				t.Fatal("no signal")
			}
		}
	}
	stopOne()
	stopOne()
	for len(one) > 0 { // one that was waiting already
		<-one
	}
	if err := a.Update(func(m *Meta) { m.Draining = true }); err != nil {
		t.Fatal(err)
	}
	<-two
	select {
	case <-one:
		t.Error("a signal after the subscription ended")
	default:
	}
}

func TestAQuickRestartShowsInTheIncarnation(t *testing.T) {
	a := gossip(t, Config{Node: "a"})
	b := gossip(t, Config{Node: "b", Meta: Meta{Incarnation: "b1"}, Join: []string{addressOf(a)}})
	sees(t, a, "b", "in its first life", born("b1"))
	address := addressOf(b)
	crash(t, b)
	gossip(t, Config{Node: "b", Address: address, Meta: Meta{Incarnation: "b2"}, Join: []string{addressOf(a)}})
	sees(t, a, "b", "in its second life", born("b2"))
}

func TestANodeComesBackOnAnotherAddress(t *testing.T) {
	a := gossip(t, Config{Node: "a"})
	b := gossip(t, Config{Node: "b", Meta: Meta{Incarnation: "b1"}, Join: []string{addressOf(a)}})
	sees(t, a, "b", "in its first life", born("b1"))
	old := addressOf(b)
	crash(t, b)
	b = gossip(t, Config{Node: "b", Meta: Meta{Incarnation: "b2"}, Join: []string{addressOf(a)}})
	sees(t, a, "b", "in its second life", func(m Member) bool { return born("b2")(m) && m.Address == addressOf(b) })
	if addressOf(b) == old {
		t.Skip("the system gave the same port again")
	}
}

func TestACrashIsDeathAndAStopIsLeaving(t *testing.T) {
	a := gossip(t, Config{Node: "a"})
	b := gossip(t, Config{Node: "b", Join: []string{addressOf(a)}})
	c := gossip(t, Config{Node: "c", Join: []string{addressOf(a)}})
	for _, name := range []string{"b", "c"} {
		sees(t, a, name, "alive", in(Alive))
	}
	sees(t, b, "c", "alive", in(Alive))
	crash(t, b)
	sees(t, a, "b", "dead", in(Dead))
	sees(t, c, "b", "dead", in(Dead))
	stop(t, c)
	sees(t, a, "c", "left", in(Left))
	if b, _ := a.Member("b"); b.State != Dead {
		t.Errorf("b is %s", b.State)
	}
}

func TestANodeThatWasForgottenIsFoundAgain(t *testing.T) {
	a := gossip(t, Config{Node: "a", toTheDead: time.Millisecond})
	third := gossip(t, Config{Node: "c", Join: []string{addressOf(a)}, toTheDead: time.Millisecond})
	b := gossip(t, Config{Node: "b", Meta: Meta{Incarnation: "b1"}, Join: []string{addressOf(a)}})
	sees(t, a, "b", "alive", born("b1"))
	sees(t, third, "b", "alive", born("b1"))
	address := addressOf(b)
	crash(t, b)
	sees(t, a, "b", "dead", in(Dead))
	sees(t, third, "b", "dead", in(Dead))
	// It does not know where to look: the others have to.
	b = gossip(t, Config{Node: "b", Address: address, Meta: Meta{Incarnation: "b2"}})
	sees(t, a, "b", "again", born("b2"))
	sees(t, third, "b", "again", born("b2"))
	sees(t, b, "a", "alive", in(Alive))
}

func TestStrangersDoNotMix(t *testing.T) {
	key, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	for name, c := range map[string]struct{ one, two Config }{
		"other key":      {Config{Key: key}, Config{Key: other}},
		"no key":         {Config{Key: key}, Config{}},
		"a key too much": {Config{}, Config{Key: key}},
		"other cluster":  {Config{Cluster: "one"}, Config{Cluster: "two"}},
		"no cluster":     {Config{Cluster: "one"}, Config{}},
	} {
		t.Run(name, func(t *testing.T) {
			c.one.Node, c.two.Node = "a", "b"
			a, b := gossip(t, c.one), gossip(t, c.two)
			if n, err := b.list.Join([]string{addressOf(a)}); err == nil || n != 0 {
				t.Errorf("b joined %d nodes, %v", n, err)
			}
			if n, err := a.list.Join([]string{addressOf(b)}); err == nil || n != 0 {
				t.Errorf("a joined %d nodes, %v", n, err)
			}
			if len(a.Members()) != 1 || len(b.Members()) != 1 {
				t.Errorf("they know each other: %v, %v", a.Members(), b.Members())
			}
		})
	}
}

func TestTheSameKeyAndClusterDoMix(t *testing.T) {
	c := Config{Node: "a", Key: bytes.Repeat([]byte{1}, 32), Cluster: "one"}
	a := gossip(t, c)
	c.Node, c.Join = "b", []string{addressOf(a)}
	gossip(t, c)
	sees(t, a, "b", "alive", in(Alive))
}

func TestTwoClustersOfOneNameAndKeyDoNotMix(t *testing.T) {
	var log lines
	key := bytes.Repeat([]byte{1}, 32)
	in1 := func(node, cluster string, join ...string) *Membership {
		return gossip(t, Config{Node: node, Cluster: "edi", Key: key, Join: join, Meta: Meta{ClusterID: cluster, HasState: cluster != ""},
			Log: slog.New(slog.NewTextHandler(&log, nil))})
	}
	a := in1("a", "one")
	b := in1("b", "two", addressOf(a))
	log.waitFor(t, "its_cluster=two")
	log.waitFor(t, "its_cluster=one")
	// A node of neither is let in by both, and tells each of the other.
	fresh := in1("c", "", addressOf(a), addressOf(b))
	for _, m := range []*Membership{a, b} {
		sees(t, m, "c", "alive", in(Alive))
		sees(t, fresh, m.cfg.Node, "alive", in(Alive))
	}
	if _, ok := a.Member("b"); ok {
		t.Error("a took in a node of another cluster")
	}
	if _, ok := b.Member("a"); ok {
		t.Error("b took in a node of another cluster")
	}
	// When one gives its disk away, it is welcome.
	crash(t, b)
	in1("b", "", addressOf(a))
	sees(t, a, "b", "alive", in(Alive))
	if n := strings.Count(log.String(), "node=b address"); n != 1 {
		t.Errorf("the log has the stranger %d times:\n%s", n, &log)
	}
}

func TestTwoNodesOfOneNameAreReported(t *testing.T) {
	var log lines
	a := gossip(t, Config{Node: "a", Log: slog.New(slog.NewTextHandler(&log, nil))})
	gossip(t, Config{Node: "b", Join: []string{addressOf(a)}})
	sees(t, a, "b", "alive", in(Alive))
	gossip(t, Config{Node: "b", Join: []string{addressOf(a)}})
	log.waitFor(t, "two nodes have the same name")
}

// lines is a log that can be waited for.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) waitFor(t *testing.T, text string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !strings.Contains(l.String(), text) {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("the log has no %q:\n%s", text, l)
		}
	}
}

func TestStopMayBeCalledTwiceAndAtTheSameTime(t *testing.T) {
	a := gossip(t, Config{Node: "a"})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { stop(t, a) })
	}
	wg.Wait()
	stop(t, a)
}

func TestStopWithAnEndedContextStillEndsTheGossip(t *testing.T) {
	a := gossip(t, Config{Node: "a"})
	b, err := Start(Config{Node: "b", Address: "127.0.0.1:0", Profile: "local", Join: []string{addressOf(a)}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	sees(t, a, "b", "alive", in(Alive))
	address := addressOf(b)
	ctx, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	if err := b.Stop(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	b.tasks.Wait()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("the port is still taken: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Stop(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second stop: %v", err)
	}
}

func TestStopDoesNotWaitForSilentSeeds(t *testing.T) {
	arrived := make(chan net.Conn, 100)
	var seeds []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		seeds = append(seeds, l.Addr().String())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				arrived <- conn
			}
		}()
		t.Cleanup(func() { _ = l.Close(); <-ended })
	}
	m, err := Start(Config{Node: "a", Address: "127.0.0.1:0", Profile: "local", Join: seeds, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	waiting := []net.Conn{<-arrived, <-arrived, <-arrived} // for an answer, all at once
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := m.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that somebody is still being asked", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, conn := range waiting {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	m.tasks.Wait() // and asks no more
	if n := len(arrived); n != 0 {
		t.Errorf("%d more seeds were asked", n)
	}
}
