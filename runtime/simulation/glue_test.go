package simulation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/ownership"
	"github.com/fairlead-io/fairlead/runtime/placement"
)

// This file is what package node is in a real process: it wires the parts.

func (p *process) wireUp() {
	log := slog.New(slog.DiscardHandler)
	p.coord = ownership.NewCoordinator(ownership.CoordinatorConfig{
		Log: p.n.w.sabotage.log(p), TTL: ttl, Plan: p.cluster, Heard: p.ledger.Heard,
		Now: p.n.w.sabotage.leaderClock(p), Logger: log,
	})
	renew, now := p.n.w.sabotage.tenantClock(p)
	p.tenant = ownership.NewTenant(ownership.TenantConfig{
		Replica: replica{p}, Session: p.session, NewIncarnation: p.newIncarnation,
		Renew: renew, Hurry: p.hurry, Propose: p.propose, Begin: p.begin, Successor: p.successor,
		DrainTimeout: func(string) time.Duration { return 150 * time.Millisecond },
		Announce:     func(string) {},
		GiveUp:       func(err error) { p.n.w.fail("%s gives up: %v", p.name, err) },
		TTL:          ttl, Now: now, Logger: log,
	})
}

// replica is the ledger as the parts of a process see it: not while it is frozen.
type replica struct{ p *process }

var _ ownership.Log = replica{}

func (r replica) View(look func(*pb.State)) {
	r.p.gate()
	r.p.ledger.View(look)
}

func (r replica) Changes() (<-chan struct{}, func()) { return r.p.ledger.Changes() }
func (r replica) LeaderCh() <-chan bool              { return r.p.ledger.LeaderCh() }

func (r replica) Apply(ctx context.Context, c *pb.Command) (uint64, error) {
	r.p.n.pass(beforeDecision)
	r.p.gate()
	index, err := r.p.ledger.Apply(ctx, c)
	r.p.gate()
	return index, err
}

func (r replica) Barrier(ctx context.Context) error {
	r.p.gate()
	err := r.p.ledger.Barrier(ctx)
	r.p.gate()
	r.p.n.w.note("%s is elected and catches up: %v", r.p.name, err)
	return err
}

// followLeader has the tenant renew at once when there is a new leader.
func (p *process) followLeader() {
	changes, stop := p.ledger.LeaderChanges()
	defer stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-changes:
		}
		p.gate()
		select {
		case p.hurry <- struct{}{}:
		default:
		}
	}
}

func (p *process) session(incarnation string) *pb.Session {
	s := &pb.Session{Incarnation: incarnation, Node: p.n.name, Role: "member", Machine: ledger.MachineVersion}
	if p.n.guarded {
		s.Certifier, s.Lock = ledger.Certifier(p.proof), "lock of "+p.n.name
	}
	return s
}

func (p *process) newIncarnation() string {
	p.made++
	return fmt.Sprintf("%s.%d", p.name, p.made)
}

var errNoLeader = errors.New("simulated: no leader is known")

// toLeader has serve run at the node that this one takes for the leader.
func (p *process) toLeader(ctx context.Context, serve func(context.Context, *process) error) error {
	if !p.gate() {
		return ledger.ErrFenced // whoever asks is dead, and need not try again
	}
	name := p.ledger.Leader()
	if name == "" {
		return errNoLeader
	}
	return p.n.w.call(ctx, p, p.n.w.find(name), serve)
}

func (p *process) renew(ctx context.Context, incarnation string) error {
	p.n.pass(beforeRenewal)
	err := p.toLeader(ctx, func(ctx context.Context, at *process) error { return at.coord.Renew(ctx, incarnation) })
	if err == nil {
		p.n.pass(afterRenewal)
		p.gate()
	}
	return err
}

func (p *process) propose(ctx context.Context, c *pb.Command) error {
	if c.GetRelease() != nil {
		p.n.pass(beforeRelease)
	}
	_, err := p.proposeAt(ctx, c)
	return err
}

