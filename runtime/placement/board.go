package placement

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"
)

// nowhere is the number of no node.
const nowhere = -1

// board is the cluster while decisions are made: nodes and groups by number in the
// order of their names, and where every group is by what has been decided so far.
type board struct {
	c      Cluster
	nodes  []*Node
	groups []*Group
	number map[string]int // of a node

	// at is where a group counts: its owner, the node it is on its way to, or the
	// one decided here.
	at []int
	// was is its owner. A group acts there until it has been handed over, whatever is
	// decided, so a hard anti-affinity keeps others off that node as well.
	was  []int
	load []int // groups that count at a node
	near [][]neighbour

	// open are the nodes that are given groups, members those that may keep some,
	// flapping those that are given groups when no other can take them.
	open, members, flapping set
	offering                map[string]set // nodes with the adapters, by the needs

	// What follows is filled for one group at a time.
	able    set
	weights []weight // by node
	touched []int    // nodes with a weight that is not zero, some more than once
	weighty set      // the same for a moment; empty otherwise
}

// neighbour is a group to be apart from.
type neighbour struct {
	group int
	hard  bool
}

// set is a set of nodes, a bit for each.
type set []uint64

func newSet(n int) set { return make(set, (n+63)/64) }

func (s set) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

func (s set) remove(i int) { s[i/64] &^= 1 << (i % 64) }

// and leaves in s what is in o as well.
func (s set) and(o set) {
	for i := range s {
		s[i] &= o[i]
	}
}

func newBoard(c Cluster) *board {
	b := &board{
		c: c, nodes: byName(c.Nodes, func(n *Node) string { return n.Name }),
		groups: byName(c.Groups, func(g *Group) string { return g.Name }),
		number: make(map[string]int, len(c.Nodes)), offering: map[string]set{},
	}
	b.open, b.members, b.weighty = newSet(len(b.nodes)), newSet(len(b.nodes)), newSet(len(b.nodes))
	b.flapping = newSet(len(b.nodes))
	b.load, b.weights = make([]int, len(b.nodes)), make([]weight, len(b.nodes))
	for i, n := range b.nodes {
		b.number[n.Name] = i
		if closed(*n) == "" {
			b.open.add(i)
		}
		if calm := *n; n.Quarantined != "" {
			if calm.Quarantined = ""; closed(calm) == "" {
				b.flapping.add(i)
			}
		}
		if !n.Witness {
			b.members.add(i)
		}
	}
	b.at, b.was = make([]int, len(b.groups)), make([]int, len(b.groups))
	apart := false
	for i, g := range b.groups {
		apart = apart || len(g.AntiAffinity) > 0
		b.was[i] = b.find(g.Owner)
		b.at[i] = b.was[i]
		if g.Owner != "" && g.Moving != "" {
			b.at[i] = b.find(g.Moving)
		}
		if b.at[i] != nowhere {
			b.load[b.at[i]]++
		}
	}
	if apart {
		b.neighbours()
	}
	return b
}

// byName returns pointers to the elements in the order of their names; the slice
// stays as it is.
func byName[T any](all []T, name func(*T) string) []*T {
	sorted := make([]*T, len(all))
	for i := range all {
		sorted[i] = &all[i]
	}
	slices.SortFunc(sorted, func(a, b *T) int { return cmp.Compare(name(a), name(b)) })
	return sorted
}

func (b *board) find(node string) int {
	if i, ok := b.number[node]; ok {
		return i
	}
	return nowhere
}

func (b *board) group(name string) int {
	i, ok := slices.BinarySearchFunc(b.groups, name, func(g *Group, name string) int { return cmp.Compare(g.Name, name) })
	if !ok {
		return nowhere
	}
	return i
}

// neighbours notes for every group those to be apart from, both ways.
func (b *board) neighbours() {
	b.near = make([][]neighbour, len(b.groups))
	for i, g := range b.groups {
		for _, a := range g.AntiAffinity {
			if j := b.group(a.Group); j != nowhere && j != i {
				b.near[i] = append(b.near[i], neighbour{j, a.Hard})
				b.near[j] = append(b.near[j], neighbour{i, a.Hard})
			}
		}
	}
	for i, near := range b.near {
		// Named more than once: the hard one counts.
		slices.SortFunc(near, func(a, b neighbour) int {
			if a.group == b.group && a.hard != b.hard {
				if a.hard {
					return -1
				}
				return 1
			}
			return cmp.Compare(a.group, b.group)
		})
		b.near[i] = slices.CompactFunc(near, func(a, b neighbour) bool { return a.group == b.group })
	}
}

func (b *board) neighboursOf(g int) []neighbour {
	if b.near == nil {
		return nil
	}
	return b.near[g]
}

// put lets the group count at another node, or nowhere.
func (b *board) put(g, node int) {
	if b.at[g] != nowhere {
		b.load[b.at[g]]--
	}
	if b.at[g] = node; node != nowhere {
		b.load[node]++
	}
}

// fit fills able with the nodes that may have the group, now or later: those that
// unfit has nothing to say about.
func (b *board) fit(g *Group) set {
	b.able = append(b.able[:0], b.members...)
	if len(g.Possible) > 0 {
		possible := newSet(len(b.nodes))
		for _, name := range g.Possible {
			if i := b.find(name); i != nowhere {
				possible.add(i)
			}
		}
		b.able.and(possible)
	}
	if len(g.Adapters) > 0 {
		b.able.and(b.offers(g.Adapters))
	}
	return b.able
}

// offers are the nodes with the adapters. Many groups have the same needs.
func (b *board) offers(needs []Need) set {
	var key strings.Builder
	for _, need := range needs {
		key.WriteString(need.Name)
		for _, sum := range need.SHA256 {
			key.WriteByte(0)
			key.WriteString(sum)
		}
		key.WriteByte(1)
	}
	s, ok := b.offering[key.String()]
	if !ok {
		s = newSet(len(b.nodes))
		for i, n := range b.nodes {
			if lacks(*n, needs) == "" {
				s.add(i)
			}
		}
		b.offering[key.String()] = s
	}
	return s
}

// among returns the numbers in the set, ascending.
func (s set) among(yield func(int) bool) {
	for i, word := range s {
		for ; word != 0; word &= word - 1 {
			if !yield(i*64 + bits.TrailingZeros64(word)) {
				return
			}
		}
	}
}

func (s set) size() (n int) {
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

// settled reports whether a node has been up for long enough to draw groups that are
// well where they are.
func (b *board) settled(n int) bool {
	up := b.nodes[n].Up
	return up.IsZero() || b.c.Now.Sub(up) >= Settled
}
