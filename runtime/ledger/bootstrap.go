package ledger

import (
	"cmp"
	"slices"
)

// Peer is a node as gossip sees it, and as it describes itself there.
type Peer struct {
	Node string
	// Disk is what it calls its disk (see Config.Disk).
	Disk string
	// Address of its cluster port.
	Address string
	Alive   bool
	// Left: it said that it leaves, and went.
	Left bool
	// Witness: it votes and owns nothing.
	Witness bool
	// Expect is its bootstrap_expect, 0 if it waits to be added.
	Expect int
	// HasState: it has been part of a cluster before, of the one with ClusterID as
	// far as it knows.
	HasState  bool
	ClusterID string
}

func (p Peer) id() string { return string(serverID(p.Node, p.Disk)) }

// FirstVoters decides whether a cluster is to be made now, and of whom: when as
// many nodes as expected are there, all expect the same number, and none that is
// known, there or not, has been part of a cluster before. It returns nil while
// there is nothing to do.
//
// Nodes that see the same peers decide alike. So that they do, expect has to be the
// number of all nodes that are first started with it: where more are started, those
// who see different ones could make clusters that overlap, or two that know nothing
// of each other. No rule that a node could follow by itself helps. If only the
// first by name made the cluster, two sides of a partition would still each have a
// first; and if the chosen had to promise each other that they make no other, nodes
// that saw different ones for a moment would wait for ever. What helps is that such
// clusters find out afterwards, by their ID, and do not mix.
func FirstVoters(peers []Peer, expect int) []Server {
	if expect <= 0 {
		return nil
	}
	var servers []Server
	for _, p := range peers {
		switch {
		case p.HasState:
			return nil // there is a cluster: it adds this node
		case !p.Alive || p.Expect == 0:
		case p.Expect != expect || p.Address == "":
			return nil
		default:
			servers = append(servers, Server{Node: p.Node, Address: p.Address, Voter: true, Disk: p.Disk})
		}
	}
	if len(servers) < expect {
		return nil
	}
	slices.SortFunc(servers, func(a, b Server) int { return cmp.Compare(a.Node, b.Node) })
	return servers[:expect]
}
