package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// Server is one node of raft's configuration.
type Server struct {
	Node, Address string
	Voter         bool
	// Disk is the node's disk (see Config.Disk). The same node on another disk is
	// another server: it remembers nothing of what the former one promised.
	Disk string
}

func (s Server) id() raft.ServerID { return serverID(s.Node, s.Disk) }

// serverID is how raft knows a node; a name holds no slash.
func serverID(node, disk string) raft.ServerID {
	if disk == "" {
		return raft.ServerID(node)
	}
	return raft.ServerID(node + "/" + disk)
}

func splitID(id raft.ServerID) (node, disk string) {
	node, disk, _ = strings.Cut(string(id), "/")
	return node, disk
}

func serverOf(s raft.Server) Server {
	node, disk := splitID(s.ID)
	return Server{Node: node, Address: string(s.Address), Voter: s.Suffrage == raft.Voter, Disk: disk}
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
		c.Servers = append(c.Servers, raft.Server{ID: s.id(), Address: raft.ServerAddress(s.Address), Suffrage: raft.Voter})
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
		servers = append(servers, serverOf(s))
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
		return l.raft.AddNonvoter(s.id(), raft.ServerAddress(s.Address), 0, changeTimeout)
	})
}

// AddVoter gives the node a vote at once, caught up or not, or another address. Only
// the leader can.
func (l *Ledger) AddVoter(ctx context.Context, s Server) error {
	return l.reconfigure(ctx, "give a vote to "+s.Node, func() raft.Future {
		return l.raft.AddVoter(s.id(), raft.ServerAddress(s.Address), 0, changeTimeout)
	})
}

// RemoveServer takes the node out of the ledger, on whichever disk it was. A node
// that lives, and still gossips, is added again. Only the leader can; to remove
// the leader, transfer the leadership first.
func (l *Ledger) RemoveServer(ctx context.Context, node string) error {
	servers, err := l.Servers()
	if err != nil {
		return err
	}
	for _, s := range servers {
		if s.Node != node {
			continue
		}
		if err := l.remove(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) remove(ctx context.Context, s Server) error {
	return l.reconfigure(ctx, "remove "+s.Node, func() raft.Future {
		return l.raft.RemoveServer(s.id(), 0, changeTimeout)
	})
}

// demote takes the vote of a server, which keeps its replica.
func (l *Ledger) demote(ctx context.Context, s Server) error {
	return l.reconfigure(ctx, "take the vote of "+s.Node, func() raft.Future {
		return l.raft.DemoteVoter(s.id(), 0, changeTimeout)
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
