package ownership

import (
	"context"
	"time"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/placement"
	"github.com/fairlead-io/fairlead/sdk/bootclock"
)

// reviewEvery is how often owned groups are looked at where nothing has happened:
// for what only time brings, such as the window of a failback.
const reviewEvery = time.Second

// place gives away what has no owner, and asks owners to hand over what should be
// elsewhere.
func (l *leadership) place(ctx context.Context) {
	if ps := l.unowned(); len(ps) > 0 {
		_ = l.propose(ctx, "assign", &pb.Command{Kind: &pb.Command_Assign{Assign: &pb.Assign{Placements: ps}}})
	}
	for _, m := range l.misplaced() {
		_ = l.propose(ctx, "move", &pb.Command{Kind: &pb.Command_Move{Move: m}})
	}
}

// inherit places the groups of an incarnation that is about to expire.
func (l *leadership) inherit(s *pb.State, gone *pb.Session, why string) []*pb.Placement {
	plan := l.plan(s, l.there)
	for i := range plan.Groups {
		if g := s.GetGroups()[plan.Groups[i].Name]; g.GetIncarnation() == gone.Incarnation {
			plan.Groups[i].Owner = ""
		}
	}
	for i := range plan.Nodes {
		if plan.Nodes[i].Incarnation == gone.Incarnation {
			plan.Nodes = append(plan.Nodes[:i], plan.Nodes[i+1:]...)
			break
		}
	}
	var ps []*pb.Placement
	for _, d := range placement.Place(plan) {
		if s.GetGroups()[d.Group].GetIncarnation() == gone.Incarnation {
			ps = append(ps, &pb.Placement{Group: d.Group, Node: d.Node, Incarnation: d.Incarnation, Reason: why + "; " + d.Reason})
		}
	}
	return ps
}

// plan is the placement's view with those nodes only that are there.
func (l *leadership) plan(s *pb.State, there func(incarnation, node string) bool) placement.Cluster {
	plan := l.cfg.Plan(s)
	fresh := plan.Nodes[:0]
	for _, n := range plan.Nodes {
		if there(n.Incarnation, n.Name) {
			fresh = append(fresh, n)
		}
	}
	plan.Nodes = fresh
	return plan
}

// fresh reports whether the incarnation has renewed its lease under this leader, and
// lately.
func (l *leadership) fresh(incarnation, _ string) bool {
	seen := l.seen[incarnation]
	return seen.renewed && l.cfg.Now().Sub(seen.at) < l.cfg.TTL*3/4
}

// there is fresh for heirs that are needed at once. A new leader, to whom nobody has
// had the time, takes a node's word in the ledger for it: that its process lives, which
// decides nothing but where a group goes. Whether it may act there is its lease's
// business.
func (l *leadership) there(incarnation, node string) bool {
	led := l.cfg.Now().Sub(l.since)
	young := !l.seen[incarnation].renewed && led < l.cfg.TTL/2
	return l.fresh(incarnation, node) || young && l.cfg.Heard != nil && l.cfg.Heard(node, led)
}

// unowned places the groups without an owner. A new leader waits until every node
// has renewed, or has had time to, so that a preferred owner is not passed over
// because another was heard first.
func (l *leadership) unowned() (ps []*pb.Placement) {
	l.cfg.Log.View(func(s *pb.State) {
		if !anyUnowned(s) || l.cfg.Now().Sub(l.since) < l.cfg.TTL/2 && !l.allRenewed(s) {
			return
		}
		if !l.homeless.due(l.cfg.Now(), ledger.LastEvent(s), l.freshNodes(s)) {
			return
		}
		for _, d := range placement.Place(l.plan(s, l.fresh)) {
			if g := s.GetGroups()[d.Group]; g != nil && d.Node != "" {
				ps = append(ps, &pb.Placement{Group: d.Group, Node: d.Node, Incarnation: d.Incarnation, Reason: d.Reason, Epoch: g.Epoch})
			}
		}
	})
	return ps
}

// review says when a decision is worth to be made again: when something has
// happened in the ledger, other nodes are there, or some time has passed. Without
// it every commit of an item's fate would have the leader place ten thousand hosts.
type review struct {
	at    bootclock.Time
	event uint64
	nodes int
}

func (r *review) due(now bootclock.Time, event uint64, nodes int) bool {
	if event == r.event && nodes == r.nodes && now.Sub(r.at) < reviewEvery {
		return false
	}
	*r = review{now, event, nodes}
	return true
}

func anyUnowned(s *pb.State) bool {
	for _, g := range s.GetGroups() {
		if g.GetOwner() == "" {
			return true
		}
	}
	return false
}

// freshNodes counts the incarnations that plan leaves in.
func (l *leadership) freshNodes(s *pb.State) (n int) {
	for id, session := range s.GetSessions() {
		if !session.GetExpired() && l.fresh(id, "") {
			n++
		}
	}
	return n
}

func (l *leadership) allRenewed(s *pb.State) bool {
	for id, session := range s.GetSessions() {
		if !session.GetExpired() && !l.fresh(id, "") {
			return false
		}
	}
	return true
}

// misplaced asks owners to hand over what policy or an order wants elsewhere.
func (l *leadership) misplaced() (ms []*pb.Move) {
	l.cfg.Log.View(func(s *pb.State) {
		if !l.misfits.due(l.cfg.Now(), ledger.LastEvent(s), l.freshNodes(s)) {
			return
		}
		for _, d := range placement.Moves(l.plan(s, l.fresh)) {
			g := s.GetGroups()[d.Group]
			if g.GetOwner() == "" || g.GetMovingTo() != "" {
				continue
			}
			to := d.Node
			if to == "" {
				to = Nowhere
			}
			ms = append(ms, &pb.Move{Group: d.Group, To: to, Epoch: g.GetEpoch(), Reason: d.Reason, Cause: d.Cause})
		}
	})
	return ms
}
