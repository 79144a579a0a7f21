package node

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fairlead-io/fairlead/runtime/api"
	"github.com/fairlead-io/fairlead/runtime/config"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/tracking"
	"github.com/fairlead-io/fairlead/runtime/transport/peerpb"
)

// Messages implements api.Exchange.
func (n *Node) Messages(ctx context.Context, f api.MessageFilter) (*api.MessageList, error) {
	matcher, err := f.Matcher()
	if err != nil {
		return nil, err
	}
	all := n.undecided(&matcher.Filter)
	list := &api.MessageList{}
	if matcher.Filter.History {
		if all, list.Truncated, err = n.withHistory(ctx, matcher.Filter, all); err != nil {
			return nil, err
		}
	}
	for i := range all {
		ok, err := matcher.Matches(&all[i])
		if err != nil {
			return nil, err
		}
		if ok {
			all[i].Context, all[i].History = nil, nil // with a single one only
			list.Messages = append(list.Messages, all[i])
		}
	}
	slices.SortStableFunc(list.Messages, func(a, b api.Message) int { return a.Since.Compare(b.Since) })
	if extra := len(list.Messages) - matcher.Filter.Limit; matcher.Filter.Limit > 0 && extra > 0 {
		list.Truncated = true
		if matcher.Filter.History {
			list.Messages = list.Messages[extra:] // the newest are asked for
		} else {
			list.Messages = list.Messages[:matcher.Filter.Limit]
		}
	}
	return list, nil
}

// undecided are the messages that the ledger knows, without those that are settled
// and, unless they are asked for, without those that only their source does not know.
func (n *Node) undecided(f *api.MessageFilter) (all []api.Message) {
	n.ledger.View(func(s *pb.State) {
		for name, location := range s.GetLocations() {
			if f.Location != "" && f.Location != name {
				continue
			}
			for key, fate := range location.GetFates() {
				// Of sources that keep their items there are as many delivered ones as items.
				quiet := fate.GetState() == pb.Fate_DELIVERED && f.State != api.MessageDelivered && f.ID == "" ||
					fate.GetState() == pb.Fate_SETTLED
				if !quiet {
					all = append(all, n.messageOf(s, name, key, fate))
				}
			}
		}
	})
	return all
}

// messageOf describes an item by its fate.
func (n *Node) messageOf(s *pb.State, location, key string, f *pb.Fate) api.Message {
	m := api.Message{
		ID: f.GetMessageId(), Location: location, Key: key, Name: cmp.Or(f.GetName(), key), Node: n.ownerOf(s, location),
		Pending: slices.Clone(f.GetPending()), Delivered: slices.Clone(f.GetDelivered()), Reason: f.GetReason(),
		Since: time.UnixMilli(f.GetIntendedAtMs()).UTC(), Context: maps.Clone(f.GetContext()),
	}
	switch f.GetState() {
	case pb.Fate_SUSPENDED:
		m.State = api.MessageSuspended
		m.Where = n.whereLies(s, location, key)
		if ms := f.GetSuspendedAtMs(); ms != 0 {
			m.Since = time.UnixMilli(ms).UTC()
		}
	case pb.Fate_INTENDED:
		m.State = n.intendedState(s, location, f.GetEpoch())
	case pb.Fate_DELIVERED:
		m.State = api.MessageDelivered
	case pb.Fate_DISCARDED:
		m.State = api.MessageDiscarded
	default:
		m.State = api.MessageSettled
	}
	for _, a := range f.GetAttempts() {
		m.Attempts = append(m.Attempts, api.Attempt{At: time.UnixMilli(a.GetAtMs()).UTC(), Port: a.GetPort(), Error: a.GetError()})
	}
	return m
}

// ownerOf is the node that acts for a location, "" for none.
func (n *Node) ownerOf(s *pb.State, location string) string {
	d := n.plans.of(s)
	if d == nil {
		return ""
	}
	return s.GetGroups()[locationGroup(d, location)].GetOwner()
}

// whereLies says in words where the content of a suspended item is.
func (n *Node) whereLies(s *pb.State, location, key string) string {
	var l config.ReceiveLocation
	if d := n.plans.of(s); d != nil {
		l = d.ReceiveLocations[location]
	}
	switch l.Adapter {
	case "ftp", "sftp", "file":
		return "at its source, untouched: " + key
	case "pop3", "imap":
		return "in the mailbox, untouched"
	case "queue":
		if subject, _ := l.Endpoint["dead_letter_subject"].(string); subject != "" {
			return "in the dead-letter queue, under the subject " + subject
		}
		return fmt.Sprintf("in the stream %v, not offered again", l.Endpoint["stream"])
	}
	return "at its source"
}

