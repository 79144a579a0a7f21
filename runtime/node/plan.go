package node

import (
	"cmp"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/runtime/config"
	"github.com/fairlead-io/fairlead/runtime/exchange"
	"github.com/fairlead-io/fairlead/runtime/handler"
	"github.com/fairlead-io/fairlead/runtime/host"
	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/ownership"
	"github.com/fairlead-io/fairlead/runtime/route"
)

// plans keeps the current deployment, parsed. The ledger holds it as JSON, and it
// is asked for with every decision.
type plans struct {
	log *slog.Logger

	mu      sync.Mutex
	version uint64
	d       *config.Deployment
	groups  []config.Group
	routes  *route.Table
}

// of returns the current deployment of the state, nil before the first.
func (p *plans) of(s *pb.State) *config.Deployment {
	ds := s.GetDeployments()
	if len(ds) == 0 {
		return nil
	}
	newest := ds[len(ds)-1]
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.version != newest.GetVersion() {
		d, err := config.DecodeDeployment(newest.GetParsed())
		if err != nil {
			// A later version accepted it: this one runs nothing of it.
			p.log.Error("the deployment needs a later version of Fairlead on this node", "deployment", newest.GetVersion(), "error", err)
			d = &config.Deployment{}
		}
		routes, err := d.RouteTable()
		if err != nil { // a later version's language
			p.log.Error("the deployment's routes need a later version of Fairlead on this node", "deployment", newest.GetVersion(), "error", err)
			d, routes = &config.Deployment{}, nil
		}
		p.version, p.d, p.groups, p.routes = newest.GetVersion(), d, d.Groups(), routes
	}
	return p.d
}

// groupsOf returns the groups of the current deployment. They are shared: read only.
func (p *plans) groupsOf(s *pb.State) []config.Group {
	if p.of(s) == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.groups
}

// group returns one group of the current deployment.
func (p *plans) group(s *pb.State, name string) (config.Group, bool) {
	groups := p.groupsOf(s)
	i, ok := slices.BinarySearchFunc(groups, name, func(g config.Group, name string) int { return cmp.Compare(g.Name, name) })
	if !ok {
		return config.Group{}, false
	}
	return groups[i], true
}

// groupPlan is what a group's work is built from.
type groupPlan struct {
	hosts        []hostPlan
	locations    []exchange.Location
	ports        map[string]exchange.PortPolicy
	drainTimeout time.Duration
	print        string // the same for plans that need no new start
	version      uint64 // of the deployment
	event        uint64 // of the ledger, that it was made at
	// foreign are the locations that the group holds although the deployment gives
	// them to another one.
	foreign []string
}

type hostPlan struct {
	name      string
	endpoints map[string][]endpoint // by adapter
	restart   host.RestartPolicy
}

// endpoint is a receive location or send port of a host.
type endpoint struct {
	name        string
	receive     bool
	properties  map[string]any
	every       time.Duration
	maxInFlight int
	rate        float64 // of sends, per second; 0: no limit
	ordered     bool
	paused      func(time.Time) bool // nil for ports
}

// defaultDrain is how long a group may take to drain where no host says so.
const defaultDrain = 30 * time.Second

// planFor returns what the group consists of, by the replica's deployment.
func (n *Node) planFor(group string) *groupPlan {
	plan := &groupPlan{ports: map[string]exchange.PortPolicy{}, drainTimeout: defaultDrain}
	var d *config.Deployment
	stopped, holders := map[string]bool{}, map[string]string{}
	n.ledger.View(func(s *pb.State) {
		plan.event = ledger.LastEvent(s)
		if d = n.plans.of(s); d == nil {
			return
		}
		plan.version = s.GetDeployments()[len(s.GetDeployments())-1].GetVersion()
		for name, h := range s.GetHosts() {
			stopped[name] = h.GetStopped()
		}
		maps.Copy(holders, s.GetHolders())
	})
	if d == nil {
		return plan
	}
	for name, p := range d.SendPorts {
		plan.ports[name] = n.policyOf(name, p)
	}
	stoppedLocation := func(name string) bool { return n.stoppedSince(name, true) != 0 }
	for _, name := range hostsOf(d, group) {
		if !stopped[name] && (group != ownership.Local || n.runsHere(d, name)) {
			plan.addHost(n.router(), d, name, func(location string) bool { return holders[location] == group }, stoppedLocation)
		}
	}
	for _, location := range sortedNames(holders) {
		if holders[location] == group && locationGroup(d, location) != group {
			plan.foreign = append(plan.foreign, location)
		}
	}
	plan.fingerprint(d)
	return plan
}

