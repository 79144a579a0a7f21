package ledger

import (
	"fmt"
	"slices"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// fates changes the fates of a batch of items, all or none. This is the fence: a
// batch under an epoch that is not the group's current one changes nothing,
// whoever sent it and however late it comes.
func (m *Machine) fates(b *pb.FateBatch) error {
	g := m.s.Groups[b.GetGroup()]
	if g == nil || g.Incarnation != b.GetIncarnation() || g.Epoch != b.GetEpoch() || m.live(b.GetIncarnation()) == nil {
		return fmt.Errorf("fates of group %q under epoch %d: %w", b.GetGroup(), b.GetEpoch(), ErrFenced)
	}
	// Decide everything on copies first, so that a refused change leaves no trace.
	type id struct{ location, key string }
	changed := map[id]*pb.Fate{}
	var order []id
	for _, c := range b.GetChanges() {
		at1 := id{c.GetLocation(), c.GetKey()}
		// Another group's owner acts for it, or will: this one has not heard of the
		// deployment that says so.
		if holder := m.s.Holders[at1.location]; holder != "" && holder != g.Name {
			return fmt.Errorf("location %q belongs to group %q, not %q: %w", at1.location, holder, g.Name, ErrFenced)
		}
		now, seen := changed[at1]
		if !seen {
			now = m.s.Locations[at1.location].GetFates()[at1.key]
			order = append(order, at1)
		}
		next, err := nextFate(now, c)
		if err != nil {
			return fmt.Errorf("location %q, item %q: %w", at1.location, at1.key, err)
		}
		if c.GetIntend() != nil {
			next.Epoch, next.IntendedAtMs = b.GetEpoch(), m.at
		}
		changed[at1] = next
	}
	for _, at1 := range order {
		m.setFate(at1.location, at1.key, changed[at1])
	}
	for _, c := range b.GetChanges() {
		if s := c.GetSuspend(); s != nil {
			m.itemEvent(&pb.Event{Kind: "item-suspended", Group: g.Name, Epoch: g.Epoch, GapMs: -1,
				Text: fmt.Sprintf("location %s, item %q: %s", c.GetLocation(), c.GetKey(), s.GetReason())})
		}
	}
	return nil
}

// setFate stores a fate, or removes it if it is nil.
func (m *Machine) setFate(location, key string, f *pb.Fate) {
	l := m.s.Locations[location]
	if f == nil {
		if l != nil {
			delete(l.Fates, key)
			if len(l.Fates) == 0 {
				delete(m.s.Locations, location)
			}
		}
		return
	}
	if l == nil {
		l = &pb.Location{}
		m.s.Locations[location] = l
	}
	if l.Fates == nil { // protobuf drops empty maps
		l.Fates = map[string]*pb.Fate{}
	}
	l.Fates[key] = f
}

// nextFate is the way of an item through the ledger:
//
//	(unknown) ── Intend ──▶ INTENDED ── Delivered(last port) ──▶ DELIVERED ── Settled ──▶ SETTLED ── Forget ──▶
//	                           │ ▲
//	                   Suspend ▼ │ (resume: Intend with the same ID)
//	                        SUSPENDED
//
// Everything that is said twice (after an unclear answer) is taken as said once.
// A nil fate is an unknown item. now is never changed.
func nextFate(now *pb.Fate, c *pb.FateChange) (*pb.Fate, error) {
	switch k := c.GetChange().(type) {
	case *pb.FateChange_Intend:
		return intend(now, k.Intend)
	case *pb.FateChange_Delivered:
		return delivered(now, k.Delivered.GetPorts())
	case *pb.FateChange_Suspend:
		return suspend(now, k.Suspend.GetReason())
	case *pb.FateChange_Settled:
		return settled(now)
	case *pb.FateChange_Forget:
		return nil, nil
	}
	return nil, fmt.Errorf("%w: change of kind %T", ErrUnknown, c.GetChange())
}

func intend(now *pb.Fate, i *pb.Intend) (*pb.Fate, error) {
	if i.GetMessageId() == "" || len(i.GetPorts()) == 0 {
		return nil, fmt.Errorf("%w: an intent needs a message ID and a port", ErrIllegal)
	}
	if now == nil {
		return &pb.Fate{State: pb.Fate_INTENDED, MessageId: i.MessageId, Pending: i.Ports}, nil
	}
	if now.MessageId != i.MessageId {
		return nil, fmt.Errorf("%w: it already has message ID %s", ErrIllegal, now.MessageId)
	}
	if now.State == pb.Fate_SUSPENDED {
		next := clone(now)
		next.State, next.Reason = pb.Fate_INTENDED, ""
		if len(next.Pending) == 0 { // the last port acknowledged late, while it was suspended
			next.State = pb.Fate_DELIVERED
		}
		return next, nil
	}
	return clone(now), nil
}

func delivered(now *pb.Fate, ports []string) (*pb.Fate, error) {
	if now == nil {
		return nil, fmt.Errorf("%w: delivered without intent", ErrIllegal)
	}
	next := clone(now)
	for _, p := range ports {
		if i := slices.Index(next.Pending, p); i >= 0 {
			next.Pending = slices.Delete(next.Pending, i, i+1)
			next.Delivered = append(next.Delivered, p)
		}
	}
	if len(next.Pending) == 0 && next.State == pb.Fate_INTENDED {
		next.State = pb.Fate_DELIVERED
	}
	return next, nil
}

func suspend(now *pb.Fate, reason string) (*pb.Fate, error) {
	switch {
	case now == nil:
		return nil, fmt.Errorf("%w: suspended without intent", ErrIllegal)
	case now.State == pb.Fate_DELIVERED, now.State == pb.Fate_SETTLED:
		return nil, fmt.Errorf("%w: it is already delivered", ErrIllegal)
	}
	next := clone(now)
	next.State, next.Reason = pb.Fate_SUSPENDED, reason
	return next, nil
}

func settled(now *pb.Fate) (*pb.Fate, error) {
	if now == nil || now.State != pb.Fate_DELIVERED && now.State != pb.Fate_SETTLED {
		return nil, fmt.Errorf("%w: settled before it was delivered to every port", ErrIllegal)
	}
	next := clone(now)
	next.State = pb.Fate_SETTLED
	return next, nil
}

func clone(f *pb.Fate) *pb.Fate {
	if f == nil {
		return nil
	}
	return &pb.Fate{
		State: f.State, MessageId: f.MessageId, Pending: slices.Clone(f.Pending),
		Delivered: slices.Clone(f.Delivered), Reason: f.Reason, Epoch: f.Epoch, IntendedAtMs: f.IntendedAtMs,
	}
}
