package ledger

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// keptExpiries is how many of a node's expiries are remembered, to see whether it
// flaps.
const keptExpiries = 16

func (m *Machine) register(r *pb.Register) error {
	in := r.GetSession()
	if in.GetIncarnation() == "" || in.GetNode() == "" {
		return fmt.Errorf("%w: registration without node or incarnation", ErrUnknown)
	}
	if in.GetMachine() < m.s.Version {
		return fmt.Errorf("register %s: it can apply version %d of the ledger, the cluster is at %d: %w",
			in.Node, in.GetMachine(), m.s.Version, ErrTooOld)
	}
	if m.s.Sessions[in.Incarnation] != nil {
		return nil // the same registration, proposed again after an unclear answer
	}
	if last := m.s.Nodes[in.Node].GetRegistered(); r.GetSeen() < last {
		return fmt.Errorf("register %s as %s: it has registered again at %d: %w", in.Node, in.Incarnation, last, ErrStale)
	}
	m.s.Sessions[in.Incarnation] = &pb.Session{
		Incarnation: in.Incarnation, Node: in.Node, Role: in.Role, Version: in.Version,
		Adapters: in.Adapters, Certifier: in.Certifier, Lock: in.Lock, Machine: in.Machine,
		Registered: m.index, RegisteredAtMs: m.at,
	}
	m.event(&pb.Event{Kind: "node-registered", Node: in.Node, Text: fmt.Sprintf("%s registered as incarnation %s", in.Node, in.Incarnation)})
	n := m.node(in.Node)
	n.Registered = m.index
	if n.Order == pb.SetNode_REMOVE {
		n.Order = pb.SetNode_RESUME // it is back
	}
	m.supersede(in)
	m.forgetOldSessions(in.Node)
	return nil
}

// supersede ends the incarnations whose lock the new one has: every process of
// theirs held it, so none is left.
func (m *Machine) supersede(in *pb.Session) {
	if in.Lock == "" {
		return
	}
	for _, id := range sortedKeys(m.s.Sessions) {
		old := m.s.Sessions[id]
		if id != in.Incarnation && !old.Expired && old.Node == in.Node && old.Lock == in.Lock {
			m.end(old, causeDeath, "nothing of "+old.Node+"'s earlier incarnation is left: a new one holds its lock", nil)
		}
	}
}

// forgetOldSessions drops the ended incarnations of a node that own nothing. An
// unknown incarnation is refused like an expired one, so nothing is lost.
func (m *Machine) forgetOldSessions(node string) {
	for id, s := range m.s.Sessions {
		if s.Node == node && s.Expired && !m.owns(id) {
			delete(m.s.Sessions, id)
		}
	}
}

func (m *Machine) owns(incarnation string) bool {
	for _, g := range m.s.Groups {
		if g.Incarnation == incarnation {
			return true
		}
	}
	return false
}

// live returns the session if it may hold a lease.
func (m *Machine) live(incarnation string) *pb.Session {
	s := m.s.Sessions[incarnation]
	if s == nil || s.Expired {
		return nil
	}
	return s
}

// grant renews those incarnations that have not expired; the others find out
// from their own replica.
func (m *Machine) grant(g *pb.Grant) error {
	for _, id := range g.GetIncarnations() {
		if s := m.live(id); s != nil {
			s.Granted, s.GrantedAtMs = m.index, m.at
		}
	}
	return nil
}

// expire ends an incarnation: because nobody granted it a lease since the grant
// that the leader waited out, or because its guardian proves that it is dead.
func (m *Machine) expire(e *pb.Expire) error {
	s := m.live(e.GetIncarnation())
	if s == nil {
		return fmt.Errorf("expire %s: %w", e.GetIncarnation(), ErrStale)
	}
	cause := causeLease
	switch {
	case len(e.GetProof()) > 0:
		if !Certifies(s, e.GetProof()) {
			return fmt.Errorf("expire %s: the proof of death is not its guardian's: %w", s.Node, ErrIllegal)
		}
		cause = causeDeath
	case s.Granted != e.GetGranted():
		return fmt.Errorf("expire %s: granted again at %d: %w", s.Node, s.Granted, ErrStale)
	}
	m.end(s, cause, e.GetReason(), e.GetPlacements())
	return nil
}

// Certifier is what a session carries of its guardian's proof of death.
func Certifier(proof []byte) []byte {
	sum := sha256.Sum256(proof)
	return sum[:]
}

// Certifies reports whether the proof is that of the session's guardian.
func Certifies(s *pb.Session, proof []byte) bool {
	return len(s.GetCertifier()) > 0 && bytes.Equal(s.GetCertifier(), Certifier(proof))
}

// end expires the session and hands its groups on, to nobody where no next owner
// is named.
func (m *Machine) end(s *pb.Session, cause, reason string, next []*pb.Placement) {
	s.Expired, s.ExpiredReason = true, reason
	m.event(&pb.Event{Kind: "node-expired", Node: s.Node, Cause: cause, Text: reason})
	n := m.node(s.Node)
	n.ExpiredAtMs = appendBounded(n.ExpiredAtMs, m.at, keptExpiries)
	to := map[string]*pb.Placement{}
	for _, p := range next {
		to[p.GetGroup()] = p
	}
	for _, name := range sortedKeys(m.s.Groups) {
		g := m.s.Groups[name]
		if g.Incarnation != s.Incarnation {
			continue
		}
		p := to[name]
		if p == nil {
			p = &pb.Placement{Group: name, Reason: reason}
		}
		// It may have acted until the end of the last lease that it was granted.
		m.hand(g, p, cause, s.GrantedAtMs)
		m.forgetRetired(name)
	}
}

// node returns the record of a node, and makes it if there is none.
func (m *Machine) node(name string) *pb.Node {
	n := m.s.Nodes[name]
	if n == nil {
		n = &pb.Node{}
		m.s.Nodes[name] = n
	}
	return n
}

func (m *Machine) leave(l *pb.Leave) error {
	s := m.live(l.GetIncarnation())
	if s == nil {
		return nil
	}
	if m.owns(s.Incarnation) {
		return fmt.Errorf("leave %s: it still owns groups: %w", s.Node, ErrStale)
	}
	s.Expired, s.Left, s.ExpiredReason = true, true, "left"
	m.event(&pb.Event{Kind: "node-left", Node: s.Node, Text: s.Node + " left in order"})
	return nil
}
