package exchange

import (
	"log/slog"
	"sync"
	"time"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// maxParked bounds the items that wait for their next attempt without taking up
// room in the window, as a multiple of it.
const maxParked = 4

// receiver is one location: what is known of its items, and which are under way.
type receiver struct {
	e   *Exchange
	loc Location
	log *slog.Logger

	mu       sync.Mutex
	link     Link
	fates    map[string]*known
	underWay map[string]*carriage
	parked   int     // of those under way, that wait for their next attempt
	waiting  *lineup // what may be set out, in its order
	listing  map[string]bool
	partial  []candidate // of a listing that is not complete yet
	ration   ration      // of the last listing
	troubles map[string]int
	expiring []expiry // settled fates, the oldest first
	pushed   bool
	// removes: the source's items go when they are settled. Known once one was
	// listed; until then nothing is concluded from an item's absence in haste.
	removes  bool
	idle     chan struct{} // closed when nothing is under way and draining
	stopping bool

	// stopped by order; paused is what the present handler was told, nil: nothing.
	stopped  bool
	paused   *bool
	nextPoll time.Time
	// pollFailed: the source was asked at its time, and could not be listed.
	pollFailed bool
	wake       chan struct{} // of capacity 1: something of these has changed

	status    string
	lastError string
	lastItem  string
	received  uint64
	spooling  int
}

// known is an item's fate and what this owner has seen of it.
type known struct {
	fate *pb.Fate
	// doubt: an earlier attempt, or an earlier owner, may have sent it.
	doubt  bool
	absent int       // complete listings without it, in a row
	since  time.Time // of the fate, or of the absence
	// recalled is when the source was asked for it last.
	recalled time.Time
}

func newReceiver(e *Exchange, l Location, fates map[string]*pb.Fate) *receiver {
	r := &receiver{
		e: e, loc: l, log: e.cfg.Log.With("location", l.Name), stopped: l.Stopped,
		fates: map[string]*known{}, underWay: map[string]*carriage{}, waiting: newLineup(l.Ordered),
		troubles: map[string]int{}, wake: make(chan struct{}, 1), status: "idle",
	}
	now := time.Now()
	for key, f := range fates {
		r.fates[key] = &known{fate: f, doubt: f.GetState() == pb.Fate_INTENDED, since: now}
		r.holdLocked(key, f, true)
		if f.GetState() == pb.Fate_SETTLED {
			r.expiring = append(r.expiring, expiry{key, now})
		}
	}
	return r
}

func (r *receiver) attach(link Link) {
	r.mu.Lock()
	r.link, r.paused, r.partial, r.listing, r.pollFailed = link, nil, nil, nil, false
	r.waiting.clear()
	for _, k := range r.fates {
		k.recalled = time.Time{}
	}
	r.mu.Unlock()
	r.nudge()
}

// nudge has keepTime look again.
func (r *receiver) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// handle takes one message of the handler.
func (r *receiver) handle(link Link, m *adapterpb.FromAdapter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.link != link {
		return // of a handler that has been replaced
	}
	switch k := m.GetKind().(type) {
	case *adapterpb.FromAdapter_Listing:
		r.listedLocked(k.Listing)
	case *adapterpb.FromAdapter_Offer:
		r.pushed = true
		r.lineUpLocked(candidate{item: k.Offer.GetItem(), content: k.Offer.GetContent(), pushed: true})
	case *adapterpb.FromAdapter_Content:
		r.replyLocked(k.Content.GetKey(), m)
	case *adapterpb.FromAdapter_ReadFailed:
		r.replyLocked(k.ReadFailed.GetKey(), m)
	case *adapterpb.FromAdapter_Settled:
		r.replyLocked(k.Settled.GetKey(), m)
	case *adapterpb.FromAdapter_Recalled:
		r.recalledLocked(k.Recalled)
	case *adapterpb.FromAdapter_EndpointState:
		r.stateLocked(k.EndpointState)
	}
	r.startLocked()
}

func (r *receiver) replyLocked(key string, m *adapterpb.FromAdapter) {
	if c := r.underWay[key]; c != nil {
		select {
		case c.replies <- m:
		default: // more answers than questions: not of this carriage
		}
	}
}

func (r *receiver) stateLocked(s *adapterpb.EndpointState) {
	switch s.GetState() {
	case adapterpb.EndpointState_POLLING:
		r.status = "polling"
	case adapterpb.EndpointState_BACKING_OFF:
		r.status = "backing-off"
	case adapterpb.EndpointState_STOPPED, adapterpb.EndpointState_REJECTED:
		r.status = "stopped"
	default:
		r.status = "idle"
	}
	r.lastError = s.GetError().GetText()
	if r.loc.Timetable.Next != nil && r.lastError != "" && !r.pollFailed {
		r.pollFailed = true
		r.nudge()
	}
}

// listedLocked gathers a listing and, when it is complete, sees what is in it and
// what is not.
func (r *receiver) listedLocked(l *adapterpb.Listing) {
	if r.listing == nil {
		r.listing = map[string]bool{}
	}
	for _, item := range l.GetItems() {
		key := item.GetKey()
		r.listing[key] = true
		r.removes = !item.GetKept()
		k := r.fates[key]
		if k != nil {
			k.absent = 0
			if errandOf(k.fate, item.GetKept(), false) == nothing {
				continue
			}
		}
		if r.underWay[key] == nil {
			r.partial = append(r.partial, candidate{item: item})
		}
	}
	if !l.GetFinal() {
		return
	}
	r.pollFailed = false
	r.ration = ration{items: r.loc.PollItems, bytes: r.loc.PollBytes}
	r.waiting.clear()
	for _, c := range r.partial {
		r.lineUpLocked(c)
	}
	for key, k := range r.fates {
		if r.underWay[key] == nil && !r.listing[key] {
			if k.absent++; k.absent == 1 {
				k.since = time.Now()
			}
		}
	}
	for key := range r.troubles {
		if !r.listing[key] && !r.pushed {
			delete(r.troubles, key)
		}
	}
	r.listing, r.partial = nil, nil
}

// lineUpLocked puts a candidate into its lane.
func (r *receiver) lineUpLocked(c candidate) {
	if r.loc.Ordered && r.loc.Lane != nil {
		lane, err := r.loc.Lane(r.properties(c.item))
		if err != nil {
			// One lane for all of which nobody can tell keeps them in their order.
			r.lastError = "order_by: " + err.Error()
		}
		c.lane = lane
	}
	r.waiting.add(c)
}

// startLocked sets carriages out while there are candidates and room.
func (r *receiver) startLocked() {
	for r.roomLocked() && !r.stopping && r.e.ctx.Err() == nil {
		next, ok := r.waiting.next()
		if !ok {
			return
		}
		key := next.item.GetKey()
		if c := r.underWay[key]; c != nil {
			if next.pushed {
				// Its broker has given up on the offer that is under way, and waits for
				// an answer to this one.
				c.again = &next
			}
			continue // its lane is given back with the carriage
		}
		var fate *pb.Fate
		doubt := false
		if k := r.fates[key]; k != nil {
			fate, doubt = k.fate, k.doubt
		}
		errand := errandOf(fate, next.item.GetKept(), next.pushed)
		if errand == nothing {
			r.waiting.done(next.lane)
			continue
		}
		if fate == nil && !next.pushed && r.troubles[key] == 0 && !r.ration.take(next.item.GetSize()) {
			r.waiting.done(next.lane) // the next listing has it again
			continue
		}
		c := newCarriage(r, next, fate, doubt)
		r.underWay[key] = c
		r.e.committer.move(1)
		r.e.tasks.Go(func() {
			c.run(r.e.ctx, errand)
			r.e.committer.move(-1)
			r.finished(c)
		})
	}
}

// ration is what may be taken up after one listing: of items that are new. What was begun
// has to go on whatever comes before it, and one that cannot be read must not use up the
// turns of the others.
type ration struct {
	items, begun int
	bytes, taken int64
}

// take reports whether one more item may be taken up, and counts it.
func (r *ration) take(size int64) bool {
	size = max(size, 0) // not known
	if r.items > 0 && r.begun >= r.items || r.bytes > 0 && r.begun > 0 && r.taken+size > r.bytes {
		return false
	}
	r.begun++
	r.taken += size
	return true
}

// roomLocked: what waits for its next attempt does not keep the others from going,
// up to a bound.
func (r *receiver) roomLocked() bool {
	return len(r.underWay)-min(r.parked, maxParked*r.loc.MaxInFlight) < r.loc.MaxInFlight
}

// park notes that a carriage waits for its next attempt, or goes on.
func (r *receiver) park(by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parked += by
	r.e.committer.move(-by)
	r.startLocked()
}

// finished makes room for the next.
func (r *receiver) finished(c *carriage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.underWay, c.item.GetKey())
	r.waiting.done(c.lane)
	if c.again != nil && r.link == c.link {
		r.waiting.add(*c.again)
	}
	if r.stopping && len(r.underWay) == 0 {
		close(r.idle)
		return
	}
	r.startLocked()
}

