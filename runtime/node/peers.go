package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-io/fairlead/runtime/exchange"
	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/membership"
	"github.com/fairlead-io/fairlead/runtime/transport/peerpb"
)

// errNoLeader is returned while no node is known to lead the ledger.
var errNoLeader = errors.New("no leader: fewer than a majority of the voting nodes can be reached")

// peers is this node's part in the conversation between nodes: what it answers,
// and what it asks.
type peers struct {
	peerpb.UnimplementedPeerServer
	n *Node
}

// Renew implements peerpb.PeerServer.
func (p *peers) Renew(ctx context.Context, r *peerpb.RenewRequest) (*peerpb.RenewReply, error) {
	switch err := p.n.coordinator.Renew(ctx, r.GetIncarnation()); {
	case err == nil:
		return &peerpb.RenewReply{}, nil
	case errors.Is(err, ledger.ErrFenced):
		return nil, status.Error(codes.PermissionDenied, err.Error())
	default:
		return nil, status.Error(codes.Unavailable, err.Error())
	}
}

// Propose implements peerpb.PeerServer.
func (p *peers) Propose(ctx context.Context, r *peerpb.ProposeRequest) (*peerpb.ProposeReply, error) {
	var c pb.Command
	if err := proto.Unmarshal(r.GetCommand(), &c); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "command: %v", err)
	}
	index, err := p.n.ledger.Apply(ctx, &c)
	return ledger.Refusal(index, err), nil
}

// Deliver implements peerpb.PeerServer.
func (p *peers) Deliver(stream peerpb.Peer_DeliverServer) error {
	return p.n.ports.Serve(stream, p.n.remoteSpool, p.admit)
}

// admit refuses what comes under a right that this node knows to be past. It is no
// substitute for the fence at the commit, but it stops a late owner's send here.
func (p *peers) admit(h *peerpb.DeliverRequest_Head) error {
	var err error
	p.n.ledger.View(func(s *pb.State) {
		if g := s.GetGroups()[h.GetGroup()]; g.GetEpoch() > h.GetEpoch() {
			err = exchange.Unreachable("group %s is under epoch %d here, the message came under %d", h.GetGroup(), g.GetEpoch(), h.GetEpoch())
		}
	})
	return err
}

// Status implements peerpb.PeerServer.
func (p *peers) Status(context.Context, *peerpb.StatusRequest) (*peerpb.StatusReply, error) {
	data, err := json.Marshal(p.n.ownStatus())
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &peerpb.StatusReply{Json: data}, nil
}

// Died implements peerpb.PeerServer. The leader ends the incarnation; if it was the
// leader that died, this node first sees to it that there is another.
func (p *peers) Died(ctx context.Context, r *peerpb.DiedRequest) (*peerpb.DiedReply, error) {
	began := time.Now()
	for stood := false; ; {
		if !stood && p.n.ledger.Leader() == r.GetNode() && p.certified(r) && time.Since(began) >= p.turn(r.GetNode()) {
			stood = true
			p.n.log.Info("the leader is certified dead: standing for election", "leader", r.GetNode())
			if err := p.n.ledger.Elect(); err != nil {
				p.n.log.Warn("no election", "error", err)
			}
		}
		reply, err := p.died(ctx, r)
		if err == nil {
			p.n.log.Info("a guardian certified a death", "node", r.GetNode(), "incarnations", reply.GetExpired(), "reason", r.GetReason())
			return reply, nil
		}
		select {
		case <-ctx.Done():
			return nil, status.Errorf(codes.Unavailable, "not committed: %v", err)
		case <-time.After(diedRetry):
		}
	}
}

// turn is how long this node lets others go first in standing for election, so that
// not all stand at once and nobody gets a majority.
func (p *peers) turn(dead string) time.Duration {
	voters, err := p.n.ledger.Voters()
	if err != nil {
		return 0
	}
	slices.Sort(voters)
	before := 0
	for _, name := range voters {
		if name == p.n.name {
			break
		}
		if m, ok := p.n.membership.Member(name); ok && name != dead && m.State == membership.Alive {
			before++
		}
	}
	return time.Duration(before) * turnAfter
}

