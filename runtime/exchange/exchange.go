package exchange

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// Location is one receive location as the exchange needs it.
type Location struct {
	Name, Adapter string
	// Ports get every item, unless Route says from an item's properties where it
	// goes: each port once, none if no route matches. An error suspends the item.
	Ports []string
	Route func(properties map[string]string) ([]string, error)
	// MaxInFlight is how many items are under way at once.
	MaxInFlight int
	// PollItems and PollBytes are how much is taken up after one listing; 0: all.
	PollItems int
	PollBytes int64
	// Ordered: items of one lane go one after the other. Lane names an item's lane from
	// what is known of it before it is read; nil: there is one.
	Ordered bool
	Lane    func(properties map[string]string) (string, error)
	// Hold: a suspended item of an ordered location holds its lane.
	Hold bool
	// AtLeastOnce: nothing is committed of an item that arrives. After a crash it may
	// be sent again, without being probed for.
	AtLeastOnce bool
	// Keep has a copy of the content kept for people to look at; Quiet: not even what
	// happens to its messages is told.
	Keep, Quiet bool
	// Timetable says when the source is looked at.
	Timetable Timetable
	// Stopped: by order, it takes up nothing.
	Stopped bool
}

// Link is the way to the handler that runs a location.
type Link interface {
	// Send hands over one message; it fails when the handler has ended.
	Send(ctx context.Context, m *adapterpb.ToAdapter) error
	// Done is closed when the handler has ended.
	Done() <-chan struct{}
}

// Delivering brings a message to a send port, wherever it runs, and returns when
// the port has confirmed it. An *AdapterError says what the adapter said;
// ErrInterrupted that nobody knows.
type Delivering interface {
	Deliver(ctx context.Context, t Tenure, port string, m *Message) error
	Probe(ctx context.Context, t Tenure, port string, m *Message) (adapterpb.Arrival, error)
}

// Config is what an Exchange needs.
type Config struct {
	Tenure    Tenure
	Locations []Location
	Ports     map[string]PortPolicy
	// Fates are those of the locations, as this node's replica had them when it
	// had applied the assignment: everything that earlier owners committed.
	Fates map[string]map[string]*pb.Fate
	// Fate is what the replica says of one item now, nil for nothing.
	Fate     func(location, key string) *pb.Fate
	Propose  Proposing
	Delivery Delivering
	Spool    *Spool
	// NewID returns a new UUIDv7.
	NewID func() string
	// Tell is told what happens to messages, for their history. It must not block, and
	// may be nil.
	Tell func(Happening)
	// Keep stores a copy of a message's content. It may be nil, and must not keep the
	// message.
	Keep func(ctx context.Context, m *Message) error
	// Steps, if not nil, is called at every step of every message: for tests.
	Steps func(Step)
	Log   *slog.Logger
}

// Exchange is one group's exchange during one tenure.
type Exchange struct {
	cfg       Config
	ctx       context.Context
	cancel    context.CancelFunc
	committer *committer
	receivers map[string]*receiver
	draining  chan struct{}
	drainOnce sync.Once
	tasks     sync.WaitGroup
	ways      map[string]*way
}

// way is the way to one port from this exchange.
type way struct {
	gate     *gate
	sent     atomic.Uint64
	retrying atomic.Int64
	mu       sync.Mutex
	lastErr  string
}

// New returns a running exchange without handlers; Attach gives it some.
func New(cfg Config) *Exchange {
	ctx, cancel := context.WithCancel(context.Background())
	e := &Exchange{
		cfg: cfg, ctx: ctx, cancel: cancel,
		receivers: map[string]*receiver{}, draining: make(chan struct{}), ways: map[string]*way{},
	}
	e.committer = newCommitter(ctx, cfg.Tenure, cfg.Propose, func(err error) {
		cfg.Log.Warn("the ledger says that this tenure is over", "error", err)
		cancel()
	}, cfg.Log)
	for name, policy := range cfg.Ports {
		e.ways[name] = &way{gate: newGate(policy.Shut)}
	}
	for _, l := range cfg.Locations {
		r := newReceiver(e, l, cfg.Fates[l.Name])
		e.receivers[l.Name] = r
		e.tasks.Go(func() { r.housekeep(ctx) })
		e.tasks.Go(func() { r.keepTime(ctx) })
	}
	return e
}

