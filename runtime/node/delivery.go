package node

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/fairlead-io/fairlead/runtime/config"
	"github.com/fairlead-io/fairlead/runtime/exchange"
	"github.com/fairlead-io/fairlead/runtime/handler"
	"github.com/fairlead-io/fairlead/runtime/host"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// sendLimit bounds one attempt at a delivery, whatever the adapter's own limits.
const sendLimit = time.Hour

// Deliver implements exchange.Delivering.
func (n *Node) Deliver(ctx context.Context, t exchange.Tenure, port string, m *exchange.Message) error {
	_, err := n.toPort(ctx, t, port, m, false)
	return err
}

// Probe implements exchange.Delivering.
func (n *Node) Probe(ctx context.Context, t exchange.Tenure, port string, m *exchange.Message) (adapterpb.Arrival, error) {
	return n.toPort(ctx, t, port, m, true)
}

// toPort brings the message to the node that runs the port: this one where it can.
func (n *Node) toPort(ctx context.Context, t exchange.Tenure, port string, m *exchange.Message, probe bool) (adapterpb.Arrival, error) {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	where, err := n.nodeOf(port)
	if err != nil {
		return 0, err
	}
	if where != n.name {
		client, err := n.client(where)
		if err != nil {
			return 0, exchange.Unreachable("send port %s: %v", port, err)
		}
		return exchange.SendRemote(ctx, client, t, port, m, probe)
	}
	if probe {
		return n.ports.Probe(ctx, port, m)
	}
	return 0, n.ports.Send(ctx, port, m)
}

// nodeOf is the node that runs the port: its host's owner, or this node where the
// host runs on every node.
func (n *Node) nodeOf(port string) (where string, err error) {
	n.ledger.View(func(s *pb.State) {
		d := n.plans.of(s)
		if d == nil {
			err = exchange.Unreachable("send port %s: nothing is deployed", port)
			return
		}
		p, ok := d.SendPorts[port]
		h := d.Hosts[p.Host]
		switch {
		case !ok:
			err = exchange.Unreachable("send port %s is not deployed", port)
		case !h.Clustered:
			where, err = n.offering(s, port, p.Adapter)
		default:
			g := s.GetGroups()[groupOf(p.Host, h)]
			if where = g.GetOwner(); where == "" {
				err = exchange.Unreachable("send port %s: no node owns host %s: %s", port, p.Host, g.GetReason())
			}
		}
	})
	return where, err
}

// offering is a node that runs the hosts that are not clustered and has the
// adapter: this one where it can.
func (n *Node) offering(s *pb.State, port, adapter string) (string, error) {
	sessions := newestSessions(s)
	for _, name := range append([]string{n.name}, sortedNames(sessions)...) {
		offers := slices.ContainsFunc(sessions[name].GetAdapters(), func(a *pb.AdapterInfo) bool { return a.GetName() == adapter })
		if offers && sessions[name].GetRole() != "witness" {
			return name, nil
		}
	}
	return "", exchange.Unreachable("send port %s: no member has adapter %s", port, adapter)
}

func groupOf(name string, h config.Host) string {
	if h.Group != "" {
		return h.Group
	}
	return name
}

// handlers are a host's handlers, ready to be launched.
func (n *Node) handlers(h hostPlan, epoch uint64, lease host.Lease) []host.Handler {
	var hs []host.Handler
	for _, adapter := range sortedNames(h.endpoints) {
		spec := host.Handler{
			Adapter: adapter,
			Launch: func(ctx context.Context, receive func(*adapterpb.FromAdapter)) (host.Process, error) {
				return n.launch(ctx, h, adapter, epoch, lease, receive)
			},
		}
		for _, e := range h.endpoints[adapter] {
			if e.receive {
				spec.Locations = append(spec.Locations, e.name)
			} else {
				spec.Ports = append(spec.Ports, host.Port{Name: e.name, Limits: exchange.PortLimits{MaxInFlight: e.maxInFlight, Rate: e.rate}})
			}
		}
		hs = append(hs, spec)
	}
	return hs
}

// launch starts one handler's process.
func (n *Node) launch(ctx context.Context, h hostPlan, adapter string, epoch uint64, lease host.Lease, receive func(*adapterpb.FromAdapter)) (host.Process, error) {
	binary, err := handler.Lookup(n.adapters, n.cfg.File.Node.AdapterDirs, adapter)
	if err != nil {
		return nil, err
	}
	var endpoints []*adapterpb.Endpoint
	for _, e := range h.endpoints[adapter] {
		properties, err := config.Resolve(ctx, e.properties)
		if err != nil {
			return nil, fmt.Errorf("endpoint of %s: %w", e.name, err)
		}
		out := &adapterpb.Endpoint{
			Name: e.name, Receive: e.receive, Properties: properties,
			PollEveryMs: e.every.Milliseconds(), MaxInFlight: int32(e.maxInFlight), Ordered: e.ordered,
		}
		if e.receive {
			out.OfferInlineMax, out.Paused = exchange.OfferInlineMax, e.paused(time.Now()) || n.stoppedSince(e.name, true) != 0
		}
		endpoints = append(endpoints, out)
	}
	cluster, err := n.ledger.Founded(ctx)
	if err != nil {
		return nil, err
	}
	p, err := handler.Start(ctx, handler.Spec{
		Binary: binary, Host: h.name, Node: n.name, Cluster: cluster, Epoch: epoch, Endpoints: endpoints, Log: n.log,
		RuntimeDir: n.runDir(), Inherit: n.inherit(), Lease: lease.Deadline, Receive: receive,
		Prepared: n.pool.Take(binary),
	})
	if err != nil {
		return nil, err // not p: a nil pointer in an interface is not nil
	}
	return p, nil
}

// inherit are the files that every adapter process holds open: the data directory's
// lock, so that it is free only when they are all gone.
func (n *Node) inherit() []*os.File {
	if n.cfg.Lock == nil {
		return nil
	}
	return []*os.File{n.cfg.Lock}
}
