package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// quick is for tests that wait for the leader's reviews.
var quick = VoterTimes{Steady: 300 * time.Millisecond, Left: time.Second, Dead: time.Second, Forgotten: time.Minute}

// named3 is a cluster of a, b and c whose disks have names.
func named3(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, addrs: map[string]string{}, nodes: map[string]*node{}, disks: true, voters: quick}
	names := []string{"a", "b", "c"}
	for _, name := range names {
		c.start(name, t.TempDir())
	}
	for _, n := range c.nodes {
		if err := n.Bootstrap(c.servers(names...)); err != nil {
			t.Fatal(err)
		}
	}
	c.leader()
	return c
}

// seen is what a gossip without faults shows.
func (c *cluster) seen() (peers []Peer) {
	c.mu.Lock()
	nodes := make(map[string]*node, len(c.nodes))
	for name, n := range c.nodes {
		nodes[name] = n
	}
	c.mu.Unlock()
	for name, n := range nodes {
		has, err := n.HasState()
		peers = append(peers, Peer{Node: name, Disk: n.cfg.Disk, Address: c.address(name), Alive: true, HasState: has || err != nil, ClusterID: n.ClusterID()})
	}
	return peers
}

// keep has every node keep the voters until the test ends; call it again for nodes
// that are started later.
func (c *cluster) keep(names ...string) {
	ctx, cancel := context.WithCancel(context.Background())
	var keeping sync.WaitGroup
	for _, name := range names {
		n := c.nodes[name]
		keeping.Go(func() { n.KeepVoters(ctx, c.seen) })
	}
	c.t.Cleanup(func() { cancel(); keeping.Wait() })
}

// voting are the servers that vote, by ID, as the leader knows them.
func voting(l *Ledger) (ids []string) {
	servers, err := l.Servers()
	if err != nil {
		return nil
	}
	for _, s := range servers {
		if s.Voter {
			ids = append(ids, string(s.id()))
		}
	}
	slices.Sort(ids)
	return ids
}

func idsOf(c *cluster, names ...string) (ids []string) {
	for _, name := range names {
		ids = append(ids, string(c.nodes[name].self()))
	}
	slices.Sort(ids)
	return ids
}

func TestANodeThatLostItsDiskIsAnotherServerAndVotesWhenItHasFollowed(t *testing.T) {
	t.Parallel()
	c := named3(t)
	c.keep("a", "b", "c")
	leader := c.leader()
	if _, err := leader.Apply(within(t), deploy(1, "g")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the cluster's ID everywhere", func() bool {
		id := leader.ClusterID()
		return id != "" && c.nodes["a"].ClusterID() == id && c.nodes["b"].ClusterID() == id && c.nodes["c"].ClusterID() == id
	})
	lost := "a"
	if leader.name == "a" {
		lost = "b"
	}
	before := string(c.nodes[lost].self())
	c.kill(lost)
	c.start(lost, t.TempDir())
	c.keep(lost)
	if string(c.nodes[lost].self()) == before {
		t.Fatal("the new disk has the old one's name")
	}
	waitFor(t, "the new disk to vote", func() bool { return slices.Equal(voting(c.leader().Ledger), idsOf(c, "a", "b", "c")) })
	c.wantSame()
	if c.nodes[lost].ClusterID() != leader.ClusterID() {
		waitFor(t, "it to know its cluster", func() bool { return c.nodes[lost].ClusterID() == leader.ClusterID() })
	}
}

// A commit on a and b; then a dies, b loses its disk, and c, which lacks the commit,
// comes back. If b voted as if nothing had happened, c would lead without it.
func TestAnEmptiedDiskDoesNotVoteWithAmnesia(t *testing.T) {
	t.Parallel()
	c := named3(t)
	behind := c.nodes["c"].dir
	if c.leader().name == "c" {
		if err := c.nodes["c"].TransferLeadership(within(t)); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "another leader", func() bool { return c.leader().name != "c" })
	}
	c.kill("c")
	if _, err := c.leader().Apply(within(t), deploy(1, "g")); err != nil {
		t.Fatal(err)
	}
	c.kill("a")
	c.kill("b")
	var log lines
	c.log = slog.New(slog.NewTextHandler(&log, nil))
	c.start("b", t.TempDir())
	c.start("c", behind)
	during(5*calm.Election, func() {
		if err := c.nodes["c"].Elect(); err != nil {
			t.Fatal(err)
		}
		if l := c.nodes["c"].Leader(); l != "" {
			t.Fatalf("%s leads without a commit that was acknowledged", l)
		}
	})
	if !strings.Contains(log.String(), "its disk has been replaced") {
		t.Errorf("b said nothing of the votes that it refused:\n%s", &log)
	}
}

