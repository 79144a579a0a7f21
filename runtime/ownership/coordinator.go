package ownership

import (
	"context"
	"errors"
	"log/slog"
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
}

type renewal struct {
	incarnation string
	answer      chan error // of capacity 1
}

// maxGrant bounds how many renewals go into one entry.
const maxGrant = 256

// NewCoordinator returns a coordinator; Run makes it work.
func NewCoordinator(cfg CoordinatorConfig) *Coordinator {
	return &Coordinator{cfg: cfg, renewals: make(chan renewal, maxGrant)}
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

	// Before this, the replica may lack grants that an earlier leader committed.
	if err := c.cfg.Log.Barrier(ctx); err != nil {
		c.cfg.Logger.Warn("leader could not catch up", "error", err)
		<-ctx.Done() // without it this leadership is of no use
		return
	}
	c.cfg.Logger.Info("this node coordinates the cluster")
	defer c.cfg.Logger.Info("this node no longer coordinates the cluster")

	l := &leadership{Coordinator: c, seen: map[string]sighting{}, since: c.cfg.Now()}
	tick := time.NewTicker(max(c.cfg.TTL/20, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-c.renewals:
			l.grant(ctx, r)
		case <-tick.C:
			l.decide(ctx)
		}
	}
}

// leadership is what the leader knows from its own observation. It is thrown away
// with the leadership: a new one counts from its own election.
type leadership struct {
	*Coordinator
	seen  map[string]sighting // by incarnation
	since bootclock.Time
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
	now := l.cfg.Now()
	l.cfg.Log.View(func(s *pb.State) {
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

// decide expires what is over and gives away what has no owner.
func (l *leadership) decide(ctx context.Context) {
	l.observe()
	for _, e := range l.due() {
		l.propose(ctx, "expire", stamp(&pb.Command{Kind: &pb.Command_Expire{Expire: e}}))
	}
	if ps := l.unowned(); len(ps) > 0 {
		l.propose(ctx, "assign", stamp(&pb.Command{Kind: &pb.Command_Assign{Assign: &pb.Assign{Placements: ps}}}))
	}
	for _, m := range l.misplaced() {
		l.propose(ctx, "move", stamp(&pb.Command{Kind: &pb.Command_Move{Move: m}}))
	}
}

func (l *leadership) propose(ctx context.Context, what string, c *pb.Command) {
	_, err := l.cfg.Log.Apply(ctx, c)
	if err != nil && !errors.Is(err, ledger.ErrStale) && ctx.Err() == nil {
		l.cfg.Logger.Warn("ledger refused the coordinator", "command", what, "error", err)
	}
}

// due returns an expiry, with the next owners, for every incarnation whose lease
// has certainly ended.
func (l *leadership) due() []*pb.Expire {
	now := l.cfg.Now()
	wait := l.cfg.TTL + l.cfg.TTL/10
	var es []*pb.Expire
	l.cfg.Log.View(func(s *pb.State) {
		var gone []*pb.Session
		for id, session := range s.GetSessions() {
			if !session.Expired && now.Sub(l.seen[id].at) >= wait {
				gone = append(gone, session)
			}
		}
		for _, session := range gone {
			es = append(es, &pb.Expire{
				Incarnation: session.Incarnation,
				Granted:     l.seen[session.Incarnation].granted,
				Reason:      session.Node + " did not renew its lease",
				Placements:  l.inherit(s, session),
			})
		}
	})
	return es
}

// inherit places the groups of an incarnation that is about to expire.
func (l *leadership) inherit(s *pb.State, gone *pb.Session) []*pb.Placement {
	plan := l.plan(s)
	for i := range plan.Groups {
		if g := s.GetGroups()[plan.Groups[i].Name]; g.GetIncarnation() == gone.Incarnation {
			plan.Groups[i].Owner = ""
		}
	}
	var ps []*pb.Placement
	for _, d := range placement.Place(plan) {
		if s.GetGroups()[d.Group].GetIncarnation() == gone.Incarnation {
			ps = append(ps, &pb.Placement{
				Group: d.Group, Node: d.Node, Incarnation: d.Incarnation,
				Reason: gone.Node + " did not renew its lease; " + d.Reason,
			})
		}
	}
	return ps
}

// plan is the placement's view with those nodes only that have renewed their
// lease under this leader, and lately.
func (l *leadership) plan(s *pb.State) placement.Cluster {
	now := l.cfg.Now()
	plan := l.cfg.Plan(s)
	fresh := plan.Nodes[:0]
	for _, n := range plan.Nodes {
		if seen := l.seen[n.Incarnation]; seen.renewed && now.Sub(seen.at) < l.cfg.TTL*3/4 {
			fresh = append(fresh, n)
		}
	}
	plan.Nodes = fresh
	return plan
}

// unowned assigns the groups without an owner. A new leader waits until all nodes
// have had time to renew, so that a preferred owner is not passed over because
// another was heard first.
func (l *leadership) unowned() []*pb.Placement {
	if l.cfg.Now().Sub(l.since) < l.cfg.TTL/2 {
		return nil
	}
	var ps []*pb.Placement
	l.cfg.Log.View(func(s *pb.State) {
		for _, d := range placement.Place(l.plan(s)) {
			g := s.GetGroups()[d.Group]
			if g == nil || d.Node == "" {
				continue
			}
			ps = append(ps, &pb.Placement{Group: d.Group, Node: d.Node, Incarnation: d.Incarnation, Reason: d.Reason, Epoch: g.Epoch})
		}
	})
	return ps
}

// misplaced asks owners that a new deployment no longer allows to hand over.
func (l *leadership) misplaced() []*pb.Move {
	var ms []*pb.Move
	l.cfg.Log.View(func(s *pb.State) {
		plan := l.plan(s)
		nodes := map[string]placement.Node{}
		for _, n := range plan.Nodes {
			nodes[n.Name] = n
		}
		for _, want := range plan.Groups {
			g := s.GetGroups()[want.Name]
			owner, ok := nodes[want.Owner]
			if !ok || g.GetMovingTo() != "" || placement.Refusal(owner, want) == "" {
				continue
			}
			if d := placement.Elsewhere(plan, want.Name, want.Owner); d.Node != "" {
				ms = append(ms, &pb.Move{Group: want.Name, To: d.Node, Epoch: g.GetEpoch()})
			}
		}
	})
	return ms
}
