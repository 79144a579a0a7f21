package exchange

import (
	"context"
	"fmt"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// Timetable says when a source is looked at. The zero value: always, at the
// intervals that its handler knows.
type Timetable struct {
	// Open reports whether items may be taken up at that time, and when that changes
	// next (zero: never). Nil: always.
	Open func(time.Time) (open bool, change time.Time)
	// Next is the next time after the given one at which a source is polled that is
	// polled at certain times. Nil: it has none, but an interval.
	Next func(time.Time) time.Time
	// Text says when it is open, in words.
	Text string
}

func (t Timetable) open(now time.Time) (open bool, change time.Time) {
	if t.Open == nil {
		return true, time.Time{}
	}
	return t.Open(now)
}

// Paused reports whether the location's handler is to be started paused at that
// time: not to look for items by itself.
func (l Location) Paused(now time.Time) bool {
	open, _ := l.Timetable.open(now)
	return l.Stopped || !open || l.Timetable.Next != nil
}

const (
	// longestNap bounds the wait for a change, for the clock may be set.
	longestNap = time.Minute
	// missedWithin is how long ago a poll at a certain time may have been due for a new
	// handler to make up for it: nobody may have owned the location then.
	missedWithin = time.Hour
	// A poll at a certain time that fails is tried again, after longer and longer waits.
	firstPollAgain   = 30 * time.Second
	longestPollAgain = 10 * time.Minute
)

// appointments are the polls of a location that is polled at certain times.
type appointments struct {
	next  func(time.Time) time.Time // nil: it is not
	at    time.Time                 // of the next one
	again time.Time                 // of the next try of one that failed, zero for none
	tries int
}

// due reports whether to poll now. fresh: a new handler has just begun; failed: its
// last poll did.
func (a *appointments) due(now time.Time, fresh, failed bool) bool {
	if a.next == nil {
		return false
	}
	due := fresh && !a.next(now.Add(-missedWithin)).After(now)
	if !a.at.IsZero() && !now.Before(a.at) {
		due = true
	}
	if due || a.at.IsZero() {
		a.at, a.again, a.tries = a.next(now), time.Time{}, 0
	}
	switch {
	case due:
	case !failed:
		a.again, a.tries = time.Time{}, 0
	case a.again.IsZero():
		a.again = now.Add(firstPollAgain)
	case !now.Before(a.again):
		a.tries++
		a.again = now.Add(min(firstPollAgain<<min(a.tries, 10), longestPollAgain))
		due = true
	}
	return due
}

// keepTime tells the handler when to look for items.
func (r *receiver) keepTime(ctx context.Context) {
	polls := appointments{next: r.loc.Timetable.Next}
	for {
		now := time.Now()
		open, change := r.loc.Timetable.open(now)
		stopped, fresh, failed := r.times()
		due := polls.due(now, fresh, failed)
		r.setTimes(ctx, stopped || !open || polls.next != nil, polls.at)
		if due && open && !stopped {
			r.say(ctx, r.pollNow())
		}
		nap := longestNap
		for _, t := range []time.Time{change, polls.at, polls.again} {
			if !t.IsZero() {
				nap = min(nap, max(time.Until(t), time.Millisecond))
			}
		}
		timer := time.NewTimer(nap)
		select {
		case <-timer.C:
		case <-r.wake:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// times is what keepTime has to know of the receiver: whether it is stopped, whether
// its handler is new, and whether the last poll failed.
func (r *receiver) times() (stopped, fresh, failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopped, r.link != nil && r.paused == nil, r.pollFailed
}

// setTimes pauses the handler or has it go on, if that is news to it.
func (r *receiver) setTimes(ctx context.Context, paused bool, poll time.Time) {
	r.mu.Lock()
	r.nextPoll = poll
	news := r.link != nil && (r.paused == nil || *r.paused != paused)
	if news {
		r.paused = &paused
		if paused && !r.pushed {
			// What is under way goes on; so does what a broker has handed over, for it waits
			// for an answer.
			r.waiting.clear()
		}
	}
	r.mu.Unlock()
	if news {
		r.say(ctx, &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Pause{Pause: &adapterpb.Pause{Location: r.loc.Name, Paused: paused}}})
	}
}

func (r *receiver) pollNow() *adapterpb.ToAdapter {
	return &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Poll{Poll: &adapterpb.Poll{Location: r.loc.Name}}}
}

// say sends the handler something that is not answered. If that fails, the handler
// has ended, and the next one hears it again.
func (r *receiver) say(ctx context.Context, m *adapterpb.ToAdapter) {
	r.mu.Lock()
	link := r.link
	r.mu.Unlock()
	if link == nil {
		return
	}
	if err := link.Send(ctx, m); err != nil && ctx.Err() == nil {
		r.log.Warn("the handler could not be told", "what", fmt.Sprintf("%T", m.GetKind()), "error", err)
	}
}
