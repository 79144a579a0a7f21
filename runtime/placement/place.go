package placement

import (
	"cmp"
	"slices"
)

// Place returns a decision for every group without an owner, in the order of their
// names: the node that should own it, or no node and why nobody can, or should. Each
// counts as placed for the next.
func Place(c Cluster) []Decision {
	b := newBoard(c)
	ds := b.place()
	slices.SortFunc(ds, byGroup)
	return ds
}

// place gives every group without an owner a node, as far as there is one.
func (b *board) place() []Decision {
	ds := make([]Decision, 0, len(b.groups))
	for _, g := range b.mostBoundFirst(func(g int) bool { return b.groups[g].Owner == "" }) {
		d := b.assign(g, nowhere)
		if d.Node != "" {
			b.put(g, b.find(d.Node))
		}
		ds = append(ds, d)
	}
	return ds
}

// mostBoundFirst returns the groups that are asked for: those with the fewest nodes
// to choose from first, as others can make room for them and they cannot; then by
// what else binds them, then by name.
func (b *board) mostBoundFirst(asked func(g int) bool) []int {
	type bound struct{ group, nodes, free int }
	var all []bound
	for g, group := range b.groups {
		if !asked(g) {
			continue
		}
		b.fit(group).and(b.open)
		x := bound{group: g, nodes: b.able.size(), free: 2}
		switch {
		case slices.ContainsFunc(b.neighboursOf(g), func(h neighbour) bool { return h.hard }):
			x.free = 0
		case group.Pinned != "" || len(group.Preferred) > 0:
			x.free = 1
		}
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b bound) int {
		return cmp.Or(cmp.Compare(a.nodes, b.nodes), cmp.Compare(a.free, b.free), cmp.Compare(a.group, b.group))
	})
	groups := make([]int, len(all))
	for i, x := range all {
		groups[i] = x.group
	}
	return groups
}

// Elsewhere chooses an owner for the group other than the node it is on.
func Elsewhere(c Cluster, group, not string) Decision {
	b := newBoard(c)
	g := b.group(group)
	if g == nowhere {
		return Decision{Group: group, Reason: "no such group in the deployment"}
	}
	b.put(g, nowhere)
	return b.assign(g, b.find(not))
}

func byGroup(a, b Decision) int { return cmp.Compare(a.Group, b.Group) }
