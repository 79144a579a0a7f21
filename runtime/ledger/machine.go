package ledger

import (
	"errors"
	"fmt"
	"maps"
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
	// ErrIllegal: the change does not follow from the state so far.
	ErrIllegal = errors.New("illegal change")
	// ErrTooOld: the node cannot apply all commands of this cluster.
	ErrTooOld = errors.New("this version of Fairlead is older than the cluster's ledger: install a newer one on this node")
)

// Machine is the ledger's state machine: a function of state and command, and of
// nothing else. It knows no clock, socket or goroutine, and is not safe for
// concurrent use.
type Machine struct {
	s *pb.State
	// index and at are those of the command that is being applied.
	index uint64
	at    int64
}

// NewMachine returns a machine with an empty state.
func NewMachine() *Machine { return &Machine{s: emptyState()} }

func emptyState() *pb.State {
	return &pb.State{
		Sessions:  map[string]*pb.Session{},
		Groups:    map[string]*pb.Group{},
		Locations: map[string]*pb.Location{},
		Nodes:     map[string]*pb.Node{},
		Hosts:     map[string]*pb.Host{},
		Holders:   map[string]string{},

		StoppedLocations: map[string]int64{},
		StoppedPorts:     map[string]int64{},
	}
}

// State is the machine's state. It belongs to the machine: read only.
func (m *Machine) State() *pb.State { return m.s }

// Apply carries out one command that was committed at index. It either does all
// of it or returns an error and changes nothing.
func (m *Machine) Apply(index uint64, c *pb.Command) error {
	m.s.Index = index
	m.index, m.at = index, c.GetAtMs()
	switch k := c.GetKind().(type) {
	case *pb.Command_Register:
		return m.register(k.Register)
	case *pb.Command_Grant:
		return m.grant(k.Grant)
	case *pb.Command_Expire:
		return m.expire(k.Expire)
	case *pb.Command_Leave:
		return m.leave(k.Leave)
	case *pb.Command_Assign:
		return m.assign(k.Assign)
	case *pb.Command_Move:
		return m.move(k.Move)
	case *pb.Command_Release:
		return m.release(k.Release)
	case *pb.Command_Deploy:
		return m.deploy(k.Deploy)
	case *pb.Command_Yield:
		return m.yield(k.Yield)
	case *pb.Command_Fates:
		return m.fates(k.Fates)
	case *pb.Command_SetNode:
		return m.setNode(k.SetNode)
	case *pb.Command_SetHost:
		return m.setHost(k.SetHost)
	case *pb.Command_SetGroup:
		return m.setGroup(k.SetGroup)
	case *pb.Command_OrderItems:
		return m.orderItems(k.OrderItems)
	case *pb.Command_SetEndpoint:
		return m.setEndpoint(k.SetEndpoint)
	case *pb.Command_Found:
		return m.found(k.Found)
	case *pb.Command_Upgrade:
		return m.upgrade(k.Upgrade)
	}
	// A leader proposes a new kind only after an Upgrade that every node can follow.
	return fmt.Errorf("%w: command of kind %T; this node is older than the one that proposed it", ErrUnknown, c.GetKind())
}

// found names the cluster. The first name stays.
func (m *Machine) found(f *pb.Found) error {
	switch {
	case f.GetClusterId() == "":
		return fmt.Errorf("%w: a cluster needs an ID", ErrIllegal)
	case m.s.ClusterId != "":
		return fmt.Errorf("found cluster %s: it is %s: %w", f.GetClusterId(), m.s.ClusterId, ErrStale)
	}
	m.s.ClusterId = f.GetClusterId()
	m.event(&pb.Event{Kind: "cluster-founded", Text: "the cluster is " + m.s.ClusterId})
	return nil
}

// upgrade raises the version that all nodes must be able to apply.
func (m *Machine) upgrade(u *pb.Upgrade) error {
	if u.GetVersion() <= m.s.Version {
		return fmt.Errorf("upgrade to version %d: it is %d: %w", u.GetVersion(), m.s.Version, ErrStale)
	}
	for _, s := range m.s.Sessions {
		if !s.Expired && s.Machine < u.GetVersion() {
			return fmt.Errorf("upgrade to version %d: %s can apply %d: %w", u.GetVersion(), s.Node, s.Machine, ErrStale)
		}
	}
	m.s.Version = u.GetVersion()
	m.event(&pb.Event{Kind: "upgraded", Text: fmt.Sprintf("the ledger is at version %d", m.s.Version)})
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
