package membership

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// State is what gossip makes of a node.
type State string

// The states.
const (
	Alive State = "alive"
	// Dead: it does not answer, and did not say that it leaves.
	Dead State = "dead"
	// Left: it said that it leaves.
	Left State = "left"
)

// Member is one node as this one sees it.
type Member struct {
	Name    string
	Address string // of its gossip port
	State   State
	// Since is when this node saw that state begin, by its own clock.
	Since time.Time
	Meta
}

// forgetAfter is how long nodes that are gone stay in the table.
const forgetAfter = 24 * time.Hour

// table is what this node has seen. Memberlist fills it while it holds its own
// lock, so nothing here calls out.
type table struct {
	log    *slog.Logger
	now    func() time.Time
	echoes echoes

	mu      sync.Mutex
	members map[string]Member
	subs    map[chan struct{}]bool
	// strangers are nodes of other clusters that the log has, with their cluster.
	strangers map[string]string
}

func newTable(log *slog.Logger, now func() time.Time) *table {
	return &table{log: log, now: now, members: map[string]Member{}, subs: map[chan struct{}]bool{}, strangers: map[string]string{}}
}

// note takes what gossip says of a node. unread is why its metadata is missing, if
// it is.
func (t *table) note(m Member, unread error) {
	if unread != nil {
		if _, due := t.echoes.due(m.Name, t.now()); due {
			t.log.Warn("node says something that this version cannot read", "node", m.Name, "error", unread)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	was, ok := t.members[m.Name]
	if m.Since = t.now(); ok && was.State == m.State {
		m.Since = was.Since
	}
	if m.State != Alive && unread != nil {
		m.Meta = was.Meta
	}
	t.members[m.Name] = m
	t.signalLocked()
}

func (t *table) conflict(name, one, other string) {
	if _, due := t.echoes.due(name+other, t.now()); due {
		t.log.Error("two nodes have the same name: give each its own node.name; or the node came back under another address, and is taken in when the old one is seen dead",
			"node", name, "one", one, "other", other)
	}
}

// foreign tells of a node of another cluster, once.
func (t *table) foreign(name, address, its, mine string) {
	t.mu.Lock()
	told := t.strangers[name] == its
	if len(t.strangers) >= maxEchoes {
		clear(t.strangers)
	}
	t.strangers[name] = its
	if !told {
		t.signalLocked()
	}
	t.mu.Unlock()
	if !told {
		t.log.Error("a node belongs to another cluster of the same name, and is kept out: give one of the clusters another cluster.name, or empty that node's data directory so that it joins this cluster",
			"node", name, "address", address, "its_cluster", its, "this_cluster", mine)
	}
}

// clusters are those that nodes were kept out for.
func (t *table) clusters() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Values(t.strangers))
}

func (t *table) signalLocked() {
	for sub := range t.subs {
		select {
		case sub <- struct{}{}:
		default: // a signal is waiting already
		}
	}
}

func (t *table) all() []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Member, 0, len(t.members))
	for _, m := range t.members {
		list = append(list, m)
	}
	return list
}

func (t *table) one(name string) (Member, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, ok := t.members[name]
	return m, ok
}

func (t *table) changes() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subs[ch] = true
	return ch, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.subs, ch)
	}
}

// forget drops the nodes that are gone for long.
func (t *table) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for name, m := range t.members {
		if m.State != Alive && now.Sub(m.Since) > forgetAfter {
			delete(t.members, name)
			t.signalLocked()
		}
	}
}
