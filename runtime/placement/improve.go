package placement

import (
	"cmp"
	"fmt"
	"slices"
)

// prefer moves the groups that have a better node by what they ask for, apart from
// load.
func (m *moves) prefer() (moved bool) {
	for _, g := range m.free {
		if len(m.groups[g].Preferred) > 0 || len(m.neighboursOf(g)) > 0 {
			moved = m.improve(g) || moved
		}
	}
	return moved
}

// balance moves groups off the nodes with the most groups, the most loaded first,
// as in any other order it would take more moves than are needed.
func (m *moves) balance() (moved bool) {
	on := make([][]int, len(m.nodes)) // groups to try, the first by name last
	for _, g := range slices.Backward(m.free) {
		on[m.at[g]] = append(on[m.at[g]], g)
	}
	for {
		full := nowhere
		for n := range m.nodes {
			if len(on[n]) > 0 && (full == nowhere || m.load[n] > m.load[full]) {
				full = n
			}
		}
		if full == nowhere || !m.tooFull(full) {
			return moved
		}
		last := len(on[full]) - 1
		g := on[full][last]
		on[full] = on[full][:last]
		moved = m.improve(g) || moved
	}
}

// tooFull reports whether some node has fewer groups by two.
func (m *moves) tooFull(n int) bool {
	for other := range m.settled.among {
		if m.load[other] < m.load[n]-1 {
			return true
		}
	}
	return false
}

// improve moves a group to where it should be, if that is better than where it is:
// by what it asks for, or by load with a difference of two or more.
func (m *moves) improve(g int) bool {
	from := m.at[g]
	m.fit(m.groups[g]).and(m.settled)
	m.able.remove(from)
	m.weigh(g)
	c := m.choose()
	if c.node == nowhere {
		return false
	}
	now, then := m.weights[from], m.weights[c.node]
	order := cmp.Or(then.compare(now), cmp.Compare(m.load[c.node], m.load[from]-1))
	if order >= 0 {
		return false
	}
	m.move(g, c, m.improvement(g, now, then))
	return true
}

// improvement says what a move makes better.
func (m *moves) improvement(g int, now, then weight) departure {
	from := m.nodes[m.at[g]].Name
	switch {
	case then.soft < now.soft:
		return departure{CauseBalance, fmt.Sprintf("%s: has group %s, to be apart from", from, m.softAt(g, m.at[g])), ""}
	case then.rank < now.rank:
		return departure{CauseFailback, m.groups[g].Failback.when(), ""}
	default:
		return departure{CauseBalance, fmt.Sprintf("%s: has %s", from, count(m.load[m.at[g]])), ""}
	}
}
