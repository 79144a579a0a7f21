package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/ownership"
	"github.com/fairlead-io/fairlead/sdk/bootclock"
)

// work is a group at work: a plugin, which is a process of its own that checks the
// lease itself before every effect, and the runtime's part, which commits fates.
type work struct {
	p      *process
	n      *node
	w      *world
	tenure ownership.Tenure
	failed chan string
	idle   chan struct{} // closed when the plugin has nothing more to do
	ids    map[string]string
	last   string // item that was settled last, and is to be forgotten

	// The world's lock guards these.
	deadline bootclock.Time // as the plugin was last told
	draining bool
	ended    bool
	gone     chan struct{} // closed when ended
	acted    time.Duration // last
}

var _ ownership.Work = (*work)(nil)

// begin is called by the tenant.
func (p *process) begin(t ownership.Tenure, lease *ownership.Lease) ownership.Work {
	p.n.pass(beforeBegin)
	alive := p.gate() // the process may stand still between its decision and this
	k := &work{
		p: p, n: p.n, w: p.n.w, tenure: t, failed: make(chan string, 1), ids: map[string]string{},
		idle: make(chan struct{}), gone: make(chan struct{}), deadline: p.deadline(lease),
	}
	if t.Group == ownership.Local || !alive {
		k.ended = true
		close(k.idle)
		close(k.gone)
		return k
	}
	k.w.check.begins(k)
	k.w.tasks.Go(func() { k.tell(lease) })
	if k.w.plan.idle {
		close(k.idle)
	} else {
		k.w.tasks.Go(k.run)
	}
	return k
}

// tell hands every extension of the lease to the plugin.
func (k *work) tell(lease *ownership.Lease) {
	for {
		extended := lease.Extended()
		to := k.p.deadline(lease)
		if !k.p.gate() {
			return
		}
		k.w.mu.Lock()
		if to > k.deadline && !k.ended {
			k.deadline = to
			k.w.check.exclusiveLocked(k)
		}
		k.w.mu.Unlock()
		select {
		case <-extended:
		case <-k.gone:
			return
		case <-k.p.gone:
			return
		}
	}
}

// Kill implements ownership.Work.
func (k *work) Kill() error {
	if k.p.gate() {
		k.w.mu.Lock()
		k.endLocked()
		k.w.mu.Unlock()
	}
	return nil
}

// Drain implements ownership.Work.
func (k *work) Drain(ctx context.Context) error {
	if !k.p.gate() {
		return nil
	}
	k.w.mu.Lock()
	k.draining = true
	k.w.mu.Unlock()
	select {
	case <-k.idle:
	case <-ctx.Done():
	case <-k.gone:
	}
	return k.Kill()
}

// Failed implements ownership.Work.
func (k *work) Failed() <-chan string { return k.failed }

func (k *work) endLocked() {
	if k.ended {
		return
	}
	k.ended = true
	close(k.gone)
	k.n.works = slices.DeleteFunc(k.n.works, func(o *work) bool { return o == k })
	k.w.noteLocked("%s ends %s under %d", k.tenure.Incarnation, k.tenure.Group, k.tenure.Epoch)
}

// mayActLocked is the plugin's own look at its lease.
func (k *work) mayActLocked() bool {
	return !k.ended && k.w.sabotage.pluginClockLocked(k.n) < k.deadline
}

// act does something to the world outside, if the plugin lives and its lease too.
// Between the look at the lease and the effect nothing comes.
func (k *work) act(what string, effect func()) bool {
	for k.n.machine.held() || k.n.plugins.held() {
		if !k.n.machine.wait(k.gone) || !k.n.plugins.wait(k.gone) {
			return false
		}
	}
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	if k.ended || !k.w.sabotage.ignoresLease() && !k.mayActLocked() {
		return false
	}
	k.w.check.actsLocked(k, what)
	effect()
	return true
}

// run is the plugin's loop. Without a lease it does nothing; its runtime ends it, or
// gives it another. Where the runtime is dead, it ends with its lease.
func (k *work) run() {
	defer close(k.idle)
	for k.wait(8*time.Millisecond, 30*time.Millisecond) {
		k.w.mu.Lock()
		draining, orphan := k.draining, k.p.n.p != k.p && !k.mayActLocked() && !k.w.sabotage.ignoresLease()
		if orphan {
			k.endLocked()
		}
		k.w.mu.Unlock()
		if draining || orphan {
			return
		}
		var item string
		if k.act("poll", func() { item = k.w.items.nextLocked(k.tenure.Group) }) && item != "" {
			if !k.carry(item) {
				return
			}
		}
	}
}

