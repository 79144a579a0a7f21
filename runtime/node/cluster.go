package node

import (
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
			Node: m.Name, Address: m.ClusterAddress, Alive: m.State == membership.Alive,
			Expect: m.Expect, HasState: m.HasState,
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
	if err := n.membership.Update(func(m *membership.Meta) { m.HasState = true }); err != nil {
		n.log.Debug("state not spread yet", "error", err)
	}
}
