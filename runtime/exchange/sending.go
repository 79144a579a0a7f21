package exchange

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// sendTo brings the message to one port, or to its backup if it gives up, and
// commits that it has arrived.
func (c *carriage) sendTo(ctx context.Context, port string, m *Message) outcome {
	for doubt := c.doubt; ; {
		err := c.insist(ctx, port, m, doubt)
		var s *suspension
		if err == nil || !errors.As(err, &s) || s.final {
			return outcome{port, err}
		}
		backup := c.r.e.cfg.Ports[port].Backup
		if backup == "" {
			return outcome{port, err}
		}
		c.log().Warn("message goes to the backup port", "port", port, "backup", backup, "reason", s.reason)
		c.tell(Happening{Kind: "routed", Port: backup, Text: "backup of " + port})
		err = c.commit(ctx, &pb.FateChange{Change: &pb.FateChange_Redirect{Redirect: &pb.Redirect{From: port, To: backup}}})
		if err != nil {
			return outcome{port, fmt.Errorf("redirect: %w", err)}
		}
		port, doubt = backup, false // nothing was ever sent there
	}
}

// insist sends to one port by its policy, and commits that it has arrived. Before an
// attempt that could double it, the port is asked.
func (c *carriage) insist(ctx context.Context, port string, m *Message, doubt bool) error {
	policy, deployed := c.r.e.cfg.Ports[port]
	if !deployed {
		return &suspension{port: port, reason: fmt.Sprintf("send port %q is not deployed any more", port)}
	}
	way := c.r.e.ways[port]
	for failed := 0; ; {
		err := c.attempt(ctx, way, port, policy, m, doubt)
		if err == nil {
			way.succeeded()
			c.tell(Happening{Kind: "sent", Port: port, Attempt: failed + 1})
			return c.delivered(ctx, port)
		}
		if s := (*suspension)(nil); ctx.Err() != nil || errors.Is(err, errDraining) || errors.As(err, &s) {
			return err
		}
		way.failed(err)
		next := policy.afterFailure(err, errors.Is(err, ErrInterrupted), failed)
		c.noteAttempt(port, failed, err, next)
		doubt = doubt || next.doubt
		if next.suspend != "" {
			return c.giveUp(ctx, port, policy, m, doubt, next.suspend)
		}
		if next.counted {
			failed++
		}
		if next.wait > 0 && !c.pause(ctx, way, next.wait) {
			return errDraining
		}
	}
}

// noteAttempt tells of a failed attempt.
func (c *carriage) noteAttempt(port string, failed int, err error, next step) {
	c.log().Warn("send failed", "port", port, "error", err, "again_in", next.wait, "retries", failed)
	c.tell(Happening{Kind: "failed", Port: port, Attempt: failed + 1, Text: err.Error()})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts = append(c.attempts, &pb.Attempt{AtMs: time.Now().UnixMilli(), Port: port, Error: err.Error()})
	if extra := len(c.attempts) - maxKeptAttempts; extra > 0 {
		c.attempts = c.attempts[extra:]
	}
}

// pause waits for the next attempt, out of the way of the others. It reports whether
// to go on.
func (c *carriage) pause(ctx context.Context, way *way, d time.Duration) bool {
	way.retrying.Add(1)
	defer way.retrying.Add(-1)
	c.r.park(1)
	defer c.r.park(-1)
	return c.r.e.sleep(ctx, d)
}

// giveUp is the end at one port. If its backup would get what has arrived all the
// same, the message would be there twice: so the port is asked once more.
func (c *carriage) giveUp(ctx context.Context, port string, policy PortPolicy, m *Message, doubt bool, reason string) error {
	s := &suspension{port: port, reason: fmt.Sprintf("send port %q: %s", port, reason)}
	if !doubt || policy.Backup == "" {
		return s
	}
	arrival, err := c.r.e.cfg.Delivery.Probe(ctx, c.r.e.cfg.Tenure, port, m)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil && arrival == adapterpb.Arrival_ARRIVAL_ARRIVED:
		c.tell(Happening{Kind: "sent", Port: port, Text: "an attempt that seemed to fail has arrived"})
		return c.delivered(ctx, port)
	case policy.SuspendInDoubt && (err != nil || arrival != adapterpb.Arrival_ARRIVAL_ABSENT):
		s.reason += "; it may have arrived, nobody can tell, and in_doubt is suspend"
		s.final = true
	}
	return s
}

// attempt sends once, when the port's gate lets it. In doubt it first asks whether
// the message is there.
func (c *carriage) attempt(ctx context.Context, way *way, port string, policy PortPolicy, m *Message, doubt bool) error {
	if err := way.gate.pass(ctx, c.r.e.draining); err != nil {
		return err
	}
	err := c.send(ctx, port, policy, m, doubt)
	if s := (*suspension)(nil); errors.As(err, &s) {
		way.gate.result(nil, time.Now()) // the port has answered
	} else {
		way.gate.result(err, time.Now())
	}
	return err
}

func (c *carriage) send(ctx context.Context, port string, policy PortPolicy, m *Message, doubt bool) error {
	c.at(StepSending)
	if !doubt {
		err := c.r.e.cfg.Delivery.Deliver(ctx, c.r.e.cfg.Tenure, port, m)
		if err == nil {
			c.at(StepSent)
		}
		return err
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
		reason := fmt.Sprintf("send port %q: it may have arrived, the adapter cannot tell, and in_doubt is suspend", port)
		return &suspension{port: port, reason: reason, final: true}
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
