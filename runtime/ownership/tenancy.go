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
	// failed carries the groups whose work has failed here.
	failed chan failure
	// leaving: everything is to be released.
	leaving bool
	// known: the replica has shown this incarnation, so that its absence means that
	// it has been forgotten.
	known bool
}

type tenancy struct {
	tenure Tenure
	work   Work // nil if it was to be released before it began
	// over ends what waits for the work's failure.
	over context.CancelFunc
	// cancel ends the release; nil if there is none under way.
	cancel context.CancelFunc
}

// failure is a group's work that has failed on this node.
type failure struct {
	tenure Tenure
	why    string
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
	owned, handovers := ts.owned()
	for group, run := range ts.running {
		if owned[group] != run.tenure {
			// Released, or not ours any more although we did not release it: nothing
			// of it may go on.
			ts.end(group, run)
		}
	}
	for _, h := range handovers {
		ts.handOver(owned[h.Group], h)
	}
	if ts.lease.Left() <= ts.t.margin() {
		return
	}
	for group, tenure := range owned {
		if ts.running[group] == nil {
			if group != Local {
				ts.log.Info("acting for group", "group", group, "epoch", tenure.Epoch)
			}
			ts.begin(tenure)
		}
	}
}

func (ts *tenancies) begin(tenure Tenure) {
	ctx, over := context.WithCancel(ts.ctx)
	run := &tenancy{tenure: tenure, work: ts.t.cfg.Begin(tenure, ts.lease), over: over}
	ts.running[tenure.Group] = run
	ts.group.Go(func() {
		select {
		case <-ctx.Done():
		case why := <-run.work.Failed():
			select {
			case ts.failed <- failure{tenure, why}:
			case <-ctx.Done():
			}
		}
	})
}

// failing releases a group that cannot do its work here.
func (ts *tenancies) failing(f failure) {
	owned, _ := ts.owned()
	if owned[f.tenure.Group] == f.tenure && f.tenure.Group != Local {
		ts.handOver(f.tenure, Handover{f.tenure.Group, Anywhere, "failure", f.why})
	}
}

// owned returns what the replica has given to this incarnation, and what of it is
// to be handed over.
func (ts *tenancies) owned() (map[string]Tenure, []Handover) {
	owned := map[string]Tenure{}
	var handovers []Handover
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
				handovers = append(handovers, Handover{name, Nowhere, "deploy", "it is no longer deployed"})
			case g.GetMovingTo() != "":
				handovers = append(handovers, Handover{name, g.GetMovingTo(), g.GetMovingCause(), g.GetMovingReason()})
			case ts.leaving:
				handovers = append(handovers, Handover{name, Anywhere, "leave", "its node stops"})
			}
		}
	})
	// What every node runs for itself goes last, for the others send through it.
	if !ts.leaving || len(owned) > 0 {
		owned[Local] = Tenure{Local, ts.id, 0}
	}
	return owned, handovers
}

// handOver begins to drain and release the group.
func (ts *tenancies) handOver(tenure Tenure, h Handover) {
	run := ts.running[tenure.Group]
	if run == nil { // to be released before it began
		run = &tenancy{tenure: tenure, over: func() {}}
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
			err := work.Drain(drain)
			end()
			if err != nil {
				// It may still act, so it is not released.
				ts.t.surrender(err)
				return
			}
		}
		ts.release(ctx, tenure, h)
		select {
		case ts.ended <- struct{}{}:
		default:
		}
	})
}

// release says that this node no longer acts for the group, until the ledger has
// answered.
func (ts *tenancies) release(ctx context.Context, tenure Tenure, h Handover) {
	log := ts.log.With("group", tenure.Group, "epoch", tenure.Epoch)
	for {
		var next *pb.Placement
		var failedUntil int64
		if h.To != Nowhere {
			next, failedUntil = ts.t.cfg.Successor(h)
		}
		attempt, cancel := context.WithTimeout(ctx, ts.t.cfg.TTL)
		err := ts.t.cfg.Propose(attempt, stamp(&pb.Command{Kind: &pb.Command_Release{Release: &pb.Release{
			Group: tenure.Group, Incarnation: tenure.Incarnation, Epoch: tenure.Epoch,
			Reason: h.Reason, Cause: h.Cause, Next: next, FailedUntilMs: failedUntil,
		}}}))
		cancel()
		switch {
		case err == nil:
			log.Info("released group", "to", next.GetNode(), "cause", h.Cause, "reason", h.Reason)
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
	ts.kill(run)
	if run.cancel != nil {
		run.cancel()
	}
	delete(ts.running, group)
}

// kill ends a group's work, or gives up the lease if that cannot be done.
func (ts *tenancies) kill(run *tenancy) {
	run.over()
	if run.work == nil {
		return
	}
	if err := run.work.Kill(); err != nil {
		ts.t.surrender(err)
	}
}

// killAll ends everything that is at work, all groups at the same time.
func (ts *tenancies) killAll(why string) {
	if len(ts.running) == 0 {
		return
	}
	ts.log.Warn("stopping all groups at once", "reason", why, "groups", len(ts.running))
	var wg sync.WaitGroup
	for _, run := range ts.running {
		wg.Go(func() { ts.kill(run) })
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
