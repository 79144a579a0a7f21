package ledger

import (
	"errors"
	"fmt"
	"slices"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// Refusals of the state machine. A refused command has changed nothing.
var (
	// ErrFenced: the command came under an epoch or incarnation that is no longer
	// the current one. Whoever proposed it must stop acting.
	ErrFenced = errors.New("fenced: another epoch or incarnation is current")
	// ErrStale: the state has moved on since the proposer looked at it.
	ErrStale = errors.New("stale: the ledger has changed since")
	// ErrUnknown: the command names something the ledger does not know.
	ErrUnknown = errors.New("not in the ledger")
	// ErrIllegal: the change does not follow from the item's fate so far.
	ErrIllegal = errors.New("illegal change of fate")
)

// keptDeployments is how many versions stay for `deployments list`.
const keptDeployments = 20

// Machine is the ledger's state machine: a function of state and command, and of
// nothing else. It knows no clock, socket or goroutine, and is not safe for
// concurrent use.
type Machine struct {
	s *pb.State
}

// NewMachine returns a machine with an empty state.
func NewMachine() *Machine { return &Machine{s: emptyState()} }

func emptyState() *pb.State {
	return &pb.State{
		Sessions:  map[string]*pb.Session{},
		Groups:    map[string]*pb.Group{},
		Locations: map[string]*pb.Location{},
	}
}

// State is the machine's state. It belongs to the machine: read only.
func (m *Machine) State() *pb.State { return m.s }

// Apply carries out one command that was committed at index. It either does all
// of it or returns an error and changes nothing.
func (m *Machine) Apply(index uint64, c *pb.Command) error {
	m.s.Index = index
	switch k := c.GetKind().(type) {
	case *pb.Command_Register:
		return m.register(index, c.GetAtMs(), k.Register)
	case *pb.Command_Grant:
		return m.grant(index, k.Grant)
	case *pb.Command_Expire:
		return m.expire(index, k.Expire)
	case *pb.Command_Assign:
		return m.assign(index, k.Assign)
	case *pb.Command_Move:
		return m.move(k.Move)
	case *pb.Command_Release:
		return m.release(index, k.Release)
	case *pb.Command_Leave:
		return m.leave(k.Leave)
	case *pb.Command_Deploy:
		return m.deploy(index, c.GetAtMs(), k.Deploy)
	case *pb.Command_Fates:
		return m.fates(c.GetAtMs(), k.Fates)
	}
	return fmt.Errorf("%w: command of kind %T; this node is older than the one that proposed it", ErrUnknown, c.GetKind())
}

func (m *Machine) register(index uint64, at int64, r *pb.Register) error {
	in := r.GetSession()
	if in.GetIncarnation() == "" || in.GetNode() == "" {
		return fmt.Errorf("%w: registration without node or incarnation", ErrUnknown)
	}
	if m.s.Sessions[in.Incarnation] != nil {
		return nil // the same registration, proposed again after an unclear answer
	}
	m.s.Sessions[in.Incarnation] = &pb.Session{
		Incarnation: in.Incarnation, Node: in.Node, Role: in.Role, Version: in.Version,
		Adapters: in.Adapters, Registered: index, RegisteredAtMs: at,
	}
	m.forgetOldSessions(in.Node)
	return nil
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
func (m *Machine) grant(index uint64, g *pb.Grant) error {
	for _, id := range g.GetIncarnations() {
		if s := m.live(id); s != nil {
			s.Granted = index
		}
	}
	return nil
}

func (m *Machine) expire(index uint64, e *pb.Expire) error {
	s := m.live(e.GetIncarnation())
	if s == nil {
		return fmt.Errorf("expire %s: %w", e.GetIncarnation(), ErrStale)
	}
	if s.Granted != e.GetGranted() {
		return fmt.Errorf("expire %s: granted again at %d: %w", s.Node, s.Granted, ErrStale)
	}
	s.Expired, s.ExpiredReason = true, e.GetReason()
	for _, name := range sortedKeys(m.s.Groups) {
		if g := m.s.Groups[name]; g.Incarnation == s.Incarnation {
			next := findPlacement(e.GetPlacements(), name)
			if next == nil {
				next = &pb.Placement{Group: name, Reason: e.GetReason()}
			}
			m.hand(index, g, next)
			m.forgetRetired(name)
		}
	}
	return nil
}

func findPlacement(ps []*pb.Placement, group string) *pb.Placement {
	for _, p := range ps {
		if p.GetGroup() == group {
			return p
		}
	}
	return nil
}

// hand gives the group to its next owner under a new epoch, or to nobody if that
// incarnation has ended meanwhile.
func (m *Machine) hand(index uint64, g *pb.Group, next *pb.Placement) {
	g.Epoch++
	g.Since, g.MovingTo = index, ""
	s := m.live(next.GetIncarnation())
	if s == nil || s.Node != next.GetNode() {
		g.Owner, g.Incarnation, g.Reason = "", "", next.GetReason()
		return
	}
	g.Owner, g.Incarnation, g.Reason = s.Node, s.Incarnation, next.GetReason()
}

func (m *Machine) assign(index uint64, a *pb.Assign) error {
	p := a.GetPlacement()
	g := m.s.Groups[p.GetGroup()]
	switch {
	case g == nil:
		return fmt.Errorf("assign group %q: %w", p.GetGroup(), ErrUnknown)
	case g.Incarnation != "" || g.Epoch != a.GetEpoch():
		return fmt.Errorf("assign group %q: epoch %d: %w", g.Name, g.Epoch, ErrStale)
	case m.live(p.GetIncarnation()).GetNode() != p.GetNode() || p.GetNode() == "":
		// hand would leave it unowned, under a new epoch that nobody asked for.
		return fmt.Errorf("assign group %q to %s: its incarnation has ended: %w", g.Name, p.GetNode(), ErrStale)
	}
	m.hand(index, g, p)
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
	g.MovingTo = v.GetTo()
	return nil
}

func (m *Machine) release(index uint64, r *pb.Release) error {
	g := m.s.Groups[r.GetGroup()]
	// An unowned group has no owner's word to wait for: an empty incarnation is nobody's.
	if g == nil || g.Owner == "" || g.Incarnation != r.GetIncarnation() || g.Epoch != r.GetEpoch() {
		return fmt.Errorf("release group %q under epoch %d: %w", r.GetGroup(), r.GetEpoch(), ErrFenced)
	}
	next := r.GetNext()
	if next == nil {
		next = &pb.Placement{Group: g.Name, Reason: r.GetReason()}
	}
	m.hand(index, g, next)
	m.forgetRetired(g.Name)
	return nil
}

// forgetRetired drops the group if the deployment no longer has it: its owner acts
// no more, and nobody is to act next.
func (m *Machine) forgetRetired(group string) {
	if m.retired(group) {
		delete(m.s.Groups, group)
	}
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
	return nil
}

func (m *Machine) deploy(index uint64, at int64, d *pb.Deploy) error {
	if d.GetVersion() != m.version()+1 {
		return fmt.Errorf("deploy version %d over %d: %w", d.GetVersion(), m.version(), ErrStale)
	}
	m.s.Deployments = append(m.s.Deployments, &pb.Deployment{
		Version: d.GetVersion(), Name: d.GetName(), Source: d.GetSource(), Parsed: d.GetParsed(),
		AtMs: at, Groups: d.GetGroups(),
	})
	if extra := len(m.s.Deployments) - keptDeployments; extra > 0 {
		m.s.Deployments = slices.Delete(m.s.Deployments, 0, extra)
	}
	// A group of this name may have been here before, and late commands of that life
	// may still come. An epoch grows at most once per entry, so the index is above
	// every epoch it ever had.
	born := index
	if d.GetVersion() == 1 {
		born = 0
	}
	for _, name := range d.GetGroups() {
		if m.s.Groups[name] == nil {
			m.s.Groups[name] = &pb.Group{Name: name, Epoch: born, Reason: "new in the deployment"}
		}
	}
	// An owned group that is gone from the deployment stays until its owner has
	// stopped acting and released it.
	for name, g := range m.s.Groups {
		if g.Owner == "" && m.retired(name) {
			delete(m.s.Groups, name)
		}
	}
	return nil
}

func (m *Machine) current() *pb.Deployment {
	if len(m.s.Deployments) == 0 {
		return nil
	}
	return m.s.Deployments[len(m.s.Deployments)-1]
}

func (m *Machine) version() uint64 { return m.current().GetVersion() }

// retired reports whether the deployment no longer has the group.
func (m *Machine) retired(group string) bool {
	return !slices.Contains(m.current().GetGroups(), group)
}
