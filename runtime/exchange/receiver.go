package exchange

import (
	"context"
	"log/slog"
	"sync"
	"time"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

const (
	// settledGrace is how long a settled item's fate stays, so that a listing made
	// before the settling does not make it new. An item that is put there again,
	// the same to the byte of its key, is taken up after it.
	settledGrace = time.Minute
	// absentGrace is how long an item must be missing before its fate is forgotten.
	absentGrace = 10 * time.Minute
	// pushedGrace is the same for sources that cannot list: a broker offers what it
	// holds long before.
	pushedGrace = 24 * time.Hour
	// housekeeping is the interval at which fates are forgotten.
	housekeeping = 5 * time.Second
	// maxReadFailures is how often an item is read in vain before it is suspended,
	// so that one malformed item does not stop a location.
	maxReadFailures = 5
)

// receiver is one location: what is known of its items, and which are under way.
type receiver struct {
	e   *Exchange
	loc Location
	log *slog.Logger

	mu       sync.Mutex
	link     Link
	fates    map[string]*known
	underWay map[string]*carriage
	waiting  []candidate // of the last listing, in its order
	listing  map[string]bool
	partial  []candidate // of a listing that is not complete yet
	pushed   bool
	// removes: the source's items go when they are settled. Known once one was
	// listed; until then nothing is concluded from an item's absence in haste.
	removes  bool
	idle     chan struct{} // closed when nothing is under way and draining
	stopping bool

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
	doubt    bool
	failures int       // reads in vain, in a row
	absent   int       // complete listings without it, in a row
	since    time.Time // of the fate, or of the absence
}

type candidate struct {
	item   *adapterpb.Item
	pushed bool
}

func newReceiver(e *Exchange, l Location, fates map[string]*pb.Fate) *receiver {
	r := &receiver{
		e: e, loc: l, log: e.cfg.Log.With("location", l.Name),
		fates: map[string]*known{}, underWay: map[string]*carriage{}, status: "idle",
	}
	for key, f := range fates {
		r.fates[key] = &known{fate: f, doubt: f.GetState() == pb.Fate_INTENDED, since: time.Now()}
	}
	return r
}

func (r *receiver) attach(link Link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.link, r.waiting, r.partial, r.listing = link, nil, nil, nil
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
		r.waiting = append(r.waiting, candidate{k.Offer.GetItem(), true})
	case *adapterpb.FromAdapter_Content:
		r.replyLocked(k.Content.GetKey(), m)
	case *adapterpb.FromAdapter_ReadFailed:
		r.replyLocked(k.ReadFailed.GetKey(), m)
	case *adapterpb.FromAdapter_Settled:
		r.replyLocked(k.Settled.GetKey(), m)
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
}

// listedLocked gathers a listing and, when it is complete, sees what is in it and
// what is not.
func (r *receiver) listedLocked(l *adapterpb.Listing) {
	if r.listing == nil {
		r.listing = map[string]bool{}
	}
	for _, item := range l.GetItems() {
		r.listing[item.GetKey()] = true
		r.removes = !item.GetKept()
		if k := r.fates[item.GetKey()]; k != nil {
			k.absent = 0
		}
		r.partial = append(r.partial, candidate{item, false})
	}
	if !l.GetFinal() {
		return
	}
	r.waiting, r.partial = r.partial, nil
	for key, k := range r.fates {
		if r.underWay[key] == nil && !r.listing[key] {
			if k.absent++; k.absent == 1 {
				k.since = time.Now()
			}
		}
	}
	r.listing = nil
}

// startLocked sets carriages out while there are candidates and room.
func (r *receiver) startLocked() {
	for len(r.waiting) > 0 && len(r.underWay) < r.loc.MaxInFlight && !r.stopping && r.e.ctx.Err() == nil {
		next := r.waiting[0]
		r.waiting = r.waiting[1:]
		key := next.item.GetKey()
		if c := r.underWay[key]; c != nil {
			if next.pushed {
				// Its broker has given up on the offer that is under way, and waits for
				// an answer to this one.
				c.again = &next
			}
			continue
		}
		k := r.fates[key]
		var fate *pb.Fate
		if k != nil {
			fate = k.fate
		}
		errand := errandOf(fate, next.item.GetKept(), next.pushed)
		if errand == nothing {
			continue
		}
		c := &carriage{
			r: r, link: r.link, item: next.item, pushed: next.pushed, fate: fate,
			doubt: k != nil && k.doubt, replies: make(chan *adapterpb.FromAdapter, 4),
		}
		r.underWay[key] = c
		r.e.tasks.Go(func() {
			c.run(r.e.ctx, errand)
			r.finished(c)
		})
	}
}

// finished makes room for the next.
func (r *receiver) finished(c *carriage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.underWay, c.item.GetKey())
	if c.again != nil {
		r.waiting = append(r.waiting, *c.again)
	}
	if r.stopping && len(r.underWay) == 0 {
		close(r.idle)
		return
	}
	r.startLocked()
}

// drain starts nothing more and waits for what is under way, or ctx.
func (r *receiver) drain(ctx context.Context) {
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
	case <-ctx.Done():
	}
}

// setFate notes what has been committed for an item; a nil fate forgets it.
func (r *receiver) setFate(key string, f *pb.Fate, doubt bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f == nil {
		delete(r.fates, key)
		return
	}
	k := r.fates[key]
	if k == nil {
		k = &known{}
		r.fates[key] = k
	}
	k.fate, k.doubt, k.absent, k.since = f, doubt, 0, time.Now()
}

// readFailed counts a read in vain and reports whether it was one too many.
func (r *receiver) readFailed(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.fates[key]
	if k == nil {
		return false
	}
	k.failures++
	return k.failures >= maxReadFailures
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

func (r *receiver) state() LocationState {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := LocationState{
		Name: r.loc.Name, State: r.status, Received: r.received, InFlight: len(r.underWay),
		LastItem: r.lastItem, LastError: r.lastError,
	}
	switch {
	case r.link == nil:
		s.State = "stopped"
	case r.spooling > 0:
		s.State = "waiting-for-spool"
	}
	for _, k := range r.fates {
		switch {
		case k.fate.GetState() == pb.Fate_SUSPENDED:
			s.Suspended++
		case k.fate.GetState() == pb.Fate_INTENDED && k.doubt:
			s.InDoubt++
		}
	}
	return s
}
