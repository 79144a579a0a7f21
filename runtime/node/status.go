package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/runtime/api"
	"github.com/fairlead-io/fairlead/runtime/config"
	"github.com/fairlead-io/fairlead/runtime/host"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/membership"
	"github.com/fairlead-io/fairlead/runtime/placement"
	"github.com/fairlead-io/fairlead/runtime/schedule"
	"github.com/fairlead-io/fairlead/runtime/transport/peerpb"
)

// ownStatus is what one node alone knows; nodes ask each other for it.
type ownStatus struct {
	LeaseMS   int64
	Hosts     map[string]ownHost
	Locations map[string]api.LocationStatus
	Ports     map[string]api.PortStatus
}

type ownHost struct {
	Epoch    uint64
	Draining bool
	Handlers []api.HandlerStatus
}

// ownStatus returns how what runs here fares.
func (n *Node) ownStatus() ownStatus {
	s := ownStatus{
		LeaseMS: max(0, n.tenant.Lease().Left().Milliseconds()),
		Hosts:   map[string]ownHost{}, Locations: map[string]api.LocationStatus{}, Ports: map[string]api.PortStatus{},
	}
	for _, w := range n.works.list() {
		if c := w.current(); c != nil {
			n.addCrew(&s, w, c)
		}
	}
	return s
}

func (n *Node) addCrew(s *ownStatus, w *work, c *crew) {
	for name, h := range c.hosts {
		own := ownHost{Epoch: w.tenure.Epoch, Draining: c.draining.Load()}
		for _, st := range h.States() {
			own.Handlers = append(own.Handlers, handlerStatus(n.name, st))
		}
		s.Hosts[name] = own
	}
	if c.exchange == nil {
		return
	}
	locations, ports := c.exchange.States()
	for _, l := range locations {
		s.Locations[l.Name] = api.LocationStatus{
			Node: n.name, State: l.State, Received: l.Received, InFlight: l.InFlight, InDoubt: l.InDoubt,
			Suspended: l.Suspended, LastItem: l.LastItem, LastError: l.LastError, Settling: l.Settling, Held: l.Held,
			NextPoll: timeOrNil(l.NextPoll),
		}
	}
	for _, p := range ports {
		s.Ports[p.Name] = addPort(s.Ports[p.Name], api.PortStatus{
			Sent: p.Sent, Retrying: p.Retrying, LastError: p.LastError,
			Down: p.Down, DownSince: timeOrNil(p.DownSince), RetryAt: timeOrNil(p.RetryAt),
		})
	}
}

// addPort sums up how sending to a port fares from several places.
func addPort(sum, one api.PortStatus) api.PortStatus {
	sum.Sent += one.Sent
	sum.Retrying += one.Retrying
	sum.LastError = cmp.Or(sum.LastError, one.LastError)
	sum.Down = sum.Down || one.Down
	sum.DownSince, sum.RetryAt = earlier(sum.DownSince, one.DownSince), earlier(sum.RetryAt, one.RetryAt)
	return sum
}

// windowText says when a window opens or closes next; empty for none.
func windowText(w *schedule.Window, now time.Time) string {
	if w == nil {
		return ""
	}
	open, change := w.At(now)
	what := "opens"
	if open {
		what = "closes"
	}
	if change.IsZero() {
		return w.String()
	}
	return fmt.Sprintf("%s on %s (%s)", what, change.In(w.Zone()).Format("Mon 15:04"), w.Zone())
}

