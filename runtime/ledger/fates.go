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
		switch {
		case c.GetIntend() != nil:
			next.Epoch, next.IntendedAtMs = b.GetEpoch(), m.at
		case c.GetSuspend() != nil:
			next.SuspendedAtMs = m.at
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
//	                           │ ▲                                                 ▲
//	                   Suspend ▼ │ order: resume                                   │ Settled
//	                        SUSPENDED ── order: discard ──▶ DISCARDED ─────────────┘
//
// Everything that is said twice (after an unclear answer) is taken as said once.
// A nil fate is an unknown item. now is never changed.
func nextFate(now *pb.Fate, c *pb.FateChange) (*pb.Fate, error) {
	switch k := c.GetChange().(type) {
	case *pb.FateChange_Intend:
		return intend(now, k.Intend)
	case *pb.FateChange_Delivered:
		return delivered(now, k.Delivered.GetPorts())
	case *pb.FateChange_Redirect:
		return redirect(now, k.Redirect)
	case *pb.FateChange_Suspend:
		return suspend(now, k.Suspend)
	case *pb.FateChange_Settled:
		return settled(now)
	case *pb.FateChange_Forget:
		return nil, nil
	}
	return nil, fmt.Errorf("%w: change of kind %T", ErrUnknown, c.GetChange())
}

func intend(now *pb.Fate, i *pb.Intend) (*pb.Fate, error) {
	if i.GetMessageId() == "" {
		return nil, fmt.Errorf("%w: an intent needs a message ID", ErrIllegal)
	}
	if now == nil {
		return &pb.Fate{State: pb.Fate_INTENDED, MessageId: i.MessageId, Pending: i.Ports, OrderKey: i.OrderKey}, nil
	}
	if now.MessageId != i.MessageId {
		return nil, fmt.Errorf("%w: it already has message ID %s", ErrIllegal, now.MessageId)
	}
	next := clone(now)
	if unrouted(now) { // no route matched it before
		next.Pending = slices.Clone(i.Ports)
	}
	return next, nil
}

// unrouted reports whether the item is to go somewhere, and nobody has said where.
func unrouted(f *pb.Fate) bool {
	return f.State == pb.Fate_INTENDED && len(f.Pending) == 0 && len(f.Delivered) == 0
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
	return whole(next), nil
}

// whole makes an intended item that every port has a delivered one.
func whole(f *pb.Fate) *pb.Fate {
	if f.State == pb.Fate_INTENDED && len(f.Pending) == 0 && len(f.Delivered) > 0 {
		f.State = pb.Fate_DELIVERED
	}
	return f
}

// redirect puts another port in the place of one that still lacks the item.
func redirect(now *pb.Fate, r *pb.Redirect) (*pb.Fate, error) {
	switch {
	case now == nil:
		return nil, fmt.Errorf("%w: redirected without intent", ErrIllegal)
	case r.GetTo() == "":
		return nil, fmt.Errorf("%w: redirected to no port", ErrIllegal)
	}
	next := clone(now)
	i := slices.Index(next.Pending, r.GetFrom())
	switch {
	case i < 0: // said before, or it was delivered meanwhile
	case slices.Contains(next.Pending, r.GetTo()), slices.Contains(next.Delivered, r.GetTo()):
		next.Pending = slices.Delete(next.Pending, i, i+1)
	default:
		next.Pending[i] = r.GetTo()
	}
	return whole(next), nil
}

func suspend(now *pb.Fate, s *pb.Suspend) (*pb.Fate, error) {
	switch {
	case now == nil:
		return nil, fmt.Errorf("%w: suspended without intent", ErrIllegal)
	case now.State == pb.Fate_DELIVERED, now.State == pb.Fate_SETTLED:
		return nil, fmt.Errorf("%w: it is already delivered", ErrIllegal)
	case now.State == pb.Fate_DISCARDED:
		return nil, fmt.Errorf("%w: it is discarded", ErrIllegal)
	}
	next := clone(now)
	next.State, next.Reason = pb.Fate_SUSPENDED, s.GetReason()
	next.Name, next.Context, next.Attempts = s.GetName(), s.GetContext(), s.GetAttempts()
	return next, nil
}

// unsuspend ends a suspension.
func unsuspend(next *pb.Fate, state pb.Fate_State) *pb.Fate {
	next.State, next.Recall = state, true
	next.Reason, next.SuspendedAtMs, next.Name, next.Context, next.Attempts = "", 0, "", nil, nil
	return next
}

// resumed has a suspended item tried again, at that port alone if one is named.
func resumed(now *pb.Fate, port string) *pb.Fate {
	next := clone(now)
	switch {
	case port != "" && slices.Contains(next.Delivered, port):
		next.Pending = nil
	case port != "":
		next.Pending = []string{port}
	}
	return whole(unsuspend(next, pb.Fate_INTENDED)) // the last port may have acknowledged late
}

// discarded has a suspended item go to nobody else.
func discarded(now *pb.Fate) *pb.Fate {
	next := unsuspend(clone(now), pb.Fate_DISCARDED)
	next.Pending = nil
	return next
}

func settled(now *pb.Fate) (*pb.Fate, error) {
	switch now.GetState() {
	case pb.Fate_DELIVERED, pb.Fate_SETTLED, pb.Fate_DISCARDED:
		next := clone(now)
		next.State, next.Recall = pb.Fate_SETTLED, false
		return next, nil
	}
	return nil, fmt.Errorf("%w: settled before it was delivered to every port", ErrIllegal)
}

func clone(f *pb.Fate) *pb.Fate {
	if f == nil {
		return nil
	}
	return &pb.Fate{
		State: f.State, MessageId: f.MessageId, Pending: slices.Clone(f.Pending),
		Delivered: slices.Clone(f.Delivered), Reason: f.Reason, Epoch: f.Epoch, IntendedAtMs: f.IntendedAtMs,
		OrderKey: f.OrderKey, Recall: f.Recall, SuspendedAtMs: f.SuspendedAtMs, Name: f.Name, Context: f.Context, Attempts: f.Attempts,
	}
}

// orderItems carries out what somebody has decided about suspended items. It needs
// no epoch: whoever owns them learns of it, and only what is suspended, which no
// owner works on, is changed.
func (m *Machine) orderItems(o *pb.OrderItems) error {
	kind, text := "items-resumed", "tried again, by order"
	switch o.GetOrder() {
	case pb.OrderItems_RESUME:
		if o.GetPort() != "" {
			text = fmt.Sprintf("to be sent to %s instead, by order", o.GetPort())
		}
	case pb.OrderItems_DISCARD:
		kind, text = "items-discarded", "discarded, by order"
	default:
		return fmt.Errorf("%w: order %v about items", ErrUnknown, o.GetOrder())
	}
	perLocation := map[string][]string{}
	for _, ref := range o.GetItems() {
		now := m.s.Locations[ref.GetLocation()].GetFates()[ref.GetKey()]
		if now.GetState() != pb.Fate_SUSPENDED || now.GetMessageId() != ref.GetMessageId() {
			continue
		}
		next := resumed(now, o.GetPort())
		if o.GetOrder() == pb.OrderItems_DISCARD {
			next = discarded(now)
		}
		m.setFate(ref.GetLocation(), ref.GetKey(), next)
		perLocation[ref.GetLocation()] = append(perLocation[ref.GetLocation()], ref.GetMessageId())
	}
	for _, location := range sortedKeys(perLocation) {
		ids := perLocation[location]
		of := ids[0]
		if len(ids) > 1 {
			of = fmt.Sprintf("%s and %d others", of, len(ids)-1)
		}
		m.itemEvent(&pb.Event{Kind: kind, GapMs: -1, Text: fmt.Sprintf("location %s, message %s: %s", location, of, text)})
	}
	return nil
}
