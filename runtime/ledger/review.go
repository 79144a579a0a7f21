package ledger

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

const (
	// slack is how many entries a follower that keeps up may lack.
	slack = 64
	// reviewEvery is how often the leader looks at its voters.
	reviewEvery = time.Second
	// pause is the time between two reviews after which this process itself was away,
	// and has not seen what others did meanwhile.
	pause = 10 * reviewEvery
)

// KeepVoters has the leader keep the voters as they should be, give a new cluster
// its identity, and raise the version of the state machine when every node can
// follow, until ctx ends. Every node runs it. peers is what gossip sees now.
func (l *Ledger) KeepVoters(ctx context.Context, peers func() []Peer) {
	changes, stop := l.LeaderChanges()
	defer stop()
	tick := time.NewTicker(reviewEvery)
	defer tick.Stop()
	r := newReviewer(l)
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
			if l.Leading() {
				r.found(ctx) // at once: no handler of a new cluster starts before
			}
		case <-tick.C:
			l.noteCluster()
			if !l.Leading() {
				r.forget()
				continue
			}
			r.review(ctx, peers())
		}
	}
}

// reviewer is the leader's memory from one look at its servers to the next. It is
// lost with the leadership: a new leader counts from its own election.
type reviewer struct {
	*Ledger
	now        func() time.Time
	told       map[string]string // errors that the log has already
	gone, left map[string]time.Time
	even, last time.Time
}

func newReviewer(l *Ledger) *reviewer {
	r := &reviewer{Ledger: l, now: time.Now, told: map[string]string{}}
	r.forget()
	return r
}

func (r *reviewer) forget() {
	r.gone, r.left = map[string]time.Time{}, map[string]time.Time{}
	r.even, r.last = time.Time{}, time.Time{}
}

// review is one look, and the steps that follow from it.
func (r *reviewer) review(ctx context.Context, peers []Peer) {
	r.found(ctx)
	r.tellForeign(peers)
	servers, err := r.Servers()
	if err != nil {
		r.log.Debug("voters not reviewed", "error", err)
		return
	}
	for _, c := range nextChanges(r.observe(servers, peers)) {
		log := r.log.With("node", c.server.Node, "change", c.what, "reason", c.why, "address", c.server.Address)
		if err := r.change(ctx, c); err != nil {
			if ctx.Err() == nil && r.told[c.server.Node] != err.Error() {
				r.told[c.server.Node] = err.Error()
				log.Warn("servers of the ledger not changed; it is tried again", "error", err)
			}
			continue
		}
		delete(r.told, c.server.Node)
		log.Info("servers of the ledger changed")
	}
	r.upgrade(ctx, servers)
}

// observe adds to the memory, and returns what there is to decide by.
func (r *reviewer) observe(servers []Server, peers []Peer) situation {
	now := r.now()
	if !r.last.IsZero() && now.Sub(r.last) > pause {
		r.forget()
	}
	r.last = now
	s := situation{
		self: string(r.self()), cluster: r.ClusterID(), servers: servers, peers: peers,
		live: r.live(servers), ready: r.ready(servers),
		gone: map[string]time.Duration{}, left: map[string]time.Duration{}, times: r.cfg.Voters.withDefaults(),
		ordered: map[string]bool{},
	}
	r.View(func(state *pb.State) {
		for name, n := range state.GetNodes() {
			s.ordered[name] = n.GetOrder() == pb.SetNode_REMOVE
		}
	})
	seen := map[string]Peer{}
	for _, p := range peers {
		seen[p.id()] = p
	}
	voters := 0
	for _, srv := range servers {
		id := string(srv.id())
		s.gone[id] = since(r.gone, id, now, !s.live[id] && !seen[id].Alive)
		s.left[id] = since(r.left, id, now, seen[id].Left)
		if srv.Voter {
			voters++
		}
	}
	if voters%2 == 1 {
		r.even = time.Time{}
	} else if r.even.IsZero() {
		r.even = now
	}
	if !r.even.IsZero() {
		s.even = now.Sub(r.even)
	}
	for _, memory := range []map[string]time.Time{r.gone, r.left} {
		maps.DeleteFunc(memory, func(id string, _ time.Time) bool {
			return !slices.ContainsFunc(servers, func(srv Server) bool { return string(srv.id()) == id })
		})
	}
	return s
}

