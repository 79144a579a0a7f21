package placement

import (
	"slices"
	"testing"
	"time"
)

// noon is the time of the tests: a Sunday in Paris, 14:00 there.
var noon = time.Date(2026, 7, 5, 12, 0, 0, 0, time.UTC)

func node(name string, adapters ...string) Node {
	n := Node{Name: name, Incarnation: name + "1"}
	for _, a := range adapters {
		n.Adapters = append(n.Adapters, Adapter{Name: a, Version: "1.2.0", SHA256: a + "00000000"})
	}
	return n
}

// with changes a node.
func (n Node) with(change func(*Node)) Node {
	change(&n)
	return n
}

func witness(n *Node)  { n.Witness = true }
func draining(n *Node) { n.Draining = true }
func paused(n *Node)   { n.Paused = true }
func flapping(n *Node) { n.Quarantined = "expired 4 times in an hour" }

func needs(adapters ...string) (ns []Need) {
	for _, a := range adapters {
		ns = append(ns, Need{Name: a})
	}
	return ns
}

func soft(group string) []Affinity { return []Affinity{{Group: group}} }
func hard(group string) []Affinity { return []Affinity{{Group: group, Hard: true}} }

var immediately = Failback{Mode: FailbackImmediate}

// owned makes groups of one owner.
func owned(owner string, names ...string) (gs []Group) {
	for _, name := range names {
		gs = append(gs, Group{Name: name, Owner: owner})
	}
	return gs
}

func cluster(nodes []Node, groups ...Group) Cluster {
	return Cluster{Nodes: nodes, Groups: groups, Now: noon}
}

func nodes(ns ...Node) []Node { return ns }

// apply carries decisions out: all of them at once.
func apply(c Cluster, ds []Decision) Cluster {
	c.Groups = slices.Clone(c.Groups)
	for _, d := range ds {
		i := slices.IndexFunc(c.Groups, func(g Group) bool { return g.Name == d.Group })
		c.Groups[i].Owner, c.Groups[i].Moving = d.Node, ""
	}
	return c
}

func wantDecisions(t *testing.T, got []Decision, want ...Decision) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", written(got), written(want))
	}
}

func written(ds []Decision) (text string) {
	for _, d := range ds {
		text += "  " + d.Group + " -> " + d.Node + " (" + d.Incarnation + ") " + d.Cause + ": " + d.Reason + "\n"
	}
	return text
}

func to(group, node, cause, reason string) Decision {
	d := Decision{Group: group, Node: node, Reason: reason, Cause: cause}
	if node != "" {
		d.Incarnation = node + "1"
	}
	return d
}
