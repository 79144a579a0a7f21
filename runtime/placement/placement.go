// Package placement decides which node should own a group. It is a pure function
// of facts: the same cluster gives the same answer on any node, groups that are
// well placed stay where they are, and every decision carries the sentence that
// explains it.
package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Cluster is what a decision rests on.
type Cluster struct {
	Nodes  []Node
	Groups []Group
}

// Node is one node that holds a lease.
type Node struct {
	Name, Incarnation string
	// Witness votes and owns nothing.
	Witness bool
	// Adapters are the names of those it offers.
	Adapters []string
}

// Group is what a group asks of its owner.
type Group struct {
	Name string
	// Owner is the node that owns it now, if any.
	Owner string
	// Possible owners; empty: every member.
	Possible []string
	// Preferred owners, the best first.
	Preferred []string
	// Adapters that its hosts need.
	Adapters []string
}

// Decision is the wanted owner of a group; without Node there is none.
type Decision struct {
	Group, Node, Incarnation string
	Reason                   string
}

// Place returns a decision for every group without an owner, in the order of
// their names. Each counts as placed for the next.
func Place(c Cluster) []Decision {
	load := loads(c)
	groups := slices.Clone(c.Groups)
	slices.SortFunc(groups, func(a, b Group) int { return cmp.Compare(a.Name, b.Name) })
	var ds []Decision
	for _, g := range groups {
		if g.Owner != "" {
			continue
		}
		d := choose(c.Nodes, g, load, "")
		if d.Node != "" {
			load[d.Node]++
		}
		ds = append(ds, d)
	}
	return ds
}

// Elsewhere chooses an owner for the group other than the node it is on.
func Elsewhere(c Cluster, group, not string) Decision {
	for _, g := range c.Groups {
		if g.Name == group {
			return choose(c.Nodes, g, loads(c), not)
		}
	}
	return Decision{Group: group, Reason: "no such group in the deployment"}
}

// Refusal says why the node cannot own the group, and nothing if it can.
func Refusal(n Node, g Group) string {
	switch {
	case n.Witness:
		return "is a witness"
	case len(g.Possible) > 0 && !slices.Contains(g.Possible, n.Name):
		return "is not a possible owner"
	}
	for _, a := range g.Adapters {
		if !slices.Contains(n.Adapters, a) {
			return fmt.Sprintf("adapter %s is missing", a)
		}
	}
	return ""
}

func loads(c Cluster) map[string]int {
	load := map[string]int{}
	for _, g := range c.Groups {
		if g.Owner != "" {
			load[g.Owner]++
		}
	}
	return load
}

// choose takes the first preferred owner that can, else the node with the fewest
// groups, else the first by name.
func choose(nodes []Node, g Group, load map[string]int, not string) Decision {
	var able []Node
	var refusals []string
	for _, n := range nodes {
		switch why := Refusal(n, g); {
		case n.Name == not:
			refusals = append(refusals, n.Name+": has it now")
		case why != "":
			refusals = append(refusals, n.Name+": "+why)
		default:
			able = append(able, n)
		}
	}
	if len(able) == 0 {
		slices.Sort(refusals)
		if len(refusals) == 0 {
			refusals = []string{"no node holds a lease"}
		}
		return Decision{Group: g.Name, Reason: "no node can own it: " + strings.Join(refusals, "; ")}
	}
	rank := func(n Node) int {
		if i := slices.Index(g.Preferred, n.Name); i >= 0 {
			return i
		}
		return len(g.Preferred)
	}
	best := slices.MinFunc(able, func(a, b Node) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(load[a.Name], load[b.Name]), cmp.Compare(a.Name, b.Name))
	})
	d := Decision{Group: g.Name, Node: best.Name, Incarnation: best.Incarnation}
	switch i := rank(best); {
	case i < len(g.Preferred) && i == 0:
		d.Reason = "preferred owner"
	case i < len(g.Preferred):
		d.Reason = fmt.Sprintf("preferred owner number %d, the ones before cannot", i+1)
	case len(able) == 1:
		d.Reason = "the only node that can"
	default:
		d.Reason = fmt.Sprintf("fewest groups (%d)", load[best.Name])
	}
	return d
}
