package sdk

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// chunkItems and chunkBytes bound one message of a listing.
const (
	chunkItems = 500
	chunkBytes = 1 << 20
)

// never stands for a poll that is not scheduled.
const never time.Duration = -1

// polled is a receive location with a PolledSource.
type polled struct {
	*endpoint
	src PolledSource
	// every is the time between two polls; 0: at the start, and when asked to.
	every time.Duration
	// batch is nil unless src is a Batcher.
	batch *batch

	pollCh    chan struct{}
	troubleCh chan error // the source is out of reach, says who reads or settles

	// sayMu orders Settled before any listing that lacks the item, and after any
	// that has it. It is held while a message is queued, and never with mu wanted
	// by somebody who holds it the other way round: sayMu first.
	sayMu sync.Mutex

	mu    sync.Mutex
	items map[string]*entry
	// rounds counts the listings begun, merged is the latest successful one's number
	// (0: none yet), listedCh is closed by the next successful one.
	rounds, merged int
	listedCh       chan struct{}
	// complete is set by the first complete listing that was offered.
	complete bool
	// settled holds what was settled while a listing is under way, and is nil else.
	settled map[string]bool
	// awaiting counts the settles that need a listing before they can go on.
	awaiting int
	// active counts readings and settles under way or waiting for a slot.
	active int

	polling    bool
	listErr    error
	settleErrs map[string]error
}

// entry is an item that is listed or in flight.
type entry struct {
	key  string
	item Item
	// since is when it was first listed under this key.
	since time.Time
	// listed: by the latest listing. held: not stable yet. first: already there at
	// this handler's first listing.
	listed, held, first bool
	reading, settling   bool
	// taken is when its content was handed over, zero if it was not.
	taken time.Time
}

// forgetTaken is how long an item that was read and is no longer listed is
// remembered for a settle that may never come.
const forgetTaken = time.Hour

func newPolled(e *endpoint, src PolledSource, c *adapterpb.Endpoint) *polled {
	l := &polled{
		endpoint:   e,
		src:        src,
		every:      time.Duration(max(0, c.GetPollEveryMs())) * time.Millisecond,
		pollCh:     make(chan struct{}, 1),
		troubleCh:  make(chan error, 1),
		items:      map[string]*entry{},
		listedCh:   make(chan struct{}),
		settleErrs: map[string]error{},
	}
	if b, ok := src.(Batcher); ok {
		l.batch = &batch{
			src: b, l: l,
			gate:   semaphore.NewWeighted(gateWidth),
			kickCh: make(chan struct{}, 1),
		}
	}
	return l
}

func (l *polled) poll() { nudge(l.pollCh) }

func (l *polled) pause(on bool) {
	if l.pausing.set(on) {
		l.s.spawn(l.refresh) // run may be listing for a while yet
	}
}

