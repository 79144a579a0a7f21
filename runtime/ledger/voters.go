package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// Server is one node of raft's configuration.
type Server struct {
	Node, Address string
	Voter         bool
}

// HasState reports whether this node's directory has been part of a cluster.
func (l *Ledger) HasState() (bool, error) {
	last, err := l.store.LastIndex()
	if err != nil {
		return false, err
	}
	return last > 0 || l.raft.LastIndex() > 0, nil
}

// Bootstrap makes the servers the first voters. Every one of them may call it, with
// the same list.
func (l *Ledger) Bootstrap(servers []Server) error {
	var c raft.Configuration
	for _, s := range servers {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(s.Node), Address: raft.ServerAddress(s.Address), Suffrage: raft.Voter})
	}
	err := l.raft.BootstrapCluster(c).Error()
	if errors.Is(err, raft.ErrCantBootstrap) {
		return nil // it has state meanwhile
	}
	return err
}

// Servers is raft's configuration as this node knows it.
func (l *Ledger) Servers() ([]Server, error) {
	f := l.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, err
	}
	var servers []Server
	for _, s := range f.Configuration().Servers {
		servers = append(servers, Server{string(s.ID), string(s.Address), s.Suffrage == raft.Voter})
	}
	return servers, nil
}

// Peer is a node as gossip sees it.
type Peer struct {
	Node, Address string
	Alive         bool
	// Expect is its bootstrap_expect.
	Expect int
	// HasState: it has been part of a cluster before.
	HasState bool
}

// FirstVoters decides whether a cluster is to be made now, and of whom: when as
// many nodes as expected are there, all expect the same number, and none has been
// part of a cluster before. Every node that sees the same peers decides alike.
func FirstVoters(peers []Peer, expect int) []Server {
	var servers []Server
	for _, p := range peers {
		if !p.Alive || p.Expect == 0 {
			continue
		}
		if p.HasState || p.Expect != expect {
			return nil
		}
		servers = append(servers, Server{p.Node, p.Address, true})
	}
	if len(servers) < expect || expect == 0 {
		return nil
	}
	slices.SortFunc(servers, func(a, b Server) int { return cmp.Compare(a.Node, b.Node) })
	return servers[:expect]
}

const (
	// maxVoters bounds the voters: more make commits slower, not safer.
	maxVoters = 5
	// steadyFor is how long a node must have been there before it votes.
	steadyFor = 5 * time.Second
)

// change is one step towards the wanted voters.
type change struct {
	server Server
	what   string // add, promote or readdress
}

// nextChange decides on one step. Nodes are added as soon as they are there, vote
// when they have been steady, in pairs so that the number of voters stays odd, and
// are never removed because gossip does not see them.
func nextChange(servers []Server, peers []Peer, steady map[string]bool) (change, bool) {
	known := map[string]Server{}
	voters := 0
	for _, s := range servers {
		known[s.Node] = s
		if s.Voter {
			voters++
		}
	}
	var waiting []Server
	for _, p := range peers {
		s, in := known[p.Node]
		switch {
		case !p.Alive || p.Address == "":
		case !in:
			return change{Server{p.Node, p.Address, false}, "add"}, true
		case s.Address != p.Address:
			return change{Server{p.Node, p.Address, s.Voter}, "readdress"}, true
		case !s.Voter && steady[p.Node]:
			waiting = append(waiting, s)
		}
	}
	odd := voters%2 == 1
	if len(waiting) == 0 || voters >= maxVoters || odd && len(waiting) < 2 {
		return change{}, false
	}
	return change{waiting[0], "promote"}, true
}

// KeepVoters has the leader keep the voters as they should be, until ctx ends.
func (l *Ledger) KeepVoters(ctx context.Context, peers func() []Peer) {
	since := map[string]time.Time{}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !l.Leading() {
			clear(since)
			continue
		}
		now, steady := peers(), map[string]bool{}
		for _, p := range now {
			if !p.Alive {
				delete(since, p.Node)
				continue
			}
			if since[p.Node].IsZero() {
				since[p.Node] = time.Now()
			}
			steady[p.Node] = time.Since(since[p.Node]) >= steadyFor
		}
		servers, err := l.Servers()
		if err != nil {
			continue
		}
		if c, ok := nextChange(servers, now, steady); ok {
			if err := l.change(c); err != nil {
				l.cfg.Log.Warn("voters not changed", "node", c.server.Node, "change", c.what, "error", err)
				continue
			}
			l.cfg.Log.Info("voters changed", "node", c.server.Node, "change", c.what, slog.String("address", c.server.Address))
		}
	}
}

// changeTimeout bounds one change of raft's configuration.
const changeTimeout = 5 * time.Second

func (l *Ledger) change(c change) error {
	id, address := raft.ServerID(c.server.Node), raft.ServerAddress(c.server.Address)
	var f raft.IndexFuture
	if c.what == "promote" || c.server.Voter {
		f = l.raft.AddVoter(id, address, 0, changeTimeout)
	} else {
		f = l.raft.AddNonvoter(id, address, 0, changeTimeout)
	}
	if err := f.Error(); err != nil {
		return fmt.Errorf("%s %s: %w", c.what, c.server.Node, err)
	}
	return nil
}