// wait reports whether the work still goes on after some time.
func (k *work) wait(least, most time.Duration) bool {
	timer := time.NewTimer(span(k.w.draw(streamHandler, k.n.id, k.w.group(k.tenure.Group)), least, most))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-k.gone:
		return false
	}
}

// carry brings an item from the source to the sink, from wherever an earlier owner
// or an earlier attempt left it. It returns false when this work may not go on.
func (k *work) carry(item string) bool {
	fate := k.fate(item)
	id, doubtful := k.ids[item], fate.GetState() == pb.Fate_INTENDED
	if id == "" {
		id = fate.GetMessageId()
	} else {
		doubtful = true // its attempt was broken off
	}
	if id == "" {
		id = k.w.newID(k.tenure)
		intent := &pb.FateChange{Change: &pb.FateChange_Intend{Intend: &pb.Intend{MessageId: id, Ports: []string{"sink"}}}}
		switch err := k.commit(change(item, intent)); {
		case errors.Is(err, ledger.ErrIllegal):
			// It has an ID already: this owner's, from before it was stopped and went on
			// under the same epoch. The replica will tell which.
			return true
		case err != nil:
			return false
		}
	}
	k.ids[item] = id
	if s := fate.GetState(); s != pb.Fate_DELIVERED && s != pb.Fate_SETTLED {
		if doubtful { // it may have been sent: the sink tells
			if !k.act("probe", func() { doubtful = k.w.items.arrivedLocked(id) }) || !k.wait(time.Millisecond, 3*time.Millisecond) {
				return true
			}
		}
		if !doubtful && !k.act("send", func() { k.w.items.sendLocked(k, item, id) }) {
			return true
		}
		k.n.pass(afterSend)
		done := &pb.FateChange{Change: &pb.FateChange_Delivered{Delivered: &pb.Delivered{Ports: []string{"sink"}}}}
		if k.commit(change(item, done)) != nil {
			return false
		}
	}
	if !k.act("settle", func() { k.w.items.settleLocked(k.tenure.Group, item) }) {
		return true
	}
	changes := []*pb.FateChange{change(item, &pb.FateChange{Change: &pb.FateChange_Settled{Settled: &pb.Settled{}}})}
	if k.last != "" {
		changes = append(changes, change(k.last, &pb.FateChange{Change: &pb.FateChange_Forget{Forget: &pb.Forget{}}}))
	}
	k.last = item
	return k.commit(changes...) == nil
}

// newID is the ID of a message that was never used before.
func (w *world) newID(t ownership.Tenure) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ids++
	return fmt.Sprintf("message %d%s", w.ids, by(t.Incarnation, t.Epoch))
}

// by is in the ID of every message whose it is.
func by(incarnation string, epoch uint64) string {
	return fmt.Sprintf(" of %s under %d", incarnation, epoch)
}

func change(item string, c *pb.FateChange) *pb.FateChange {
	c.Key = item
	return c
}

func (k *work) fate(item string) (f *pb.Fate) {
	replica{k.p}.View(func(s *pb.State) {
		f = s.GetLocations()[location(k.tenure.Group)].GetFates()[item]
	})
	return f // fates are replaced, not changed
}

// commit has the ledger change fates under this work's epoch, and tries until it is
// known that it has, or that it never will. The error is the ledger's refusal, or
// that this work has ended.
func (k *work) commit(changes ...*pb.FateChange) error {
	for _, c := range changes {
		c.Location = location(k.tenure.Group)
	}
	batch := &pb.Command{Kind: &pb.Command_Fates{Fates: &pb.FateBatch{
		Group: k.tenure.Group, Incarnation: k.tenure.Incarnation, Epoch: k.tenure.Epoch, Changes: changes,
	}}}
	for {
		k.n.pass(beforeCommit)
		ctx, cancel := context.WithTimeout(k.p.ctx, ttl/2)
		index, err := k.p.proposeAt(ctx, batch)
		cancel()
		switch {
		case err == nil:
			k.w.check.committed(k, index)
			return nil
		case errors.Is(err, ledger.ErrFenced), errors.Is(err, ledger.ErrIllegal):
			k.w.note("%s under %d: %v", k.tenure.Incarnation, k.tenure.Epoch, err)
			return err
		case !k.wait(20*time.Millisecond, 50*time.Millisecond):
			return errDown
		}
	}
}
