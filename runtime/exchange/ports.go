package exchange

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/time/rate"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// Ports is the sending end on one node: the send ports whose handlers run here.
// Safe for concurrent use.
type Ports struct {
	mu     sync.Mutex
	byName map[string]*port
	calls  map[uint64]call
	next   uint64
	// flights are the messages that are with a port just now. Another attempt at
	// the same message waits for the first to end, even if nobody waits for that
	// one's answer any more: two attempts must never overlap.
	flights map[flight]chan struct{}
	// rates outlive handlers: one that starts anew must not start a new second.
	rates map[string]*rate.Limiter
	tasks sync.WaitGroup
}

type port struct {
	name  string
	link  Link
	slots chan struct{} // of capacity max_in_flight
	rate  *rate.Limiter
	state *adapterpb.EndpointState
}

// PortLimits bound what goes through a port on one node.
type PortLimits struct {
	// MaxInFlight is how many sends are under way at once; below 1 counts as 1.
	MaxInFlight int
	// Rate is how many begin per second; 0: as many as there are. After a rest up to a
	// second's worth may begin at once.
	Rate float64
}

type call struct {
	link   Link
	answer chan *adapterpb.FromAdapter // of capacity 1
}

type flight struct{ port, message string }

// NewPorts returns a sending end without ports.
func NewPorts() *Ports {
	return &Ports{
		byName: map[string]*port{}, calls: map[uint64]call{}, flights: map[flight]chan struct{}{}, rates: map[string]*rate.Limiter{},
	}
}

// Attach makes the handler behind the link the one that runs the port.
func (p *Ports) Attach(link Link, name string, limits PortLimits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byName[name] = &port{name: name, link: link, slots: make(chan struct{}, max(limits.MaxInFlight, 1)), rate: p.limiterLocked(name, limits.Rate)}
}

// limiterLocked is the port's limiter, nil for none.
func (p *Ports) limiterLocked(name string, perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		delete(p.rates, name)
		return nil
	}
	limit, burst := rate.Limit(perSecond), max(1, int(perSecond))
	l := p.rates[name]
	if l == nil || l.Limit() != limit {
		l = rate.NewLimiter(limit, burst)
		p.rates[name] = l
	}
	return l
}

// Detach removes the ports of a handler that has ended.
func (p *Ports) Detach(link Link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, port := range p.byName {
		if port.link == link {
			delete(p.byName, name)
		}
	}
}

// Handle takes what a handler says of its ports; it does not block.
func (p *Ports) Handle(link Link, m *adapterpb.FromAdapter) {
	var number uint64
	switch k := m.GetKind().(type) {
	case *adapterpb.FromAdapter_Sent:
		number = k.Sent.GetCall()
	case *adapterpb.FromAdapter_Probed:
		number = k.Probed.GetCall()
	case *adapterpb.FromAdapter_EndpointState:
		p.setState(link, k.EndpointState)
		return
	default:
		return
	}
	p.mu.Lock()
	c, ok := p.calls[number]
	if ok && c.link == link {
		delete(p.calls, number)
	}
	p.mu.Unlock()
	if ok && c.link == link {
		c.answer <- m
	}
}

func (p *Ports) setState(link Link, s *adapterpb.EndpointState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if port := p.byName[s.GetEndpoint()]; port != nil && port.link == link && !s.GetReceive() {
		port.state = s
	}
}

// State returns the port's state here, and whether it runs here at all.
func (p *Ports) State(name string) (state, lastError string, runs bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	port := p.byName[name]
	if port == nil {
		return "stopped", "", false
	}
	switch port.state.GetState() {
	case adapterpb.EndpointState_BACKING_OFF:
		return "backing-off", port.state.GetError().GetText(), true
	case adapterpb.EndpointState_REJECTED, adapterpb.EndpointState_STOPPED:
		return "stopped", port.state.GetError().GetText(), true
	}
	return "ready", port.state.GetError().GetText(), true
}

// Send sends through a port that runs here.
func (p *Ports) Send(ctx context.Context, name string, m *Message) error {
	reply, err := p.call(ctx, name, m, true, func(number uint64) *adapterpb.ToAdapter {
		return &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Send{Send: &adapterpb.Send{Call: number, Port: name, Message: m}}}
	})
	if err != nil {
		return err
	}
	return fromWire(reply.GetSent().GetError())
}

// Probe asks a port that runs here whether the message has arrived.
func (p *Ports) Probe(ctx context.Context, name string, m *Message) (adapterpb.Arrival, error) {
	reply, err := p.call(ctx, name, m, false, func(number uint64) *adapterpb.ToAdapter {
		return &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Probe{Probe: &adapterpb.Probe{Call: number, Port: name, Message: m}}}
	})
	if err != nil {
		return adapterpb.Arrival_ARRIVAL_UNSPECIFIED, err
	}
	return reply.GetProbed().GetArrival(), fromWire(reply.GetProbed().GetError())
}

// call asks the port's handler one thing about one message; rated: at its rate.
func (p *Ports) call(ctx context.Context, name string, m *Message, rated bool, request func(uint64) *adapterpb.ToAdapter) (*adapterpb.FromAdapter, error) {
	landed, err := p.takeOff(ctx, flight{name, m.GetId()})
	if err != nil {
		return nil, Unreachable("send port %s: an earlier attempt at this message has not ended: %v", name, err)
	}
	p.mu.Lock()
	port := p.byName[name]
	p.mu.Unlock()
	if port == nil {
		landed()
		return nil, Unreachable("send port %s does not run on this node", name)
	}
	select {
	case port.slots <- struct{}{}:
	case <-ctx.Done():
		landed()
		return nil, Unreachable("send port %s: all its sends are under way: %v", name, ctx.Err())
	}
	over := func() { <-port.slots; landed() }
	if rated && port.rate != nil {
		if err := port.rate.Wait(ctx); err != nil {
			over()
			return nil, Unreachable("send port %s: its rate leaves no room in time: %v", name, err)
		}
	}

	c := call{port.link, make(chan *adapterpb.FromAdapter, 1)}
	p.mu.Lock()
	p.next++
	number := p.next
	p.calls[number] = c
	p.mu.Unlock()
	forget := func() { p.mu.Lock(); delete(p.calls, number); p.mu.Unlock(); over() }

	if err := port.link.Send(ctx, request(number)); err != nil {
		forget()
		return nil, fmt.Errorf("send port %s: %w: %w", name, ErrInterrupted, err)
	}
	select {
	case reply := <-c.answer:
		over()
		return reply, nil
	case <-port.link.Done():
		forget()
		return nil, fmt.Errorf("send port %s: its handler ended: %w", name, ErrInterrupted)
	case <-ctx.Done():
		// The handler goes on. Nobody else may try this message until it has ended.
		p.tasks.Go(func() {
			select {
			case <-c.answer:
				over()
			case <-port.link.Done():
				forget()
			}
		})
		return nil, fmt.Errorf("send port %s: %w: %w", name, ErrInterrupted, ctx.Err())
	}
}

// takeOff waits until no other attempt at the message is under way.
func (p *Ports) takeOff(ctx context.Context, f flight) (landed func(), err error) {
	for {
		p.mu.Lock()
		other := p.flights[f]
		if other == nil {
			mine := make(chan struct{})
			p.flights[f] = mine
			p.mu.Unlock()
			return func() {
				p.mu.Lock()
				delete(p.flights, f)
				p.mu.Unlock()
				close(mine)
			}, nil
		}
		p.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Wait returns when no attempt is under way any more. Call it after the handlers
// have ended.
func (p *Ports) Wait() { p.tasks.Wait() }
