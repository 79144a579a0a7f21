package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// own proposes that a1 owns group g under epoch 1.
func own(t *testing.T, l *Ledger) {
	t.Helper()
	for _, c := range []*pb.Command{deploy(1, "g"), register("a", "a1"), register("b", "b1"), assign(place("g", "a", "a1"), 0)} {
		if _, err := l.Apply(within(t), c); err != nil {
			t.Fatalf("%v: %v", c, err)
		}
	}
}

func TestOneNodeIsAClusterAndSurvivesARestart(t *testing.T) {
	c := newCluster(t, "a")
	n := c.nodes["a"]
	if has, err := n.HasState(); err != nil || has {
		t.Fatalf("a new node: HasState = %v, %v", has, err)
	}
	for range 2 { // the second time it has state, and stays as it is
		if err := n.Bootstrap(c.servers("a")); err != nil {
			t.Fatal(err)
		}
	}
	own(t, c.leader().Ledger)
	want := stateOf(n.Ledger)

	for _, snapshot := range []bool{false, true} {
		if snapshot {
			if err := c.nodes["a"].raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
		c.kill("a")
		again := c.start("a", n.dir)
		if has, err := again.HasState(); err != nil || !has {
			t.Errorf("after a restart: HasState = %v, %v", has, err)
		}
		c.leader()
		if got := stateOf(again.Ledger); !bytes.Equal(got, want) {
			t.Errorf("after a restart (snapshot: %v) the state differs", snapshot)
		}
	}
}

func TestRefusalComesBackWithItsKindAndIndex(t *testing.T) {
	var mu sync.Mutex
	var heard []error
	c := newCluster(t)
	c.start("a", t.TempDir())
	n := c.nodes["a"]
	n.fsm.applied = func(_ uint64, _ *pb.Command, err error) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, err)
	}
	if err := n.Bootstrap(c.servers("a")); err != nil {
		t.Fatal(err)
	}
	c.leader()
	first, err := n.Apply(within(t), deploy(1, "g"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := n.Apply(within(t), deploy(1, "g"))
	if !errors.Is(err, ErrStale) || second <= first {
		t.Errorf("Apply = %d, %v; want ErrStale at an index after %d", second, err, first)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(heard) != 2 || heard[0] != nil || !errors.Is(heard[1], ErrStale) {
		t.Errorf("OnApply heard %v", heard)
	}
}

func TestCommandsSurviveTheLeader(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	old := c.leader()
	own(t, old.Ledger)
	var indexes []uint64
	for i := range 20 {
		index, err := old.Apply(within(t), fates("g", "a1", 1, intended(fmt.Sprint(i), "m", "p")))
		if err != nil {
			t.Fatal(err)
		}
		indexes = append(indexes, index)
	}
	if !slices.IsSorted(indexes) {
		t.Errorf("indexes %v", indexes)
	}
	c.kill(old.name)

	next := c.leader()
	if next.name == old.name {
		t.Fatal("a dead node leads")
	}
	next.View(func(s *pb.State) {
		if got := len(s.Locations["in"].GetFates()); got != 20 {
			t.Errorf("%d fates survived, want 20", got)
		}
	})
	if _, err := next.Apply(within(t), fates("g", "a1", 1, deliveredTo("0", "p"))); err != nil {
		t.Errorf("the new leader: %v", err)
	}
	c.start(old.name, old.dir) // at another address, too
	c.wantSame()
}

func TestFollowerSendsCommandsAway(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	leader := c.leader()
	for name, n := range c.nodes {
		if n == leader {
			continue
		}
		if _, err := n.Apply(within(t), deploy(1, "g")); !errors.Is(err, ErrNotLeader) {
			t.Errorf("Apply on %s = %v, want ErrNotLeader", name, err)
		}
		if err := n.Barrier(within(t)); err == nil {
			t.Errorf("Barrier on %s succeeded", name)
		}
		if n.Leader() != leader.name || n.LeaderAddress() != c.address(leader.name) {
			t.Errorf("%s takes %s at %s for the leader, want %s", name, n.Leader(), n.LeaderAddress(), leader.name)
		}
	}
	leader.View(func(s *pb.State) {
		if len(s.Deployments) != 0 {
			t.Error("a refused command was committed")
		}
	})
}

func TestFollowerSeesWhatTheLeaderCommitted(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	leader := c.leader()
	index, err := leader.Apply(within(t), deploy(1, "g"))
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range c.nodes {
		if err := n.WaitApplied(within(t), index); err != nil {
			t.Fatal(err)
		}
		n.View(func(s *pb.State) {
			if s.Groups["g"] == nil {
				t.Errorf("%s lacks the group at index %d", name, index)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := leader.WaitApplied(ctx, index+1000); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitApplied of what never comes = %v", err)
	}
}

func TestLeaderHandsOver(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	old := c.leader()
	if err := old.TransferLeadership(within(t)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "another leader", func() bool { return c.leader() != old })
	if err := old.TransferLeadership(within(t)); err != nil {
		t.Errorf("a node that does not lead: %v", err)
	}
}

func TestWithoutAMajorityNothingIsCommitted(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	leader := c.leader()
	for name := range c.nodes {
		if name != leader.name {
			c.kill(name)
		}
	}
	_, err := leader.Apply(within(t), deploy(1, "g"))
	if !errors.Is(err, ErrUnclear) && !errors.Is(err, ErrNotLeader) {
		t.Errorf("Apply = %v", err)
	}
	waitFor(t, "the leader to step down", func() bool { return !leader.Leading() && leader.Leader() == "" })
	leader.View(func(s *pb.State) {
		if len(s.Deployments) != 0 {
			t.Error("a command was applied without a majority")
		}
	})
}

func TestLeadershipIsToldAndOldNewsIsDropped(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	n := c.leader()
	if err := n.TransferLeadership(within(t)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "another leader", func() bool { return c.leader() != n })
	// Nobody has listened so far: true, then false, and only the latter waits.
	select {
	case leading := <-n.LeaderCh():
		if leading {
			t.Error("the latest news is that it leads, and it does not")
		}
	case <-time.After(longest):
		t.Fatal("no news of leadership")
	}
	select {
	case <-n.LeaderCh():
		t.Error("more news than changes")
	default:
	}
}

func TestChangesAreToldOnceAndNeverBlock(t *testing.T) {
	c := bootstrapped(t, "a")
	n := c.leader()
	changes, stop := n.Changes()
	other, stopOther := n.Changes()
	defer stopOther()
	for v := range uint64(5) {
		if _, err := n.Apply(within(t), deploy(v+1, "g")); err != nil {
			t.Fatal(err)
		}
	}
	for _, ch := range []<-chan struct{}{changes, other} {
		<-ch // several changes, one signal
		select {
		case <-ch:
			t.Error("a second signal waited")
		default:
		}
	}
	stop()
	stop()
	if _, err := n.Apply(within(t), deploy(6, "g")); err != nil {
		t.Fatal(err)
	}
	<-other
	select {
	case <-changes:
		t.Error("a signal after the subscription ended")
	default:
	}
}

func TestNewNodeGetsASnapshotAndTheRest(t *testing.T) {
	c := bootstrapped(t, "a")
	leader := c.leader()
	own(t, leader.Ledger)
	leader.keepOnly(t, 1)
	if _, err := leader.Apply(within(t), fates("g", "a1", 1, intended("k", "m", "p"))); err != nil {
		t.Fatal(err)
	}
	c.start("b", t.TempDir())
	if err := leader.AddNonvoter(within(t), c.servers("b")[0]); err != nil {
		t.Fatal(err)
	}
	c.wantSame()
	if first, _ := c.nodes["b"].logs.FirstIndex(); first <= 1 {
		t.Errorf("the new node has the log from %d on: no snapshot was needed", first)
	}
	// It comes back with what it was given.
	dir := c.nodes["b"].dir
	c.kill("b")
	c.start("b", dir)
	c.wantSame()
}

// keepOnly makes a snapshot and drops the log but for its last entries.
func (n *node) keepOnly(t *testing.T, entries uint64) {
	t.Helper()
	rc := n.raft.ReloadableConfig()
	rc.TrailingLogs = entries
	if err := n.raft.ReloadConfig(rc); err != nil {
		t.Fatal(err)
	}
	if err := n.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
}

func TestServersAreAddedAndRemoved(t *testing.T) {
	c := bootstrapped(t, "a")
	c.start("b", t.TempDir())
	leader := c.nodes["a"]
	b := c.servers("b")[0]
	if err := leader.AddNonvoter(within(t), b); err != nil {
		t.Fatal(err)
	}
	if got, err := leader.Voters(); err != nil || !slices.Equal(got, []string{"a"}) {
		t.Errorf("Voters = %v, %v", got, err)
	}
	waitFor(t, "b to know the leader", func() bool { return c.nodes["b"].Leader() == "a" })
	if err := c.nodes["b"].AddVoter(within(t), b); !errors.Is(err, ErrNotLeader) {
		t.Errorf("AddVoter on a follower = %v", err)
	}
	if err := leader.AddVoter(within(t), b); err != nil {
		t.Fatal(err)
	}
	if got, _ := leader.Voters(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("Voters = %v", got)
	}
	if err := leader.RemoveServer(within(t), "b"); err != nil {
		t.Fatal(err)
	}
	if got, _ := leader.Servers(); !slices.Equal(got, c.servers("a")) {
		t.Errorf("Servers = %v", got)
	}
	if err := leader.RemoveServer(within(t), "a"); err == nil {
		t.Error("the last voter was removed")
	}
}

func TestClosedLedgerRefuses(t *testing.T) {
	c := bootstrapped(t, "a")
	n := c.leader()
	for range 2 {
		if err := n.Close(within(t)); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := n.Apply(within(t), deploy(1, "g")); !errors.Is(err, ErrNotLeader) {
		t.Errorf("Apply = %v", err)
	}
	if err := n.WaitApplied(within(t), 1000); err == nil {
		t.Error("WaitApplied succeeded")
	}
	if err := n.TransferLeadership(within(t)); err != nil {
		t.Errorf("TransferLeadership: %v", err)
	}
}

func TestEndedContextProposesNothing(t *testing.T) {
	c := bootstrapped(t, "a")
	n := c.leader()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Apply(ctx, deploy(1, "g")); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply = %v", err)
	}
	if err := n.Barrier(within(t)); err != nil {
		t.Fatal(err)
	}
	n.View(func(s *pb.State) {
		if len(s.Deployments) != 0 {
			t.Error("it was proposed all the same")
		}
	})
}

func TestConcurrentCommandsAreAllCommitted(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	leader := c.leader()
	own(t, leader.Ledger)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if _, err := leader.Apply(within(t), fates("g", "a1", 1, intended(fmt.Sprint(i), "m", "p"))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	leader.View(func(s *pb.State) {
		if got := len(s.Locations["in"].GetFates()); got != 200 {
			t.Errorf("%d fates, want 200", got)
		}
	})
	c.wantSame()
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	logs := raft.NewInmemStore()
	_, transport := raft.NewInmemTransport("")
	bad := Config{Node: "a", Timing: Timing{}, Logs: logs, Votes: logs, Snapshots: raft.NewInmemSnapshotStore(), Transport: transport}
	if _, err := Open(bad); err == nil {
		t.Error("a ledger without times was opened")
	}
	if _, err := Open(Config{Node: "a", DataDir: "/dev/null"}); err == nil {
		t.Error("a ledger in /dev/null was opened")
	}
}
