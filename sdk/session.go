package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
	"github.com/fairlead-io/fairlead/sdk/wire"
)

// cleanupTime bounds the end of a session: methods under way, then Close of every
// endpoint. After it the process exits whatever they do.
const cleanupTime = 5 * time.Second

// hooks are what differs between a process and a test.
type hooks struct {
	now func() bootclock.Time
	// exit ends the process at once.
	exit func(code int)
	log  *slog.Logger
}

// runStream is the server's side of Run.
type runStream interface {
	Send(*adapterpb.FromAdapter) error
	Recv() (*adapterpb.ToAdapter, error)
	Context() context.Context
}

// location is a receiving endpoint. Its methods do not wait.
type location interface {
	poll()
	// pause has it look for nothing new by itself, or go on.
	pause(bool)
	recall(*adapterpb.Recall)
	take(*adapterpb.Take)
	settle(*adapterpb.Settle)
	// run works until the session ends, and takes up nothing new after drain.
	run()
	close() error
}

// session is one Run stream, from Configure to the end.
type session struct {
	adapter Adapter
	log     *slog.Logger
	lease   *lease
	out     *outbox

	// ctx ends with the session, taking with drain or with the session.
	ctx       context.Context
	cancel    context.CancelCauseFunc
	taking    context.Context
	endTaking context.CancelCauseFunc

	mu         sync.Mutex
	configured bool
	locations  map[string]location
	ports      map[string]*port
	closing    bool // no more goroutines
	wg         sync.WaitGroup

	under  atomic.Int64 // operations under way, see begin
	idleCh chan struct{}
}

func newSession(ctx context.Context, a Adapter, send func(*adapterpb.FromAdapter) error, h hooks) *session {
	s := &session{
		adapter: a, log: h.log, out: newOutbox(send),
		locations: map[string]location{}, ports: map[string]*port{},
		idleCh: make(chan struct{}, 1),
	}
	base, cancel := context.WithCancelCause(ctx)
	s.cancel = cancel
	s.lease = newLease(h.now, func() {
		// First of all: after the deadline another node acts.
		h.exit(wire.ExitLeaseEnded)
		cancel(errNoLease)
	})
	s.ctx = context.WithValue(base, leaseKey{}, s.lease)
	s.taking, s.endTaking = context.WithCancelCause(s.ctx)
	return s
}

// serve runs the session until the stream ends or the session is cancelled.
func (s *session) serve(stream runStream) error {
	go s.out.run()
	// Recv ends only when this method has returned, so nobody waits for it.
	go s.receive(stream)
	select {
	case <-s.ctx.Done():
	case <-s.out.doneCh:
		s.cancel(fmt.Errorf("send to the runtime: %w", s.out.err))
	}
	s.cleanup()
	err := context.Cause(s.ctx)
	if errors.Is(err, errSessionOver) {
		return nil
	}
	return err
}

// errSessionOver is the cause of an orderly end.
var errSessionOver = errors.New("the stream has ended")

// receive is the main loop. It never waits for an endpoint or for the stream's
// other direction, so that lease and ping are heard at any time.
func (s *session) receive(stream runStream) {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			err = errSessionOver
		}
		if err == nil {
			err = s.handle(m)
		}
		if err != nil {
			s.cancel(err)
			return
		}
	}
}

// handle returns an error only for what breaks the protocol.
func (s *session) handle(m *adapterpb.ToAdapter) error {
	switch k := m.GetKind().(type) {
	case *adapterpb.ToAdapter_Configure:
		return s.configure(k.Configure)
	case *adapterpb.ToAdapter_Lease:
		s.lease.renew(bootclock.Time(k.Lease.GetDeadlineNs()))
	case *adapterpb.ToAdapter_Ping:
		s.out.putUrgent(&adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Pong{
			Pong: &adapterpb.Pong{Number: k.Ping.GetNumber()}}})
	case *adapterpb.ToAdapter_Drain:
		s.drain()
	case *adapterpb.ToAdapter_Poll:
		if l := s.location(k.Poll.GetLocation()); l != nil {
			l.poll()
		}
	case *adapterpb.ToAdapter_Pause:
		if l := s.location(k.Pause.GetLocation()); l != nil {
			l.pause(k.Pause.GetPaused())
		}
	case *adapterpb.ToAdapter_Recall:
		s.recall(k.Recall)
	case *adapterpb.ToAdapter_Take:
		s.take(k.Take)
	case *adapterpb.ToAdapter_Settle:
		s.settle(k.Settle)
	case *adapterpb.ToAdapter_Send:
		s.send(k.Send)
	case *adapterpb.ToAdapter_Probe:
		s.probe(k.Probe)
	default:
		s.log.Warn("message of an unknown kind ignored; is the runtime newer than the adapter?")
	}
	return nil
}

func (s *session) location(name string) location {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.locations[name]
}

func (s *session) port(name string) *port {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ports[name]
}

