package exchange

import (
	"context"
	"sync"
	"time"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// housekeep lets the ledger follow what is at the source: it forgets fates that
// nothing can ask for any more.
func (r *receiver) housekeep(ctx context.Context) {
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.sweep(ctx, time.Now())
		}
	}
}

// sweep commits what is due; many items at a time.
func (r *receiver) sweep(ctx context.Context, now time.Time) {
	due := r.due(now)
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxBatch)
	for key, what := range due {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			r.bury(ctx, key, what)
		})
	}
	wg.Wait()
}

func (r *receiver) due(now time.Time) map[string]absence {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := map[string]absence{}
	for key, k := range r.fates {
		if r.underWay[key] != nil {
			continue
		}
		age := now.Sub(k.since)
		switch state := k.fate.GetState(); {
		case state == pb.Fate_SETTLED:
			if age >= settledGrace {
				due[key] = forgetFate
			}
		case k.absent > 0:
			if what := absent(k.fate, r.removes, k.absent, age, absentGrace); what != keepFate {
				due[key] = what
			}
		case r.pushed && state == pb.Fate_DELIVERED && age >= pushedGrace:
			due[key] = forgetFate
		}
	}
	return due
}

// bury commits the end of a fate whose item is not at the source any more.
func (r *receiver) bury(ctx context.Context, key string, what absence) {
	change := &pb.FateChange{Location: r.loc.Name, Key: key}
	var next *pb.Fate
	switch what {
	case settleFate:
		change.Change = &pb.FateChange_Settled{Settled: &pb.Settled{}}
		next = &pb.Fate{State: pb.Fate_SETTLED}
	case forgetFate:
		change.Change = &pb.FateChange_Forget{Forget: &pb.Forget{}}
	case suspendFate:
		reason := "it is not at the source any more, and not every port has confirmed it: look at the destination"
		change.Change = &pb.FateChange_Suspend{Suspend: &pb.Suspend{Reason: reason}}
		next = &pb.Fate{State: pb.Fate_SUSPENDED, Reason: reason}
		r.log.Error("item suspended", "item", key, "reason", reason)
	}
	if err := r.e.committer.commit(ctx, change); err != nil {
		if ctx.Err() == nil {
			r.log.Warn("fate not committed", "item", key, "error", err)
		}
		return
	}
	r.setFate(key, next, false)
}