func TestAServerThatMovedIsFoundAndItsEntryFollows(t *testing.T) {
	t.Parallel()
	c := named3(t)
	c.keep("a", "b", "c")
	moved := "a"
	if c.leader().name == "a" {
		moved = "b"
	}
	dir, before := c.nodes[moved].dir, c.address(moved)
	c.kill(moved)
	c.start(moved, dir)
	if c.address(moved) == before {
		t.Skip("the system gave the same port again")
	}
	waitFor(t, "the new address", func() bool {
		servers, err := c.leader().Servers()
		return err == nil && slices.ContainsFunc(servers, func(s Server) bool {
			return s.Node == moved && s.Address == c.address(moved) && s.Voter
		})
	})
	c.wantSame()
}

func TestTwoClustersThatFindEachOtherDoNotMix(t *testing.T) {
	t.Parallel()
	var log lines
	c := &cluster{t: t, addrs: map[string]string{}, nodes: map[string]*node{}, disks: true, voters: quick, log: slog.New(slog.NewTextHandler(&log, nil))}
	for _, name := range []string{"a", "b"} {
		n := c.start(name, t.TempDir())
		if err := n.Bootstrap(c.servers(name)); err != nil {
			t.Fatal(err)
		}
		waitFor(t, name+" to lead", n.Leading)
	}
	c.keep("a", "b") // each sees the other
	waitFor(t, "both to complain", func() bool {
		return strings.Count(log.String(), "belongs to another cluster of the same name") == 2
	})
	// And if a leader calls on a node of the other by mistake, it hangs up.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_ = c.nodes["a"].AddNonvoter(ctx, c.servers("b")[0])
	log.waitFor(t, "a node's messages are refused")
	for name, n := range c.nodes {
		if !n.Leading() || !slices.Equal(voting(n.Ledger), idsOf(c, name)) {
			t.Errorf("%s: leads %v, voters %v", name, n.Leading(), voting(n.Ledger))
		}
	}
}

// Handlers mark files at the partner's with it: a recovered cluster must know them.
func TestWhatAClusterWasFoundedAsOutlastsItsRecovery(t *testing.T) {
	t.Parallel()
	c := named3(t)
	soon, cancel := context.WithTimeout(t.Context(), calm.Heartbeat)
	defer cancel()
	if founded, err := c.nodes["a"].Founded(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody founds it: %q, %v", founded, err)
	}
	c.keep("a", "b", "c")
	founded, err := c.nodes["c"].Founded(within(t))
	if err != nil || founded == "" {
		t.Fatal(founded, err)
	}
	waitFor(t, "the ID on the disk", func() bool { return c.nodes["c"].ClusterID() == founded })
	dir := c.nodes["c"].dir
	for _, name := range []string{"a", "b", "c"} {
		c.kill(name)
	}
	recovered, err := Recover("c", dir, c.address("c"))
	if err != nil || recovered.ClusterID == founded {
		t.Fatal(recovered.ClusterID, err)
	}
	if now, err := c.start("c", dir).Founded(within(t)); err != nil || now != founded {
		t.Errorf("founded as %s, and now %s, %v", founded, now, err)
	}
}

