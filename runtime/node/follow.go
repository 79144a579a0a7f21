package node

import (
	"context"
	"errors"
	"time"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/ownership"
)

// awaitPlanChange returns when the group's plan differs from the given one, which
// is at work, and the group is still deployed; or when ctx ends. On the way it
// lets go of the locations that the deployment has given to other groups.
func (w *work) awaitPlanChange(ctx context.Context, plan *groupPlan) {
	changes, stop := w.n.ledger.Changes()
	defer stop()
	for {
		// What acted for them here has ended: the plan at work is without them.
		if len(plan.foreign) > 0 {
			w.yield(ctx, plan)
		}
		next := w.n.nextPlan(ctx, w.tenure.Group, plan, changes)
		if next == nil || next.print != plan.print {
			return
		}
		plan = next
	}
}

// nextPlan waits for an event in the ledger and returns the plan after it; nil when
// ctx ends.
func (n *Node) nextPlan(ctx context.Context, group string, plan *groupPlan, changes <-chan struct{}) *groupPlan {
	event := plan.event
	for {
		var now uint64
		deployed := group == ownership.Local
		n.ledger.View(func(s *pb.State) {
			now = ledger.LastEvent(s)
			if d := n.plans.of(s); d != nil && now != event {
				deployed = deployed || len(hostsOf(d, group)) > 0
			}
		})
		// One that has been taken out is released by its owner.
		if now != event && deployed {
			return n.planFor(group)
		}
		event = now
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		}
	}
}

// yieldRetry is the pause between attempts to tell the ledger that this group acts
// for those locations only that the deployment gives to it.
const yieldRetry = 200 * time.Millisecond

// yield says that nothing acts here any more for locations of other groups.
func (w *work) yield(ctx context.Context, plan *groupPlan) {
	for {
		attempt, cancel := context.WithTimeout(ctx, w.n.profile.Lease)
		err := w.n.propose(attempt, &pb.Command{Kind: &pb.Command_Yield{Yield: &pb.Yield{
			Group: w.tenure.Group, Incarnation: w.tenure.Incarnation, Epoch: w.tenure.Epoch, Version: plan.version,
		}}})
		cancel()
		if err == nil || errors.Is(err, ledger.ErrFenced) || errors.Is(err, ledger.ErrStale) {
			return // stale: the plan for the newer deployment yields
		}
		w.log.Debug("locations not yielded yet", "locations", plan.foreign, "error", err)
		timer := time.NewTimer(yieldRetry)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}
