package ledger

import (
	"fmt"
	"slices"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// Causes of a change of owner.
const (
	causeDeath   = "death"   // certified
	causeLease   = "lease"   // ran out
	causeFailure = "failure" // the group's hosts failed on their node
)

// keptFailures bounds the failovers that a group's policy can look back on.
const keptFailures = 64

// hand gives the group to its next owner under a new epoch, or to nobody if that
// incarnation has ended meanwhile. until is when the earlier owner may have acted
// last, by its proposer's wall clock.
func (m *Machine) hand(g *pb.Group, next *pb.Placement, cause string, until int64) {
	from := g.Owner
	if from != "" {
		g.LastOwner, g.OwnedUntilMs = from, until
	} else {
		from = g.LastOwner
	}
	g.Epoch++
	g.Since, g.SinceMs, g.LastCause = m.index, m.at, cause
	g.MovingTo, g.MovingReason, g.MovingCause, g.MovingPin = "", "", "", false
	g.Reason = next.GetReason()
	e := &pb.Event{Group: g.Name, From: from, Epoch: g.Epoch, Cause: cause, GapMs: -1, Text: next.GetReason()}
	s := m.live(next.GetIncarnation())
	if s == nil || s.Node != next.GetNode() {
		g.Owner, g.Incarnation = "", ""
		e.Kind = "group-unowned"
		m.event(e)
		return
	}
	g.Owner, g.Incarnation, g.FailedUntilMs = s.Node, s.Incarnation, 0
	e.Kind, e.To = "group-owned", s.Node
	if from != "" {
		e.GapMs = max(0, m.at-g.OwnedUntilMs)
	}
	m.event(e)
}

// assign gives away what is still unowned under the epoch that the leader saw.
func (m *Machine) assign(a *pb.Assign) error {
	done := 0
	for _, p := range a.GetPlacements() {
		g := m.s.Groups[p.GetGroup()]
		if g == nil || g.Incarnation != "" || g.Epoch != p.GetEpoch() {
			continue
		}
		if m.live(p.GetIncarnation()).GetNode() != p.GetNode() || p.GetNode() == "" {
			continue // hand would leave it unowned, under a new epoch that nobody asked for
		}
		cause := g.LastCause // why it became unowned is why it changes hands now
		if cause == "" {
			cause = "start"
		}
		m.hand(g, p, cause, 0)
		done++
	}
	if done == 0 {
		return fmt.Errorf("assign: no group is as it was: %w", ErrStale)
	}
	return nil
}

func (m *Machine) move(v *pb.Move) error {
	g := m.s.Groups[v.GetGroup()]
	switch {
	case g == nil:
		return fmt.Errorf("move group %q: %w", v.GetGroup(), ErrUnknown)
	case g.Epoch != v.GetEpoch() || g.Owner == "":
		return fmt.Errorf("move group %q: epoch %d: %w", g.Name, g.Epoch, ErrStale)
	}
	g.MovingTo, g.MovingReason, g.MovingCause, g.MovingPin = v.GetTo(), v.GetReason(), v.GetCause(), v.GetPin()
	m.event(&pb.Event{Kind: "group-moving", Group: g.Name, From: g.Owner, To: v.GetTo(), Epoch: g.Epoch, Cause: v.GetCause(), Text: v.GetReason()})
	return nil
}

func (m *Machine) release(r *pb.Release) error {
	g := m.s.Groups[r.GetGroup()]
	// An unowned group has no owner's word to wait for: an empty incarnation is nobody's.
	if g == nil || g.Owner == "" || g.Incarnation != r.GetIncarnation() || g.Epoch != r.GetEpoch() {
		return fmt.Errorf("release group %q under epoch %d: %w", r.GetGroup(), r.GetEpoch(), ErrFenced)
	}
	next := r.GetNext()
	if next == nil {
		next = &pb.Placement{Group: g.Name, Reason: r.GetReason()}
	}
	if r.GetCause() == causeFailure {
		g.Failures = appendBounded(g.Failures, &pb.Failure{AtMs: m.at, Node: g.Owner, Reason: r.GetReason()}, keptFailures)
	}
	if g.MovingPin && next.GetNode() == g.MovingTo {
		g.Pinned = g.MovingTo
	}
	m.hand(g, next, r.GetCause(), m.at)
	if until := r.GetFailedUntilMs(); until != 0 && g.Owner == "" {
		g.FailedUntilMs = until
		m.event(&pb.Event{Kind: "group-failed", Group: g.Name, From: g.LastOwner, Epoch: g.Epoch, Cause: causeFailure, GapMs: -1, Text: r.GetReason()})
	}
	m.forgetRetired(g.Name)
	return nil
}

// forgetRetired drops the group if the deployment no longer has it: its owner acts
// no more, and nobody is to act next. An owner that is gone holds no location.
func (m *Machine) forgetRetired(group string) {
	if m.s.Groups[group].GetOwner() == "" {
		m.passOn(group)
	}
	if m.retired(group) {
		delete(m.s.Groups, group)
	}
}

// retired reports whether the deployment no longer has the group.
func (m *Machine) retired(group string) bool {
	return !slices.Contains(m.current().GetGroups(), group)
}
