package sdk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// How long an adapter's methods may take. They are named in the comments of the
// interfaces.
const (
	openEndpointLimit = time.Minute
	listLimit         = 5 * time.Minute
	readLimit         = time.Hour
	sendLimit         = time.Hour
	settleLimit       = time.Minute
	probeLimit        = time.Minute
	flushLimit        = time.Minute

	// stallLimit ends a reading that makes no progress.
	stallLimit = 2 * time.Minute
)

// errDraining refuses what would be taken up after Drain.
var errDraining = Disconnected(errors.New("the handler is draining"))

// endpoint is what locations and ports have in common.
type endpoint struct {
	s       *session
	name    string
	receive bool
	log     *slog.Logger
	// slots are the endpoint's max_in_flight.
	slots *semaphore.Weighted

	// pausing is of locations; ports are never paused.
	pausing *pausing

	// reportMu keeps reports in their order. It is held while one is queued.
	reportMu sync.Mutex
	state    adapterpb.EndpointState_State
	text     string
}

func newEndpoint(s *session, c *adapterpb.Endpoint) *endpoint {
	side := "send"
	if c.GetReceive() {
		side = "receive"
	}
	return &endpoint{
		s: s, name: c.GetName(), receive: c.GetReceive(),
		log:     s.log.With("endpoint", c.GetName(), "side", side),
		slots:   semaphore.NewWeighted(int64(max(1, c.GetMaxInFlight()))),
		pausing: newPausing(c.GetReceive() && c.GetPaused()),
		state:   adapterpb.EndpointState_IDLE,
	}
}

// report tells the runtime how the endpoint fares, if that is news. What is paused
// is stopped; an error is then one of what it was asked for all the same.
func (e *endpoint) report(state adapterpb.EndpointState_State, err error) {
	text := ""
	if err != nil {
		text = errorText(err)
	}
	e.reportMu.Lock()
	defer e.reportMu.Unlock()
	if e.pausing.isOn() {
		state = adapterpb.EndpointState_STOPPED
	}
	if e.state == state && e.text == text {
		return
	}
	was := e.state
	e.state, e.text = state, text

	switch {
	case state == adapterpb.EndpointState_BACKING_OFF:
		e.log.Warn("endpoint backs off", "error", text)
	case was == adapterpb.EndpointState_BACKING_OFF && state != adapterpb.EndpointState_STOPPED:
		e.log.Info("endpoint works again")
	}
	e.say(&adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_EndpointState{EndpointState: &adapterpb.EndpointState{
		Endpoint: e.name, Receive: e.receive, State: state, Error: wireError(err),
	}}})
}

// say queues a message. It fails only when the session is over, and then nobody
// is there to be told.
func (e *endpoint) say(m *adapterpb.FromAdapter) { _ = e.s.out.put(e.s.ctx, m) }

// slot waits for one of the endpoint's max_in_flight, until ctx ends.
func (e *endpoint) slot(ctx context.Context) (release func(), err error) {
	return acquire(ctx, e.slots)
}

func acquire(ctx context.Context, slots *semaphore.Weighted) (release func(), err error) {
	if err := slots.Acquire(ctx, 1); err != nil {
		return nil, context.Cause(ctx)
	}
	if ctx.Err() != nil { // a slot was free although ctx had ended
		slots.Release(1)
		return nil, context.Cause(ctx)
	}
	return func() { slots.Release(1) }, nil
}

// call runs a method of the adapter: only under a valid lease, within limit, and
// with its panics caught. A panic leaves open what has happened, as a plain error
// does.
func (e *endpoint) call(ctx context.Context, what string, limit time.Duration, f func(context.Context) error) error {
	if err := e.s.lease.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, &overdue{what, limit})
	defer cancel()
	return e.guard(what, func() error { return withCause(ctx, f(ctx)) })
}

// overdue is the cause of a context that has lasted as long as it may.
type overdue struct {
	what  string
	limit time.Duration
}

// Error implements error.
func (o *overdue) Error() string { return fmt.Sprintf("%s took longer than %s", o.what, o.limit) }

// withCause says why ctx ended, where the adapter could only say that it did. The
// cause's kind does not become the error's: what an interrupted send has done is
// not known.
func withCause(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w (%v)", err, context.Cause(ctx))
}

func (e *endpoint) guard(what string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			e.log.Error("adapter panicked", "call", what, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("%s: adapter panicked: %v", what, p)
		}
	}()
	return f()
}

const (
	backoffFirst = time.Second
	backoffLimit = time.Minute
)

// backoff gives growing times with jitter. The zero value begins at backoffFirst.
type backoff struct {
	limit time.Duration // 0: backoffLimit
	tries int
}

// next returns between half and the whole of 1 s, 2 s, 4 s, ... up to the limit.
func (b *backoff) next() time.Duration {
	limit := max(b.limit, backoffLimit)
	d := limit
	if b.tries < 16 {
		d = min(backoffFirst<<b.tries, limit)
	}
	b.tries++
	return d/2 + rand.N(d/2+1)
}

func (b *backoff) reset() { b.tries = 0 }

// sleep waits, unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
