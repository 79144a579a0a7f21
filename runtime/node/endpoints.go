package node

import (
	"context"
	"time"

	"github.com/fairlead-io/fairlead/runtime/api"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/transport/peerpb"
)

// Location implements api.Exchange.
func (n *Node) Location(ctx context.Context, name string) (*api.LocationStatus, error) {
	s, err := n.Status(ctx)
	if err != nil {
		return nil, err
	}
	for i := range s.ReceiveLocations {
		if s.ReceiveLocations[i].Name == name {
			return &s.ReceiveLocations[i], nil
		}
	}
	return nil, api.NotFound("no receive location %q in the deployment", name)
}

// Port implements api.Exchange.
func (n *Node) Port(ctx context.Context, name string) (*api.PortStatus, error) {
	s, err := n.Status(ctx)
	if err != nil {
		return nil, err
	}
	for i := range s.SendPorts {
		if s.SendPorts[i].Name == name {
			return &s.SendPorts[i], nil
		}
	}
	return nil, api.NotFound("no send port %q in the deployment", name)
}

// SetLocation implements api.Exchange.
func (n *Node) SetLocation(ctx context.Context, name, order string) (*api.LocationStatus, error) {
	l, err := n.Location(ctx, name)
	if err != nil {
		return nil, err
	}
	if order == api.LocationPoll {
		if err := n.pollLocation(ctx, l); err != nil {
			return nil, err
		}
		return n.Location(ctx, name)
	}
	if err := n.setEndpoint(ctx, name, true, order == api.LocationStop); err != nil {
		return nil, err
	}
	return n.awaitLocation(ctx, name, order == api.LocationStop)
}

// obeyedWithin bounds the wait for a location's handler to do what was ordered: if it
// takes longer, its state says what it does.
const obeyedWithin = 2 * time.Second

func (n *Node) awaitLocation(ctx context.Context, name string, stopped bool) (*api.LocationStatus, error) {
	end := time.After(obeyedWithin)
	for {
		l, err := n.Location(ctx, name)
		if err != nil || (l.State == "stopped") == stopped {
			return l, err
		}
		select {
		case <-time.After(pollEvery):
		case <-end:
			return l, nil
		case <-ctx.Done():
			return l, nil
		}
	}
}

// SetPort implements api.Exchange.
func (n *Node) SetPort(ctx context.Context, name, order string) (*api.PortStatus, error) {
	if _, err := n.Port(ctx, name); err != nil {
		return nil, err
	}
	if err := n.setEndpoint(ctx, name, false, order == api.PortStop); err != nil {
		return nil, err
	}
	return n.Port(ctx, name)
}

// setEndpoint stops or starts an endpoint, and returns when this node knows.
func (n *Node) setEndpoint(ctx context.Context, name string, receive, stopped bool) error {
	if err := n.takesOrders(); err != nil {
		return err
	}
	changes, stop := n.ledger.Changes()
	defer stop()
	err := n.propose(ctx, &pb.Command{Kind: &pb.Command_SetEndpoint{SetEndpoint: &pb.SetEndpoint{Name: name, Receive: receive, Stopped: stopped}}})
	if err != nil {
		return api.Unavailable("order not committed: %v", err)
	}
	for {
		if is := n.stoppedSince(name, receive) != 0; is == stopped {
			return nil
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return api.Unavailable("the order is committed, but this node has not heard of it yet: %v", ctx.Err())
		}
	}
}

// stoppedSince is when an endpoint was stopped by order, 0 if it was not.
func (n *Node) stoppedSince(name string, receive bool) (ms int64) {
	n.ledger.View(func(s *pb.State) {
		if receive {
			ms = s.GetStoppedLocations()[name]
		} else {
			ms = s.GetStoppedPorts()[name]
		}
	})
	return ms
}

// pollTimeout bounds the question to the node that runs a location.
const pollTimeout = 5 * time.Second

// pollLocation has the location's source looked at now, wherever it runs.
func (n *Node) pollLocation(ctx context.Context, l *api.LocationStatus) error {
	switch {
	case l.Stopped:
		return api.Conflict("location %s is stopped by order; `fairlead location start %s` ends that", l.Name, l.Name)
	case l.State == "outside-window":
		return api.Conflict("location %s is outside its window (%s)", l.Name, l.Window)
	case l.Node == "":
		return api.Conflict("location %s runs on no node now; see `fairlead host show %s`", l.Name, l.Host)
	case l.Node == n.name:
		if !n.pollHere(ctx, l.Name) {
			return api.Conflict("location %s has no handler at the moment; see `fairlead host show %s`", l.Name, l.Host)
		}
		return nil
	}
	client, err := n.client(l.Node)
	if err != nil {
		return api.Unavailable("node %s, which runs %s: %v", l.Node, l.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	reply, err := client.Poll(ctx, &peerpb.PollRequest{Location: l.Name})
	switch {
	case err != nil:
		return api.Unavailable("node %s, which runs %s, did not answer: %v", l.Node, l.Name, err)
	case !reply.GetAsked():
		return api.Conflict("location %s has no handler on %s at the moment; see `fairlead host show %s`", l.Name, l.Node, l.Host)
	}
	return nil
}

// Poll implements peerpb.PeerServer.
func (p *peers) Poll(ctx context.Context, r *peerpb.PollRequest) (*peerpb.PollReply, error) {
	return &peerpb.PollReply{Asked: p.n.pollHere(ctx, r.GetLocation())}, nil
}

func (n *Node) pollHere(ctx context.Context, location string) bool {
	for _, w := range n.works.list() {
		if c := w.current(); c != nil && c.exchange != nil && c.exchange.Poll(ctx, location) {
			return true
		}
	}
	return false
}
