package ledger

import (
	"github.com/anishathalye/porcupine"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// itemsPerGroup are the items of a group that clients fight over.
const itemsPerGroup = 2

// groupState is one group with its items, as the model has it. Groups touch nothing
// of each other, so each is checked by itself.
type groupState struct {
	owner string // incarnation
	epoch uint64
	items [itemsPerGroup]itemState
}

type itemState struct {
	id      string
	state   pb.Fate_State
	pending bool // its one port has not acknowledged
}

// groupOp is one call about a group.
type groupOp struct {
	what, group, owner string
	epoch              uint64
	item               int
	id                 string
}

// groupResult is its answer.
type groupResult struct {
	ok      bool // not refused
	unclear bool // it may take effect at any time, or never
	read    groupState
}

// groupModel says what a group does, whatever order the calls take effect in.
var groupModel = (&porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		byGroup := map[string][]porcupine.Operation{}
		for _, o := range history {
			g := o.Input.(groupOp).group
			byGroup[g] = append(byGroup[g], o)
		}
		for _, g := range sortedKeys(byGroup) {
			parts = append(parts, byGroup[g])
		}
		return parts
	},
	Init: func() []any { return []any{groupState{}} },
	Step: func(state, input, output any) []any {
		s, op, r := state.(groupState), input.(groupOp), output.(groupResult)
		if op.what == "read" {
			if s == r.read {
				return []any{s}
			}
			return nil
		}
		next, ok := s.after(op)
		switch {
		case r.unclear && next != s:
			return []any{s, next}
		case !r.unclear && ok != r.ok:
			return nil
		}
		return []any{next}
	},
	Equal: func(a, b any) bool { return a == b },
}).ToModel()

// after is the state machine in miniature.
func (s groupState) after(op groupOp) (next groupState, ok bool) {
	if op.what == "assign" {
		if s.owner != "" || s.epoch != op.epoch {
			return s, false
		}
		s.owner, s.epoch = op.owner, s.epoch+1
		return s, true
	}
	if op.what == "resume" || op.what == "discard" { // anybody's, whatever the epoch
		s.items[op.item] = s.items[op.item].ordered(op)
		return s, true
	}
	if s.owner == "" || s.owner != op.owner || s.epoch != op.epoch {
		return s, false
	}
	if op.what == "release" {
		s.owner, s.epoch = "", s.epoch+1
		return s, true
	}
	item, ok := s.items[op.item].after(op)
	if ok {
		s.items[op.item] = item
	}
	return s, ok
}

func (i itemState) after(op groupOp) (next itemState, ok bool) {
	known := i.state != pb.Fate_UNKNOWN
	switch op.what {
	case "forget":
		return itemState{}, true
	case "intend":
		if !known {
			return itemState{op.id, pb.Fate_INTENDED, true}, true
		}
		return i, i.id == op.id
	case "deliver":
		i.pending = false
		if i.state == pb.Fate_INTENDED {
			i.state = pb.Fate_DELIVERED
		}
		return i, known
	case "suspend":
		ok = i.state == pb.Fate_INTENDED || i.state == pb.Fate_SUSPENDED
		i.state = pb.Fate_SUSPENDED
		return i, ok
	case "settle":
		ok = i.state == pb.Fate_DELIVERED || i.state == pb.Fate_SETTLED || i.state == pb.Fate_DISCARDED
		i.state = pb.Fate_SETTLED
		return i, ok
	}
	return i, false
}

// ordered is what an order makes of the item: nothing unless it is suspended.
func (i itemState) ordered(op groupOp) itemState {
	switch {
	case i.state != pb.Fate_SUSPENDED || i.id != op.id:
	case op.what == "discard":
		i.state, i.pending = pb.Fate_DISCARDED, false
	case i.pending:
		i.state = pb.Fate_INTENDED
	default:
		i.state = pb.Fate_DELIVERED
	}
	return i
}

// key is the item's in the ledger.
func (op groupOp) key() string { return keyOf(op.group, op.item) }

func keyOf(group string, item int) string { return group + string(rune('0'+item)) }

func (op groupOp) command() *pb.Command {
	var c *pb.FateChange
	switch op.what {
	case "resume":
		return orderOf(pb.OrderItems_RESUME, op.key(), op.id, "")
	case "discard":
		return orderOf(pb.OrderItems_DISCARD, op.key(), op.id, "")
	case "assign":
		return assign(place(op.group, op.owner[:1], op.owner), op.epoch)
	case "release":
		return release(op.group, op.owner, op.epoch, nil)
	case "intend":
		c = intended(op.key(), op.id, "p")
	case "deliver":
		c = deliveredTo(op.key(), "p")
	case "suspend":
		c = suspended(op.key(), "no reason")
	case "settle":
		c = settledAt(op.key())
	case "forget":
		c = forgotten(op.key())
	}
	return fates(op.group, op.owner, op.epoch, c)
}

// groupOf looks at a replica, which may lag.
func groupOf(l *Ledger, group string) (s groupState) {
	l.View(func(state *pb.State) {
		g := state.GetGroups()[group]
		s.owner, s.epoch = g.GetIncarnation(), g.GetEpoch()
		for i := range s.items {
			if f := state.GetLocations()["in"].GetFates()[keyOf(group, i)]; f != nil {
				s.items[i] = itemState{f.MessageId, f.State, len(f.Pending) > 0}
			}
		}
	})
	return s
}