// drain starts nothing more and waits for what is under way, or ctx.
func (r *receiver) drain(done <-chan struct{}) {
	r.mu.Lock()
	if !r.stopping {
		r.stopping, r.idle = true, make(chan struct{})
		if len(r.underWay) == 0 {
			close(r.idle)
		}
	}
	idle := r.idle
	r.mu.Unlock()
	select {
	case <-idle:
	case <-done:
	}
}

// setFate notes what has been committed for an item; a nil fate forgets it.
func (r *receiver) setFate(key string, f *pb.Fate, doubt bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setFateLocked(key, f, doubt)
}

func (r *receiver) setFateLocked(key string, f *pb.Fate, doubt bool) {
	k := r.fates[key]
	if k != nil {
		r.holdLocked(key, k.fate, false)
	}
	if f == nil {
		delete(r.fates, key)
		return
	}
	if k == nil {
		k = &known{}
		r.fates[key] = k
	}
	k.fate, k.doubt, k.absent, k.since = f, doubt, 0, time.Now()
	r.holdLocked(key, f, true)
	if f.GetState() == pb.Fate_SETTLED {
		r.expiring = append(r.expiring, expiry{key, k.since})
	}
}

// holdLocked has an item hold its lane, or not any more: while it is suspended, and
// when it is resumed until it has passed.
func (r *receiver) holdLocked(key string, f *pb.Fate, on bool) {
	holds := f.GetState() == pb.Fate_SUSPENDED || f.GetState() == pb.Fate_INTENDED && f.GetRecall()
	if r.loc.Ordered && r.loc.Hold && holds {
		r.waiting.hold(f.GetOrderKey(), key, on)
	}
}

