package ownership

import (
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
)

// Lease is a node's time-bounded right to act. It belongs to one incarnation and
// covers whatever that owns. It is safe for concurrent use.
type Lease struct {
	now func() bootclock.Time

	mu       sync.Mutex
	deadline bootclock.Time // zero: never granted
	extended chan struct{}  // closed and replaced at every extension
}

func newLease(now func() bootclock.Time) *Lease {
	return &Lease{now: now, extended: make(chan struct{})}
}

// Deadline is the moment the right to act ends; zero if it was never granted.
func (l *Lease) Deadline() bootclock.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deadline
}

// Valid reports whether the node may act now.
func (l *Lease) Valid() bool { return l.Left() > 0 }

// Left is how long the node may still act; negative when it no longer may.
func (l *Lease) Left() time.Duration { return l.Deadline().Sub(l.now()) }

// Extended returns a channel that is closed at the next extension.
func (l *Lease) Extended() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.extended
}

// extend moves the deadline forward, never back: answers may overtake each other.
func (l *Lease) extend(to bootclock.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if to <= l.deadline {
		return false
	}
	l.deadline = to
	close(l.extended)
	l.extended = make(chan struct{})
	return true
}