// withHistory adds what the nodes have noted: to the messages that the ledger knows,
// and of those that it knows no more.
func (n *Node) withHistory(ctx context.Context, f api.MessageFilter, known []api.Message) ([]api.Message, bool, error) {
	r := &peerpb.HistoryRequest{Location: f.Location, Limit: tracking.MaxLimit}
	if len(f.ID) == wholeID {
		r.Message = f.ID
	}
	if !f.Since.IsZero() {
		r.SinceNs = f.Since.UnixNano()
	}
	if !f.Until.IsZero() {
		r.UntilNs = f.Until.UnixNano()
	}
	records, truncated, err := n.recollect(ctx, r)
	if err != nil {
		return nil, false, err
	}
	byID := map[string]int{}
	for i, m := range known {
		byID[m.ID] = i
	}
	for i := range records {
		if at, ok := byID[records[i].Message]; ok {
			enrich(&known[at], &records[i])
			continue
		}
		m := api.Message{ID: records[i].Message, Location: records[i].Location, Key: records[i].Key, State: stateOf(&records[i]), Since: records[i].Last.UTC()}
		enrich(&m, &records[i])
		known = append(known, m)
	}
	return known, truncated, nil
}

// wholeID is the length of a message ID.
const wholeID = 36

// stateOf is the state of a message that the ledger does not know any more.
func stateOf(r *tracking.Record) string {
	if r.State == tracking.StateDiscarded {
		return api.MessageDiscarded
	}
	return api.MessageSettled // at the latest when its fate was forgotten
}

// enrich adds what was noted of a message.
func enrich(m *api.Message, r *tracking.Record) {
	m.Name, m.Size = cmp.Or(r.Name, m.Name, m.Key), r.Size
	if len(r.Context) > 0 {
		m.Context = r.Context
	}
	noted := len(m.Attempts) == 0
	for _, st := range r.Steps {
		at := st.At.UTC()
		switch st.Kind {
		case tracking.Received:
			if m.Received == nil {
				m.Received = &at
			}
		case tracking.Settled:
			m.Settled = &at
		case tracking.Failed:
			if noted {
				m.Attempts = append(m.Attempts, api.Attempt{At: at, Port: st.Port, Error: st.Text})
			}
		case tracking.Sent:
			if !slices.Contains(m.Delivered, st.Port) {
				m.Delivered = append(m.Delivered, st.Port)
			}
		}
		m.Node = cmp.Or(m.Node, st.Node)
		m.History = append(m.History, api.Step{
			At: at, Kind: st.Kind, Node: st.Node, Port: st.Port, Text: st.Text, Size: st.Size, Attempt: st.Attempt,
		})
	}
}

// Message implements api.Exchange.
func (n *Node) Message(ctx context.Context, id string) (*api.Message, error) {
	var known []api.Message
	n.ledger.View(func(s *pb.State) {
		for name, location := range s.GetLocations() {
			for key, fate := range location.GetFates() {
				if fate.GetMessageId() == id {
					known = append(known, n.messageOf(s, name, key, fate))
				}
			}
		}
	})
	all, _, err := n.withHistory(ctx, api.MessageFilter{ID: id}, known)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, api.NotFound("no message %s: neither the ledger nor the history of a node that answers has it", id)
	}
	return &all[0], nil
}

// ResumeMessages implements api.Exchange.
func (n *Node) ResumeMessages(ctx context.Context, o api.MessageOrder) (*api.OrderReply, error) {
	if o.Port != "" {
		if err := n.deployedPort(o.Port); err != nil {
			return nil, err
		}
	}
	return n.orderMessages(ctx, o, pb.OrderItems_RESUME)
}

// DiscardMessages implements api.Exchange.
func (n *Node) DiscardMessages(ctx context.Context, o api.MessageOrder) (*api.OrderReply, error) {
	return n.orderMessages(ctx, o, pb.OrderItems_DISCARD)
}

// ordersPerEntry bounds one ledger entry, orderVersion is the machine's that knows
// orders about items and endpoints.
const (
	ordersPerEntry = 500
	orderVersion   = 2
)