// since returns for how long something has held without a break.
func since(memory map[string]time.Time, id string, now time.Time, holds bool) time.Duration {
	if !holds {
		delete(memory, id)
		return 0
	}
	if _, ok := memory[id]; !ok {
		memory[id] = now
	}
	return now.Sub(memory[id])
}

// live are the servers that answer this leader, itself among them.
func (l *Ledger) live(servers []Server) map[string]bool {
	live := map[string]bool{}
	for _, s := range servers {
		live[string(s.id())] = s.id() == l.self() || l.contacts.answers(s.id())
	}
	return live
}

// ready are the followers that have kept up for long enough to vote.
func (l *Ledger) ready(servers []Server) map[string]bool {
	committed, steadyFor := l.raft.CommitIndex(), l.cfg.Voters.withDefaults().Steady
	ready := map[string]bool{}
	for _, s := range servers {
		steady, last := l.contacts.steady(s.id())
		ready[string(s.id())] = steady >= steadyFor && last+slack >= committed
	}
	return ready
}

func (l *Ledger) change(ctx context.Context, c change) error {
	switch {
	case c.what == remove:
		return l.remove(ctx, c.server)
	case c.what == demote:
		return l.demote(ctx, c.server)
	case c.what == promote || c.server.Voter:
		return l.AddVoter(ctx, c.server)
	}
	return l.AddNonvoter(ctx, c.server)
}

// tellForeign tells of nodes of other clusters, once for each.
func (r *reviewer) tellForeign(peers []Peer) {
	s := situation{cluster: r.ClusterID()}
	for _, p := range peers {
		key := "cluster of " + p.Node
		if !s.foreign(p) || r.told[key] == p.ClusterID {
			continue
		}
		r.told[key] = p.ClusterID
		r.log.Error("a node belongs to another cluster of the same name, and is not added: give one of the clusters another cluster.name, or empty that node's data directory so that it joins this cluster",
			"node", p.Node, "its_cluster", p.ClusterID, "this_cluster", s.cluster)
	}
}

// found gives the cluster its ID, if it has none.
func (r *reviewer) found(ctx context.Context) {
	if r.ClusterID() != "" {
		return
	}
	id, err := uuid.NewRandom()
	if err == nil {
		err = r.order(ctx, &pb.Command{Kind: &pb.Command_Found{Found: &pb.Found{ClusterId: id.String()}}})
	}
	if err != nil {
		r.log.Debug("the cluster has no ID yet", "error", err)
	}
	r.noteCluster()
}

// upgrade raises the state machine's version when all can follow.
func (r *reviewer) upgrade(ctx context.Context, servers []Server) {
	var version uint32
	r.View(func(s *pb.State) { version = nextVersion(s, servers) })
	if version == 0 {
		return
	}
	if err := r.order(ctx, &pb.Command{Kind: &pb.Command_Upgrade{Upgrade: &pb.Upgrade{Version: version}}}); err != nil {
		r.log.Debug("the ledger is not upgraded yet", "version", version, "error", err)
		return
	}
	r.log.Info("the ledger is upgraded: nodes that cannot apply this version are refused from now on", "version", version)
}

func (r *reviewer) order(ctx context.Context, c *pb.Command) error {
	c.AtMs = time.Now().UnixMilli() // wall time, for people
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	_, err := r.Apply(ctx, c)
	return err
}

// heir is who gets the vote of a leader that goes and is the only voter: the node
// that answers and lacks least. There is none while others vote.
func (l *Ledger) heir() (heir Server, ok bool) {
	servers, err := l.Servers()
	if err != nil {
		return heir, false
	}
	var best uint64
	for _, s := range servers {
		switch _, last := l.contacts.steady(s.id()); {
		case s.id() == l.self():
		case s.Voter:
			return Server{}, false
		case l.contacts.answers(s.id()) && (!ok || last > best):
			heir, best, ok = s, last, true
		}
	}
	return heir, ok
}

// bequeath gives this leader's vote to another server, with all that is committed.
func (l *Ledger) bequeath(ctx context.Context, heir Server) error {
	if err := l.AddVoter(ctx, heir); err != nil { // committed by both
		return fmt.Errorf("hand over to %s: %w", heir.Node, err)
	}
	err := l.reconfigure(ctx, "give away the own vote", func() raft.Future {
		return l.raft.DemoteVoter(l.self(), 0, changeTimeout)
	})
	if err != nil {
		return fmt.Errorf("hand over to %s: %w", heir.Node, err)
	}
	return nil
}
