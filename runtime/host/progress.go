package host

import (
	"slices"
	"strings"
	"sync"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// Stall is a location that runs but gets nowhere.
type Stall struct {
	Location string
	// Since is when it last made progress, or, if that is unknown or was earlier,
	// when the trouble began.
	Since time.Time
	// Error is what the adapter said last. It may be empty where Polling is set.
	Error string
	// Polling says that it hangs in a listing; else its source is out of reach.
	Polling bool
}

// recoveredAfter is how long a location that was out of reach has to be idle to count
// as well without having shown anything: one that waits for messages says that it is
// idle while it still tries to connect.
const recoveredAfter = 30 * time.Second

// progress follows what handlers say of their locations. Its times are the caller's.
// It is safe for concurrent use.
type progress struct {
	after, pollAfter time.Duration

	mu sync.Mutex
	// at holds only locations in trouble, those that list, and those that have just
	// stopped to be so.
	at map[string]*course
}

// course is how one location fares.
type course struct {
	state courseState
	// since is the last progress, or the beginning of the trouble; changed is when
	// the state began.
	since, changed time.Time
	err            string
	// moved says that there was progress since it was last out of reach.
	moved bool
}

type courseState int

const (
	away    courseState = iota // out of reach of its source
	polling                    // listing
	well                       // says that it is neither
)

func newProgress(after, pollAfter time.Duration) *progress {
	return &progress{after: after, pollAfter: pollAfter, at: map[string]*course{}}
}

// note takes in what an adapter said at now.
func (p *progress) note(m *adapterpb.FromAdapter, now time.Time) {
	if s := m.GetEndpointState(); s != nil {
		if s.GetReceive() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.stateLocked(s, now)
		}
		return
	}
	name := moved(m)
	if name == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.at[name]; c != nil {
		c.since, c.moved = now, true
	}
}

// moved returns the location of which the message shows that it gets something from
// its source, or nothing.
func moved(m *adapterpb.FromAdapter) string {
	away := func(e *adapterpb.Error) bool { return e.GetKind() == adapterpb.Error_DISCONNECTED }
	switch k := m.GetKind().(type) {
	case *adapterpb.FromAdapter_Listing:
		return k.Listing.GetLocation()
	case *adapterpb.FromAdapter_Offer:
		return k.Offer.GetLocation()
	case *adapterpb.FromAdapter_Content:
		return k.Content.GetLocation()
	case *adapterpb.FromAdapter_ReadFailed:
		if !away(k.ReadFailed.GetError()) {
			return k.ReadFailed.GetLocation()
		}
	case *adapterpb.FromAdapter_Settled:
		if !away(k.Settled.GetError()) {
			return k.Settled.GetLocation()
		}
	}
	return ""
}

func (p *progress) stateLocked(s *adapterpb.EndpointState, now time.Time) {
	name := s.GetEndpoint()
	state := well
	switch {
	case s.GetState() == adapterpb.EndpointState_POLLING:
		state = polling
	case s.GetState() == adapterpb.EndpointState_BACKING_OFF && s.GetError().GetKind() == adapterpb.Error_DISCONNECTED:
		state = away
	}
	c := p.at[name]
	switch {
	case c == nil && state == well:
		return
	case c == nil:
		c = &course{state: state, since: now, changed: now}
		p.at[name] = c
	}
	was := c.state
	if was != state {
		if was == well && (c.moved || now.Sub(c.changed) >= recoveredAfter) {
			*c = course{since: now}
		}
		c.state, c.changed = state, now
	}
	switch {
	case state == away:
		c.err, c.moved = s.GetError().GetText(), false
	case state == well && (c.err == "" || s.GetState() != adapterpb.EndpointState_IDLE):
		// It lists in vain no more, was refused by a source that is there, or ended.
		delete(p.at, name)
	}
}

// forget forgets locations whose handler has ended.
func (p *progress) forget(locations []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range locations {
		delete(p.at, name)
	}
}

// stalled returns those that have got nowhere for too long, by name.
func (p *progress) stalled(now time.Time) []Stall {
	p.mu.Lock()
	defer p.mu.Unlock()
	var stalls []Stall
	for name, c := range p.at {
		// One that was out of reach and tries again is still out of reach.
		hangs := c.state == polling && (c.err == "" || c.moved)
		limit := p.after
		if hangs {
			limit = p.pollAfter
		}
		if c.state == well || now.Sub(c.since) < limit {
			continue
		}
		stalls = append(stalls, Stall{Location: name, Since: c.since, Error: c.err, Polling: hangs})
	}
	slices.SortFunc(stalls, func(a, b Stall) int { return strings.Compare(a.Location, b.Location) })
	return stalls
}
