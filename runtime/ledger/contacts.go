package ledger

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// contacts is raft's transport, and notes on the way what followers answer: raft
// itself does not tell how far they are. Every heartbeat's answer has the index of
// the last entry in the follower's log.
type contacts struct {
	raft.Transport
	raft.WithPreVote
	gap time.Duration
	now func() time.Time

	mu   sync.Mutex
	seen map[raft.ServerID]contact
}

// contact is what is known of a follower.
type contact struct {
	last  uint64    // in its log
	at    time.Time // of its last answer
	since time.Time // from when on it has answered without a gap
}

var (
	_ raft.Transport   = (*contacts)(nil)
	_ raft.WithPreVote = (*contacts)(nil)
	_ raft.WithClose   = (*contacts)(nil)
)

// contactGap is the silence after which a follower counts as away. Heartbeats go
// several times per Heartbeat.
func contactGap(t Timing) time.Duration { return max(4*t.Heartbeat, time.Second) }

func newContacts(t raft.Transport, votes raft.WithPreVote, gap time.Duration) *contacts {
	return &contacts{Transport: t, WithPreVote: votes, gap: gap, now: time.Now, seen: map[raft.ServerID]contact{}}
}

// AppendEntries implements raft.Transport.
func (c *contacts) AppendEntries(id raft.ServerID, at raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := c.Transport.AppendEntries(id, at, args, resp)
	if err == nil && resp.Success {
		c.note(id, resp.LastLog)
	}
	return err
}

func (c *contacts) note(id raft.ServerID, last uint64) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	was, ok := c.seen[id]
	since := was.since
	if !ok || now.Sub(was.at) > c.gap {
		since = now
	}
	c.seen[id] = contact{last: last, at: now, since: since}
}

// steady returns for how long the follower has answered without a gap, and the
// last index in its log. It is 0 while the follower is silent.
func (c *contacts) steady(id raft.ServerID) (steady time.Duration, last uint64) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.seen[id]
	if !ok || now.Sub(f.at) > c.gap {
		return 0, 0
	}
	return now.Sub(f.since), f.last
}

// answers reports whether the follower has answered lately.
func (c *contacts) answers(id raft.ServerID) bool {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.seen[id]
	return ok && now.Sub(f.at) <= c.gap
}

// within reports whether the follower has answered within that time.
func (c *contacts) within(id raft.ServerID, d time.Duration) bool {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.seen[id]
	return ok && now.Sub(f.at) <= d
}

// Heard reports whether the node has answered this one, which leads, within that
// time. A leader hears itself.
func (l *Ledger) Heard(node string, within time.Duration) bool {
	if node == l.cfg.Node {
		return true
	}
	servers, err := l.Servers()
	if err != nil {
		return false
	}
	for _, s := range servers {
		if s.Node == node && l.contacts.within(s.id(), within) {
			return true
		}
	}
	return false
}

// Close implements raft.WithClose.
func (c *contacts) Close() error {
	if t, ok := c.Transport.(raft.WithClose); ok {
		return t.Close()
	}
	return nil
}
