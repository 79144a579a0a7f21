package placement

import (
	"fmt"
	"slices"
	"strings"
)

// Explain says of a group, in a sentence for every node by name, why that node
// owns it or not. Before them stands what holds for the group as a whole, if there
// is such: that it is stopped, has failed or is under way.
func Explain(c Cluster, group string) []string {
	b := newBoard(c)
	g := b.group(group)
	if g == nowhere {
		return []string{"no such group in the deployment"}
	}
	wanted := b.wanted(g)
	told := b.asAWhole(g)
	b.put(g, nowhere)
	b.fit(b.groups[g]).and(b.open)
	b.weigh(g)
	for n := range b.nodes {
		told = append(told, b.nodes[n].Name+": "+b.explain(g, n, wanted))
	}
	return told
}

// wanted is the decision about the group, without a node if there is none.
func (b *board) wanted(g int) Decision {
	ds := Moves
	if b.groups[g].Owner == "" {
		ds = Place
	}
	for _, d := range ds(b.c) {
		if d.Group == b.groups[g].Name {
			return d
		}
	}
	return Decision{}
}

// asAWhole says what is not about a single node.
func (b *board) asAWhole(g int) (told []string) {
	group := b.groups[g]
	if why := b.idle(g); why != "" {
		told = append(told, "nobody is to own it: "+why)
	}
	if group.Owner != "" && b.was[g] == nowhere {
		told = append(told, group.Owner+": owns it, and is not heard of now")
	}
	if group.Moving != "" && b.find(group.Moving) == nowhere {
		told = append(told, "its owner has been asked to hand it over")
	}
	if len(b.nodes) == 0 {
		told = append(told, "no node holds a lease")
	}
	return told
}

// explain says what is between the node and the group that was weighed.
func (b *board) explain(g, n int, wanted Decision) string {
	name := b.nodes[n].Name
	if n == b.was[g] {
		return "owns it" + b.staying(g, n, wanted)
	}
	if name == b.groups[g].Moving {
		return "is about to take it over"
	}
	if why := b.obstacle(g, n, nowhere); why != "" {
		return why
	}
	if name == wanted.Node {
		return "is chosen: " + wanted.Reason
	}
	return "can own it: " + b.merits(g, n)
}

// staying says why the owner keeps the group, or why it does not.
func (b *board) staying(g, n int, wanted Decision) string {
	group := b.groups[g]
	switch {
	case wanted.Node != "":
		return fmt.Sprintf(", and is to hand it over to %s: %s", wanted.Node, wanted.Reason)
	case group.Stopped != "":
		return ", and is to release it"
	case group.Moving != "":
		return ", and has been asked to hand it over"
	}
	why := b.stuck(g, n)
	switch {
	case why != "":
		return ", as no other node can take it: " + why
	case group.Pinned == b.nodes[n].Name:
		return ", moved there by a person"
	case group.Failback.Mode == FailbackImmediate:
		return ", and no other node is better"
	case group.Failback.Mode == FailbackWindow && group.Failback.Open(b.c.Now):
		return ", and no other node is better"
	case group.Failback.Mode == FailbackWindow:
		return fmt.Sprintf(", and moves to a better node in the window %s", group.Failback.window())
	}
	return ", and keeps it: failback is never"
}

// stuck says why the owner should not have the group, if it should not.
func (b *board) stuck(g, n int) string {
	if b.nodes[n].Draining {
		return "is draining"
	}
	if why := unfit(*b.nodes[n], *b.groups[g]); why != "" {
		return why
	}
	for _, h := range b.neighboursOf(g) {
		if h.hard && b.at[h.group] == n {
			return b.forbidden(h.group)
		}
	}
	return ""
}

func count(groups int) string {
	if groups == 1 {
		return "1 group"
	}
	return fmt.Sprintf("%d groups", groups)
}

// merits says what counts for and against a node that can own the group.
func (b *board) merits(g, n int) string {
	group := b.groups[g]
	var merits []string
	if name := b.nodes[n].Name; name == group.Pinned {
		merits = append(merits, "a person moved the group there")
	} else if i := slices.Index(group.Preferred, name); i >= 0 {
		merits = append(merits, fmt.Sprintf("preferred owner number %d", i+1))
	}
	merits = append(merits, "has "+count(b.load[n]))
	if other := b.softAt(g, n); other != "" {
		merits = append(merits, "among them "+other+", to be apart from")
	}
	if b.weights[n].avoid != 0 {
		merits = append(merits, "the group failed there lately"+b.failure(g, n))
	}
	if !b.settled(n) {
		merits = append(merits, "has not been up for long")
	}
	return strings.Join(merits, ", ")
}
