package adaptertest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/bootclock"
	"github.com/fairlead-io/fairlead/sdk/internal/inproc"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
	"github.com/fairlead-io/fairlead/sdk/wire"
)

const (
	defaultTimeout = 15 * time.Second
	stopTimeout    = 10 * time.Second
	// inlineMax is the limit above which content goes through the spool, as in the
	// runtime.
	inlineMax = 256 << 10
	maxBytes  = 1 << 30
)

// Endpoint is a receive location or send port of a [Handler].
type Endpoint struct {
	Name    string
	Receive bool
	// Properties, as in [SourceFixture].
	Properties any
	// PollEvery is the interval of a polled source. 0: at the start, and when
	// [Handler.Poll] asks.
	PollEvery time.Duration
	// MaxInFlight. 0: 4.
	MaxInFlight int
	// OfferInlineMax is the size in bytes up to which a pushed source's content may come
	// with its offer. 0: never.
	OfferInlineMax int64
	// Paused: it starts as after Pause.
	Paused bool
	// Ordered asks for the items in their order.
	Ordered bool
}

// Handler stands for one process of the adapter, together with the runtime at the
// other end of its stream. Its methods fail the test when an answer does not come
// in time; they may be called from several goroutines of the test.
type Handler struct {
	t       testing.TB
	timeout time.Duration
	spool   string

	server *grpc.Server
	conn   *grpc.ClientConn
	client adapterpb.AdapterClient
	stream grpc.BidiStreamingClient[adapterpb.ToAdapter, adapterpb.FromAdapter]
	cancel context.CancelFunc
	stop   func()
	// receivedCh is closed when the stream has ended, servedCh when the server has.
	receivedCh, servedCh chan struct{}

	sendMu sync.Mutex

	mu sync.Mutex
	// changedCh is closed, and replaced, whenever anything below changes.
	changedCh chan struct{}
	ready     *adapterpb.Ready
	drained   bool
	pongs     map[uint64]bool
	exit      *int
	items     map[string]map[string]*adapterpb.Item
	partial   map[string]map[string]*adapterpb.Item
	// order has the keys in the order in which they came; contents what came with
	// offers, by location and key.
	order    map[string][]string
	contents map[[2]string]*adapterpb.Content
	listings map[string]int
	states   map[string][]*adapterpb.EndpointState
	answers  map[string]*adapterpb.FromAdapter
	waiting  map[string]bool
	calls    uint64
}

// Start starts a handler with these endpoints and a lease of one hour. It is
// stopped by t.Cleanup. An endpoint that the adapter rejects fails the test.
func Start(t testing.TB, a sdk.Adapter, endpoints ...Endpoint) *Handler {
	t.Helper()
	h := StartWithoutLease(t, a, endpoints...)
	h.Lease(time.Hour)
	return h
}

// epochs makes each process that of a new owner.
var epochs atomic.Uint64

// StartWithoutLease is [Start] for a handler that may not act yet.
func StartWithoutLease(t testing.TB, a sdk.Adapter, endpoints ...Endpoint) *Handler {
	t.Helper()
	h := connect(t, a)
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	stream, err := h.client.Run(ctx)
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	h.stream = stream
	go h.receive()
	c := &adapterpb.Configure{Host: "test-host", Node: "test-node", Cluster: "test-cluster", Epoch: epochs.Add(1)}
	for _, e := range endpoints {
		c.Endpoints = append(c.Endpoints, &adapterpb.Endpoint{
			Name: e.Name, Receive: e.Receive, Properties: propertiesJSON(t, e.Properties),
			PollEveryMs: e.PollEvery.Milliseconds(), MaxInFlight: int32(orDefault(e.MaxInFlight, 4)),
			OfferInlineMax: e.OfferInlineMax, Paused: e.Paused, Ordered: e.Ordered,
		})
	}
	h.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Configure{Configure: c}})
	h.wait("Ready", func() bool { return h.ready != nil })
	for _, r := range h.ready.GetRejected() {
		t.Fatalf("endpoint %s was rejected: %s", r.GetEndpoint(), r.GetError().GetText())
	}
	return h
}

