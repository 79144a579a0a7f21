package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// runtimeSide is the other end of a session's stream, in memory, so that sessions
// can run in a synctest bubble.
type runtimeSide struct {
	t     *testing.T
	toCh  chan *adapterpb.ToAdapter
	s     *session
	ended chan error
	born  time.Time
	// ahead is what the boot clock has run ahead of Go's while the machine slept.
	ahead time.Duration

	mu    sync.Mutex
	got   []*adapterpb.FromAdapter
	exits []int
	// holdCh, if not nil, blocks the reading side until it is closed.
	holdCh chan struct{}
}

func (r *runtimeSide) Context() context.Context { return r.s.ctx }

func (r *runtimeSide) Recv() (*adapterpb.ToAdapter, error) {
	select {
	case m, ok := <-r.toCh:
		if !ok {
			return nil, io.EOF
		}
		return m, nil
	case <-r.s.ctx.Done():
		return nil, context.Canceled
	}
}

func (r *runtimeSide) Send(m *adapterpb.FromAdapter) error {
	r.mu.Lock()
	hold := r.holdCh
	r.mu.Unlock()
	if hold != nil {
		<-hold
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, m)
	return nil
}

func (r *runtimeSide) now() bootclock.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bootclock.Time(0).Add(time.Since(r.born) + r.ahead + time.Hour)
}

// newSide starts a session in the bubble with endpoints of these names: locations
// if the adapter receives, ports else.
func newSide(t *testing.T, a Adapter, inFlight int32, names ...string) *runtimeSide {
	t.Helper()
	c := &adapterpb.Configure{}
	for _, n := range names {
		c.Endpoints = append(c.Endpoints, &adapterpb.Endpoint{
			Name: n, Receive: a.Receive != nil, Properties: []byte("{}"), PollEveryMs: 10_000, MaxInFlight: inFlight,
		})
	}
	return newSideOf(t, a, c)
}

// newLocation starts a session with one location, in.
func newLocation(t *testing.T, a Adapter, e *adapterpb.Endpoint) *runtimeSide {
	t.Helper()
	e.Name, e.Receive, e.Properties = "in", true, []byte("{}")
	return newSideOf(t, a, &adapterpb.Configure{Endpoints: []*adapterpb.Endpoint{e}})
}

func newSideOf(t *testing.T, a Adapter, c *adapterpb.Configure) *runtimeSide {
	t.Helper()
	r := &runtimeSide{t: t, toCh: make(chan *adapterpb.ToAdapter), ended: make(chan error, 1), born: time.Now()}
	a.Name, a.Version, a.Summary = "test", "1.0.0", "A test."
	r.s = newSession(t.Context(), a, r.Send, hooks{
		now: r.now,
		exit: func(code int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.exits = append(r.exits, code)
		},
		log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	go func() { r.ended <- r.s.serve(r) }()
	r.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Configure{Configure: c}})
	synctest.Wait()
	return r
}

func (r *runtimeSide) tell(m *adapterpb.ToAdapter) { r.toCh <- m }

func (r *runtimeSide) lease(d time.Duration) {
	r.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Lease{Lease: &adapterpb.Lease{DeadlineNs: int64(r.now().Add(d))}}})
	synctest.Wait()
}

func (r *runtimeSide) take(key string) {
	r.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Take{Take: &adapterpb.Take{
		Location: "in", Key: key, SpoolDir: r.t.TempDir(), InlineMax: 1024, MaxBytes: 1 << 20}}})
	synctest.Wait()
}

func (r *runtimeSide) settle(keys ...string) {
	for _, key := range keys {
		r.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Settle{Settle: &adapterpb.Settle{
			Location: "in", Key: key, Verdict: adapterpb.Verdict_VERDICT_DELIVERED}}})
	}
	synctest.Wait()
}

func (r *runtimeSide) poll() {
	r.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Poll{Poll: &adapterpb.Poll{Location: "in"}}})
	synctest.Wait()
}

func (r *runtimeSide) pause(on bool) {
	r.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Pause{Pause: &adapterpb.Pause{Location: "in", Paused: on}}})
	synctest.Wait()
}

func (r *runtimeSide) recall(key string) {
	r.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Recall{Recall: &adapterpb.Recall{Location: "in", Key: key}}})
	synctest.Wait()
}