func earlier(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.Before(*a) {
		return b
	}
	return a
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func handlerStatus(node string, st host.HandlerState) api.HandlerStatus {
	return api.HandlerStatus{Adapter: st.Adapter, Node: node, PID: st.PID, State: st.State, Restarts: st.Restarts, Error: st.Error}
}

// askTimeout bounds the question to one other node for a status.
const askTimeout = time.Second

// everybody asks all live nodes for their own status, at the same time. Those that
// do not answer are missing from the result.
func (n *Node) everybody(ctx context.Context) map[string]ownStatus {
	all := map[string]ownStatus{n.name: n.ownStatus()}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, m := range n.membership.Members() {
		if m.Name == n.name || m.State != membership.Alive {
			continue
		}
		wg.Go(func() {
			if s, ok := n.ask(ctx, m.Name); ok {
				mu.Lock()
				defer mu.Unlock()
				all[m.Name] = s
			}
		})
	}
	wg.Wait()
	return all
}

func (n *Node) ask(ctx context.Context, name string) (s ownStatus, ok bool) {
	client, err := n.client(name)
	if err != nil {
		return s, false
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	reply, err := client.Status(ctx, &peerpb.StatusRequest{})
	if err != nil {
		return s, false
	}
	return s, json.Unmarshal(reply.GetJson(), &s) == nil
}

// Status implements api.Backend.
func (n *Node) Status(ctx context.Context) (*api.Status, error) {
	own := n.everybody(ctx)
	s := &api.Status{
		Cluster:          api.ClusterStatus{Name: n.cfg.File.Cluster.Name, Leader: n.ledger.Leader()},
		Nodes:            []api.NodeStatus{},
		Hosts:            []api.HostStatus{},
		ReceiveLocations: []api.LocationStatus{},
		SendPorts:        []api.PortStatus{},
	}
	// Without a majority there is no leader, or no lease.
	quorum, err := n.ledger.Quorum(func(node string) bool { _, answers := own[node]; return answers })
	if err != nil {
		return nil, err
	}
	s.Cluster.Quorum, s.Cluster.QuorumText = quorum.OK, quorum.Text
	if !n.tenant.Lease().Valid() && quorum.OK {
		s.Cluster.Quorum, s.Cluster.QuorumText = false, "the leader "+s.Cluster.Leader+" does not renew this node's lease"
	}
	voters, err := n.ledger.Voters()
	if err != nil {
		return nil, err
	}
	s.Cluster.Voters = voters
	n.ledger.View(func(state *pb.State) {
		s.Cluster.ID = state.GetClusterId()
		if ds := state.GetDeployments(); len(ds) > 0 {
			s.Cluster.Deployment = ds[len(ds)-1].GetVersion()
		}
		s.Nodes = n.nodeStatuses(state, own, voters)
		if d := n.plans.of(state); d != nil {
			s.Hosts = n.hostStatuses(state, d, own)
			s.ReceiveLocations = locationStatuses(state, d, own)
			s.SendPorts = n.portStatuses(state, d, own)
		}
	})
	return s, nil
}

func (n *Node) nodeStatuses(state *pb.State, own map[string]ownStatus, voters []string) []api.NodeStatus {
	sessions := newestSessions(state)
	owns := map[string][]string{}
	for _, name := range sortedNames(state.GetGroups()) {
		owner := state.GetGroups()[name].GetOwner()
		owns[owner] = append(owns[owner], name)
	}
	list := []api.NodeStatus{}
	for _, m := range n.membership.Members() {
		st := api.NodeStatus{
			Name: m.Name, Role: m.Role, State: string(m.State), Incarnation: m.Incarnation, Version: m.Version,
			LeaseMS: own[m.Name].LeaseMS, Adapters: []api.AdapterStatus{},
			Voter: slices.Contains(voters, m.Name), Owns: orEmpty(owns[m.Name]),
		}
		session := sessions[m.Name]
		for _, a := range session.GetAdapters() {
			st.Adapters = append(st.Adapters, api.AdapterStatus{Name: a.GetName(), Version: a.GetVersion()})
		}
		st.Incarnation = cmp.Or(session.GetIncarnation(), st.Incarnation)
		if m.State == membership.Alive {
			_, answers := own[m.Name]
			st.State, st.Reason = aliveState(session, state.GetNodes()[m.Name], answers, time.Now())
		}
		list = append(list, st)
	}
	return list
}

// aliveState is the state of a node that gossips, and why it is that.
func aliveState(session *pb.Session, record *pb.Node, answers bool, now time.Time) (state, reason string) {
	switch {
	case session == nil:
		return "suspect", "it gossips, but holds no place in the ledger"
	case !answers:
		return "suspect", "it does not answer on its cluster port"
	case record.GetOrder() == pb.SetNode_DRAIN:
		return "draining", "by order of " + time.UnixMilli(record.GetOrderAtMs()).UTC().Format(time.RFC3339) + "; `fairlead node resume` ends it"
	case record.GetOrder() == pb.SetNode_PAUSE:
		return "paused", "by order of " + time.UnixMilli(record.GetOrderAtMs()).UTC().Format(time.RFC3339) + "; `fairlead node resume` ends it"
	}
	if why := flapping(record, now); why != "" {
		return "quarantined", why
	}
	return "alive", ""
}

func (n *Node) hostStatuses(state *pb.State, d *config.Deployment, own map[string]ownStatus) []api.HostStatus {
	next := placement.Standbys(n.cluster(state))
	list := []api.HostStatus{}
	for _, name := range sortedNames(d.Hosts) {
		h := d.Hosts[name]
		st := api.HostStatus{Name: name, Clustered: h.Clustered}
		if h.Clustered {
			g := state.GetGroups()[groupOf(name, h)]
			st.Group = groupOf(name, h)
			fillOwnership(&st, g)
			st.Standby = next[st.Group].Node
			runs, here := own[st.Owner].Hosts[name]
			st.Handlers = runs.Handlers
			st.State = clusteredState(g, runs, here && runs.Epoch == st.Epoch, time.Now())
		} else {
			st.Reason = "not clustered: runs on every member"
			st.State = localState(name, own, &st)
		}
		if state.GetHosts()[name].GetStopped() && st.State != "draining" {
			st.State, st.Reason = "stopped", "stopped by order; `fairlead host start "+name+"` ends it"
		} else if why := failure(st.Handlers); why != "" && st.State != "running" {
			st.Reason = why
		}
		list = append(list, st)
	}
	return list
}

// fillOwnership says who owns a host's group, since when and why.
func fillOwnership(st *api.HostStatus, g *pb.Group) {
	st.Owner, st.Epoch, st.Reason = g.GetOwner(), g.GetEpoch(), g.GetReason()
	st.Pinned, st.LastOwner, st.Failures = g.GetPinned(), g.GetLastOwner(), len(g.GetFailures())
	if ms := g.GetSinceMs(); ms != 0 {
		since := time.UnixMilli(ms).UTC()
		st.Since = &since
	}
	if ms := g.GetFailedUntilMs(); ms != 0 {
		until := time.UnixMilli(ms).UTC()
		st.FailedUntil = &until
	}
}

// clusteredState is a clustered host's state; known: its owner says how it fares.
func clusteredState(g *pb.Group, runs ownHost, known bool, now time.Time) string {
	switch {
	case g.GetOwner() == "" && g.GetFailedUntilMs() > now.UnixMilli():
		return "failed"
	case g.GetOwner() == "":
		return "unowned"
	}
	return hostState(runs, known, g.GetMovingTo() != "")
}

// failure is what the first handler that does not run died of.
func failure(hs []api.HandlerStatus) string {
	for _, h := range hs {
		if h.State != "running" && h.Error != "" {
			return h.Error
		}
	}
	return ""
}

// hostState is a clustered host's state on its owner.
func hostState(runs ownHost, known, moving bool) string {
	switch {
	case moving || known && runs.Draining:
		return "draining"
	case !known:
		return "starting"
	}
	return handlersState(runs.Handlers)
}

func handlersState(hs []api.HandlerStatus) string {
	state := "running"
	for _, h := range hs {
		switch h.State {
		case "failed":
			return "failed"
		case "starting":
			state = "starting"
		}
	}
	return state
}

// localState is the state of a host that every member runs: that of the worst.
func localState(name string, own map[string]ownStatus, st *api.HostStatus) string {
	worst, runs := "running", 0
	for _, node := range sortedNames(own) {
		h, ok := own[node].Hosts[name]
		if !ok {
			continue
		}
		runs++
		st.Handlers = append(st.Handlers, h.Handlers...)
		if state := handlersState(h.Handlers); state != "running" && worst != "failed" {
			worst = state
		}
	}
	if runs == 0 {
		return "stopped"
	}
	return worst
}

func locationStatuses(state *pb.State, d *config.Deployment, own map[string]ownStatus) []api.LocationStatus {
	list := []api.LocationStatus{}
	for _, name := range sortedNames(d.ReceiveLocations) {
		l := d.ReceiveLocations[name]
		owner := state.GetGroups()[groupOf(l.Host, d.Hosts[l.Host])].GetOwner()
		st, runs := own[owner].Locations[name]
		if !runs {
			st = api.LocationStatus{State: "stopped"}
			for _, f := range state.GetLocations()[name].GetFates() {
				if f.GetState() == pb.Fate_SUSPENDED {
					st.Suspended++
				}
			}
		}
		st.Name, st.Host, st.Adapter = name, l.Host, l.Adapter
		st.Stopped = state.GetStoppedLocations()[name] != 0
		if w, _, err := l.Schedule.Times(); err == nil {
			st.Window = windowText(w, time.Now())
		}
		list = append(list, st)
	}
	return list
}

func (n *Node) portStatuses(state *pb.State, d *config.Deployment, own map[string]ownStatus) []api.PortStatus {
	list := []api.PortStatus{}
	for _, name := range sortedNames(d.SendPorts) {
		p := d.SendPorts[name]
		st := api.PortStatus{Name: name, Host: p.Host, Adapter: p.Adapter}
		for _, node := range sortedNames(own) {
			st = addPort(st, own[node].Ports[name])
		}
		st.Stopped, st.Rate = state.GetStoppedPorts()[name] != 0, p.Rate
		if w, err := p.Hours(); err == nil {
			st.Window = windowText(w, time.Now())
		}
		st.State = "stopped"
		for _, node := range sortedNames(own) {
			if h, ok := own[node].Hosts[p.Host]; ok && handlersState(h.Handlers) == "running" {
				st.State = "ready"
			}
		}
		list = append(list, st)
	}
	return list
}

// Host implements api.Backend.
func (n *Node) Host(ctx context.Context, name string) (*api.HostStatus, error) {
	s, err := n.Status(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(s.Hosts, func(h api.HostStatus) bool { return h.Name == name })
	if i < 0 {
		return nil, api.NotFound("no host %q in the deployment", name)
	}
	return &s.Hosts[i], nil
}
