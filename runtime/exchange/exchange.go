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
	Name        string
	Ports       []string
	MaxInFlight int
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
	sent      map[string]*portCount
}

// portCount counts what went to a port from this exchange.
type portCount struct {
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
		receivers: map[string]*receiver{}, draining: make(chan struct{}), sent: map[string]*portCount{},
	}
	e.committer = newCommitter(ctx, cfg.Tenure, cfg.Propose, func(err error) {
		cfg.Log.Warn("the ledger says that this tenure is over", "error", err)
		cancel()
	}, cfg.Log)
	for name := range cfg.Ports {
		e.sent[name] = &portCount{}
	}
	for _, l := range cfg.Locations {
		r := newReceiver(e, l, cfg.Fates[l.Name])
		e.receivers[l.Name] = r
		e.tasks.Go(func() { r.housekeep(ctx) })
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
		r.drain(ctx)
	}
}

// Close ends everything at once and returns when nothing is under way. What was
// sent but not committed is in doubt for the next owner. It may be called more
// than once.
func (e *Exchange) Close() {
	e.cancel()
	for _, r := range e.receivers {
		r.drain(context.Background()) // bounded: every step ends with the exchange's context
	}
	e.tasks.Wait()
	e.committer.workers.Wait()
}

// LocationState is how a location fares.
type LocationState struct {
	Name, State         string
	Received            uint64
	InFlight, InDoubt   int
	Suspended           int
	LastItem, LastError string
}

// PortState is how sending to a port fares from here.
type PortState struct {
	Name, LastError string
	Sent            uint64
	Retrying        int
}

// States returns how the exchange's locations and ports fare.
func (e *Exchange) States() ([]LocationState, []PortState) {
	var ls []LocationState
	for _, r := range e.receivers {
		ls = append(ls, r.state())
	}
	var ps []PortState
	for name, c := range e.sent {
		c.mu.Lock()
		ps = append(ps, PortState{Name: name, LastError: c.lastErr, Sent: c.sent.Load(), Retrying: int(c.retrying.Load())})
		c.mu.Unlock()
	}
	return ls, ps
}

func (c *portCount) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastErr = err.Error()
}

func (c *portCount) succeeded() {
	c.sent.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastErr = ""
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
