package ownership

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/placement"
	"github.com/fairlead-io/fairlead/sdk/bootclock"
)

// ErrNotLeading is what Renew answers on a node that does not lead: ask another.
var ErrNotLeading = errors.New("this node does not lead the ledger")

// Log is the ledger as the coordinator needs it.
type Log interface {
	Replica
	// Apply proposes a command and waits until it is applied here.
	Apply(ctx context.Context, c *pb.Command) (uint64, error)
	// Barrier waits until everything committed before it is applied here.
	Barrier(ctx context.Context) error
	// LeaderCh carries true when this node begins to lead, false when it ends.
	LeaderCh() <-chan bool
}

// CoordinatorConfig is what a Coordinator needs.
type CoordinatorConfig struct {
	Log Log
	// TTL of a lease. The same on every node of the cluster.
	TTL time.Duration
	// Plan turns the ledger's state into what placement looks at. It runs under
	// the ledger's lock and must not keep the state.
	Plan func(*pb.State) placement.Cluster
	// Heard reports whether the node has answered this one as the ledger's leader
	// within that time. Nil: nobody knows. It must not block.
	Heard func(node string, within time.Duration) bool
	// Now is the boot clock.
	Now    func() bootclock.Time
	Logger *slog.Logger
}

// Coordinator grants leases, expires incarnations and gives groups to nodes,
// while this node leads. Everything it proposes comes from one loop, one command
// after the other: that is what keeps grants and expiries apart.
type Coordinator struct {
	cfg      CoordinatorConfig
	renewals chan renewal
	deaths   chan death
}

type renewal struct {
	incarnation string
	answer      chan error // of capacity 1
}

// death is a guardian's word that a runtime and all its descendants are gone.
type death struct {
	proof  []byte
	reason string
	answer chan certified // of capacity 1
}

type certified struct {
	expired int
	err     error
}

// maxGrant bounds how many renewals go into one entry.
const maxGrant = 256

// NewCoordinator returns a coordinator; Run makes it work.
func NewCoordinator(cfg CoordinatorConfig) *Coordinator {
	return &Coordinator{cfg: cfg, renewals: make(chan renewal, maxGrant), deaths: make(chan death)}
}

