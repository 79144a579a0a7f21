package sdk

import (
	"context"
	"fmt"
	"sync/atomic"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// maxWaiting is how many calls may wait at a port beyond its max_in_flight.
const maxWaiting = 4096

// port is a sending endpoint.
type port struct {
	*endpoint
	sink    Sink
	waiting atomic.Int64
}

func sent(call uint64, err error) *adapterpb.FromAdapter {
	return &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Sent{
		Sent: &adapterpb.Sent{Call: call, Error: wireError(err)}}}
}

func probed(call uint64, a Arrival, err error) *adapterpb.FromAdapter {
	return &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Probed{
		Probed: &adapterpb.Probed{Call: call, Arrival: wireArrival(a), Error: wireError(err)}}}
}

func (p *port) send(m *adapterpb.Send) {
	p.s.op(func() {
		err := p.inSlot(func() error {
			msg, err := sdkMessage(m.GetMessage())
			if err != nil {
				return err
			}
			err = p.call(p.s.ctx, "send", sendLimit, func(ctx context.Context) error {
				return p.sink.Send(ctx, msg)
			})
			p.fares(err)
			return err
		})
		p.say(sent(m.GetCall(), err))
	})
}

func (p *port) probe(m *adapterpb.Probe) {
	p.s.op(func() {
		answer := Unknown
		err := p.inSlot(func() error {
			prober, ok := p.sink.(Prober)
			if !ok {
				return nil
			}
			msg, err := sdkMessage(m.GetMessage())
			if err != nil {
				return err
			}
			err = p.call(p.s.ctx, "probe", probeLimit, func(ctx context.Context) (err error) {
				answer, err = prober.Probe(ctx, msg)
				return err
			})
			p.fares(err)
			return err
		})
		if err != nil {
			answer = Unknown
		}
		p.say(probed(m.GetCall(), answer, err))
	})
}

// inSlot runs f in one of the port's slots, or refuses on drain.
func (p *port) inSlot(f func() error) error {
	if p.waiting.Add(1) > maxWaiting {
		p.waiting.Add(-1)
		return Disconnected(fmt.Errorf("more than %d calls wait at this port", maxWaiting))
	}
	release, err := p.slot(p.s.taking)
	p.waiting.Add(-1)
	if err != nil {
		return err
	}
	defer release()
	return f()
}

// fares reports the port's state after a call.
func (p *port) fares(err error) {
	switch {
	case err == nil:
		p.report(adapterpb.EndpointState_IDLE, nil)
	case IsDisconnected(err) && p.s.ctx.Err() == nil:
		p.report(adapterpb.EndpointState_BACKING_OFF, err)
	}
}

func (p *port) close() error { return p.guard("close", p.sink.Close) }
