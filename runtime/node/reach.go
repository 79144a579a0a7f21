package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/fairlead-io/fairlead/runtime/config"
	"github.com/fairlead-io/fairlead/runtime/handler"
	"github.com/fairlead-io/fairlead/runtime/host"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/placement"
	"github.com/fairlead-io/fairlead/runtime/transport/peerpb"
)

const (
	// stallEvery is how often a group's locations are looked at for one that makes no
	// progress.
	stallEvery = 5 * time.Second
	// reachTimeout bounds one attempt to connect to a source, askReachTimeout the
	// question to another node.
	reachTimeout    = 3 * time.Second
	askReachTimeout = 10 * time.Second
)

// watchStalls gives the group to another node when a location's source can be
// reached from there and not from here. A source that nobody reaches is waited for:
// moving would not help. It ends with ctx.
func (w *work) watchStalls(ctx context.Context, c *crew) {
	tick := time.NewTicker(stallEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for name, h := range c.hosts {
			for _, s := range h.Stalled(time.Now()) {
				if why := w.n.betterOff(ctx, w.tenure.Group, s); why != "" {
					w.fail(ctx, "host "+name+": "+why, func() bool { return len(h.Stalled(time.Now())) > 0 })
					return
				}
			}
		}
	}
}

// betterOff says why the stalled location would do better on another node, and
// nothing if it would not.
func (n *Node) betterOff(ctx context.Context, group string, s host.Stall) string {
	next := n.elsewhere(group)
	if next == "" {
		return ""
	}
	if s.Polling {
		return fmt.Sprintf("location %s has been in a listing since %s", s.Location, s.Since.UTC().Format(time.RFC3339))
	}
	if ok, _ := n.reach(ctx, s.Location); ok {
		return "" // the way is free: it is the source that refuses, and would elsewhere
	}
	client, err := n.client(next)
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, askReachTimeout)
	defer cancel()
	reply, err := client.Reach(ctx, &peerpb.ReachRequest{Endpoint: s.Location})
	if err != nil || !reply.GetReachable() {
		return ""
	}
	return fmt.Sprintf("the source of location %s is out of reach from %s (%s) and can be reached from %s", s.Location, n.name, s.Error, next)
}

// elsewhere is the node that would take over the group, "" for none.
func (n *Node) elsewhere(group string) (node string) {
	n.ledger.View(func(s *pb.State) { node = placement.Elsewhere(n.cluster(s), group, n.name).Node })
	return node
}

// Reach implements peerpb.PeerServer.
func (p *peers) Reach(ctx context.Context, r *peerpb.ReachRequest) (*peerpb.ReachReply, error) {
	ok, why := p.n.reach(ctx, r.GetEndpoint())
	return &peerpb.ReachReply{Reachable: ok, Text: why}, nil
}

// reach tries to connect to the source of a receive location, and says why it
// cannot.
func (n *Node) reach(ctx context.Context, location string) (bool, string) {
	addresses, err := n.addressesOf(ctx, location)
	if err != nil {
		return false, err.Error()
	}
	if len(addresses) == 0 {
		return false, "its adapter does not say where it connects to"
	}
	var failed []string
	for _, address := range addresses {
		ctx, cancel := context.WithTimeout(ctx, reachTimeout)
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		cancel()
		if err == nil {
			conn.Close()
			return true, ""
		}
		failed = append(failed, err.Error())
	}
	return false, strings.Join(failed, "; ")
}

// addressesOf are the network addresses that a receive location connects to.
func (n *Node) addressesOf(ctx context.Context, location string) ([]string, error) {
	var l config.ReceiveLocation
	var known bool
	n.ledger.View(func(s *pb.State) {
		if d := n.plans.of(s); d != nil {
			l, known = d.ReceiveLocations[location]
		}
	})
	if !known {
		return nil, fmt.Errorf("no receive location %q is deployed", location)
	}
	binary, err := handler.Lookup(n.adapters, n.cfg.File.Node.AdapterDirs, l.Adapter)
	if err != nil {
		return nil, err
	}
	resolved, err := config.Resolve(ctx, l.Endpoint)
	if err != nil {
		return nil, err
	}
	var properties map[string]any
	if err := json.Unmarshal(resolved, &properties); err != nil {
		return nil, fmt.Errorf("endpoint of %s: %w", location, err)
	}
	return binary.Addresses(true, properties), nil
}