func (p *process) proposeAt(ctx context.Context, c *pb.Command) (index uint64, err error) {
	if p.gate() && c.GetSetNode() == nil && c.GetDeploy() == nil {
		p.n.w.remember(c)
	}
	at := make(chan uint64, 2) // a message that arrives twice has two answers
	err = p.toLeader(ctx, func(ctx context.Context, leader *process) error {
		index, err := leader.ledger.Apply(ctx, leader.n.w.sabotage.door(leader, c))
		if err == nil {
			select {
			case at <- index:
			default:
			}
		}
		return err
	})
	if err == nil {
		index = <-at
	}
	return index, err
}

// order proposes a command of an operator at a node.
func (w *world) order(n *node, c *pb.Command) error {
	p := n.process()
	if p == nil {
		return errDown
	}
	ctx, cancel := context.WithTimeout(p.ctx, ttl/2)
	defer cancel()
	return p.propose(ctx, c)
}

// certify is the guardian's notice of its runtime's death, at a peer (see Died in
// package node).
func (w *world) certify(ctx context.Context, to int, dead *process) error {
	at := w.nodes[to].process()
	if at == nil {
		return errRefused
	}
	for stood := false; ctx.Err() == nil; {
		attempt, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		err := at.toLeader(attempt, func(ctx context.Context, leader *process) error {
			_, err := leader.coord.Certify(ctx, dead.proof, "its guardian says so")
			return err
		})
		cancel()
		if err == nil || errors.Is(err, ledger.ErrFenced) {
			return err
		}
		if at.ledger.Leader() == dead.n.name && !stood && at.certified(dead) {
			stood = true
			_ = at.ledger.Elect() // only quicker
		}
		pause(ctx, 5*time.Millisecond)
	}
	return ctx.Err()
}

func (p *process) certified(dead *process) (ok bool) {
	replica{p}.View(func(s *pb.State) {
		for _, session := range s.GetSessions() {
			ok = ok || session.GetNode() == dead.n.name && !session.GetExpired() && ledger.Certifies(session, dead.proof)
		}
	})
	return ok
}

// cluster is placement's view of the state (see cluster in package node).
func (p *process) cluster(s *pb.State) placement.Cluster {
	c := placement.Cluster{Now: time.Now()}
	newest := map[string]*pb.Session{}
	for _, session := range s.GetSessions() {
		old := newest[session.GetNode()]
		if !session.GetExpired() && (old == nil || old.GetRegistered() < session.GetRegistered()) {
			newest[session.GetNode()] = session
		}
	}
	for name, session := range newest {
		order := s.GetNodes()[name].GetOrder()
		c.Nodes = append(c.Nodes, placement.Node{
			Name: name, Incarnation: session.GetIncarnation(), Up: time.UnixMilli(session.GetRegisteredAtMs()),
			Draining: order == pb.SetNode_DRAIN, Paused: order == pb.SetNode_PAUSE,
		})
	}
	for _, name := range p.n.w.groups {
		g := s.GetGroups()[name]
		if g == nil {
			continue
		}
		facts := placement.Group{
			Name: name, Owner: g.GetOwner(), Moving: g.GetMovingTo(), Pinned: g.GetPinned(), Preferred: p.n.w.preferred,
		}
		for _, f := range g.GetFailures() {
			facts.Avoid = append(facts.Avoid, placement.Avoid{Node: f.GetNode(), Reason: f.GetReason()})
		}
		c.Groups = append(c.Groups, facts)
	}
	return c
}

func (p *process) successor(h ownership.Handover) (next *pb.Placement, failedUntil int64) {
	replica{p}.View(func(s *pb.State) {
		c := p.cluster(s)
		d := placement.Elsewhere(c, h.Group, p.n.name)
		for _, n := range c.Nodes {
			if n.Name == h.To {
				d = placement.Decision{Group: h.Group, Node: n.Name, Incarnation: n.Incarnation}
			}
		}
		next = &pb.Placement{Group: h.Group, Node: d.Node, Incarnation: d.Incarnation, Reason: h.Reason + "; " + d.Reason}
	})
	return next, 0
}
