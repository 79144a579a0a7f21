package exchange

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// sendTo brings the message to one port, by its policy, and commits that it has
// arrived. Before an attempt that could double it, the port is asked.
func (c *carriage) sendTo(ctx context.Context, port string, m *Message) error {
	policy, deployed := c.r.e.cfg.Ports[port]
	if !deployed {
		return &suspension{port, fmt.Sprintf("send port %q is not deployed any more", port)}
	}
	count := c.r.e.sent[port]
	doubt := c.doubt
	failed, outages := 0, 0
	for {
		err := c.attempt(ctx, port, policy, m, doubt)
		if err == nil {
			count.succeeded()
			return c.delivered(ctx, port)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s := (*suspension)(nil); errors.As(err, &s) {
			return err
		}
		count.failed(err)
		next := policy.afterFailure(err, errors.Is(err, ErrInterrupted), failed, outages)
		if next.suspend != "" {
			return &suspension{port, fmt.Sprintf("send port %q: %s", port, next.suspend)}
		}
		doubt = doubt || next.doubt
		if next.counted {
			failed++
			outages = 0
		} else {
			outages++
		}
		c.log().Warn("send failed", "port", port, "error", err, "again_in", next.wait, "retries", failed)
		count.retrying.Add(1)
		goOn := c.r.e.sleep(ctx, next.wait)
		count.retrying.Add(-1)
		if !goOn {
			return errDraining
		}
	}
}

// attempt sends once. In doubt it first asks whether the message is there.
func (c *carriage) attempt(ctx context.Context, port string, policy PortPolicy, m *Message, doubt bool) error {
	if !doubt {
		return c.r.e.cfg.Delivery.Deliver(ctx, c.r.e.cfg.Tenure, port, m)
	}
	arrival, err := c.r.e.cfg.Delivery.Probe(ctx, c.r.e.cfg.Tenure, port, m)
	if err != nil {
		// Not an attempt to send: wait until it can be asked, however long.
		return Unreachable("probe: %v", err)
	}
	c.log().Info("message in doubt", "port", port, "probe", arrival)
	switch {
	case arrival == adapterpb.Arrival_ARRIVAL_ARRIVED:
		return nil
	case arrival != adapterpb.Arrival_ARRIVAL_ABSENT && policy.SuspendInDoubt:
		return &suspension{port, fmt.Sprintf("send port %q: it may have arrived, the adapter cannot tell, and in_doubt is suspend", port)}
	}
	again := proto.CloneOf(m)
	again.Redelivered = arrival != adapterpb.Arrival_ARRIVAL_ABSENT
	if again.Redelivered {
		again.Context["fairlead.redelivered"] = "true"
	}
	return c.r.e.cfg.Delivery.Deliver(ctx, c.r.e.cfg.Tenure, port, again)
}

func (c *carriage) delivered(ctx context.Context, port string) error {
	err := c.commit(ctx, &pb.FateChange{Change: &pb.FateChange_Delivered{Delivered: &pb.Delivered{Ports: []string{port}}}})
	if err != nil {
		return fmt.Errorf("delivered: %w", err)
	}
	return nil
}