// nudge wakes whoever listens on ch, now or next time.
func nudge(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (l *polled) close() error { return l.guard("close", l.src.Close) }

// run lists at once, at each interval, when asked to, and when a new item may have
// become stable; after an error with growing pauses. While it is paused it lists when
// asked to, and again until nothing of that is held back any more.
func (l *polled) run() {
	if l.batch != nil {
		l.s.spawn(l.batch.run)
	}
	l.refresh() // it may start paused
	if l.s.lease.wait(l.s.taking) != nil {
		return
	}
	defer l.report(adapterpb.EndpointState_STOPPED, nil)
	r := rhythm{retry: backoff{limit: l.every}, timer: time.NewTimer(0)}
	defer r.timer.Stop()
	paused, changed := l.pausing.now()
	r.turn(paused)
	for {
		select {
		case <-l.s.taking.Done():
			return
		case <-changed:
			paused, changed = l.pausing.now()
			r.turn(paused)
			l.setListErr(nil) // of before; it shows anew
			continue
		case err := <-l.troubleCh:
			// The next listing shows whether the source is back. Many items fail
			// together, and count once.
			if !paused && !l.failing() {
				l.setListErr(err)
				r.timer.Reset(r.retry.next())
			}
			continue
		case <-l.pollCh:
			r.asked = true
		case <-r.timer.C:
		}
		r.after(l.round(), l.isAwaited())
	}
}

// rhythm is when a polled location lists by itself.
type rhythm struct {
	retry  backoff
	timer  *time.Timer
	paused bool
	// asked: the listings since the pause began are on demand, not its own doing.
	asked bool
}

// turn begins a pause, or a time without one.
func (r *rhythm) turn(paused bool) {
	r.paused, r.asked = paused, false
	r.timer.Stop()
	if !paused {
		r.retry.reset()
		r.timer.Reset(0)
	}
}

// after sets the time of the next listing. One that a settle waits for is tried
// again also during a pause.
func (r *rhythm) after(done round, awaited bool) {
	wait := done.next
	switch {
	case r.paused && !awaited && (done.err != nil || !r.asked):
		wait = never
	case done.err != nil:
		wait = r.retry.next()
	case r.paused:
		wait = done.wake
	default:
		r.retry.reset()
	}
	r.timer.Stop()
	if wait != never {
		r.timer.Reset(wait)
	}
}

// round is how one listing went.
type round struct {
	err error
	// next is the time until the next one is due, wake that until an item which is
	// held back may be stable.
	next, wake time.Duration
}

// round lists once.
func (l *polled) round() round {
	l.s.begin()
	defer l.s.end()
	none := round{next: never, wake: never}
	if l.s.taking.Err() != nil {
		return none
	}
	l.setPolling(true)
	started := time.Now()
	l.mu.Lock()
	l.rounds++
	l.settled = map[string]bool{}
	l.mu.Unlock()

	var items []Item
	err := l.inGate(l.s.taking, func(ctx context.Context) error {
		return l.call(ctx, "list", listLimit, func(ctx context.Context) (err error) {
			items, err = l.src.List(ctx)
			return err
		})
	})
	for i := range items {
		if err == nil && items[i].Key == "" {
			err = fmt.Errorf("item %d of the listing has no key: the adapter has to give each item one", i)
		}
	}
	var m merged
	l.mu.Lock()
	if err == nil {
		m = l.mergeLocked(items, started)
	}
	l.settled = nil
	l.mu.Unlock()

	if l.s.taking.Err() != nil {
		return none // the error, if any, is our own doing
	}
	if err == nil {
		if m.complete {
			l.publish(m)
		}
		l.announce()
	}
	l.listed(err)
	if err != nil {
		return round{err: err, next: never, wake: never}
	}
	return round{next: l.untilNext(started, m.wake), wake: m.wake}
}

// inGate keeps a batcher's Flush away while f runs.
func (l *polled) inGate(ctx context.Context, f func(context.Context) error) error {
	if l.batch == nil {
		return f(ctx)
	}
	if err := l.batch.gate.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer l.batch.gate.Release(1)
	return f(ctx)
}

// untilNext is the time to the next poll, or to the moment at which the first item
// that is held back may be stable. Listing takes at most a third of the time: a
// source that is slow to list is not kept from its items by it.
func (l *polled) untilNext(started time.Time, wake time.Duration) time.Duration {
	next := never
	if l.every > 0 {
		took := time.Since(started)
		next = max(2*took, l.every-took)
	}
	if wake != never && (next == never || wake < next) {
		next = wake
	}
	return next
}

// merged is what a listing comes to.
type merged struct {
	offer    []*adapterpb.Item
	complete bool
	wake     time.Duration
}

// mergeLocked takes a listing into the items. A new item whose StableFor has not
// passed is not offered. It has no fate, so leaving it out of a complete listing
// says nothing about it: except at this handler's first listing, where an earlier
// owner may have left the fate of any item. Until those have become stable (or
// have changed and so become others) no listing is complete, and none is sent.
func (l *polled) mergeLocked(items []Item, started time.Time) merged {
	now := time.Now()
	m := merged{complete: true, wake: never}
	for _, e := range l.items {
		e.listed = false
	}
	for _, it := range items {
		key := wireKey(it.Key)
		if l.settled[key] {
			continue // confirmed after this listing had begun
		}
		e := l.items[key]
		switch {
		case e == nil:
			e = &entry{key: key, since: now, first: l.merged == 0}
			l.items[key] = e
		case e.listed:
			l.log.Warn("two items under one key: the second is ignored", "key", key)
			continue
		}
		if e.held && it.Version != e.item.Version {
			// Once it was let through it stays so: to leave it out of a complete listing
			// would say that it is gone.
			e.since = now
		}
		e.item, e.listed = it, true
		e.held = it.StableFor > 0 && started.Sub(e.since) < it.StableFor
		if !e.held {
			m.offer = append(m.offer, wireItem(key, it))
			continue
		}
		// Measured from the listing's start, so that the next one really is later.
		left := max(time.Millisecond, time.Until(e.since.Add(it.StableFor)))
		if m.wake == never || left < m.wake {
			m.wake = left
		}
		if e.first && !l.complete {
			m.complete = false
		}
	}
	for key, e := range l.items {
		switch {
		case e.listed:
		case e.reading || e.settling || !e.taken.Before(started):
			// Under way, or it was while the source was being listed, which may have
			// given it another name: whether it is gone shows at the end, or next time.
			m.offer = append(m.offer, wireItem(key, e.item))
		case e.taken.IsZero() || now.Sub(e.taken) > forgetTaken:
			delete(l.items, key)
		}
	}
	l.merged = l.rounds
	l.complete = l.complete || m.complete
	return m
}

// publish sends a listing in chunks, without what was settled since.
func (l *polled) publish(m merged) {
	for first := true; first || len(m.offer) > 0; first = false {
		n, size := 0, 0
		for n < len(m.offer) && n < chunkItems && size < chunkBytes {
			size += itemSize(m.offer[n])
			n++
		}
		chunk := m.offer[:n]
		m.offer = m.offer[n:]
		l.sayMu.Lock()
		l.say(&adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Listing{Listing: &adapterpb.Listing{
			Location: l.name,
			Items:    l.still(chunk),
			Final:    m.complete && len(m.offer) == 0,
		}}})
		l.sayMu.Unlock()
	}
}

func itemSize(it *adapterpb.Item) int {
	n := len(it.GetKey()) + 16
	for k, v := range it.GetContext() {
		n += len(k) + len(v) + 8
	}
	return n
}

// still returns the items that were not settled in the meantime.
func (l *polled) still(items []*adapterpb.Item) []*adapterpb.Item {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*adapterpb.Item, 0, len(items))
	for _, it := range items {
		if l.items[it.GetKey()] != nil {
			out = append(out, it)
		}
	}
	return out
}

// announce wakes those who wait for a listing.
func (l *polled) announce() {
	l.mu.Lock()
	close(l.listedCh)
	l.listedCh = make(chan struct{})
	l.mu.Unlock()
}
