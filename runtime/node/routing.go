package node

import (
	"context"

	"github.com/fairlead-io/fairlead/runtime/api"
	"github.com/fairlead-io/fairlead/runtime/config"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// TestRoute implements api.Exchange.
func (n *Node) TestRoute(_ context.Context, r api.RouteRequest) (*api.RouteReply, error) {
	d, err := n.deploymentOf(r)
	if err != nil {
		return nil, err
	}
	l, ok := d.ReceiveLocations[r.Location]
	if !ok {
		return nil, api.NotFound("no receive location %q in the deployment", r.Location)
	}
	return &api.RouteReply{To: l.To, Reason: "the location's own `to`"}, nil
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
