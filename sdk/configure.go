package sdk

import (
	"context"
	"errors"
	"fmt"
	"sync"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// configure opens the endpoints in the background and answers Ready.
func (s *session) configure(c *adapterpb.Configure) error {
	s.mu.Lock()
	again := s.configured
	s.configured = true
	s.mu.Unlock()
	if again {
		return errors.New("protocol: second Configure")
	}
	s.spawn(func() { s.openAll(c) })
	return nil
}

func (s *session) openAll(c *adapterpb.Configure) {
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		rejected []*adapterpb.EndpointState
		opened   []location
	)
	seen := map[string]bool{}
	for _, ec := range c.GetEndpoints() {
		id := fmt.Sprint(ec.GetReceive(), ec.GetName())
		twice := seen[id]
		seen[id] = true
		wg.Go(func() {
			l, err := location(nil), errors.New("configured twice under this name")
			if !twice {
				l, err = s.open(c, ec)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				s.log.Error("endpoint rejected", "endpoint", ec.GetName(), "error", errorText(err))
				rejected = append(rejected, &adapterpb.EndpointState{
					Endpoint: ec.GetName(), Receive: ec.GetReceive(),
					State: adapterpb.EndpointState_REJECTED, Error: wireError(err),
				})
			} else if l != nil {
				opened = append(opened, l)
			}
		})
	}
	wg.Wait()
	s.out.putUrgent(&adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Ready{
		Ready: &adapterpb.Ready{Rejected: rejected}}})
	for _, l := range opened {
		s.spawn(l.run)
	}
}

// open opens one endpoint and makes it known. It returns the location, or nil for
// a port.
func (s *session) open(c *adapterpb.Configure, ec *adapterpb.Endpoint) (location, error) {
	e := newEndpoint(s, ec)
	env := Env{Endpoint: ec.GetName(), Host: c.GetHost(), Node: c.GetNode(), Log: e.log,
		Cluster: c.GetCluster(), Epoch: c.GetEpoch(),
		Ordered: ec.GetReceive() && ec.GetOrdered(), MaxInFlight: int(max(1, ec.GetMaxInFlight()))}
	ctx, cancel := context.WithTimeout(s.ctx, openEndpointLimit)
	defer cancel()

	if !ec.GetReceive() {
		p, err := s.openPort(ctx, e, ec, env)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ports[e.name] = p
		return nil, nil
	}
	l, err := s.openLocation(ctx, e, ec, env)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.locations[e.name] = l
	return l, nil
}

func (s *session) openLocation(ctx context.Context, e *endpoint, ec *adapterpb.Endpoint, env Env) (l location, err error) {
	if s.adapter.Receive == nil {
		return nil, fmt.Errorf("adapter %s cannot receive", s.adapter.Name)
	}
	k := s.adapter.Receive.receiver()
	err = e.guard("open", func() error {
		if k.openPushed != nil {
			src, err := k.openPushed(ctx, ec.GetProperties(), env)
			l = newPushed(e, src, ec)
			return orNil(err, src == nil)
		}
		src, err := k.openPolled(ctx, ec.GetProperties(), env)
		l = newPolled(e, src, ec)
		return orNil(err, src == nil)
	})
	return l, err
}

func (s *session) openPort(ctx context.Context, e *endpoint, ec *adapterpb.Endpoint, env Env) (p *port, err error) {
	if s.adapter.Send == nil {
		return nil, fmt.Errorf("adapter %s cannot send", s.adapter.Name)
	}
	k := s.adapter.Send.sender()
	err = e.guard("open", func() error {
		sink, err := k.open(ctx, ec.GetProperties(), env)
		if err := orNil(err, sink == nil); err != nil {
			return err
		}
		if _, probes := sink.(Prober); probes && !k.probes {
			_ = sink.Close()
			return errors.New("the sink is a Prober, but the adapter does not say so: add sdk.Probes() to sdk.Sends")
		}
		p = &port{endpoint: e, sink: sink}
		return nil
	})
	return p, err
}

// orNil makes an error of an open function that returned nothing at all.
func orNil(err error, isNil bool) error {
	if err == nil && isNil {
		return errors.New("the adapter's open function returned neither an endpoint nor an error")
	}
	return err
}
