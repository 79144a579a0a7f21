package ledger

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/runtime/transport"
)

const longest = 20 * time.Second

// calm is for real disks and connections on a machine that has other things to do.
var calm = Timing{Heartbeat: 600 * time.Millisecond, Election: 600 * time.Millisecond, LeaderLease: 600 * time.Millisecond, Commit: 10 * time.Millisecond}

// cluster is some nodes over the real transport on loopback.
type cluster struct {
	t     testing.TB
	mu    sync.Mutex
	addrs map[string]string
	nodes map[string]*node
	// Of nodes started from now on: their timing, calm if zero; whether their disks
	// have names; and how voters are kept.
	timing Timing
	disks  bool
	voters VoterTimes
	log    *slog.Logger
}

type node struct {
	*Ledger
	name, dir string
	port      *transport.Transport
	stop      func(testing.TB)
}

func newCluster(t testing.TB, names ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, addrs: map[string]string{}, nodes: map[string]*node{}}
	for _, name := range names {
		c.start(name, t.TempDir())
	}
	return c
}

// bootstrapped is a cluster that has a leader.
func bootstrapped(t testing.TB, names ...string) *cluster {
	t.Helper()
	c := newCluster(t, names...)
	for _, n := range c.nodes {
		if err := n.Bootstrap(c.servers(names...)); err != nil {
			t.Fatal(err)
		}
	}
	c.leader()
	return c
}

func (c *cluster) servers(names ...string) []Server {
	var servers []Server
	for _, name := range names {
		servers = append(servers, Server{Node: name, Address: c.address(name), Voter: true, Disk: c.nodes[name].cfg.Disk})
	}
	return servers
}

func (c *cluster) address(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addrs[name]
}

// start starts a node, or starts one again, on a new port.
func (c *cluster) start(name, dir string) *node {
	c.t.Helper()
	port, err := transport.Listen(transport.Config{Address: "127.0.0.1:0"})
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.addrs[name] = port.Addr().String()
	c.mu.Unlock()
	timing := c.timing
	if timing == (Timing{}) {
		timing = calm
	}
	disk := ""
	if c.disks {
		if disk, err = DiskID(dir); err != nil {
			c.t.Fatal(err)
		}
	}
	l, err := Open(Config{Node: name, Disk: disk, DataDir: dir, Stream: port.StreamLayer(), Address: c.address,
		Timing: timing, Voters: c.voters, Log: c.log})
	if err != nil {
		c.t.Fatal(err)
	}
	port.Serve()
	n := &node{Ledger: l, name: name, dir: dir, port: port}
	var once sync.Once
	n.stop = func(t testing.TB) {
		once.Do(func() {
			ctx, cancel := context.WithTimeout(context.Background(), longest)
			defer cancel()
			if err := l.Close(ctx); err != nil {
				t.Errorf("close %s: %v", name, err)
			}
			if err := port.Close(ctx); err != nil {
				t.Errorf("close the port of %s: %v", name, err)
			}
		})
	}
	c.t.Cleanup(func() { n.stop(c.t) })
	c.mu.Lock()
	c.nodes[name] = n
	c.mu.Unlock()
	return n
}

// kill ends a node without a word.
func (c *cluster) kill(name string) {
	c.t.Helper()
	c.mu.Lock()
	n := c.nodes[name]
	delete(c.nodes, name)
	c.mu.Unlock()
	n.stop(c.t)
}

// leader waits until all nodes know one that can commit.
func (c *cluster) leader() *node {
	c.t.Helper()
	var leader *node
	waitFor(c.t, "a leader that everybody knows", func() bool {
		leader = nil
		for _, n := range c.nodes {
			if n.Leading() {
				leader = n
			}
		}
		if leader == nil {
			return false
		}
		for _, n := range c.nodes {
			if n.Leader() != leader.name {
				return false
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), longest)
		defer cancel()
		return leader.Barrier(ctx) == nil
	})
	return leader
}

// wantSame waits until all nodes have the leader's state, to the byte.
func (c *cluster) wantSame() {
	c.t.Helper()
	want := stateOf(c.leader().Ledger)
	for name, n := range c.nodes {
		waitFor(c.t, fmt.Sprintf("%s to have the leader's state", name), func() bool {
			return bytes.Equal(stateOf(n.Ledger), want)
		})
	}
}

func stateOf(l *Ledger) []byte {
	data, err := l.fsm.Snapshot()
	if err != nil {
		panic(err)
	}
	return data.(snapshot)
}

func waitFor(t testing.TB, what string, met func() bool) {
	t.Helper()
	limit := time.NewTimer(longest)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("waited %v in vain for %s", longest, what)
		}
	}
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	t.Cleanup(cancel)
	return ctx
}

// discard is a logger for what opens a ledger itself.
func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
