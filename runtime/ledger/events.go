package ledger

import (
	"slices"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// keptEvents bounds the events in the state; items have a list of their own, so
// that many of them do not push out who owned what.
const keptEvents = 1000

// event notes what the current command did. The events are part of the state, so
// every node shows the same ones, with the same index.
func (m *Machine) event(e *pb.Event) {
	e.Index, e.AtMs = m.index, m.at
	m.s.Events = appendBounded(m.s.Events, e, keptEvents)
}

func (m *Machine) itemEvent(e *pb.Event) {
	e.Index, e.AtMs = m.index, m.at
	m.s.ItemEvents = appendBounded(m.s.ItemEvents, e, keptEvents)
}

func appendBounded[T any](list []T, v T, limit int) []T {
	list = append(list, v)
	if extra := len(list) - limit; extra > 0 {
		list = slices.Delete(list, 0, extra)
	}
	return list
}

// LastEvent is the index of the newest event about nodes, groups and deployments.
// While it stays the same, so do they: it spares a reader a look at the whole state
// after every commit of an item's fate.
func LastEvent(s *pb.State) uint64 {
	if es := s.GetEvents(); len(es) > 0 {
		return es[len(es)-1].GetIndex()
	}
	return 0
}
