package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/runtime/api"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// keptEvents is how many events a node remembers.
const keptEvents = 2000

// journal turns what the ledger applies into events. Every node has the same ones,
// from the moment it joined.
type journal struct {
	mu      sync.Mutex
	events  []api.Event
	added   chan struct{} // closed and replaced at every event
	session map[string]*pb.Session
}

func newJournal() *journal {
	return &journal{added: make(chan struct{}), session: map[string]*pb.Session{}}
}

// applied notes one applied command. It is called in the ledger's order, and does
// not block.
func (j *journal) applied(index uint64, c *pb.Command, err error) {
	if err != nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	at := time.UnixMilli(c.GetAtMs()).UTC()
	for _, e := range j.eventsOfLocked(c) {
		e.Index, e.At = index, at
		j.events = append(j.events, e)
	}
	if extra := len(j.events) - keptEvents; extra > 0 {
		j.events = slices.Delete(j.events, 0, extra)
	}
	close(j.added)
	j.added = make(chan struct{})
}

func (j *journal) eventsOfLocked(c *pb.Command) []api.Event {
	switch k := c.GetKind().(type) {
	case *pb.Command_Register:
		s := k.Register.GetSession()
		j.session[s.GetIncarnation()] = s
		return []api.Event{{Kind: "node-registered", Node: s.GetNode(), Text: fmt.Sprintf("%s registered as incarnation %s", s.GetNode(), s.GetIncarnation())}}
	case *pb.Command_Leave:
		return []api.Event{j.nodeEvent("node-left", k.Leave.GetIncarnation(), "left in order")}
	case *pb.Command_Expire:
		events := []api.Event{j.nodeEvent("node-expired", k.Expire.GetIncarnation(), k.Expire.GetReason())}
		for _, p := range k.Expire.GetPlacements() {
			events = append(events, assigned(p, 0))
		}
		return events
	case *pb.Command_Assign:
		var events []api.Event
		for _, p := range k.Assign.GetPlacements() {
			events = append(events, assigned(p, p.GetEpoch()+1))
		}
		return events
	case *pb.Command_Move:
		return []api.Event{{Kind: "group-moving", Group: k.Move.GetGroup(), Node: k.Move.GetTo(), Epoch: k.Move.GetEpoch(),
			Text: fmt.Sprintf("%s is asked to move to %s", k.Move.GetGroup(), k.Move.GetTo())}}
	case *pb.Command_Release:
		r := k.Release
		if r.GetNext().GetNode() == "" {
			return []api.Event{{Kind: "group-released", Group: r.GetGroup(), Epoch: r.GetEpoch() + 1, Text: r.GetReason()}}
		}
		e := assigned(r.GetNext(), r.GetEpoch()+1)
		e.Text = "released by its owner; " + e.Text
		return []api.Event{e}
	case *pb.Command_Deploy:
		return []api.Event{{Kind: "deployed", Text: fmt.Sprintf("deployment %d from %s", k.Deploy.GetVersion(), k.Deploy.GetName())}}
	case *pb.Command_Fates:
		return suspensions(k.Fates)
	}
	return nil
}

func (j *journal) nodeEvent(kind, incarnation, text string) api.Event {
	node := j.session[incarnation].GetNode()
	delete(j.session, incarnation)
	return api.Event{Kind: kind, Node: node, Text: text}
}

func assigned(p *pb.Placement, epoch uint64) api.Event {
	if p.GetNode() == "" {
		return api.Event{Kind: "group-unowned", Group: p.GetGroup(), Epoch: epoch, Text: p.GetReason()}
	}
	return api.Event{Kind: "group-assigned", Group: p.GetGroup(), Node: p.GetNode(), Epoch: epoch,
		Text: fmt.Sprintf("%s is owned by %s: %s", p.GetGroup(), p.GetNode(), p.GetReason())}
}

func suspensions(b *pb.FateBatch) []api.Event {
	var events []api.Event
	for _, c := range b.GetChanges() {
		if s := c.GetSuspend(); s != nil {
			events = append(events, api.Event{Kind: "item-suspended", Group: b.GetGroup(), Epoch: b.GetEpoch(),
				Text: fmt.Sprintf("location %s, item %q: %s", c.GetLocation(), c.GetKey(), s.GetReason())})
		}
	}
	return events
}

// after returns the events with a higher index, and a channel that is closed when
// there are more.
func (j *journal) after(index uint64) ([]api.Event, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := slices.IndexFunc(j.events, func(e api.Event) bool { return e.Index > index })
	if i < 0 {
		return nil, j.added
	}
	return slices.Clone(j.events[i:]), j.added
}

// follow calls each for every event after index until ctx ends or each fails.
func (j *journal) follow(ctx context.Context, index uint64, each func(api.Event) error) error {
	for {
		events, more := j.after(index)
		for _, e := range events {
			if err := each(e); err != nil {
				return err
			}
			index = e.Index
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
