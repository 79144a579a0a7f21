package ledger

import (
	"fmt"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// orderEvents are the kinds of events of orders about nodes.
var orderEvents = map[pb.SetNode_Order]string{
	pb.SetNode_RESUME: "node-resumed", pb.SetNode_DRAIN: "node-drained",
	pb.SetNode_PAUSE: "node-paused", pb.SetNode_REMOVE: "node-removed",
}

// setNode notes an operator's order about a node. It outlives the node's
// incarnations: a drained node that restarts stays drained.
func (m *Machine) setNode(o *pb.SetNode) error {
	kind, ok := orderEvents[o.GetOrder()]
	switch {
	case !ok:
		return fmt.Errorf("node %q: order %v: %w", o.GetNode(), o.GetOrder(), ErrUnknown)
	case !m.knows(o.GetNode()):
		return fmt.Errorf("node %q: %w", o.GetNode(), ErrUnknown)
	}
	if o.GetOrder() == pb.SetNode_REMOVE {
		if err := m.removable(o.GetNode()); err != nil {
			return err
		}
		m.forgetOldSessions(o.GetNode())
	}
	n := m.node(o.GetNode())
	n.Order, n.OrderAtMs = o.GetOrder(), m.at
	if o.GetOrder() == pb.SetNode_RESUME {
		n.ExpiredAtMs = nil
	}
	m.event(&pb.Event{Kind: kind, Node: o.GetNode(), Text: "by order"})
	return nil
}

// knows reports whether the ledger has heard of the node.
func (m *Machine) knows(node string) bool {
	if m.s.Nodes[node] != nil {
		return true
	}
	for _, s := range m.s.Sessions {
		if s.Node == node {
			return true
		}
	}
	return false
}

// removable refuses to remove a node that may still act. That it is removed is kept
// until it registers again: the leader takes it out of the ledger's servers.
func (m *Machine) removable(node string) error {
	for _, s := range m.s.Sessions {
		if s.Node == node && !s.Expired {
			return fmt.Errorf("remove node %q: its incarnation %s has not ended: %w", node, s.Incarnation, ErrIllegal)
		}
	}
	return nil
}

// setHost stops or starts a host.
func (m *Machine) setHost(o *pb.SetHost) error {
	if o.GetHost() == "" {
		return fmt.Errorf("%w: an order without a host", ErrUnknown)
	}
	kind := "host-started"
	if o.GetStopped() {
		kind = "host-stopped"
		m.s.Hosts[o.GetHost()] = &pb.Host{Stopped: true, AtMs: m.at}
	} else {
		delete(m.s.Hosts, o.GetHost())
	}
	m.event(&pb.Event{Kind: kind, Host: o.GetHost(), Text: "by order"})
	return nil
}

// setGroup forgets a group's failures, or that it was moved by hand.
func (m *Machine) setGroup(o *pb.SetGroup) error {
	g := m.s.Groups[o.GetGroup()]
	if g == nil {
		return fmt.Errorf("group %q: %w", o.GetGroup(), ErrUnknown)
	}
	if o.GetReset_() {
		g.Failures, g.FailedUntilMs = nil, 0
		m.event(&pb.Event{Kind: "group-reset", Group: g.Name, Epoch: g.Epoch, Text: "its failures are forgotten, by order"})
	}
	if o.GetResume() {
		g.Pinned = ""
		m.event(&pb.Event{Kind: "group-resumed", Group: g.Name, Epoch: g.Epoch, Text: "it may move by itself again, by order"})
	}
	return nil
}

// setEndpoint stops or starts a receive location or a send port.
func (m *Machine) setEndpoint(o *pb.SetEndpoint) error {
	if o.GetName() == "" {
		return fmt.Errorf("%w: an order without an endpoint", ErrUnknown)
	}
	of, kind := m.s.StoppedPorts, "port"
	if o.GetReceive() {
		of, kind = m.s.StoppedLocations, "location"
	}
	if o.GetStopped() {
		of[o.GetName()] = m.at
		kind += "-stopped"
	} else {
		delete(of, o.GetName())
		kind += "-started"
	}
	m.event(&pb.Event{Kind: kind, GapMs: -1, Text: o.GetName() + ", by order"})
	return nil
}
