package node

import (
	"errors"
	"slices"
	"time"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	"github.com/fairlead-io/fairlead/runtime/membership"
)

// addressOf is another node's cluster address, "" if gossip does not know it.
func (n *Node) addressOf(name string) string {
	if n.membership == nil { // raft asks while the node opens
		return ""
	}
	if name == n.name {
		return n.cfg.File.Listen.Cluster
	}
	m, _ := n.membership.Member(name)
	return m.ClusterAddress
}

// peerList is what bootstrap and voters look at.
func (n *Node) peerList() []ledger.Peer {
	var peers []ledger.Peer
	for _, m := range n.membership.Members() {
		peers = append(peers, ledger.Peer{
			Node: m.Name, Disk: m.Disk, Address: m.ClusterAddress, Witness: m.Role == "witness",
			Alive: m.State == membership.Alive, Left: m.State == membership.Left,
			Expect: m.Expect, HasState: m.HasState, ClusterID: m.ClusterID,
		})
	}
	return peers
}

// bootstrap makes the cluster when as many nodes are there as are expected, none
// of which has been part of one.
func (n *Node) bootstrap() {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for told := false; ; {
		if has, err := n.ledger.HasState(); err == nil && has {
			n.announceState()
			return
		}
		expect := n.cfg.File.Cluster.BootstrapExpect
		if servers := ledger.FirstVoters(n.peerList(), expect); servers != nil {
			if err := n.ledger.Bootstrap(servers); err != nil {
				n.log.Error("the cluster could not be made", "error", err)
			} else {
				n.log.Info("made a new cluster", "voters", len(servers))
			}
		} else if !told && n.ctx.Err() == nil {
			told = true
			n.log.Info("waiting for the other nodes, to make a cluster or to be added to one", "bootstrap_expect", expect)
		}
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// announceState tells the others that this node is part of a cluster, so that they
// do not make another with it.
func (n *Node) announceState() {
	if err := n.membership.Update(func(m *membership.Meta) { m.HasState, m.ClusterID = true, n.ledger.ClusterID() }); err != nil {
		n.log.Debug("state not spread yet", "error", err)
	}
}

// peersEvery is how often the guardian's list of peers is looked at, apart from
// changes of the leader.
const peersEvery = time.Second

// followLeader renews the lease at once under a new leader, which knows nobody yet,
// and keeps the guardian's list of peers.
func (n *Node) followLeader() {
	changes, stop := n.ledger.LeaderChanges()
	defer stop()
	tick := time.NewTicker(peersEvery)
	defer tick.Stop()
	told, cluster := []string(nil), ""
	for {
		if id := n.ledger.ClusterID(); id != cluster {
			cluster = id
			n.announceState()
		}
		if peers := n.peerAddresses(); n.cfg.Peers != nil && !slices.Equal(peers, told) {
			told = peers
			n.cfg.Peers(peers)
		}
		select {
		case <-n.ctx.Done():
			return
		case <-changes:
			select {
			case n.hurry <- struct{}{}:
			default:
			}
		case <-tick.C:
		}
	}
}

// peerAddresses are the cluster addresses of the other nodes, the leader's first.
func (n *Node) peerAddresses() []string {
	var addresses []string
	leader := n.ledger.Leader()
	for _, m := range n.membership.Members() {
		switch {
		case m.Name == n.name || m.ClusterAddress == "" || m.State != membership.Alive:
		case m.Name == leader:
			addresses = slices.Insert(addresses, 0, m.ClusterAddress)
		default:
			addresses = append(addresses, m.ClusterAddress)
		}
	}
	return addresses
}

// quorum says whether the cluster can decide anything, as this node sees it.
func (n *Node) quorum() (ledger.Quorum, error) {
	return n.ledger.Quorum(func(node string) bool {
		m, ok := n.membership.Member(node)
		return ok && m.State == membership.Alive
	})
}

// noLeader is the error for whoever needs a leader now.
func (n *Node) noLeader() error {
	if q, err := n.quorum(); err == nil && q.Text != "" {
		return errors.New(q.Text)
	}
	return errNoLeader
}
