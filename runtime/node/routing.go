package node

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/fairlead-io/fairlead/runtime/api"
	"github.com/fairlead-io/fairlead/runtime/config"
	"github.com/fairlead-io/fairlead/runtime/exchange"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/route"
)

// router returns the routes of the current deployment, compiled.
func (n *Node) router() *route.Table {
	n.plans.mu.Lock()
	defer n.plans.mu.Unlock()
	return n.plans.routes
}

// locationOf is a receive location as the exchange needs it. All of it was checked
// when it was deployed.
func locationOf(name string, l config.ReceiveLocation, router *route.Table) exchange.Location {
	out := exchange.Location{
		Name: name, Adapter: l.Adapter, Ports: l.To, MaxInFlight: l.MaxInFlight,
		Ordered: l.Ordered, Hold: l.OnFailure == config.FailureHolds,
		AtLeastOnce: l.Delivery == config.AtLeastOnce, Keep: l.Track == config.TrackContent, Quiet: l.Track == config.TrackNone,
		PollItems: l.Schedule.MaxItems, PollBytes: l.Schedule.MaxBytes,
		Timetable: timetableOf(l.Schedule),
	}
	if len(l.To) == 0 {
		out.Route = func(properties map[string]string) ([]string, error) {
			return router.Route(route.Message{Location: name, Adapter: l.Adapter, Context: properties})
		}
	}
	if l.Ordered && l.OrderBy == "" {
		out.MaxInFlight = 1
	}
	if key, err := route.CompileKey(l.OrderBy); l.Ordered && l.OrderBy != "" && err == nil {
		out.Lane = func(properties map[string]string) (string, error) {
			return key.Of(route.Message{Location: name, Adapter: l.Adapter, Context: properties})
		}
	}
	return out
}

func timetableOf(s config.Schedule) (t exchange.Timetable) {
	window, cron, err := s.Times()
	if err != nil {
		return t
	}
	if window != nil {
		t.Open, t.Text = window.At, window.String()
	}
	if cron != nil {
		t.Next = cron.Next
	}
	return t
}

// policyOf is what the exchange does with a port's failures, and when it sends there.
func (n *Node) policyOf(name string, p config.SendPort) exchange.PortPolicy {
	hours, _ := p.Hours()
	return exchange.PortPolicy{
		Attempts: p.Retry.Attempts, Interval: time.Duration(p.Retry.Interval), Backoff: p.Retry.Backoff, Jitter: p.Retry.Jitter,
		Backup: p.Backup, SuspendInDoubt: p.InDoubt == "suspend",
		Shut: func(now time.Time) (string, time.Time) {
			if n.stoppedSince(name, false) != 0 {
				return "stopped by order", time.Time{}
			}
			if hours == nil {
				return "", time.Time{}
			}
			if open, change := hours.At(now); !open {
				return "outside its window " + hours.String(), change
			}
			return "", time.Time{}
		},
	}
}

func portEndpoint(name string, p config.SendPort) endpoint {
	rate, _ := p.PerSecond()
	e := endpoint{name: name, properties: p.Endpoint, maxInFlight: p.MaxInFlight, rate: rate, ordered: p.Ordered}
	if p.Ordered {
		e.maxInFlight = 1
	}
	return e
}

// TestRoute implements api.Exchange.
func (n *Node) TestRoute(_ context.Context, r api.RouteRequest) (*api.RouteReply, error) {
	d, err := n.deploymentOf(r)
	if err != nil {
		return nil, err
	}
	l, ok := d.ReceiveLocations[r.Location]
	if !ok {
		return nil, api.NotFound("no receive location %q in the deployment; there are %s", r.Location, strings.Join(sortedNames(d.ReceiveLocations), ", "))
	}
	if len(l.To) > 0 {
		return &api.RouteReply{To: l.To, Reason: "the location's own `to`"}, nil
	}
	table, err := d.RouteTable()
	if err != nil {
		return nil, err
	}
	m := route.Message{Location: r.Location, Adapter: cmp.Or(r.Adapter, l.Adapter), Context: r.Context}
	reply := &api.RouteReply{Reason: "the routes that match"}
	for i, v := range table.Explain(m) {
		rule := api.RouteRule{Index: i, Name: v.Name, When: v.When, To: v.To, Matched: v.Matched}
		if v.Err != nil {
			rule.Error = v.Err.Error()
		}
		reply.Rules = append(reply.Rules, rule)
	}
	if reply.To, err = table.Route(m); err != nil {
		reply.Reason = "it would be suspended: " + err.Error()
	} else if len(reply.To) == 0 {
		reply.Reason = "no route matches: it would be suspended"
	}
	return reply, nil
}

// deploymentOf is the deployment that a request is about: its own, or the running one.
func (n *Node) deploymentOf(r api.RouteRequest) (d *config.Deployment, err error) {
	if r.Source != "" {
		if d, err = config.ParseDeployment(r.Name, []byte(r.Source), n.facts()); err != nil {
			return nil, invalid(err)
		}
		return d, nil
	}
	n.ledger.View(func(s *pb.State) { d = n.plans.of(s) })
	if d == nil {
		return nil, api.NotFound("nothing is deployed")
	}
	return d, nil
}