func TestWhatIsLeftOfAClusterGivenUpCannotTakeTheRecoveredOneBack(t *testing.T) {
	t.Parallel()
	c := named3(t)
	c.keep("a", "b", "c")
	waitFor(t, "the cluster's ID everywhere", func() bool {
		id := c.nodes["a"].ClusterID()
		return id != "" && c.nodes["b"].ClusterID() == id && c.nodes["c"].ClusterID() == id
	})
	dirs := map[string]string{}
	for _, name := range []string{"a", "b", "c"} {
		dirs[name] = c.nodes[name].dir
		c.kill(name)
	}
	recovered, err := Recover("c", dirs["c"], c.address("c"))
	if err != nil {
		t.Fatal(err)
	}
	var log lines
	c.log = slog.New(slog.NewTextHandler(&log, nil))
	alone := c.start("c", dirs["c"])
	waitFor(t, "c to lead", func() bool { return alone.Leading() && alone.Barrier(within(t)) == nil })
	if _, err := alone.Apply(within(t), deploy(1, "after")); err != nil {
		t.Fatal(err)
	}

	// The lost ones were not lost: they are a majority of the old cluster.
	c.start("a", dirs["a"])
	c.start("b", dirs["b"])
	waitFor(t, "the old majority", func() bool { return c.nodes["a"].Leading() || c.nodes["b"].Leading() })
	log.waitFor(t, "it belongs to another cluster")
	waitFor(t, "a commit of the old majority", func() bool {
		for _, name := range []string{"a", "b"} {
			if _, err := c.nodes[name].Apply(within(t), deploy(1, "before")); err == nil {
				return true
			}
		}
		return false
	})
	during(4*calm.Heartbeat, func() { // they tell c of that, or try to
		if !alone.Leading() || alone.ClusterID() != recovered.ClusterID {
			t.Fatalf("c leads: %v, cluster %s", alone.Leading(), alone.ClusterID())
		}
	})
	alone.View(func(s *pb.State) {
		if s.GetGroups()["after"] == nil || s.GetGroups()["before"] != nil {
			t.Errorf("groups %v", s.GetGroups())
		}
	})
}

func TestADiskThatWasGivenUpIsNotOpenedAgain(t *testing.T) {
	t.Parallel()
	c := &cluster{t: t, addrs: map[string]string{}, nodes: map[string]*node{}, disks: true, voters: quick}
	n := c.start("a", t.TempDir())
	if err := n.Bootstrap(c.servers("a")); err != nil {
		t.Fatal(err)
	}
	c.keep("a")
	waitFor(t, "the cluster's ID", func() bool { return n.ClusterID() != "" })
	id := n.ClusterID()
	for _, other := range []string{"", id, "9e107d9d-372b-4d1c-8f3a-5a1d7f0f0c11", successorID("9e107d9d-372b-4d1c-8f3a-5a1d7f0f0c11")} {
		if err := n.GiveUp(other); err != nil {
			t.Errorf("given up for %q: %v", other, err)
		}
	}
	next := successorID(successorID(id))
	if err := n.GiveUp(next); !errors.Is(err, ErrGivenUp) || !strings.Contains(err.Error(), next) {
		t.Errorf("its successor's successor: %v", err)
	}
	cfg := Config{Node: "a", Disk: n.cfg.Disk, DataDir: n.dir, Stream: n.cfg.Stream, Timing: n.cfg.Timing}
	c.kill("a")
	if l, err := Open(cfg); !errors.Is(err, ErrGivenUp) {
		t.Errorf("opened again: %v, %v", l, err)
	}
}

// during calls look again and again, for what must not happen within some time.
func during(d time.Duration, look func()) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		look()
	}
}

func TestGreetings(t *testing.T) {
	want := hello{cluster: "one", from: "node-a/0f", to: "node-b/a1"}
	data, err := want.encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readHello(bytes.NewReader(data)); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := (hello{from: strings.Repeat("x", maxHello)}).encode(); err == nil {
		t.Error("a greeting that is too long")
	}
	for _, wrong := range []string{"", "\x00", "\xff\xff", "\x00\x05ab", "\x00\x01a", "\x00\x03\n\n\n"} {
		if got, err := readHello(strings.NewReader(wrong)); err == nil {
			t.Errorf("%q was read as %+v", wrong, got)
		}
	}
}

func TestADisksNameStaysAndGoesWithIt(t *testing.T) {
	dir := t.TempDir()
	one, err := DiskID(dir)
	if err != nil || one == "" {
		t.Fatal(one, err)
	}
	if again, err := DiskID(dir); err != nil || again != one {
		t.Errorf("again %q, %v; want %q", again, err, one)
	}
	if other, err := DiskID(t.TempDir()); err != nil || other == one {
		t.Errorf("another disk is %q, %v", other, err)
	}
	if err := writeDiskID(dir+"/raft", "not hex"); err != nil {
		t.Fatal(err)
	}
	if id, err := DiskID(dir); err == nil || !strings.Contains(err.Error(), "join again") {
		t.Errorf("a damaged name is %q, %v", id, err)
	}
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
	waitFor(t, fmt.Sprintf("%q in the log", text), func() bool { return strings.Contains(l.String(), text) })
}