// turnAfter is long against an election that nothing holds up.
const turnAfter = 100 * time.Millisecond

// diedRetry is the pause between two attempts to bring a notice of death to the
// leader, diedAttempt the bound of one: the leader that this node knows may be dead.
const (
	diedRetry   = 5 * time.Millisecond
	diedAttempt = 500 * time.Millisecond
)

// died brings the notice to the leader once.
func (p *peers) died(ctx context.Context, r *peerpb.DiedRequest) (*peerpb.DiedReply, error) {
	ctx, cancel := context.WithTimeout(ctx, diedAttempt)
	defer cancel()
	if p.n.ledger.Leader() == r.GetNode() && p.certified(r) {
		return nil, errNoLeader // what answers there is its next incarnation at best
	}
	client, here, err := p.n.leader()
	if err != nil {
		return nil, err
	}
	if !here {
		return client.Died(ctx, r)
	}
	expired, err := p.n.coordinator.Certify(ctx, r.GetProof(), r.GetReason())
	if err != nil {
		return nil, err
	}
	return &peerpb.DiedReply{Expired: int32(expired)}, nil
}

// certified reports whether the proof is that of a live incarnation of the node.
func (p *peers) certified(r *peerpb.DiedRequest) (ok bool) {
	p.n.ledger.View(func(s *pb.State) {
		for _, session := range s.GetSessions() {
			if session.GetNode() == r.GetNode() && !session.GetExpired() && ledger.Certifies(session, r.GetProof()) {
				ok = true
			}
		}
	})
	return ok
}

// renew asks the leader, here or elsewhere, for a lease.
func (n *Node) renew(ctx context.Context, incarnation string) error {
	client, here, err := n.leader()
	if err != nil {
		return err
	}
	if here {
		return n.coordinator.Renew(ctx, incarnation)
	}
	_, err = client.Renew(ctx, &peerpb.RenewRequest{Incarnation: incarnation})
	if status.Code(err) == codes.PermissionDenied {
		return ledger.ErrFenced
	}
	return err
}

// propose hands a command to the leader, here or elsewhere. An error that is not
// one of the ledger's refusals leaves open whether it was committed.
func (n *Node) propose(ctx context.Context, c *pb.Command) error {
	if c.AtMs == 0 {
		c.AtMs = time.Now().UnixMilli()
	}
	_, err := n.proposeAt(ctx, c)
	return err
}

func (n *Node) proposeAt(ctx context.Context, c *pb.Command) (uint64, error) {
	client, here, err := n.leader()
	if err != nil {
		return 0, err
	}
	if here {
		return n.ledger.Apply(ctx, c)
	}
	data, err := proto.Marshal(c)
	if err != nil {
		return 0, fmt.Errorf("encode command: %w", err)
	}
	reply, err := client.Propose(ctx, &peerpb.ProposeRequest{Command: data})
	if err != nil {
		return 0, fmt.Errorf("the leader did not answer: %w", err)
	}
	return reply.GetIndex(), ledger.Err(reply)
}

// leader returns the way to the leader; here is true if it is this node.
func (n *Node) leader() (client peerpb.PeerClient, here bool, err error) {
	name := n.ledger.Leader()
	switch name {
	case "":
		return nil, false, errNoLeader
	case n.name:
		return nil, true, nil
	}
	client, err = n.client(name)
	return client, false, err
}

// client returns the way to another node.
func (n *Node) client(name string) (peerpb.PeerClient, error) {
	address := n.addressOf(name)
	if address == "" {
		return nil, fmt.Errorf("node %s: its address is not known yet", name)
	}
	return n.transport.Client(address)
}