// Attach makes the handler behind the link the one that runs these locations.
func (e *Exchange) Attach(link Link, locations []string) {
	for _, name := range locations {
		if r := e.receivers[name]; r != nil {
			r.attach(link)
		}
	}
}

// Handle takes what a handler says of its locations. It is called in the order in
// which the handler said it, and does not block.
func (e *Exchange) Handle(link Link, m *adapterpb.FromAdapter) {
	r := e.receivers[locationOf(m)]
	if r == nil {
		return
	}
	r.handle(link, m)
}

func locationOf(m *adapterpb.FromAdapter) string {
	switch k := m.GetKind().(type) {
	case *adapterpb.FromAdapter_Listing:
		return k.Listing.GetLocation()
	case *adapterpb.FromAdapter_Offer:
		return k.Offer.GetLocation()
	case *adapterpb.FromAdapter_Content:
		return k.Content.GetLocation()
	case *adapterpb.FromAdapter_ReadFailed:
		return k.ReadFailed.GetLocation()
	case *adapterpb.FromAdapter_Settled:
		return k.Settled.GetLocation()
	case *adapterpb.FromAdapter_Recalled:
		return k.Recalled.GetLocation()
	case *adapterpb.FromAdapter_EndpointState:
		if k.EndpointState.GetReceive() {
			return k.EndpointState.GetEndpoint()
		}
	}
	return ""
}

// Drain takes up nothing new, gives up waiting for retries, and returns when all
// that is under way has ended, or ctx has.
func (e *Exchange) Drain(ctx context.Context) {
	e.drainOnce.Do(func() { close(e.draining) })
	for _, r := range e.receivers {
		r.drain(ctx.Done())
	}
	e.committer.flush(ctx)
}

// Close ends everything at once and returns when nothing is under way. What was
// sent but not committed is in doubt for the next owner. It may be called more
// than once.
func (e *Exchange) Close() {
	e.cancel()
	for _, r := range e.receivers {
		r.drain(nil) // bounded: every step ends with the exchange's context
	}
	e.tasks.Wait()
	e.committer.workers.Wait()
}

// LocationState is how a location fares.
type LocationState struct {
	Name, State       string
	Received          uint64
	InFlight, InDoubt int
	// Suspended items wait for somebody to decide; Held ones wait behind them; of
	// Settling ones only the source does not know yet.
	Suspended, Held, Settling int
	LastItem, LastError       string
	// Window says in words when the location is looked at, if not always; NextPoll is
	// when it is polled next by its timetable, zero if that does not say.
	Window   string
	NextPoll time.Time
}

// PortState is how sending to a port fares from here.
type PortState struct {
	Name, LastError string
	Sent            uint64
	// Retrying are the messages that wait: for the next attempt, or for the port.
	Retrying int
	// Down: it is tried again at RetryAt, with one message, and nothing else is sent.
	Down               bool
	DownSince, RetryAt time.Time
	// Shut says why nothing is sent to it although it may be up.
	Shut string
}

// States returns how the exchange's locations and ports fare.
func (e *Exchange) States() ([]LocationState, []PortState) {
	var ls []LocationState
	for _, r := range e.receivers {
		ls = append(ls, r.state(time.Now()))
	}
	var ps []PortState
	for name, w := range e.ways {
		ps = append(ps, w.state(name))
	}
	return ls, ps
}

func (w *way) state(name string) PortState {
	down, since, again, waiting := w.gate.state()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := PortState{Name: name, LastError: w.lastErr, Sent: w.sent.Load(), Retrying: int(w.retrying.Load()) + waiting}
	if down {
		s.Down, s.DownSince, s.RetryAt = true, since, again
	}
	if w.gate.shut != nil {
		s.Shut, _ = w.gate.shut(time.Now())
	}
	return s
}

func (w *way) failed(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lastErr = err.Error()
}

func (w *way) succeeded() {
	w.sent.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lastErr = ""
}

// sleep waits for d and reports whether it may go on: not when the exchange ends
// or drains.
func (e *Exchange) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-e.draining:
		return false
	case <-t.C:
		return true
	}
}