// recalledText says what was answered to recalls: key, or key=error kind.
func (r *runtimeSide) recalledText() string {
	var out []string
	for _, m := range all(r, (*adapterpb.FromAdapter).GetRecalled) {
		text := m.GetKey()
		if m.GetError() != nil {
			text += "=" + m.GetError().GetKind().String()
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

// offered are the keys of all offers.
func (r *runtimeSide) offered() string {
	var out []string
	for _, o := range all(r, (*adapterpb.FromAdapter).GetOffer) {
		out = append(out, o.GetItem().GetKey())
	}
	return strings.Join(out, " ")
}

func (r *runtimeSide) send(call uint64) {
	r.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Send{Send: &adapterpb.Send{Call: call, Port: "out",
		Message: &adapterpb.Message{Id: fmt.Sprint(call), Parts: []*adapterpb.Part{{}}}}}})
	synctest.Wait()
}

func (r *runtimeSide) drain() {
	r.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Drain{Drain: &adapterpb.Drain{}}})
	synctest.Wait()
}

// end closes the stream and checks that the session ends well.
func (r *runtimeSide) end() {
	r.t.Helper()
	close(r.toCh)
	if err := <-r.ended; err != nil {
		r.t.Errorf("session ended with %v", err)
	}
}

// all returns what has come of one kind.
func all[M any](r *runtimeSide, get func(*adapterpb.FromAdapter) *M) (out []*M) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.got {
		if v := get(m); v != nil {
			out = append(out, v)
		}
	}
	return out
}

// lastKeys are the keys of the latest complete listing, with ! where it is not
// complete.
func (r *runtimeSide) lastKeys() string {
	listings := all(r, (*adapterpb.FromAdapter).GetListing)
	if len(listings) == 0 {
		return "none"
	}
	var keys []string
	last := listings[len(listings)-1]
	for _, it := range last.GetItems() {
		keys = append(keys, it.GetKey())
	}
	if !last.GetFinal() {
		keys = append(keys, "!")
	}
	return strings.Join(keys, " ")
}

// settledText says what was answered to settles: key, or key=error kind.
func (r *runtimeSide) settledText() string {
	var out []string
	for _, s := range all(r, (*adapterpb.FromAdapter).GetSettled) {
		text := s.GetKey()
		if s.GetError() != nil {
			text += "=" + s.GetError().GetKind().String()
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func (r *runtimeSide) states() string {
	var out []string
	for _, s := range all(r, (*adapterpb.FromAdapter).GetEndpointState) {
		out = append(out, s.GetState().String())
	}
	return strings.Join(out, " ")
}

// fake is a polled source whose methods are functions.
type fake struct {
	list   func(ctx context.Context) ([]Item, error)
	open   func(ctx context.Context, it Item) (*Content, error)
	settle func(ctx context.Context, it Item) error
	closed int
}

func (f *fake) List(ctx context.Context) ([]Item, error)            { return f.list(ctx) }
func (f *fake) Open(ctx context.Context, it Item) (*Content, error) { return f.open(ctx, it) }
func (f *fake) Settle(ctx context.Context, it Item) error           { return f.settle(ctx, it) }
func (f *fake) Close() error                                        { f.closed++; return nil }

func (f *fake) adapter() Adapter {
	return Adapter{Receive: Polled(func(context.Context, struct{}, Env) (PolledSource, error) { return f, nil })}
}

// listing is a source that has these keys.
func listing(keys ...string) *fake {
	f := &fake{}
	f.list = func(context.Context) (out []Item, err error) {
		for _, k := range keys {
			out = append(out, Item{Key: k})
		}
		return out, nil
	}
	f.open = func(_ context.Context, it Item) (*Content, error) {
		return Body(io.NopCloser(strings.NewReader("content of " + it.Key))), nil
	}
	f.settle = func(context.Context, Item) error { return nil }
	return f
}

type fakeSink struct {
	send func(ctx context.Context, m *Message) error
}

func (f *fakeSink) Send(ctx context.Context, m *Message) error { return f.send(ctx, m) }
func (f *fakeSink) Close() error                               { return nil }

func (f *fakeSink) adapter() Adapter {
	return Adapter{Send: Sends(func(context.Context, struct{}, Env) (Sink, error) { return f, nil })}
}

// gauge counts how many are inside at once.
type gauge struct {
	mu        sync.Mutex
	now, most int
}

func (g *gauge) enter() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now++
	g.most = max(g.most, g.now)
}

func (g *gauge) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now--
}

// shared is a variable that the test and the adapter both use.
type shared[T any] struct {
	mu sync.Mutex
	v  T
}

func (s *shared[T]) set(v T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.v = v
}

func (s *shared[T]) get() T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.v
}

var errTest = errors.New("test error")
