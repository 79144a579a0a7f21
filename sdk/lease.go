package sdk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
)

// errNoLease is the error of everything that would act without a valid lease.
// It has had no effect.
var errNoLease = Disconnected(errors.New("no valid lease: another node may act now"))

// leaseTick bounds how late the end of a lease is noticed after the machine was
// suspended: Go's timers do not count that time, the boot clock does.
const leaseTick = 250 * time.Millisecond

// lease is the right to act. It is valid from the first renewal to the deadline of
// the latest, and never again after it has once ended.
type lease struct {
	now func() bootclock.Time
	// onEnd is called once, without the lock, as soon as the lease has ended.
	onEnd func()

	mu       sync.Mutex
	deadline bootclock.Time
	timer    *time.Timer
	over     bool

	// granted is closed by the first renewal.
	granted chan struct{}
}

func newLease(now func() bootclock.Time, onEnd func()) *lease {
	return &lease{now: now, onEnd: onEnd, granted: make(chan struct{})}
}

// renew takes a new deadline, also an earlier one. It is too late after the end.
func (l *lease) renew(deadline bootclock.Time) {
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return
	}
	// The old deadline may have passed unnoticed: a renewal does not undo that.
	if l.timer != nil && l.now() >= l.deadline {
		l.endLocked()
		return
	}
	l.deadline = deadline
	if l.timer == nil {
		close(l.granted)
		l.timer = time.AfterFunc(0, l.watch)
	}
	l.timer.Reset(l.waitLocked())
	l.mu.Unlock()
}

// waitLocked is the time until the next look at the clock.
func (l *lease) waitLocked() time.Duration {
	return max(0, min(l.deadline.Sub(l.now()), leaseTick))
}

// watch runs in the timer's goroutine.
func (l *lease) watch() {
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return
	}
	if l.now() >= l.deadline {
		l.endLocked()
		return
	}
	l.timer.Reset(l.waitLocked())
	l.mu.Unlock()
}

// endLocked ends the lease for good, releases the lock and says so.
func (l *lease) endLocked() {
	l.over = true
	l.mu.Unlock()
	l.onEnd()
}

// check is called before every outward effect.
func (l *lease) check() error {
	l.mu.Lock()
	if l.over || l.timer == nil {
		l.mu.Unlock()
		return errNoLease
	}
	if l.now() >= l.deadline {
		l.endLocked()
		return errNoLease
	}
	l.mu.Unlock()
	return nil
}

// wait returns when the lease has been granted for the first time.
func (l *lease) wait(ctx context.Context) error {
	select {
	case <-l.granted:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the lease: %w", context.Cause(ctx))
	}
}

// stop ends the watching. The lease counts as over; nobody is told.
func (l *lease) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.timer != nil {
		l.timer.Stop()
	}
}
