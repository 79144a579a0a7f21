package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// brisk is for ledgers in memory, in time of their own.
var brisk = Timing{Heartbeat: 200 * time.Millisecond, Election: 200 * time.Millisecond, LeaderLease: 200 * time.Millisecond, Commit: 10 * time.Millisecond}

// memory is a cluster without disks, over a network that can be cut and that loses
// answers. It lives inside a synctest bubble.
type memory struct {
	t     *testing.T
	names []string
	nodes map[string]*Ledger

	mu    sync.Mutex
	rng   *rand.Rand
	cut   map[[2]string]bool // from, to
	lossy float64            // share of the answers that are lost
}

func newMemory(t *testing.T, seed uint64, names ...string) *memory {
	m := &memory{t: t, names: names, nodes: map[string]*Ledger{}, rng: rand.New(rand.NewPCG(seed, 1)), cut: map[[2]string]bool{}}
	var inner []*raft.InmemTransport
	var servers []Server
	for _, name := range names {
		_, transport := raft.NewInmemTransportWithTimeout(raft.ServerAddress(name), raftIO)
		for _, other := range inner {
			other.Connect(raft.ServerAddress(name), transport)
			transport.Connect(other.LocalAddr(), other)
		}
		inner = append(inner, transport)
		store := raft.NewInmemStore()
		l, err := Open(Config{
			Node: name, Timing: brisk, Logs: store, Votes: store, Snapshots: raft.NewInmemSnapshotStore(),
			Transport: &wire{transport, name, m},
		})
		if err != nil {
			t.Fatal(err)
		}
		m.nodes[name] = l
		servers = append(servers, Server{Node: name, Address: name, Voter: true})
	}
	t.Cleanup(m.close)
	for _, name := range names {
		if err := m.nodes[name].Bootstrap(servers); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *memory) close() {
	m.heal()
	for _, l := range m.nodes {
		ctx, cancel := context.WithTimeout(context.Background(), longest)
		if err := l.Close(ctx); err != nil {
			m.t.Error(err)
		}
		cancel()
	}
}

// leader waits for one that can commit, as seen by those given, or by all.
func (m *memory) leader(among ...string) string {
	m.t.Helper()
	if len(among) == 0 {
		among = m.names
	}
	leader := ""
	waitFor(m.t, fmt.Sprintf("a leader among %v", among), func() bool {
		for _, leader = range among {
			ctx, cancel := context.WithTimeout(m.t.Context(), time.Second)
			err := errors.New("it does not lead")
			if m.nodes[leader].Leading() {
				err = m.nodes[leader].Barrier(ctx)
			}
			cancel()
			if err == nil {
				return true
			}
		}
		return false
	})
	return leader
}

// isolate cuts a node off, one way or both: 0 what it says, 1 what it hears, 2 both.
func (m *memory) isolate(node string, how int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, other := range m.names {
		if other == node {
			continue
		}
		if how != 1 {
			m.cut[[2]string{node, other}] = true
		}
		if how != 0 {
			m.cut[[2]string{other, node}] = true
		}
	}
}

func (m *memory) heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.cut)
	m.lossy = 0
}

func (m *memory) loses(share float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lossy = share
}

var (
	errCut  = errors.New("the network is cut")
	errLost = errors.New("the answer was lost")
)

// exchange carries a request, unless the way there is cut; and its answer, unless
// the way back is, or it gets lost.
func (m *memory) exchange(from, to string, do func() error) error {
	m.mu.Lock()
	there := !m.cut[[2]string{from, to}]
	m.mu.Unlock()
	if !there {
		return errCut
	}
	err := do()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cut[[2]string{to, from}] || m.rng.Float64() < m.lossy {
		return errLost
	}
	return err
}

// wire is a node's end of the network.
type wire struct {
	*raft.InmemTransport
	name string
	m    *memory
}

var (
	_ raft.Transport   = (*wire)(nil)
	_ raft.WithPreVote = (*wire)(nil)
)

func (w *wire) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported // so that every answer passes here
}

func (w *wire) AppendEntries(id raft.ServerID, at raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return w.m.exchange(w.name, string(at), func() error { return w.InmemTransport.AppendEntries(id, at, args, resp) })
}

func (w *wire) RequestVote(id raft.ServerID, at raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return w.m.exchange(w.name, string(at), func() error { return w.InmemTransport.RequestVote(id, at, args, resp) })
}

func (w *wire) RequestPreVote(id raft.ServerID, at raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return w.m.exchange(w.name, string(at), func() error { return w.InmemTransport.RequestPreVote(id, at, args, resp) })
}

func (w *wire) InstallSnapshot(id raft.ServerID, at raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return w.m.exchange(w.name, string(at), func() error { return w.InmemTransport.InstallSnapshot(id, at, args, resp, data) })
}

func (w *wire) TimeoutNow(id raft.ServerID, at raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return w.m.exchange(w.name, string(at), func() error { return w.InmemTransport.TimeoutNow(id, at, args, resp) })
}

// jgroups-raft#79: a leader that was cut off went on leading.
func TestALeaderThatIsCutOffDecidesNothingAndSoonLeadsNoMore(t *testing.T) {
	for how, name := range []string{"nobody hears it", "it hears nobody", "both"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory(t, 1, "a", "b", "c")
				old := m.leader()
				m.isolate(old, how)
				began := time.Now()
				late := deploy(1, "late")
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if _, err := m.nodes[old].Apply(ctx, late); !errors.Is(err, ErrUnclear) && !errors.Is(err, ErrNotLeader) {
					t.Errorf("Apply = %v", err)
				}
				waitFor(t, "the end of its leadership", func() bool { return !m.nodes[old].Leading() })
				if took := time.Since(began); took > 3*brisk.LeaderLease {
					t.Errorf("it led for %v without a majority", took)
				}
				var rest []string
				for _, n := range m.names {
					if n != old {
						rest = append(rest, n)
					}
				}
				next := m.leader(rest...)
				// What others heard of it, but it never learnt of, the next leader may commit.
				heard := how == 1
				version := uint64(1)
				if heard {
					version++
				}
				if _, err := m.nodes[next].Apply(ctx, deploy(version, "early")); err != nil {
					t.Fatal(err)
				}
				m.heal()
				waitFor(t, "the old leader to follow", func() bool {
					return string(stateOf(m.nodes[old])) == string(stateOf(m.nodes[next]))
				})
				m.nodes[old].View(func(s *pb.State) {
					if newest := s.GetDeployments()[len(s.GetDeployments())-1]; newest.GetGroups()[0] != "early" || len(s.GetDeployments()) != int(version) {
						t.Errorf("deployments %v", s.GetDeployments())
					}
				})
			})
		})
	}
}

// jgroups-raft#17: a late message of an election made a leader without a majority.
func TestANodeThatIsToldToStandForElectionDoesNotLeadWithoutAMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, 1, "a", "b", "c")
		leader := m.leader()
		var cut string
		for _, n := range m.names {
			if n != leader {
				cut = n
			}
		}
		m.isolate(cut, 2)
		end := time.Now().Add(20 * brisk.Election)
		for time.Now().Before(end) {
			if err := m.nodes[cut].Elect(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(brisk.Election / 4)
			if m.nodes[cut].Leading() {
				t.Fatal("it leads alone")
			}
		}
		// Nor do its votes of the past depose the others for good.
		m.heal()
		if _, err := m.nodes[m.leader()].Apply(t.Context(), deploy(1, "g")); err != nil {
			t.Error(err)
		}
	})
}
