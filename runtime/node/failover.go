package node

import (
	"context"
	"fmt"
	"time"

	"github.com/fairlead-io/fairlead/runtime/config"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/ownership"
	"github.com/fairlead-io/fairlead/runtime/placement"
)

// successor completes a release: see ownership's TenantConfig.
func (n *Node) successor(h ownership.Handover) (next *pb.Placement, failedUntil int64) {
	now := time.Now()
	n.ledger.View(func(s *pb.State) {
		p := n.failoverPolicy(s, h.Group)
		if h.Cause == causeFailure && p.usedUp(s.GetGroups()[h.Group], now) {
			until := now.Add(p.retryAfter)
			next = &pb.Placement{Group: h.Group, Reason: fmt.Sprintf("%s; %d failovers in %v are used up, it is tried again at %s",
				h.Reason, p.max, p.within, until.UTC().Format(time.RFC3339))}
			failedUntil = until.UnixMilli()
			return
		}
		c := n.cluster(s)
		d := placement.Elsewhere(c, h.Group, n.name)
		for _, node := range c.Nodes {
			if node.Name == h.To {
				d = placement.Decision{Group: h.Group, Node: node.Name, Incarnation: node.Incarnation}
			}
		}
		reason := h.Reason
		if d.Reason != "" {
			reason += "; " + d.Reason
		}
		next = &pb.Placement{Group: h.Group, Node: d.Node, Incarnation: d.Incarnation, Reason: reason}
	})
	return next, failedUntil
}

// causeFailure is the ledger's word for a group that failed on its node.
const causeFailure = "failure"

// failoverPolicy is how often a group may go to another node because it failed.
type failoverPolicy struct {
	max                int // 0: not at all
	within, retryAfter time.Duration
}

// usedUp reports whether another failover would be one too many.
func (p failoverPolicy) usedUp(g *pb.Group, now time.Time) bool {
	count := 0
	for _, f := range g.GetFailures() {
		if now.Sub(time.UnixMilli(f.GetAtMs())) < p.within {
			count++
		}
	}
	return count >= p.max
}

// failoverPolicy is that of a group's hosts.
func (n *Node) failoverPolicy(s *pb.State, group string) failoverPolicy {
	g, ok := n.plans.group(s, group)
	if !ok {
		return failoverPolicy{}
	}
	p := failoverPolicy{max: g.Failover.Max, within: time.Duration(g.Failover.Within), retryAfter: time.Duration(g.Failover.RetryAfter)}
	if p.max == config.MembersLessOne {
		p.max = members(s) - 1
	}
	return p
}

// members counts the nodes that may own hosts.
func members(s *pb.State) (count int) {
	for _, session := range newestSessions(s) {
		if session.GetRole() != "witness" {
			count++
		}
	}
	return count
}

// failEvery is how often a group that has failed here and has nowhere to go looks
// for another node.
const failEvery = 2 * time.Second

// fail gives up the group for another node: as soon as there is one that can take it,
// while the failure lasts, or when it comes back. It ends with ctx, which is that of
// the crew.
func (w *work) fail(ctx context.Context, reason string, lasts func() bool) {
	w.log.Error("the group has failed on this node", "reason", reason)
	tick := time.NewTicker(failEvery)
	defer tick.Stop()
	for told := false; w.n.elsewhere(w.tenure.Group) == "" || told && !lasts(); told = true {
		if !told {
			w.log.Warn("no other node can take the group: it is tried again here")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	select {
	case w.failed <- reason:
	default: // it has failed before
	}
}

// A node that expires often is in quarantine: it is chosen when no other can. It
// comes out when it has been quiet for quarantineFor, or by order.
const (
	flapCount     = 3
	flapWithin    = 10 * time.Minute
	quarantineFor = 10 * time.Minute
)

// flapping says why a node is in quarantine, and nothing if it is not.
func flapping(record *pb.Node, now time.Time) string {
	at := record.GetExpiredAtMs()
	if len(at) < flapCount {
		return ""
	}
	last, first := time.UnixMilli(at[len(at)-1]), time.UnixMilli(at[len(at)-flapCount])
	until := last.Add(quarantineFor)
	if last.Sub(first) > flapWithin || now.After(until) {
		return ""
	}
	return fmt.Sprintf("it expired %d times within %v; until %s, or `fairlead node resume`",
		flapCount, last.Sub(first).Round(time.Second), until.UTC().Format(time.RFC3339))
}