// locationGroup is the group that the deployment gives a location to, "" for none.
func locationGroup(d *config.Deployment, location string) string {
	l, ok := d.ReceiveLocations[location]
	if !ok {
		return ""
	}
	return groupOf(l.Host, d.Hosts[l.Host])
}

// hostsOf are the group's hosts, sorted by name.
func hostsOf(d *config.Deployment, group string) []string {
	if group != ownership.Local {
		for _, g := range d.Groups() {
			if g.Name == group {
				return g.Hosts
			}
		}
		return nil
	}
	return slices.DeleteFunc(sortedNames(d.Hosts), func(name string) bool { return d.Hosts[name].Clustered })
}

// runsHere reports whether a host that is not clustered runs on this node: on every
// member that has its adapters.
func (n *Node) runsHere(d *config.Deployment, name string) bool {
	if n.cfg.File.Node.Role == "witness" {
		return false
	}
	for _, p := range d.SendPorts {
		if p.Host != name {
			continue
		}
		if _, err := handler.Lookup(n.adapters, nil, p.Adapter); err != nil {
			return false
		}
	}
	return true
}

func (g *groupPlan) addHost(router *route.Table, d *config.Deployment, name string, held, stopped func(location string) bool) {
	r := d.Hosts[name].Restart
	h := hostPlan{
		name: name, endpoints: map[string][]endpoint{},
		restart: host.RestartPolicy{Max: r.Max, Within: time.Duration(r.Within)},
	}
	if t := time.Duration(d.Hosts[name].DrainTimeout); t > 0 {
		g.drainTimeout = t
	}
	for _, loc := range sortedNames(d.ReceiveLocations) {
		l := d.ReceiveLocations[loc]
		if l.Host != name || !l.Enabled || !held(loc) {
			continue
		}
		location := locationOf(loc, l, router)
		location.Stopped = stopped(loc)
		g.locations = append(g.locations, location)
		e := endpoint{
			name: loc, receive: true, properties: l.Endpoint, every: time.Duration(l.Schedule.Every), maxInFlight: location.MaxInFlight,
			ordered: l.Ordered, paused: location.Paused,
		}
		if l.Schedule.Cron != "" {
			e.every = 0 // it is told when
		}
		h.endpoints[l.Adapter] = append(h.endpoints[l.Adapter], e)
	}
	for _, port := range sortedNames(d.SendPorts) {
		if p := d.SendPorts[port]; p.Host == name {
			h.endpoints[p.Adapter] = append(h.endpoints[p.Adapter], portEndpoint(port, p))
		}
	}
	g.hosts = append(g.hosts, h)
}

// fingerprint tells plans apart by all that the work is built from. It holds no
// resolved secrets.
func (g *groupPlan) fingerprint(d *config.Deployment) {
	var all []any
	for _, h := range g.hosts {
		all = append(all, h.name, h.restart)
		for _, adapter := range sortedNames(h.endpoints) {
			for _, e := range h.endpoints[adapter] {
				if e.receive {
					all = append(all, e.name, d.ReceiveLocations[e.name])
				} else {
					all = append(all, e.name, d.SendPorts[e.name])
				}
			}
		}
	}
	for _, l := range g.locations {
		if l.Route != nil {
			all = append(all, d.Routes)
		}
		for _, p := range d.PortsOf(l.Name) {
			port := d.SendPorts[p]
			port.Endpoint = nil // whoever runs it follows that
			all = append(all, p, port)
		}
	}
	data, err := json.Marshal(all)
	if err != nil { // the values came from JSON
		panic("node: plan: " + err.Error())
	}
	g.print = string(data)
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (g *groupPlan) locationNames() (names []string) {
	for _, l := range g.locations {
		names = append(names, l.Name)
	}
	return names
}