// Renew asks for a lease for the incarnation and returns when the grant is
// committed. It is called for requests of other nodes and of this one.
func (c *Coordinator) Renew(ctx context.Context, incarnation string) error {
	r := renewal{incarnation, make(chan error, 1)}
	select {
	case c.renewals <- r:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Certify expires at once the incarnations that the proof belongs to, and returns
// how many there were when that is committed. There is nothing to wait for: whoever
// has the proof has seen that they are dead.
func (c *Coordinator) Certify(ctx context.Context, proof []byte, reason string) (int, error) {
	d := death{proof, reason, make(chan certified, 1)}
	select {
	case c.deaths <- d:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	select {
	case done := <-d.answer:
		return done.expired, done.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Run follows the leadership until ctx ends.
func (c *Coordinator) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case leading := <-c.cfg.Log.LeaderCh():
			for leading && ctx.Err() == nil {
				leading = c.lead(ctx)
			}
		case r := <-c.renewals:
			r.answer <- ErrNotLeading
		case d := <-c.deaths:
			d.answer <- certified{err: ErrNotLeading}
		}
	}
}

// lead is the life of a leader, from its election to the end of its leadership.
// It reports whether the node has meanwhile been elected again.
func (c *Coordinator) lead(ctx context.Context) (again bool) {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan bool, 1)
	go func() { // ends with ctx, or at the next change of leadership
		defer cancel()
		select {
		case <-ctx.Done():
			watched <- false
		case leading := <-c.cfg.Log.LeaderCh():
			watched <- leading
		}
	}()
	defer func() { cancel(); again = <-watched }()

	// Before this, the replica may lack grants that an earlier leader committed. A
	// transfer of the leadership that comes to nothing refuses it for a moment.
	for {
		err := c.cfg.Log.Barrier(ctx)
		if err == nil {
			break
		}
		c.cfg.Logger.Warn("this leader has not caught up yet", "error", err)
		if !pause(ctx, c.cfg.TTL/20) {
			return
		}
	}
	c.cfg.Logger.Info("this node coordinates the cluster")
	defer c.cfg.Logger.Info("this node no longer coordinates the cluster")

	changes, stop := c.cfg.Log.Changes()
	defer stop()
	l := &leadership{Coordinator: c, seen: map[string]sighting{}, since: c.cfg.Now()}
	tick := time.NewTicker(max(c.cfg.TTL/20, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-c.renewals:
			l.grant(ctx, r)
			l.place(ctx)
		case d := <-c.deaths:
			l.certify(ctx, d)
			l.place(ctx)
		case <-changes:
			l.place(ctx)
		case <-tick.C:
			l.expire(ctx)
			l.place(ctx)
		}
	}
}

// leadership is what the leader knows from its own observation. It is thrown away
// with the leadership: a new one counts from its own election.
type leadership struct {
	*Coordinator
	seen  map[string]sighting // by incarnation
	since bootclock.Time
	// homeless and misfits are the last reviews of groups without an owner, and of
	// those that may be with the wrong one.
	homeless, misfits review
}

// sighting is when this leader first saw, on its own clock, the last grant of an
// incarnation. It is never earlier than the grant was applied.
type sighting struct {
	granted uint64
	at      bootclock.Time
	// renewed: this leader granted it itself, so the node was there after the
	// election.
	renewed bool
}

// grant commits one entry for all renewals that are waiting. Their requests were
// all received before it, so the commit proves each of them.
func (l *leadership) grant(ctx context.Context, first renewal) {
	batch := []renewal{first}
	for len(batch) < maxGrant && len(l.renewals) > 0 {
		batch = append(batch, <-l.renewals)
	}
	ids := make([]string, len(batch))
	for i, r := range batch {
		ids[i] = r.incarnation
	}
	_, err := l.cfg.Log.Apply(ctx, stamp(&pb.Command{Kind: &pb.Command_Grant{Grant: &pb.Grant{Incarnations: ids}}}))
	alive := map[string]bool{}
	l.cfg.Log.View(func(s *pb.State) {
		for _, id := range ids {
			session := s.GetSessions()[id]
			alive[id] = session != nil && !session.Expired
		}
	})
	for _, r := range batch {
		if err == nil && !alive[r.incarnation] {
			r.answer <- ledger.ErrFenced
			continue
		}
		r.answer <- err
	}
	l.observe()
}

// observe notes new grants. Called after every step, and before any expiry.
func (l *leadership) observe() {
	l.cfg.Log.View(func(s *pb.State) {
		now := l.cfg.Now() // not before what is seen
		for id, session := range s.GetSessions() {
			if was, ok := l.seen[id]; !ok || was.granted != session.Granted {
				l.seen[id] = sighting{session.Granted, now, ok}
			}
		}
		for id := range l.seen {
			if s.GetSessions()[id] == nil {
				delete(l.seen, id)
			}
		}
	})
}

func (l *leadership) propose(ctx context.Context, what string, c *pb.Command) error {
	_, err := l.cfg.Log.Apply(ctx, stamp(c))
	if err != nil && !errors.Is(err, ledger.ErrStale) && ctx.Err() == nil {
		l.cfg.Logger.Warn("ledger refused the coordinator", "command", what, "error", err)
	}
	return err
}

// expire ends the incarnations whose lease has certainly ended.
func (l *leadership) expire(ctx context.Context) {
	l.observe()
	for _, e := range l.due() {
		// Its error is logged; what is still due is tried again at the next tick.
		_ = l.propose(ctx, "expire", &pb.Command{Kind: &pb.Command_Expire{Expire: e}})
	}
}

// due returns an expiry, with the next owners, for every incarnation whose lease
// has certainly ended.
func (l *leadership) due() []*pb.Expire {
	now := l.cfg.Now()
	wait := l.cfg.TTL + l.cfg.TTL/10
	return l.ended(func(s *pb.Session) *pb.Expire {
		seen := l.seen[s.Incarnation]
		if now.Sub(seen.at) < wait {
			return nil
		}
		return &pb.Expire{Granted: seen.granted, Reason: s.Node + " did not renew its lease"}
	})
}

// certify ends the incarnations whose guardian has seen them dead.
func (l *leadership) certify(ctx context.Context, d death) {
	l.observe()
	var done certified
	for _, e := range l.ended(func(s *pb.Session) *pb.Expire {
		if !ledger.Certifies(s, d.proof) {
			return nil
		}
		return &pb.Expire{Proof: d.proof, Reason: s.Node + ": " + d.reason}
	}) {
		err := l.propose(ctx, "expire", &pb.Command{Kind: &pb.Command_Expire{Expire: e}})
		if err != nil && !errors.Is(err, ledger.ErrStale) {
			done.err = errors.Join(done.err, err)
			continue
		}
		done.expired++
	}
	d.answer <- done
}

// ended completes the expiries that verdict gives for live sessions.
func (l *leadership) ended(verdict func(*pb.Session) *pb.Expire) (es []*pb.Expire) {
	l.cfg.Log.View(func(s *pb.State) {
		for _, id := range slices.Sorted(maps.Keys(s.GetSessions())) {
			session := s.GetSessions()[id]
			if session.Expired {
				continue
			}
			if e := verdict(session); e != nil {
				e.Incarnation = id
				e.Placements = l.inherit(s, session, e.Reason)
				es = append(es, e)
			}
		}
	})
	return es
}
