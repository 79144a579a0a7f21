package node

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/fairlead-io/fairlead/runtime/api"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// eventsAfter returns the events with a higher index, oldest first. They are part
// of the ledger, so every node has the same ones.
func (n *Node) eventsAfter(index uint64) []api.Event {
	events := []api.Event{}
	n.ledger.View(func(s *pb.State) {
		for _, list := range [][]*pb.Event{s.GetEvents(), s.GetItemEvents()} {
			from, _ := slices.BinarySearchFunc(list, index+1, func(e *pb.Event, i uint64) int { return cmp.Compare(e.GetIndex(), i) })
			for _, e := range list[from:] {
				events = append(events, eventOf(e))
			}
		}
	})
	slices.SortStableFunc(events, func(a, b api.Event) int { return cmp.Compare(a.Index, b.Index) })
	return events
}

func eventOf(e *pb.Event) api.Event {
	out := api.Event{
		Index: e.GetIndex(), At: time.UnixMilli(e.GetAtMs()).UTC(), Kind: e.GetKind(), Node: e.GetNode(),
		Group: e.GetGroup(), Host: e.GetHost(), From: e.GetFrom(), To: e.GetTo(), Epoch: e.GetEpoch(),
		Cause: e.GetCause(), Text: e.GetText(),
	}
	if e.GetKind() == "group-owned" && e.GetGapMs() >= 0 {
		gap := e.GetGapMs()
		out.GapMS = &gap
	}
	return out
}

// Events implements api.Backend.
func (n *Node) Events(_ context.Context, after uint64) ([]api.Event, error) {
	return n.eventsAfter(after), nil
}

// FollowEvents implements api.Backend.
func (n *Node) FollowEvents(ctx context.Context, after uint64, each func(api.Event) error) error {
	changes, stop := n.ledger.Changes()
	defer stop()
	for {
		for _, e := range n.eventsAfter(after) {
			if err := each(e); err != nil {
				return err
			}
			after = e.Index
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return ctx.Err()
		case <-n.ctx.Done():
			return n.ctx.Err()
		}
	}
}
