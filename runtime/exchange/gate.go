package exchange

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

const (
	// The waits where a port is out of reach: they double, and never use up attempts.
	firstOutage   = 500 * time.Millisecond
	longestOutage = 30 * time.Second
	// badRun is how many sends in a row may fail, of whatever messages, before the
	// port is taken to be down: further ones would only use up their attempts.
	badRun = 5
)

// gate stands before a port. While the port is down it lets one message through now
// and then, to find out whether it is up again; the others wait, and keep their
// attempts. (Circuit breaker: Nygard, Release It!, 2007.)
type gate struct {
	// shut says that nothing may be sent just now by order or by the clock, why,
	// and until when; a zero time is not known. Nil: always open.
	shut func(now time.Time) (why string, until time.Time)

	mu      sync.Mutex
	changed chan struct{} // closed and replaced with every change
	down    bool
	since   time.Time
	again   time.Time // when the next trial may begin
	trial   bool      // one is under way
	outages int
	bad     int // failures in a row
	waiting int
}

func newGate(shut func(time.Time) (string, time.Time)) *gate {
	return &gate{shut: shut, changed: make(chan struct{})}
}

// lookAgain bounds the wait before a port that is shut, if nobody says until when.
const lookAgain = time.Minute

// pass waits until a message may be sent. It fails when ctx or stop ends. Every pass
// is to be followed by a call of result.
func (g *gate) pass(ctx context.Context, stop <-chan struct{}) error {
	g.mu.Lock()
	g.waiting++
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.waiting--
		g.mu.Unlock()
	}()
	for {
		wait, changed, ok := g.try(time.Now())
		if ok {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-stop:
			timer.Stop()
			return errDraining
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
	}
}

func (g *gate) try(now time.Time) (wait time.Duration, changed <-chan struct{}, ok bool) {
	if g.shut != nil {
		if why, until := g.shut(now); why != "" {
			g.mu.Lock()
			defer g.mu.Unlock()
			wait = lookAgain
			if !until.IsZero() {
				wait = min(max(until.Sub(now), time.Millisecond), lookAgain)
			}
			return wait, g.changed, false
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !g.down:
		return 0, nil, true
	case g.trial:
		return lookAgain, g.changed, false // its result changes the gate
	case now.Before(g.again):
		return g.again.Sub(now), g.changed, false
	}
	g.trial = true
	return 0, nil, true
}

// result says how an attempt went that had passed.
func (g *gate) result(err error, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	kind := kindOf(err)
	away := errors.Is(err, ErrInterrupted) || kind == adapterpb.Error_DISCONNECTED
	switch {
	case err == nil || kind == adapterpb.Error_PERMANENT || kind == adapterpb.Error_GONE:
		// It has answered, whatever it thinks of the message.
		g.down, g.bad, g.outages = false, 0, 0
	case away || g.bad+1 >= badRun:
		if !g.down {
			g.since = now
		}
		wait := outage(g.outages)
		g.down, g.again = true, now.Add(wait/2+rand.N(wait/2+1))
		g.outages++
	default:
		g.bad++
	}
	g.trial = false
	g.signalLocked()
}

// wake has everybody who waits look again.
func (g *gate) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.signalLocked()
}

func (g *gate) signalLocked() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// state reports whether the port is down, since when, and when it is tried again.
func (g *gate) state() (down bool, since, again time.Time, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.down, g.since, g.again, g.waiting
}

func outage(n int) time.Duration {
	return min(firstOutage<<min(n, 10), longestOutage)
}
