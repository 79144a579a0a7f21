package ledger

import (
	"context"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// maxVoters bounds the voters: more make commits slower, not safer.
	maxVoters = 5
	// steadyFor is how long a node must have followed without a gap before it votes.
	steadyFor = 5 * time.Second
	// slack is how many entries a follower that keeps up may lack.
	slack = 64
	// reviewEvery is how often the leader looks at its voters.
	reviewEvery = time.Second
)

// change is one step towards the wanted voters.
type change struct {
	server Server
	what   string // add, promote or readdress
}

// nextChanges decides on the next steps, of which each can fail without harm to the
// others. Nodes are added as soon as they are there, vote when they are ready, in
// pairs so that the number of voters stays odd, and are never removed because
// gossip does not see them.
func nextChanges(servers []Server, peers []Peer, ready map[string]bool) []change {
	known := map[string]Server{}
	voters := 0
	for _, s := range servers {
		known[s.Node] = s
		if s.Voter {
			voters++
		}
	}
	var changes []change
	var waiting []Server
	for _, p := range peers {
		s, in := known[p.Node]
		switch {
		case !p.Alive || p.Address == "":
		case !in:
			changes = append(changes, change{Server{p.Node, p.Address, false}, "add"})
		case s.Address != p.Address:
			changes = append(changes, change{Server{p.Node, p.Address, s.Voter}, "readdress"})
		case !s.Voter && ready[p.Node]:
			waiting = append(waiting, s)
		}
	}
	// From an odd number to the next takes two; the second may follow later.
	odd := voters%2 == 1
	if len(waiting) > 0 && voters < maxVoters && (!odd || len(waiting) >= 2) {
		changes = append(changes, change{waiting[0], "promote"})
	}
	return changes
}

// KeepVoters has the leader keep the voters as they should be, until ctx ends.
// peers is what gossip sees now.
func (l *Ledger) KeepVoters(ctx context.Context, peers func() []Peer) {
	tick := time.NewTicker(reviewEvery)
	defer tick.Stop()
	told := map[string]string{} // errors that the log has already
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if l.Leading() {
				l.review(ctx, peers(), told)
			}
		}
	}
}

func (l *Ledger) review(ctx context.Context, peers []Peer, told map[string]string) {
	servers, err := l.Servers()
	if err != nil {
		l.log.Debug("voters not reviewed", "error", err)
		return
	}
	for _, c := range nextChanges(servers, peers, l.ready(servers)) {
		log := l.log.With("node", c.server.Node, "change", c.what, slog.String("address", c.server.Address))
		if err := l.change(ctx, c); err != nil {
			if ctx.Err() == nil && told[c.server.Node] != err.Error() {
				told[c.server.Node] = err.Error()
				log.Warn("voters not changed; it is tried again", "error", err)
			}
			continue
		}
		delete(told, c.server.Node)
		log.Info("voters changed")
	}
}

// ready are the followers that have kept up for long enough to vote.
func (l *Ledger) ready(servers []Server) map[string]bool {
	committed := l.raft.CommitIndex()
	ready := map[string]bool{}
	for _, s := range servers {
		steady, last := l.contacts.steady(raft.ServerID(s.Node))
		ready[s.Node] = steady >= steadyFor && last+slack >= committed
	}
	return ready
}

func (l *Ledger) change(ctx context.Context, c change) error {
	if c.what == "promote" || c.server.Voter {
		return l.AddVoter(ctx, c.server)
	}
	return l.AddNonvoter(ctx, c.server)
}
