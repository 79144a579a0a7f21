package node

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/membership"
	"github.com/fairlead-io/fairlead/runtime/telemetry"
)

// tally counts the changes of owner that this node has seen since its start.
type tally struct {
	mu       sync.Mutex
	changes  map[string]map[string]uint64 // by group and cause
	takeover map[string]float64           // by group: seconds without an owner before this node
}

// follow counts until ctx ends.
func (t *tally) follow(ctx context.Context, n *Node) {
	changes, stop := n.ledger.Changes()
	defer stop()
	var last uint64
	n.ledger.View(func(s *pb.State) { last = ledger.LastEvent(s) })
	for {
		n.ledger.View(func(s *pb.State) {
			es := s.GetEvents()
			i := len(es)
			for i > 0 && es[i-1].GetIndex() > last {
				i--
			}
			t.add(es[i:], n.name)
			last = ledger.LastEvent(s)
		})
		select {
		case <-changes:
		case <-ctx.Done():
			return
		}
	}
}

func (t *tally) add(es []*pb.Event, self string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range es {
		if e.GetKind() != "group-owned" {
			continue
		}
		if t.changes == nil {
			t.changes, t.takeover = map[string]map[string]uint64{}, map[string]float64{}
		}
		if t.changes[e.GetGroup()] == nil {
			t.changes[e.GetGroup()] = map[string]uint64{}
		}
		t.changes[e.GetGroup()][e.GetCause()]++
		if e.GetTo() == self && e.GetGapMs() >= 0 {
			t.takeover[e.GetGroup()] = float64(e.GetGapMs()) / 1000
		}
	}
}

func (t *tally) of(group string) map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.changes[group])
}

func (t *tally) takeovers() map[string]float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.takeover)
}

// snapshot is what the metrics are made of.
func (n *Node) snapshot() telemetry.Snapshot {
	now := time.Now()
	counts := n.tenant.Counts()
	snap := telemetry.Snapshot{
		Node: n.name, Leader: n.ledger.Leading(), Quorum: n.Ready(n.ctx) == nil,
		LeaseSeconds: max(0, n.tenant.Lease().Left().Seconds()), Nodes: map[string]string{},
		LeaseRenewals: counts.Renewals, LeaseRenewalFailures: counts.RenewalFailures, LeaseLost: counts.Lost,
		LastTakeoverSeconds: n.tally.takeovers(),
	}
	acting := map[string]bool{}
	if n.tenant.Lease().Valid() {
		for _, w := range n.works.list() {
			acting[w.tenure.Group] = true
		}
	}
	n.ledger.View(func(s *pb.State) {
		sessions := newestSessions(s)
		for _, m := range n.membership.Members() {
			snap.Nodes[m.Name] = string(m.State)
			if m.State == membership.Alive {
				snap.Nodes[m.Name], _ = aliveState(sessions[m.Name], s.GetNodes()[m.Name], true, now)
			}
		}
		for _, name := range sortedNames(s.GetGroups()) {
			snap.Groups = append(snap.Groups, n.groupSample(s.GetGroups()[name], acting[name], now))
		}
	})
	own := n.ownStatus()
	for _, name := range sortedNames(own.Locations) {
		l := own.Locations[name]
		snap.Locations = append(snap.Locations, telemetry.LocationSample{
			Name: name, State: l.State, Received: l.Received, InFlight: l.InFlight, InDoubt: l.InDoubt, Suspended: l.Suspended,
			Held: l.Held, Settling: l.Settling,
		})
	}
	for _, name := range sortedNames(own.Ports) {
		snap.Ports = append(snap.Ports, telemetry.PortSample{
			Name: name, Sent: own.Ports[name].Sent, Retrying: own.Ports[name].Retrying, Down: own.Ports[name].Down,
		})
	}
	return snap
}

func (n *Node) groupSample(g *pb.Group, acting bool, now time.Time) telemetry.GroupSample {
	s := telemetry.GroupSample{
		Name: g.GetName(), Owner: g.GetOwner(), Acting: acting, Epoch: g.GetEpoch(), Changes: n.tally.of(g.GetName()),
		Failed: g.GetOwner() == "" && g.GetFailedUntilMs() > now.UnixMilli(),
	}
	if s.Owner != "" {
		s.Owners = 1
		return s
	}
	since := g.GetOwnedUntilMs()
	if since == 0 { // never owned: since it was deployed
		since = g.GetSinceMs()
	}
	s.SinceOwnedSeconds = max(0, now.Sub(time.UnixMilli(since)).Seconds())
	return s
}
