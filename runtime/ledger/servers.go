package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Server is one node of raft's configuration.
type Server struct {
	Node, Address string
	Voter         bool
}

// changeTimeout bounds one change of raft's configuration.
const changeTimeout = 5 * time.Second

// HasState reports whether this node's directory has been part of a cluster.
func (l *Ledger) HasState() (bool, error) {
	last, err := l.logs.LastIndex()
	if err != nil {
		return false, fmt.Errorf("ledger's log: %w", err)
	}
	return last > 0 || l.raft.LastIndex() > 0, nil // raft also counts the snapshot
}

// Bootstrap makes the servers the first voters. Every one of them may call it, with
// the same list; on a node that has state meanwhile it does nothing.
func (l *Ledger) Bootstrap(servers []Server) error {
	var c raft.Configuration
	for _, s := range servers {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(s.Node), Address: raft.ServerAddress(s.Address), Suffrage: raft.Voter})
	}
	ctx, cancel := context.WithTimeout(context.Background(), changeTimeout)
	defer cancel()
	err := l.propose(ctx, func() raft.Future { return l.raft.BootstrapCluster(c) })
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return nil
}

// Servers is raft's configuration as this node knows it.
func (l *Ledger) Servers() ([]Server, error) {
	f := l.raft.GetConfiguration() // does not wait
	if err := f.Error(); err != nil {
		return nil, fmt.Errorf("servers of the ledger: %w", err)
	}
	var servers []Server
	for _, s := range f.Configuration().Servers {
		servers = append(servers, Server{string(s.ID), string(s.Address), s.Suffrage == raft.Voter})
	}
	return servers, nil
}

// Voters are the names of the nodes that vote, as this node knows them.
func (l *Ledger) Voters() ([]string, error) {
	servers, err := l.Servers()
	var names []string
	for _, s := range servers {
		if s.Voter {
			names = append(names, s.Node)
		}
	}
	return names, err
}

// AddNonvoter gives the node a replica, or another address; a voter stays one. Only
// the leader can.
func (l *Ledger) AddNonvoter(ctx context.Context, s Server) error {
	return l.reconfigure(ctx, "add "+s.Node, func() raft.Future {
		return l.raft.AddNonvoter(raft.ServerID(s.Node), raft.ServerAddress(s.Address), 0, changeTimeout)
	})
}

// AddVoter gives the node a vote at once, caught up or not, or another address. Only
// the leader can.
func (l *Ledger) AddVoter(ctx context.Context, s Server) error {
	return l.reconfigure(ctx, "give a vote to "+s.Node, func() raft.Future {
		return l.raft.AddVoter(raft.ServerID(s.Node), raft.ServerAddress(s.Address), 0, changeTimeout)
	})
}

// RemoveServer takes the node out of the ledger, for good: it is for nodes that
// will not come back. One that does, and still gossips, is added again. Only the
// leader can.
func (l *Ledger) RemoveServer(ctx context.Context, node string) error {
	return l.reconfigure(ctx, "remove "+node, func() raft.Future {
		return l.raft.RemoveServer(raft.ServerID(node), 0, changeTimeout)
	})
}

func (l *Ledger) reconfigure(ctx context.Context, what string, start func() raft.Future) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	err := l.propose(ctx, start)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, errClosed):
		err = fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