func (n *Node) orderMessages(ctx context.Context, o api.MessageOrder, order pb.OrderItems_Order) (*api.OrderReply, error) {
	if err := n.takesOrders(); err != nil {
		return nil, err
	}
	chosen, skipped, err := n.chosen(ctx, o)
	if err != nil {
		return nil, err
	}
	reply := &api.OrderReply{Skipped: skipped}
	for batch := range slices.Chunk(chosen, ordersPerEntry) {
		items := &pb.OrderItems{Order: order, Port: o.Port}
		for _, m := range batch {
			items.Items = append(items.Items, &pb.ItemRef{Location: m.Location, Key: m.Key, MessageId: m.ID})
		}
		err := n.propose(ctx, &pb.Command{Kind: &pb.Command_OrderItems{OrderItems: items}})
		if err != nil {
			return nil, api.Unavailable("the order is committed for %d of %d messages: %v; repeat it, it is carried out once", reply.Done, len(chosen), err)
		}
		reply.Done += len(batch)
		n.noteOrders(batch, order, o.Port)
	}
	return reply, nil
}

// chosen are the messages that an order is about, and those that it passes over.
func (n *Node) chosen(ctx context.Context, o api.MessageOrder) (chosen []api.Message, skipped []api.SkippedMessage, err error) {
	if o.Filter != nil {
		f := *o.Filter
		f.Limit = api.MaxMessages
		list, err := n.Messages(ctx, f)
		if err != nil {
			return nil, nil, err
		}
		return list.Messages, nil, nil
	}
	byID := map[string]api.Message{}
	for _, m := range n.undecided(&api.MessageFilter{State: api.MessageDelivered}) {
		byID[m.ID] = m
	}
	for _, id := range o.IDs {
		switch m, ok := byID[id]; {
		case !ok:
			skipped = append(skipped, api.SkippedMessage{ID: id, Reason: "the ledger does not know it, or not any more"})
		case m.State != api.MessageSuspended:
			skipped = append(skipped, api.SkippedMessage{ID: id, Reason: "it is not suspended, but " + m.State})
		default:
			chosen = append(chosen, m)
		}
	}
	return chosen, skipped, nil
}

func (n *Node) noteOrders(messages []api.Message, order pb.OrderItems_Order, port string) {
	kind := tracking.Resumed
	if order == pb.OrderItems_DISCARD {
		kind = tracking.Discarded
	}
	for _, m := range messages {
		n.history.Note(tracking.Step{Message: m.ID, Location: m.Location, Key: m.Key, Kind: kind, Node: n.name, Port: port, Text: "by order"})
	}
}

// takesOrders fails while not every node can carry out orders about messages.
func (n *Node) takesOrders() (err error) {
	n.ledger.View(func(s *pb.State) {
		if s.GetVersion() < orderVersion {
			err = api.Conflict("not every node of the cluster knows this order yet: update them all first (see `fairlead node list`)")
		}
	})
	return err
}

func (n *Node) deployedPort(name string) (err error) {
	n.ledger.View(func(s *pb.State) {
		d := n.plans.of(s)
		if d == nil {
			err = api.NotFound("nothing is deployed")
			return
		}
		if _, ok := d.SendPorts[name]; !ok {
			err = api.NotFound("no send port %q in the deployment; there are %s", name, strings.Join(sortedNames(d.SendPorts), ", "))
		}
	})
	return err
}

// intendedState tells an item that its owner is carrying from one that an earlier
// owner had begun.
func (n *Node) intendedState(s *pb.State, location string, epoch uint64) string {
	if d := n.plans.of(s); d != nil {
		if g := s.GetGroups()[locationGroup(d, location)]; g.GetOwner() != "" && g.GetEpoch() == epoch {
			return api.MessageInFlight
		}
	}
	return api.MessageInDoubt
}

// fatesOf copies the fates of the locations' items from the replica.
func (n *Node) fatesOf(locations []string) map[string]map[string]*pb.Fate {
	fates := map[string]map[string]*pb.Fate{}
	n.ledger.View(func(s *pb.State) {
		for _, name := range locations {
			of := map[string]*pb.Fate{}
			for key, f := range s.GetLocations()[name].GetFates() {
				of[key] = proto.CloneOf(f)
			}
			fates[name] = of
		}
	})
	return fates
}

// fateOf copies one item's fate from the replica, nil for none.
func (n *Node) fateOf(location, key string) (f *pb.Fate) {
	n.ledger.View(func(s *pb.State) {
		if at := s.GetLocations()[location].GetFates()[key]; at != nil {
			f = proto.CloneOf(at)
		}
	})
	return f
}