// connect serves the adapter on a socket and dials it.
func connect(t testing.TB, a sdk.Adapter) *Handler {
	t.Helper()
	h := &Handler{
		t: t, timeout: defaultTimeout, spool: t.TempDir(),
		receivedCh: make(chan struct{}), servedCh: make(chan struct{}), changedCh: make(chan struct{}),
		pongs: map[uint64]bool{}, items: map[string]map[string]*adapterpb.Item{},
		partial: map[string]map[string]*adapterpb.Item{}, listings: map[string]int{},
		states: map[string][]*adapterpb.EndpointState{}, answers: map[string]*adapterpb.FromAdapter{},
		waiting: map[string]bool{}, order: map[string][]string{}, contents: map[[2]string]*adapterpb.Content{},
	}
	srv, err := inproc.NewServer(a, inproc.Options{Exit: h.exited, Log: testLogger(t)})
	if err != nil {
		t.Fatalf("adapter is declared wrongly: %v", err)
	}
	// Not in t.TempDir, whose path may be too long for a socket.
	dir, err := os.MkdirTemp("", "adaptertest")
	if err != nil {
		t.Fatalf("directory for the socket: %v", err)
	}
	path := filepath.Join(dir, "s")
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	h.server = wire.NewServer(nil)
	adapterpb.RegisterAdapterServer(h.server, srv)
	go func() {
		defer close(h.servedCh)
		_ = h.server.Serve(lis)
	}()
	h.conn, err = grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	h.client = adapterpb.NewAdapterClient(h.conn)
	h.stop = sync.OnceFunc(func() { h.stopAll(dir) })
	t.Cleanup(h.Kill)
	return h
}

// SetTimeout bounds every single wait from here on. It is 15 s at first.
func (h *Handler) SetTimeout(d time.Duration) { h.timeout = d }

// exited is where the process would end.
func (h *Handler) exited(code int) {
	h.change(func() { h.exit = &code })
}

// Kill ends the handler as abruptly as it can be done inside a process: the stream
// breaks, and all that is under way is cancelled. It may be called twice.
func (h *Handler) Kill() { h.stop() }

func (h *Handler) stopAll(dir string) {
	if h.cancel != nil {
		h.cancel()
		<-h.receivedCh
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Graceful: Run returns when the adapter has been cleaned up.
		h.server.GracefulStop()
	}()
	t := time.NewTimer(stopTimeout)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		h.t.Errorf("the adapter was still busy %s after the stream had ended", stopTimeout)
		h.server.Stop()
		<-done
	}
	<-h.servedCh
	_ = h.conn.Close()
	_ = os.RemoveAll(dir)
}

// tell sends one message. An error shows as an answer that does not come.
func (h *Handler) tell(m *adapterpb.ToAdapter) {
	h.sendMu.Lock()
	defer h.sendMu.Unlock()
	_ = h.stream.Send(m)
}

func (h *Handler) receive() {
	defer close(h.receivedCh)
	for {
		m, err := h.stream.Recv()
		if err != nil {
			h.change(func() {})
			return
		}
		h.change(func() { h.note(m) })
	}
}

// change alters the state and wakes all that wait.
func (h *Handler) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	close(h.changedCh)
	h.changedCh = make(chan struct{})
}

// wait returns when cond, which is called with mu held, is true.
func (h *Handler) wait(what string, cond func() bool) {
	h.t.Helper()
	if !h.within(h.timeout, cond) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.t.Fatalf("waited %s for %s; %s", h.timeout, what, h.summaryLocked())
	}
}

// within returns whether cond became true in time.
func (h *Handler) within(d time.Duration, cond func() bool) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		h.mu.Lock()
		ok, changed := cond(), h.changedCh
		h.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-t.C:
			return false
		}
	}
}

func (h *Handler) summaryLocked() string {
	s := fmt.Sprintf("complete listings: %v", h.listings)
	for name, states := range h.states {
		last := states[len(states)-1]
		s += fmt.Sprintf("; %s is %s %s", name, last.GetState(), last.GetError().GetText())
	}
	if h.exit != nil {
		s += fmt.Sprintf("; the process has exited with status %d", *h.exit)
	}
	return s
}

// Lease renews the lease: from now on it lasts d.
func (h *Handler) Lease(d time.Duration) {
	h.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Lease{Lease: &adapterpb.Lease{
		DeadlineNs: int64(bootclock.Now().Add(d))}}})
}

// WaitExit waits until the process would have exited by itself, and returns its
// status.
func (h *Handler) WaitExit() int {
	h.t.Helper()
	h.wait("the process's exit", func() bool { return h.exit != nil })
	return *h.exit
}

// Ping waits for the main loop's answer.
func (h *Handler) Ping() {
	h.t.Helper()
	n := h.number()
	h.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Ping{Ping: &adapterpb.Ping{Number: n}}})
	h.wait("Pong", func() bool { return h.pongs[n] })
}

// Drain waits for Drained.
func (h *Handler) Drain() {
	h.t.Helper()
	h.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Drain{Drain: &adapterpb.Drain{}}})
	h.wait("Drained", func() bool { return h.drained })
}

func (h *Handler) number() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	return h.calls
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

func propertiesJSON(t testing.TB, p any) []byte {
	t.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatalf("properties: %v", err)
	}
	return data
}
