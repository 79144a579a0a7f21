package ledger

import (
	"cmp"
	"slices"
)

// Peer is a node as gossip sees it.
type Peer struct {
	Node string
	// Address of its cluster port.
	Address string
	Alive   bool
	// Expect is its bootstrap_expect, 0 if it waits to be added.
	Expect int
	// HasState: it has been part of a cluster before.
	HasState bool
}

// FirstVoters decides whether a cluster is to be made now, and of whom: when as
// many nodes as expected are there, all expect the same number, and none that is
// known, there or not, has been part of a cluster before. Nodes that see the same
// peers decide alike; so that they do, expect is the number of all nodes that are
// first started with it. It returns nil while there is nothing to do.
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
			servers = append(servers, Server{p.Node, p.Address, true})
		}
	}
	if len(servers) < expect {
		return nil
	}
	slices.SortFunc(servers, func(a, b Server) int { return cmp.Compare(a.Node, b.Node) })
	return servers[:expect]
}
