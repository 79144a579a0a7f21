package placement

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// toldRefusals is how many nodes a decision without a node names: the sentence goes
// into the ledger. Explain names all.
const toldRefusals = 10

// weight is what speaks for or against a node, for one group, apart from load. The
// zero weight is that of a node that nothing is said about; less is better.
type weight struct {
	hard   int // 1 + a group on the node that a hard anti-affinity forbids; 0: none
	avoid  int // 1: it failed there lately
	pinned int // -1: a person moved it there
	soft   int // groups there to be apart from
	rank   int // below 0: preferred
}

func (w weight) compare(o weight) int {
	if w == o {
		return 0
	}
	return cmp.Or(cmp.Compare(w.avoid, o.avoid), cmp.Compare(w.pinned, o.pinned), cmp.Compare(w.soft, o.soft), cmp.Compare(w.rank, o.rank))
}

// weigh fills the weights of the nodes for a group.
func (b *board) weigh(g int) {
	for _, n := range b.touched {
		b.weights[n] = weight{}
	}
	b.touched = b.touched[:0]
	touch := func(n int) *weight {
		b.touched = append(b.touched, n)
		return &b.weights[n]
	}
	group := b.groups[g]
	for _, a := range group.Avoid {
		if n := b.find(a.Node); n != nowhere && n != b.was[g] {
			touch(n).avoid = 1
		}
	}
	if n := b.find(group.Pinned); n != nowhere {
		touch(n).pinned = -1
	}
	for i, name := range slices.Backward(group.Preferred) { // named twice: the first counts
		if n := b.find(name); n != nowhere {
			touch(n).rank = i - len(group.Preferred)
		}
	}
	for _, h := range b.neighboursOf(g) {
		at, was := b.at[h.group], b.was[h.group]
		if at != nowhere && !h.hard {
			touch(at).soft++
		}
		if at != nowhere && h.hard {
			touch(at).hard = h.group + 1
		}
		if was != nowhere && h.hard {
			touch(was).hard = h.group + 1
		}
	}
}

// choice is the best node for a group, with what is needed to say why.
type choice struct {
	node  int // nowhere: no node can
	able  int // how many can
	doubt bool
}

// choose takes the best of the nodes that b.able holds, except those that a hard
// anti-affinity forbids, for the group that was weighed.
func (b *board) choose() choice {
	// Nearly all nodes have no weight: among them load alone decides.
	for _, n := range b.touched {
		b.weighty.add(n)
	}
	c := b.leastLoaded()
	for _, n := range b.touched {
		if !b.weighty.has(n) {
			continue // named twice
		}
		b.weighty.remove(n)
		w := b.weights[n]
		if !b.able.has(n) || w.hard != 0 {
			continue
		}
		c.able++
		c.doubt = c.doubt || w.avoid != 0 || w.soft != 0
		if c.node == nowhere || cmp.Or(w.compare(b.weights[c.node]), cmp.Compare(b.load[n], b.load[c.node]), cmp.Compare(n, c.node)) < 0 {
			c.node = n
		}
	}
	return c
}

// leastLoaded takes the node with the fewest groups among those without weight.
func (b *board) leastLoaded() choice {
	c := choice{node: nowhere}
	for i, word := range b.able {
		word &^= b.weighty[i]
		c.able += bits.OnesCount64(word)
		for ; word != 0; word &= word - 1 {
			if n := i*64 + bits.TrailingZeros64(word); c.node == nowhere || b.load[n] < b.load[c.node] {
				c.node = n
			}
		}
	}
	return c
}

// assign chooses a node for a group that is to run and counts nowhere now. The
// node not is left out.
func (b *board) assign(g, not int) Decision {
	group := b.groups[g]
	if why := b.idle(g); why != "" {
		return Decision{Group: group.Name, Reason: why}
	}
	b.weigh(g)
	if c := b.pick(g, not, b.open); c.node != nowhere {
		return b.decision(g, c.node, b.because(g, c))
	}
	// A node that flaps is better than none: an outage is what quarantine is to avoid.
	if c := b.pick(g, not, b.flapping); c.node != nowhere {
		why := b.because(g, c) + ", although in quarantine: " + b.nodes[c.node].Quarantined
		return b.decision(g, c.node, why)
	}
	return Decision{Group: group.Name, Reason: b.nobody(g, not)}
}