// trouble counts a read in vain and reports whether it was one too many.
func (r *receiver) trouble(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.troubles) >= maxTroubles {
		clear(r.troubles)
	}
	r.troubles[key]++
	return r.troubles[key] >= maxReadFailures
}

func (r *receiver) note(item string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastItem = item
	if err != nil {
		r.lastError = err.Error()
		return
	}
	r.received++
}

// waitingForSpool counts carriages that wait for room.
func (r *receiver) waitingForSpool(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spooling += n
}

func (r *receiver) state(now time.Time) LocationState {
	open, _ := r.loc.Timetable.open(now)
	r.mu.Lock()
	defer r.mu.Unlock()
	s := LocationState{
		Name: r.loc.Name, State: r.status, Received: r.received, InFlight: len(r.underWay), Held: r.waiting.held(),
		LastItem: r.lastItem, LastError: r.lastError, Window: r.loc.Timetable.Text, NextPoll: r.nextPoll,
	}
	switch {
	case r.link == nil || r.stopped:
		s.State = "stopped"
	case !open:
		s.State = "outside-window"
	case r.spooling > 0:
		s.State = "waiting-for-spool"
	case r.loc.Timetable.Next != nil && s.State == "stopped":
		s.State = "idle" // it waits for its hour
	}
	for key, k := range r.fates {
		switch k.fate.GetState() {
		case pb.Fate_SUSPENDED:
			s.Suspended++
		case pb.Fate_INTENDED:
			if k.doubt {
				s.InDoubt++
			}
		case pb.Fate_DELIVERED, pb.Fate_DISCARDED:
			if r.removes || r.pushed || r.underWay[key] != nil {
				s.Settling++
			}
		}
	}
	return s
}
