package simulation

import "time"

// point is a bad moment for a node to be struck at.
type point int

const (
	beforeRenewal  point = iota // the clock was read, the request is not sent
	afterRenewal                // granted, and the answer is on its way
	beforeDecision              // the leader is about to propose what it decided
	beforeBegin                 // the tenant has decided to act, nothing acts yet
	beforeCommit                // fates are about to be proposed
	afterSend                   // a message was sent, the ledger does not know
	beforeRelease               // nothing acts any more, the ledger does not know
	points
)

func (p point) String() string {
	return [...]string{"before a renewal", "after a renewal", "before a decision", "before a beginning",
		"before a commit", "after a sending", "before a release"}[p]
}

// trap waits for a node to come to a bad moment. The world's lock guards it.
type trap struct {
	n      *node
	at     point
	strike func()
	taken  bool
	sprung chan struct{} // closed after the strike
}

// pass is called by everything that comes to a bad moment.
func (n *node) pass(at point) {
	n.w.mu.Lock()
	t := n.w.trap
	if t == nil || t.n != n || t.at != at {
		n.w.mu.Unlock()
		return
	}
	n.w.trap, t.taken = nil, true
	n.w.noteLocked("%s is struck %v", n.name, at)
	n.w.mu.Unlock()
	t.strike()
	close(t.sprung)
}

// disarm reports whether nobody came.
func (w *world) disarm(t *trap) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.trap == t {
		w.trap = nil
	}
	return !t.taken
}

// trap strikes a node at a bad moment, if it comes to one soon.
func (m *nemesis) trap() (func(), time.Duration) {
	n, lapse := m.victim(), m.lapse()
	t := &trap{n: n, at: point(m.rng.IntN(int(points))), sprung: make(chan struct{})}
	var mend func()
	switch m.rng.IntN(5) {
	case 0:
		t.strike = func() { n.crash(everything); m.w.changed("power of %s fails", n.name) }
		mend = func() { n.start(); m.w.changed("%s is up", n.name) }
	case 1:
		t.strike, mend = m.stand(n, "the runtime", &n.runtime)
	default:
		t.strike, mend = m.stand(n, "everything", &n.machine)
	}
	m.w.mu.Lock()
	m.w.trap = t
	m.w.mu.Unlock()
	return func() {
		select {
		case <-t.sprung:
		case <-time.After(ttl / 2):
			if m.w.disarm(t) {
				return
			}
			<-t.sprung
		}
		time.Sleep(lapse)
		mend()
	}, 0
}
