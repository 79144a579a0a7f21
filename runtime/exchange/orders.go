package exchange

import (
	"context"
	"fmt"
	"time"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// recallAgain is how long an item that was asked for may take to be offered, before
// it is asked for again.
const recallAgain = 30 * time.Second

// Refresh looks at what people have ordered: which suspended items are resumed or
// discarded, and which ports were stopped or started. It is to be called after the
// replica has changed, and does not block for long.
func (e *Exchange) Refresh() {
	for _, w := range e.ways {
		w.gate.wake()
	}
	for _, r := range e.receivers {
		if r.refresh() && e.ctx.Err() == nil {
			e.tasks.Go(func() { r.recall(e.ctx, time.Now()) })
		}
	}
}

// refresh takes over the fates of items that are suspended no more, and reports
// whether there are any.
func (r *receiver) refresh() bool {
	r.mu.Lock()
	var suspended []string
	for key, k := range r.fates {
		if k.fate.GetState() == pb.Fate_SUSPENDED {
			suspended = append(suspended, key)
		}
	}
	r.mu.Unlock()
	any := false
	for _, key := range suspended {
		any = r.refreshItem(key) || any
	}
	return any
}

// refreshItem does it for one item, unless it has been taken up again meanwhile.
func (r *receiver) refreshItem(key string) bool {
	now := r.e.cfg.Fate(r.loc.Name, key)
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.fates[key]
	if k == nil || k.fate.GetState() != pb.Fate_SUSPENDED || !now.GetRecall() || now.GetMessageId() != k.fate.GetMessageId() {
		return false
	}
	r.setFateLocked(key, now, now.GetState() == pb.Fate_INTENDED)
	k.recalled = time.Time{}
	delete(r.troubles, key)
	r.startLocked() // its lane may be free now
	return true
}

// recall asks the source for items that were put aside and are to go on.
func (r *receiver) recall(ctx context.Context, now time.Time) {
	r.mu.Lock()
	link := r.link
	var keys []string
	for key, k := range r.fates {
		if k.fate.GetRecall() && k.fate.GetState() != pb.Fate_SUSPENDED && r.underWay[key] == nil && now.Sub(k.recalled) >= recallAgain {
			k.recalled = now
			keys = append(keys, key)
		}
	}
	r.mu.Unlock()
	for _, key := range keys {
		if link == nil {
			return
		}
		err := link.Send(ctx, &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Recall{Recall: &adapterpb.Recall{Location: r.loc.Name, Key: key}}})
		if err != nil { // the next handler is asked
			r.log.Warn("the handler could not be asked for an item that was resumed or discarded", "item", key, "error", err)
			return
		}
	}
}

// recalledLocked takes the source's answer. Without an error the item is on its way.
func (r *receiver) recalledLocked(m *adapterpb.Recalled) {
	k := r.fates[m.GetKey()]
	if m.GetError() == nil || k == nil || r.underWay[m.GetKey()] != nil {
		return
	}
	r.lastError = fmt.Sprintf("item %q cannot be brought back: %s", m.GetKey(), m.GetError().GetText())
	r.log.Warn("item cannot be brought back", "item", m.GetKey(), "error", m.GetError().GetText())
	kind, what, reason := m.GetError().GetKind(), settleFate, gone
	switch {
	case kind != adapterpb.Error_GONE && kind != adapterpb.Error_PERMANENT:
		return // asked for again
	case k.fate.GetState() == pb.Fate_INTENDED:
		what = suspendFate
		if kind == adapterpb.Error_PERMANENT {
			reason = m.GetError().GetText()
		}
	}
	if r.e.ctx.Err() == nil {
		r.e.tasks.Go(func() { r.commitBurials(r.e.ctx, []burial{r.burial(m.GetKey(), what, reason)}) })
	}
}

// Poll has a location's source looked at now. It reports false if no handler runs it.
func (e *Exchange) Poll(ctx context.Context, location string) bool {
	r := e.receivers[location]
	if r == nil {
		return false
	}
	r.mu.Lock()
	runs := r.link != nil
	r.mu.Unlock()
	if runs {
		r.say(ctx, r.pollNow())
	}
	return runs
}

// SetStopped has a location take up nothing more, or go on.
func (e *Exchange) SetStopped(location string, stopped bool) {
	r := e.receivers[location]
	if r == nil {
		return
	}
	r.mu.Lock()
	r.stopped = stopped
	r.mu.Unlock()
	r.nudge()
}
