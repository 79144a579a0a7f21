package placement

import (
	"slices"
)

// mostRounds bounds how often Moves looks at all groups again after it has moved
// some. What is left then is for the next call.
const mostRounds = 50

// Moves returns the owned groups that should move now, in the order of their names,
// each with its cause. A decision without a node is for a group that is stopped: it
// is to be released to nobody. Groups that should move and have nowhere to go are
// not among them.
//
// The moves can be carried out one by one in any order: at no time do they bring
// together what a hard anti-affinity keeps apart. So a group may have to wait for
// another to be gone; it is then in what Moves says after that.
func Moves(c Cluster) []Decision {
	m := newMoves(c)
	ds := m.stop()
	m.place() // groups without an owner come first, and count
	for range mostRounds {
		forced := m.force()
		if better := m.prefer() || m.balance(); !better && !forced {
			break
		}
	}
	for g := range m.groups {
		if l := m.left[g]; m.movable(g) && m.at[g] != m.was[g] {
			d := m.decision(g, m.at[g], l.why+"; "+l.where)
			d.Cause = l.cause
			ds = append(ds, d)
		}
	}
	slices.SortFunc(ds, byGroup)
	return ds
}

// moves is a board on which owned groups are moved.
type moves struct {
	*board
	left []departure // by group
	// free are the groups that may leave an owner that is good, and settled the nodes
	// that they may go to.
	free    []int
	settled set
}

func newMoves(c Cluster) *moves {
	m := &moves{board: newBoard(c)}
	m.left = make([]departure, len(m.groups))
	m.settled = newSet(len(m.nodes))
	for n := range m.nodes {
		if m.open.has(n) && m.board.settled(n) {
			m.settled.add(n)
		}
	}
	for g, group := range m.groups {
		if m.movable(g) && group.Pinned == "" && group.Failback.Open(c.Now) {
			m.free = append(m.free, g)
		}
	}
	return m
}

// departure is why a group moves: from its owner for which cause and why, and why
// to where it is now.
type departure struct{ cause, why, where string }

// movable reports whether the group's owner can be asked to hand it over.
func (m *moves) movable(g int) bool {
	group := m.groups[g]
	return m.was[g] != nowhere && group.Moving == "" && group.Stopped == ""
}

// stop releases the groups that are not to run.
func (m *moves) stop() (ds []Decision) {
	for g, group := range m.groups {
		if group.Stopped == "" || group.Moving != "" || m.was[g] == nowhere {
			continue
		}
		m.put(g, nowhere)
		ds = append(ds, Decision{Group: group.Name, Reason: group.Stopped, Cause: CausePolicy})
	}
	return ds
}

// force moves the groups that may not stay where they are.
func (m *moves) force() (moved bool) {
	why := make([]departure, len(m.groups))
	for _, g := range m.mostBoundFirst(func(g int) bool {
		if m.movable(g) {
			why[g] = m.evicted(g)
		}
		return why[g].cause != ""
	}) {
		moved = m.leave(g, why[g]) || moved
	}
	if m.near == nil {
		return moved
	}
	for _, pinned := range []bool{false, true} {
		for g := len(m.groups) - 1; g >= 0; g-- {
			if !m.movable(g) || (m.groups[g].Pinned == m.nodes[m.was[g]].Name) != pinned {
				continue
			}
			if h := m.clash(g); h != nowhere {
				moved = m.leave(g, departure{CausePolicy, m.nodes[m.at[g]].Name + ": " + m.forbidden(h), ""}) || moved
			}
		}
	}
	return moved
}

// evicted says why the node a group is on must not have it, without a cause if it
// may.
func (b *board) evicted(g int) departure {
	n := b.at[g]
	node := b.nodes[n]
	if node.Draining {
		return departure{CauseDrain, node.Name + ": is draining", ""}
	}
	if !b.fit(b.groups[g]).has(n) {
		return departure{CausePolicy, node.Name + ": " + unfit(*node, *b.groups[g]), ""}
	}
	return departure{}
}

// clash returns a group on the same node that must not be there, nowhere if there
// is none.
func (b *board) clash(g int) int {
	for _, h := range b.neighboursOf(g) {
		if h.hard && b.at[h.group] == b.at[g] {
			return h.group
		}
	}
	return nowhere
}

// leave moves a group to the best node there is, if there is one.
func (m *moves) leave(g int, why departure) bool {
	m.fit(m.groups[g]).and(m.open)
	m.able.remove(m.at[g])
	m.weigh(g)
	c := m.choose()
	if c.node == nowhere {
		return false
	}
	m.move(g, c, why)
	return true
}

// move notes a move. The first cause is the one that counts.
func (m *moves) move(g int, c choice, why departure) {
	l := &m.left[g]
	if m.at[g] == m.was[g] {
		*l = why
	}
	l.where = m.because(g, c)
	m.put(g, c.node)
}
