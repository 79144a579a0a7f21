package ownership

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// tenancies are the groups at work under one incarnation. Used by one goroutine;
// releases go on in others, one for each group.
type tenancies struct {
	t     *Tenant
	id    string
	lease *Lease
	log   *slog.Logger
	// ctx ends with the incarnation's life; group waits for what it started.
	ctx   context.Context
	group sync.WaitGroup
	// running also holds groups that are being released, until the replica shows
	// that they are somebody else's.
	running map[string]*tenancy
	// ended carries a signal after a release.
	ended chan struct{}
	// leaving: everything is to be released.
	leaving bool
	// known: the replica has shown this incarnation, so that its absence means that
	// it has been forgotten.
	known bool
}

type tenancy struct {
	tenure Tenure
	work   Work // nil if it was to be released before it began
	// cancel ends the release; nil if there is none under way.
	cancel context.CancelFunc
}

// expired reports whether the replica says that this incarnation is over.
func (ts *tenancies) expired() bool {
	over := false
	ts.t.cfg.Replica.View(func(s *pb.State) {
		session := s.GetSessions()[ts.id]
		over = session.GetExpired() || session == nil && ts.known
		ts.known = ts.known || session != nil
	})
	return over
}

// reconcile makes what is at work what the replica says should be.
func (ts *tenancies) reconcile() {
	owned, moving := ts.owned()
	for group, run := range ts.running {
		if owned[group] != run.tenure {
			// Released, or not ours any more although we did not release it: nothing
			// of it may go on.
			ts.end(group, run)
		}
	}
	for group, to := range moving {
		ts.handOver(owned[group], to)
	}
	if ts.lease.Left() <= ts.t.margin() {
		return
	}
	for group, tenure := range owned {
		if ts.running[group] == nil {
			if group != Local {
				ts.log.Info("acting for group", "group", group, "epoch", tenure.Epoch)
			}
			ts.running[group] = &tenancy{tenure: tenure, work: ts.t.cfg.Begin(tenure, ts.lease)}
		}
	}
}

// owned returns what the replica has given to this incarnation, and those of the
// groups that are to be handed over, with the wanted owner.
func (ts *tenancies) owned() (map[string]Tenure, map[string]string) {
	owned, moving := map[string]Tenure{}, map[string]string{}
	ts.t.cfg.Replica.View(func(s *pb.State) {
		current := map[string]bool{}
		if ds := s.GetDeployments(); len(ds) > 0 {
			for _, g := range ds[len(ds)-1].GetGroups() {
				current[g] = true
			}
		}
		for name, g := range s.GetGroups() {
			if g.GetIncarnation() != ts.id {
				continue
			}
			owned[name] = Tenure{name, ts.id, g.GetEpoch()}
			switch {
			case !current[name]:
				moving[name] = nowhere
			case g.GetMovingTo() != "":
				moving[name] = g.GetMovingTo()
			case ts.leaving:
				moving[name] = anywhere
			}
		}
	})
	// What every node runs for itself goes last, for the others send through it.
	if !ts.leaving || len(owned) > 0 {
		owned[Local] = Tenure{Local, ts.id, 0}
	}
	return owned, moving
}

// Wanted owners that are no nodes: of a group that is no longer deployed, and of
// one whose next owner is open. No node can be called so.
const (
	nowhere  = "-"
	anywhere = "*"
)

// handOver begins to drain and release the group.
func (ts *tenancies) handOver(tenure Tenure, to string) {
	run := ts.running[tenure.Group]
	if run == nil { // to be released before it began
		run = &tenancy{tenure: tenure}
		ts.running[tenure.Group] = run
	}
	if run.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(ts.ctx)
	run.cancel = cancel
	work := run.work
	ts.group.Go(func() {
		defer cancel()
		if work != nil {
			drain, end := context.WithTimeout(ctx, ts.t.cfg.DrainTimeout(tenure.Group))
			work.Drain(drain)
			end()
		}
		ts.release(ctx, tenure, to)
		select {
		case ts.ended <- struct{}{}:
		default:
		}
	})
}

// release says that this node no longer acts for the group, until the ledger has
// answered.
func (ts *tenancies) release(ctx context.Context, tenure Tenure, to string) {
	log := ts.log.With("group", tenure.Group, "epoch", tenure.Epoch)
	for {
		var next *pb.Placement
		if to != nowhere {
			next = ts.t.cfg.Successor(tenure.Group, to)
		}
		attempt, cancel := context.WithTimeout(ctx, ts.t.cfg.TTL)
		err := ts.t.cfg.Propose(attempt, stamp(&pb.Command{Kind: &pb.Command_Release{Release: &pb.Release{
			Group: tenure.Group, Incarnation: tenure.Incarnation, Epoch: tenure.Epoch,
			Reason: "released by its owner", Next: next,
		}}}))
		cancel()
		switch {
		case err == nil:
			log.Info("released group", "to", next.GetNode())
			return
		case errors.Is(err, ledger.ErrFenced), errors.Is(err, ledger.ErrUnknown):
			return // it is another's already
		case !pause(ctx, ts.t.cfg.TTL/8):
			return
		}
		log.Warn("release not committed yet", "error", err)
	}
}

// end stops a group that is no longer ours and forgets it.
func (ts *tenancies) end(group string, run *tenancy) {
	if run.work != nil {
		run.work.Kill()
	}
	if run.cancel != nil {
		run.cancel()
	}
	delete(ts.running, group)
}

// killAll ends everything that is at work, all groups at the same time.
func (ts *tenancies) killAll(why string) {
	if len(ts.running) == 0 {
		return
	}
	ts.log.Warn("stopping all groups at once", "reason", why, "groups", len(ts.running))
	var wg sync.WaitGroup
	for _, run := range ts.running {
		if run.work != nil {
			wg.Go(run.work.Kill)
		}
	}
	wg.Wait()
	for group, run := range ts.running {
		// One that is being released stays: its work is over, and the release goes
		// on until the ledger has answered.
		if run.cancel == nil {
			delete(ts.running, group)
		}
	}
}