// errNoEndpoint answers what is asked of an endpoint that is not there.
func errNoEndpoint(name string) error {
	return Disconnected(fmt.Errorf("endpoint %q is not open in this handler", name))
}

func (s *session) take(t *adapterpb.Take) {
	if l := s.location(t.GetLocation()); l != nil {
		l.take(t)
		return
	}
	s.op(func() { _ = s.out.put(s.ctx, readFailed(t, errNoEndpoint(t.GetLocation()))) })
}

func (s *session) recall(m *adapterpb.Recall) {
	if l := s.location(m.GetLocation()); l != nil {
		l.recall(m)
		return
	}
	s.op(func() { _ = s.out.put(s.ctx, recalled(m.GetLocation(), m.GetKey(), errNoEndpoint(m.GetLocation()))) })
}

func (s *session) settle(m *adapterpb.Settle) {
	if l := s.location(m.GetLocation()); l != nil {
		l.settle(m)
		return
	}
	s.op(func() { _ = s.out.put(s.ctx, settled(m.GetLocation(), m.GetKey(), errNoEndpoint(m.GetLocation()))) })
}

func (s *session) send(m *adapterpb.Send) {
	if p := s.port(m.GetPort()); p != nil {
		p.send(m)
		return
	}
	s.op(func() { _ = s.out.put(s.ctx, sent(m.GetCall(), errNoEndpoint(m.GetPort()))) })
}

func (s *session) probe(m *adapterpb.Probe) {
	if p := s.port(m.GetPort()); p != nil {
		p.probe(m)
		return
	}
	s.op(func() { _ = s.out.put(s.ctx, probed(m.GetCall(), Unknown, errNoEndpoint(m.GetPort()))) })
}

// spawn starts a goroutine that the session's end waits for. It returns false when
// the session is ending.
func (s *session) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.wg.Go(f)
	return true
}

// op is spawn for an operation that a drain waits for.
func (s *session) op(f func()) {
	s.begin()
	if !s.spawn(func() { defer s.end(); f() }) {
		s.end()
	}
}

func (s *session) begin() { s.under.Add(1) }

func (s *session) end() {
	if s.under.Add(-1) == 0 {
		nudge(s.idleCh)
	}
}

// within derives a context from one of an adapter's that ends with the session, too.
func (s *session) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Done() == nil {
		// It cannot end by itself, as that of most deliveries: the cheap way.
		return &valuesOf{s.ctx, ctx}, func() {}
	}
	return until(ctx, s.ctx)
}

// valuesOf is a context with the values of another one, before its own.
type valuesOf struct {
	context.Context
	values context.Context
}

// Value implements context.Context.
func (v *valuesOf) Value(key any) any {
	if value := v.values.Value(key); value != nil {
		return value
	}
	return v.Context.Value(key)
}

// notDraining returns the error of what is refused once nothing new is taken up.
func (s *session) notDraining() error {
	if s.taking.Err() != nil {
		return context.Cause(s.taking)
	}
	return nil
}

// drain stops the taking up of anything new and answers Drained as soon as no
// operation is under way. Settles are still done after that, until the stream ends:
// the runtime may be waiting for other handlers.
func (s *session) drain() {
	if s.taking.Err() != nil {
		return
	}
	s.endTaking(errDraining)
	s.spawn(func() {
		if s.awaitIdle() == nil {
			s.out.putUrgent(&adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Drained{Drained: &adapterpb.Drained{}}})
		}
	})
}

func (s *session) awaitIdle() error {
	for {
		if s.under.Load() == 0 {
			return nil
		}
		select {
		case <-s.idleCh:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}

// drainAndEnd is the orderly end without a runtime that asks for it.
func (s *session) drainAndEnd(limit time.Duration) {
	s.drain()
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	done := make(chan struct{})
	if s.spawn(func() { defer close(done); _ = s.awaitIdle() }) {
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
	s.cancel(errSessionOver)
}

// cleanup waits for all goroutines, closes the endpoints and sends what is left,
// all within cleanupTime. Endpoints whose methods do not return are not closed.
func (s *session) cleanup() {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.wg.Wait()
		s.closeEndpoints()
	}()
	t := time.NewTimer(cleanupTime)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		s.log.Warn("adapter did not end its work in time", "limit", cleanupTime.String())
	}
	s.lease.stop()
	s.out.stop()
}

func (s *session) closeEndpoints() {
	s.mu.Lock()
	locations, ports := s.locations, s.ports
	s.mu.Unlock()
	var wg sync.WaitGroup
	for name, l := range locations {
		wg.Go(func() { s.closed(name, l.close()) })
	}
	for name, p := range ports {
		wg.Go(func() { s.closed(name, p.close()) })
	}
	wg.Wait()
}

func (s *session) closed(name string, err error) {
	if err != nil {
		s.log.Warn("endpoint closed with an error", "endpoint", name, "error", errorText(err))
	}
}
