package node

import (
	"context"
	"time"

	"github.com/fairlead-io/fairlead/runtime/config"
	"github.com/fairlead-io/fairlead/runtime/handler"
	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/placement"
)

const (
	// standbyAfter is how long after an event this node looks whose standby it is:
	// right after a takeover the machine has better things to do than to prepare the
	// next one.
	standbyAfter = 2 * time.Second
	// standbyEvery is how often it looks where the ledger shows no event.
	standbyEvery = 30 * time.Second
)

// keepStandby keeps processes ready for the groups that this node would take over,
// where their hosts ask for a warm standby, until ctx ends. The processes have been
// launched and checked. They know no endpoint, so they cannot act.
func (n *Node) keepStandby(ctx context.Context) {
	changes, stop := n.ledger.Changes()
	defer stop()
	due := time.NewTimer(standbyAfter)
	defer due.Stop()
	var seen uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
			var event uint64
			n.ledger.View(func(s *pb.State) { event = ledger.LastEvent(s) })
			if event != seen {
				seen = event
				due.Reset(standbyAfter)
			}
		case <-due.C:
			n.pool.Set(n.standbyFor())
			due.Reset(standbyEvery)
		}
	}
}

// standbyFor are the processes that the groups need whose next owner this node is.
func (n *Node) standbyFor() []handler.Wanted {
	count := map[string]int{}
	n.ledger.View(func(s *pb.State) {
		d := n.plans.of(s)
		if d == nil {
			return
		}
		next := map[string]placement.Decision{}
		for _, g := range n.plans.groupsOf(s) {
			if g.Standby != config.StandbyWarm {
				continue
			}
			if len(next) == 0 {
				next = placement.Standbys(n.cluster(s))
			}
			if next[g.Name].Node != n.name {
				continue
			}
			for _, h := range g.Hosts {
				for _, adapter := range hostAdapters(d, h) {
					count[adapter]++
				}
			}
		}
	})
	var wanted []handler.Wanted
	for _, adapter := range sortedNames(count) {
		if b, err := handler.Lookup(n.adapters, nil, adapter); err == nil {
			wanted = append(wanted, handler.Wanted{Binary: b, Count: count[adapter]})
		}
	}
	return wanted
}

// hostAdapters are the adapters of a host's handlers, one process each.
func hostAdapters(d *config.Deployment, host string) []string {
	set := map[string]bool{}
	for _, l := range d.ReceiveLocations {
		if l.Host == host {
			set[l.Adapter] = true
		}
	}
	for _, p := range d.SendPorts {
		if p.Host == host {
			set[p.Adapter] = true
		}
	}
	return sortedNames(set)
}
