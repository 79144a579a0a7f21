package ownership

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/sdk/bootclock"
)

// Replica is this node's copy of the ledger.
type Replica interface {
	View(func(*pb.State))
	// Changes carries a signal after the state has changed; several changes may
	// give one signal.
	Changes() (changes <-chan struct{}, stop func())
}

// Tenure is one term of ownership: the right to act for a group under an epoch.
type Tenure struct {
	Group, Incarnation string
	Epoch              uint64
}

// Local is the group of the hosts that are not clustered: every incarnation has
// it, under no epoch, for as long as it holds a lease.
const Local = ""

// Work is a group at work on this node: its hosts and their exchange.
type Work interface {
	// Drain takes up nothing new, ends what is under way as far as ctx allows, and
	// returns when nothing acts any more. An error says what could not be ended.
	Drain(ctx context.Context) error
	// Kill ends everything at once, and returns when nothing acts any more. It may
	// be called during Drain, after it, and more than once. An error says what
	// could not be ended.
	Kill() error
	// Failed receives why the group cannot do its work on this node, when it should
	// go to another. It is never closed.
	Failed() <-chan string
}

// Handover is why and where to a group is released.
type Handover struct {
	Group string
	// To is the wanted next owner: a node, Anywhere or Nowhere.
	To string
	// Cause is the kind of reason, as in the ledger's events; Reason a sentence.
	Cause, Reason string
}

// Wanted owners that are no nodes: no node can be called so.
const (
	Nowhere  = "-"
	Anywhere = "*"
)

// TenantConfig is what a Tenant needs.
type TenantConfig struct {
	Replica Replica
	// Session describes this node; the tenant adds the incarnation.
	Session func(incarnation string) *pb.Session
	// NewIncarnation returns a name that was never used before.
	NewIncarnation func() string
	// Renew asks the leader, wherever it is, for a lease.
	Renew func(ctx context.Context, incarnation string) error
	// Hurry, if not nil, receives when a renewal is worth a try at once: there is a
	// new leader, which knows nobody yet.
	Hurry <-chan struct{}
	// Propose hands a command to the leader, wherever it is.
	Propose func(ctx context.Context, c *pb.Command) error
	// Begin starts the work of a group. It is called only with a valid lease and
	// returns at once; the work goes on until Drain or Kill.
	Begin func(t Tenure, lease *Lease) Work
	// Successor completes a release: the next owner, nil for none, and until when
	// nobody is to be (see the ledger's Release).
	Successor func(h Handover) (next *pb.Placement, failedUntil int64)
	// DrainTimeout is how long a group may take to drain.
	DrainTimeout func(group string) time.Duration
	// Announce is told of every new incarnation, before it is registered.
	Announce func(incarnation string)
	// GiveUp is told why this node can no longer vouch for what it runs: something
	// could not be ended. The process must end. The lease is not renewed any more.
	GiveUp func(err error)
	TTL    time.Duration
	Now    func() bootclock.Time
	Logger *slog.Logger
}

// Tenant keeps this node's lease, and has the groups at work that the ledger
// gives to it, for as long as it may.
type Tenant struct {
	cfg TenantConfig

	mu          sync.Mutex
	incarnation string
	lease       *Lease
	surrendered error // why the lease was given up, if it was
	counts      Counts
}

// Counts is what happened to this node's lease since its start.
type Counts struct {
	Renewals, RenewalFailures uint64
	// Lost is how often it ran out, or was about to, while the node wanted it.
	Lost uint64
}

// Counts returns the counts so far.
func (t *Tenant) Counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts
}

func (t *Tenant) count(add func(*Counts)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	add(&t.counts)
}

// NewTenant returns a tenant; Run makes it work.
func NewTenant(cfg TenantConfig) *Tenant {
	return &Tenant{cfg: cfg, lease: newLease(cfg.Now)}
}

// Incarnation is the current one, empty before the first.
func (t *Tenant) Incarnation() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.incarnation
}

// Lease is the current incarnation's.
func (t *Tenant) Lease() *Lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lease
}

// Surrendered is why this node has given up its lease for good; nil if it has not.
func (t *Tenant) Surrendered() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.surrendered
}

// surrender gives up the lease: something goes on that could not be ended, so that
// this node must not say that it has stopped acting. Only the lease's end, or a
// guardian that sees everything dead, lets another take over.
func (t *Tenant) surrender(err error) {
	t.mu.Lock()
	first := t.surrendered == nil
	if first {
		t.surrendered = err
	}
	t.mu.Unlock()
	if first {
		t.cfg.Logger.Error("this node gives up its lease: what it runs could not be ended", "error", err)
		t.cfg.GiveUp(err)
	}
}

// Run lives one incarnation after the other until ctx ends; then it drains what
// it owns, releases it, and leaves, bounded by leave.
func (t *Tenant) Run(ctx context.Context, leave time.Duration) {
	for ctx.Err() == nil && t.Surrendered() == nil {
		id := t.cfg.NewIncarnation()
		t.mu.Lock()
		t.incarnation, t.lease = id, newLease(t.cfg.Now)
		lease := t.lease
		t.mu.Unlock()
		t.cfg.Announce(id)
		t.live(ctx, id, lease, leave)
	}
}

