package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-io/fairlead/runtime/api"
	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/placement"
)

var _ api.Operator = (*Node)(nil)

var nodeOrders = map[string]pb.SetNode_Order{
	api.NodeDrain: pb.SetNode_DRAIN, api.NodePause: pb.SetNode_PAUSE,
	api.NodeResume: pb.SetNode_RESUME, api.NodeRemove: pb.SetNode_REMOVE,
}

// SetNode implements api.Operator.
func (n *Node) SetNode(ctx context.Context, name, order string) (*api.NodeReply, error) {
	owned := n.ownedBy(name)
	err := n.propose(ctx, &pb.Command{Kind: &pb.Command_SetNode{SetNode: &pb.SetNode{Node: name, Order: nodeOrders[order]}}})
	switch {
	case errors.Is(err, ledger.ErrUnknown):
		return nil, api.NotFound("no node %q in the cluster", name)
	case errors.Is(err, ledger.ErrIllegal):
		return nil, api.Conflict("node %s is alive: stop it first, and wait until `fairlead node list` shows it left or dead", name)
	case err != nil:
		return nil, api.Unavailable("order not committed: %v", err)
	}
	switch order {
	case api.NodeRemove:
		// The leader takes it out of the ledger's servers within moments.
		return &api.NodeReply{Node: name, State: "removed"}, nil
	case api.NodeDrain:
		if err := n.awaitDrained(ctx, name); err != nil {
			return nil, err
		}
	}
	st, err := n.Status(ctx)
	if err != nil {
		return nil, err
	}
	reply := &api.NodeReply{Node: name}
	for _, node := range st.Nodes {
		if node.Name == name {
			reply.State = node.State
		}
	}
	still := n.ownedBy(name)
	reply.Moved = slices.DeleteFunc(owned, func(g string) bool { return slices.Contains(still, g) })
	return reply, nil
}

// ownedBy are the groups that a node owns now.
func (n *Node) ownedBy(name string) (groups []string) {
	n.ledger.View(func(s *pb.State) {
		for _, g := range sortedNames(s.GetGroups()) {
			if s.GetGroups()[g].GetOwner() == name {
				groups = append(groups, g)
			}
		}
	})
	return groups
}

// awaitDrained returns when the node owns nothing any more.
func (n *Node) awaitDrained(ctx context.Context, name string) error {
	changes, stop := n.ledger.Changes()
	defer stop()
	for {
		left := n.ownedBy(name)
		if len(left) == 0 {
			return nil
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return api.Conflict("node %s is draining and still owns %s: %s", name, strings.Join(left, ", "), n.whyLeft(left[0], name))
		}
	}
}

// whyLeft says why a group has not left a draining node yet.
func (n *Node) whyLeft(group, node string) (why string) {
	n.ledger.View(func(s *pb.State) {
		if s.GetGroups()[group].GetMovingTo() != "" {
			why = group + " ends what is under way"
			return
		}
		why = placement.Elsewhere(n.cluster(s), group, node).Reason
	})
	return why
}

// SetHost implements api.Operator.
func (n *Node) SetHost(ctx context.Context, name, order string) (*api.HostStatus, error) {
	group, clustered, err := n.hostGroup(name)
	if err != nil {
		return nil, err
	}
	var c *pb.Command
	switch order {
	case api.HostStart, api.HostStop:
		c = &pb.Command{Kind: &pb.Command_SetHost{SetHost: &pb.SetHost{Host: name, Stopped: order == api.HostStop}}}
	default:
		if !clustered {
			return nil, api.BadRequest("host %s is not clustered: it runs on every member, there is nothing to %s", name, order)
		}
		c = &pb.Command{Kind: &pb.Command_SetGroup{SetGroup: &pb.SetGroup{
			Group: group, Reset_: order == api.HostReset, Resume: order == api.HostResume,
		}}}
	}
	if err := n.propose(ctx, c); err != nil {
		return nil, api.Unavailable("order not committed: %v", err)
	}
	return n.awaitHost(ctx, name, order)
}

// awaitHost returns when the host is as the order wants it.
func (n *Node) awaitHost(ctx context.Context, name, order string) (*api.HostStatus, error) {
	for {
		h, err := n.Host(ctx, name)
		switch {
		case err != nil:
		case order == api.HostResume,
			order == api.HostStop && h.State == "stopped",
			order == api.HostStart && h.State == "running",
			order == api.HostReset && h.State != "failed":
			return h, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the order is given but not carried out: %w; see `fairlead host show %s`", ctx.Err(), name)
		case <-time.After(pollEvery):
		}
	}
}

// hostGroup is the group of a deployed host.
func (n *Node) hostGroup(name string) (group string, clustered bool, err error) {
	n.ledger.View(func(s *pb.State) {
		d := n.plans.of(s)
		if d == nil {
			err = api.NotFound("nothing is deployed")
			return
		}
		h, ok := d.Hosts[name]
		if !ok {
			err = api.NotFound("no host %q in the deployment", name)
			return
		}
		group, clustered = groupOf(name, h), h.Clustered
	})
	return group, clustered, err
}

// Explain implements api.Operator.
func (n *Node) Explain(_ context.Context, host string) (why []string, err error) {
	group, clustered, err := n.hostGroup(host)
	if err != nil {
		return nil, err
	}
	if !clustered {
		return []string{"not clustered: it runs on every member that has its adapters"}, nil
	}
	n.ledger.View(func(s *pb.State) { why = placement.Explain(n.cluster(s), group) })
	return why, nil
}
