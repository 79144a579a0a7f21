package exchange

import (
	"context"
	"time"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

const (
	// settledGrace is how long a settled item's fate stays, so that a listing or an
	// offer made before the settling does not make it new. An item that is put there
	// again, the same to the byte of its key, is taken up after it.
	settledGrace = time.Minute
	// maxSettled bounds the settled fates that are kept for that, and shortestGrace
	// how short the time gets with it: a busy queue must not fill the ledger.
	maxSettled    = 100_000
	shortestGrace = 5 * time.Second
	// absentGrace is how long an item must be missing before its fate is forgotten.
	absentGrace = 10 * time.Minute
	// pushedGrace is the same for sources that cannot list: a broker offers what it
	// holds long before.
	pushedGrace = 24 * time.Hour
	// housekeeping is the interval at which fates are forgotten.
	housekeeping = 5 * time.Second
	// maxReadFailures is how often an item is read in vain before it is suspended, so
	// that one malformed item does not stop a location; maxTroubles bounds the items
	// for which that is counted.
	maxReadFailures = 5
	maxTroubles     = 10_000
)

// expiry is when an item was settled.
type expiry struct {
	key   string
	since time.Time
}

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
			now := time.Now()
			r.refresh()
			r.recall(ctx, now)
			r.bury(ctx, r.expired(now))
			r.bury(ctx, r.due(now))
		}
	}
}

// expired are the settled items whose grace time is over.
func (r *receiver) expired(now time.Time) map[string]absence {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := map[string]absence{}
	for len(r.expiring) > 0 {
		next := r.expiring[0]
		age := now.Sub(next.since)
		if age < settledGrace && (len(r.expiring) <= maxSettled || age < shortestGrace) {
			break
		}
		r.expiring = r.expiring[1:]
		k := r.fates[next.key]
		switch {
		case k == nil || k.fate.GetState() != pb.Fate_SETTLED || !k.since.Equal(next.since):
		case r.underWay[next.key] != nil:
			r.expiring = append(r.expiring, expiry{next.key, k.since})
			return due
		default:
			due[next.key] = forgetFate
		}
	}
	return due
}

// due are the items that are not at the source any more.
func (r *receiver) due(now time.Time) map[string]absence {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := map[string]absence{}
	for key, k := range r.fates {
		state := k.fate.GetState()
		if r.underWay[key] != nil || state == pb.Fate_SETTLED {
			continue
		}
		age := now.Sub(k.since)
		switch {
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

// gone is why an item is suspended that is not there any more.
const gone = "it is not at the source any more, and not every port has confirmed it: look at the destination"

// bury commits the ends of fates whose items are not at the source any more, many
// at a time.
func (r *receiver) bury(ctx context.Context, due map[string]absence) {
	var batch []burial
	for key, what := range due {
		batch = append(batch, r.burial(key, what, gone))
		if len(batch) == maxBatch {
			r.commitBurials(ctx, batch)
			batch = nil
		}
	}
	r.commitBurials(ctx, batch)
}

type burial struct {
	key    string
	change *pb.FateChange
	next   *pb.Fate
}

// burial is how a fate ends; reason is why, if it is a suspension.
func (r *receiver) burial(key string, what absence, reason string) burial {
	b := burial{key: key, change: &pb.FateChange{Location: r.loc.Name, Key: key}}
	switch what {
	case settleFate:
		b.change.Change = &pb.FateChange_Settled{Settled: &pb.Settled{}}
		b.next = &pb.Fate{State: pb.Fate_SETTLED}
	case suspendFate:
		b.change.Change = &pb.FateChange_Suspend{Suspend: &pb.Suspend{Reason: reason}}
		b.next = &pb.Fate{State: pb.Fate_SUSPENDED, Reason: reason}
		r.mu.Lock()
		if k := r.fates[key]; k != nil {
			b.next.MessageId, b.next.OrderKey = k.fate.GetMessageId(), k.fate.GetOrderKey()
		}
		r.mu.Unlock()
		r.log.Error("item suspended", "item", key, "reason", reason)
	default:
		b.change.Change = &pb.FateChange_Forget{Forget: &pb.Forget{}}
	}
	return b
}

func (r *receiver) commitBurials(ctx context.Context, batch []burial) {
	if len(batch) == 0 {
		return
	}
	changes := make([]*pb.FateChange, len(batch))
	for i, b := range batch {
		changes[i] = b.change
	}
	if err := r.e.committer.commit(ctx, changes...); err != nil {
		if ctx.Err() == nil && len(batch) > 1 { // one of them is refused
			for _, b := range batch {
				r.commitBurials(ctx, []burial{b})
			}
		} else if ctx.Err() == nil {
			r.log.Warn("fate not committed", "item", batch[0].key, "error", err)
		}
		return
	}
	for _, b := range batch {
		r.setFate(b.key, b.next, false)
	}
}