// pick takes the best of the given nodes but one for the group that was weighed.
func (b *board) pick(g, not int, among set) choice {
	b.fit(b.groups[g]).and(among)
	if not != nowhere {
		b.able.remove(not)
	}
	return b.choose()
}

func (b *board) decision(g, n int, reason string) Decision {
	return Decision{Group: b.groups[g].Name, Node: b.nodes[n].Name, Incarnation: b.nodes[n].Incarnation, Reason: reason}
}

// idle says why nobody is to own the group.
func (b *board) idle(g int) string {
	group := b.groups[g]
	switch {
	case group.Stopped != "":
		return group.Stopped
	case b.c.Now.Before(group.FailedUntil):
		return "has failed, and is tried again at " + group.FailedUntil.UTC().Format("2006-01-02 15:04:05 MST")
	}
	return ""
}

// nobody says why no node can own the group that was weighed.
func (b *board) nobody(g, not int) string {
	if len(b.nodes) == 0 {
		return "no node can own it: no node holds a lease"
	}
	var told []string
	for n := range b.nodes[:min(len(b.nodes), toldRefusals)] {
		told = append(told, b.nodes[n].Name+": "+b.obstacle(g, n, not))
	}
	if more := len(b.nodes) - len(told); more > 0 {
		told = append(told, fmt.Sprintf("%d more nodes", more))
	}
	return "no node can own it: " + strings.Join(told, "; ")
}

// obstacle says why the node cannot be given the group that was weighed, and
// nothing if it can.
func (b *board) obstacle(g, n, not int) string {
	if n == not {
		return "has it now"
	}
	if why := Refusal(*b.nodes[n], *b.groups[g]); why != "" {
		return why
	}
	if h := b.weights[n].hard; h != 0 {
		return b.forbidden(h - 1)
	}
	return ""
}

func (b *board) forbidden(other int) string {
	return fmt.Sprintf("has group %s, which must not be on the same node", b.groups[other].Name)
}

// because says why the node was chosen for the group that was weighed.
func (b *board) because(g int, c choice) string {
	w := b.weights[c.node]
	preferred := b.groups[g].Preferred
	var reason string
	switch rank := w.rank + len(preferred); {
	case w.avoid != 0 && c.able == 1:
		return "the only node that can, although it failed there lately" + b.failure(g, c.node)
	case w.avoid != 0:
		return "it failed lately on every node that can; here" + b.failure(g, c.node)
	case w.pinned != 0:
		return "moved there by a person"
	case w.rank < 0 && rank == 0:
		return "preferred owner"
	case w.rank < 0:
		reason = fmt.Sprintf("preferred owner number %d", rank+1)
	case c.able == 1:
		return "the only node that can"
	default:
		reason = fmt.Sprintf("fewest groups (%d)", b.load[c.node])
	}
	if passed := b.passedOver(g, c); passed != "" {
		return reason + ", " + passed
	}
	if w.rank < 0 {
		return reason + ", the ones before cannot"
	}
	return reason
}

func (b *board) failure(g, n int) string {
	for _, a := range b.groups[g].Avoid {
		if a.Node == b.nodes[n].Name && a.Reason != "" {
			return ": " + a.Reason
		}
	}
	return ""
}

// passedOver says which node would have been chosen but for what speaks against it.
func (b *board) passedOver(g int, c choice) string {
	if !c.doubt {
		return ""
	}
	better := func(n, than int) bool {
		w, o := b.weights[n], b.weights[than]
		return cmp.Or(cmp.Compare(w.pinned, o.pinned), cmp.Compare(w.rank, o.rank), cmp.Compare(b.load[n], b.load[than])) < 0
	}
	best := c.node
	for n := range b.able.among {
		if b.weights[n].hard == 0 && better(n, best) {
			best = n
		}
	}
	switch w := b.weights[best]; {
	case best == c.node:
		return ""
	case w.avoid != 0:
		return fmt.Sprintf("%s is passed over: it failed there lately%s", b.nodes[best].Name, b.failure(g, best))
	default:
		return fmt.Sprintf("%s is passed over: group %s, to be apart from, is there", b.nodes[best].Name, b.softAt(g, best))
	}
}

// softAt names a group on the node that the group is to be apart from.
func (b *board) softAt(g, n int) string {
	for _, h := range b.neighboursOf(g) {
		if !h.hard && b.at[h.group] == n {
			return b.groups[h.group].Name
		}
	}
	return ""
}