// live is the life of one incarnation, until it has expired, or has left because
// ctx has ended.
func (t *Tenant) live(ctx context.Context, id string, lease *Lease, limit time.Duration) {
	log := t.cfg.Logger.With("incarnation", id)
	if !t.register(ctx, id, log) {
		return
	}
	// Renewing and releasing go on while the node leaves: they end with this
	// function, not with ctx.
	living, end := context.WithCancel(context.WithoutCancel(ctx))
	ts := &tenancies{
		t: t, id: id, lease: lease, log: log, ctx: living, running: map[string]*tenancy{},
		ended: make(chan struct{}, 1), failed: make(chan failure),
	}
	ts.group.Go(func() { t.renew(living, id, lease, log) })
	defer func() { end(); ts.killAll("this incarnation ends"); ts.group.Wait() }()

	changes, stop := t.cfg.Replica.Changes()
	defer stop()
	leave := ctx.Done()
	var overdue <-chan time.Time
	for {
		extended := lease.Extended()
		guard := time.NewTimer(lease.Left() - t.margin())
		select {
		case <-leave:
			leave, ts.leaving = nil, true
			overdue = time.After(limit)
		case <-overdue:
			ts.killAll("leaving took longer than " + limit.String())
			log.Warn("left without telling the ledger; the lease has to run out")
			return
		case <-changes:
		case <-ts.ended:
		case f := <-ts.failed:
			ts.failing(f)
		case <-extended:
		case <-guard.C:
			if lease.Left() > t.margin() {
				break
			}
			if len(ts.running) > 0 {
				t.count(func(c *Counts) { c.Lost++ })
			}
			ts.killAll("the lease could not be renewed")
			// Nothing runs now. Wait until there is a lease again, or the ledger says
			// that this incarnation is over.
			select {
			case <-leave:
				leave, ts.leaving = nil, true
				overdue = time.After(limit)
			case <-overdue:
				return
			case <-changes:
			case <-extended:
			}
		}
		guard.Stop()
		if t.Surrendered() != nil {
			return
		}
		if ts.expired() {
			log.Warn("this incarnation has expired: its groups belong to others; the node comes back as a new one")
			ts.killAll("the incarnation has expired")
			return
		}
		ts.reconcile()
		if ts.leaving && len(ts.running) == 0 {
			t.leave(living, id, log)
			return
		}
	}
}

// margin is how long before the lease's end everything is killed: time enough
// for the kernel to do it on a busy machine.
func (t *Tenant) margin() time.Duration { return max(t.cfg.TTL/8, 20*time.Millisecond) }

func (t *Tenant) register(ctx context.Context, id string, log *slog.Logger) bool {
	for {
		var seen uint64
		t.cfg.Replica.View(func(s *pb.State) { seen = s.GetIndex() })
		attempt, cancel := context.WithTimeout(ctx, t.cfg.TTL)
		err := t.cfg.Propose(attempt, stamp(&pb.Command{Kind: &pb.Command_Register{
			Register: &pb.Register{Session: t.cfg.Session(id), Seen: seen},
		}}))
		cancel()
		if err == nil {
			log.Info("registered in the ledger")
			return true
		}
		if errors.Is(err, ledger.ErrTooOld) {
			t.surrender(err)
			return false
		}
		if !pause(ctx, t.cfg.TTL/4) {
			return false
		}
		log.Debug("not registered yet", "error", err)
	}
}

// renew keeps the lease until ctx ends.
func (t *Tenant) renew(ctx context.Context, id string, lease *Lease, log *slog.Logger) {
	every := t.cfg.TTL / 4
	failing := false
	for t.Surrendered() == nil {
		sent := t.cfg.Now()
		attempt, cancel := context.WithTimeout(ctx, every)
		err := t.cfg.Renew(attempt, id)
		cancel()
		switch {
		case err == nil:
			t.count(func(c *Counts) { c.Renewals++ })
			lease.extend(sent.Add(t.cfg.TTL))
			if failing {
				failing = false
				log.Info("lease renewed again")
			}
		case errors.Is(err, ledger.ErrFenced):
			log.Warn("lease refused: the leader says that this incarnation is over")
		case ctx.Err() == nil && !failing:
			failing = true
			log.Warn("lease not renewed", "error", err, "left", lease.Left().Round(time.Millisecond))
		}
		if err != nil && ctx.Err() == nil {
			t.count(func(c *Counts) { c.RenewalFailures++ })
		}
		wait := every - t.cfg.Now().Sub(sent)
		if err != nil {
			wait = every / 4 // the leader may just be changing
		}
		if !t.await(ctx, wait) {
			return
		}
	}
}

// await waits until the next renewal is due, and reports whether ctx still lives.
func (t *Tenant) await(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-t.cfg.Hurry:
	}
	return true
}

// leave ends the incarnation in order, when it owns nothing any more.
func (t *Tenant) leave(ctx context.Context, id string, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.TTL)
	defer cancel()
	err := t.cfg.Propose(ctx, stamp(&pb.Command{Kind: &pb.Command_Leave{Leave: &pb.Leave{Incarnation: id}}}))
	if err != nil {
		log.Warn("left without telling the ledger; the lease has to run out", "error", err)
	}
}

// pause waits for d and reports whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
