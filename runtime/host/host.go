// Package host runs one host on this node: its handlers, one process per adapter,
// each started again with back-off when it ends, and fed with the lease. It says
// how they fare. When a host may run, and whether items move, is decided by
// ownership and the exchange.
package host

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/runtime/exchange"
	"github.com/fairlead-io/fairlead/sdk/bootclock"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

const (
	// A handler that ends is started again after firstBackoff, then twice as long
	// up to longestBackoff; a run of steadyAfter makes it start over.
	firstBackoff   = 200 * time.Millisecond
	longestBackoff = 30 * time.Second
	steadyAfter    = time.Minute
	// launchTimeout bounds one start, from the fork to the endpoints' readiness.
	launchTimeout = 30 * time.Second
	// stopTimeout bounds the end of a handler that has nothing under way any more.
	stopTimeout = 5 * time.Second
)

// Process is a running handler.
type Process interface {
	exchange.Link
	// Renew tells it until when it may act.
	Renew(deadline bootclock.Time)
	// Rejected are the endpoints that cannot work as configured.
	Rejected() []*adapterpb.EndpointState
	// Stop drains and ends it, within ctx; Kill ends it at once. Both return when
	// the process and all it started are gone.
	Stop(ctx context.Context) error
	Kill()
	// Err says why it ended.
	Err() error
	PID() int
}

// Lease is the node's right to act.
type Lease interface {
	Deadline() bootclock.Time
	Extended() <-chan struct{}
}

// Handler is one adapter of the host, with its endpoints.
type Handler struct {
	Adapter   string
	Locations []string
	Ports     []Port
	// Launch starts the process. receive is called for all it says, in order.
	Launch func(ctx context.Context, receive func(*adapterpb.FromAdapter)) (Process, error)
}

// Port is one send port of the host.
type Port struct {
	Name        string
	MaxInFlight int
}

// Config is what a Host needs.
type Config struct {
	Name     string
	Handlers []Handler
	// Exchange takes what locations say; nil for a host without any.
	Exchange *exchange.Exchange
	Ports    *exchange.Ports
	Lease    Lease
	Log      *slog.Logger
}

// Host is a running host.
type Host struct {
	cfg      Config
	runs     []*run
	ctx      context.Context
	cancel   context.CancelFunc
	draining chan struct{}
	once     sync.Once
	tasks    sync.WaitGroup
}

// Start starts the host's handlers and returns at once.
func Start(cfg Config) *Host {
	ctx, cancel := context.WithCancel(context.Background())
	h := &Host{cfg: cfg, ctx: ctx, cancel: cancel, draining: make(chan struct{})}
	for _, spec := range cfg.Handlers {
		r := &run{h: h, spec: spec, log: cfg.Log.With("host", cfg.Name, "adapter", spec.Adapter), state: "starting"}
		h.runs = append(h.runs, r)
		h.tasks.Go(r.loop)
	}
	return h
}

// Stop ends the handlers in order, within ctx, and returns when they are gone.
// What is left at ctx's end is killed. Items under way should have been drained
// from the exchange before.
func (h *Host) Stop(ctx context.Context) {
	h.once.Do(func() { close(h.draining) })
	done := make(chan struct{})
	go func() { // ends with the handlers, which Kill ends at the latest
		defer close(done)
		h.tasks.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	h.Kill()
	<-done
}

// Kill ends the handlers at once and returns when they are gone. It may be called
// during Stop, after it, and more than once.
func (h *Host) Kill() {
	h.cancel()
	h.tasks.Wait()
}

// HandlerState is how one handler fares.
type HandlerState struct {
	Adapter, State, Error string
	PID, Restarts         int
}

// States returns how the handlers fare.
func (h *Host) States() []HandlerState {
	states := make([]HandlerState, len(h.runs))
	for i, r := range h.runs {
		states[i] = r.snapshot()
	}
	slices.SortFunc(states, func(a, b HandlerState) int { return strings.Compare(a.Adapter, b.Adapter) })
	return states
}

// run is one handler through all its processes.
type run struct {
	h    *Host
	spec Handler
	log  *slog.Logger

	mu       sync.Mutex
	state    string // starting, running, failed or stopped
	err      string
	pid      int
	restarts int
}

// loop runs one process after the other until the host stops.
func (r *run) loop() {
	defer r.set("stopped", nil, 0)
	for failures := 0; ; failures++ {
		began := time.Now()
		err := r.live()
		if r.h.ctx.Err() != nil || r.stopping() {
			return
		}
		if time.Since(began) >= steadyAfter {
			failures = 0
		}
		wait := min(firstBackoff<<min(failures, 10), longestBackoff)
		r.log.Error("handler ended; it is started again", "error", err, "again_in", wait)
		r.set("failed", err, 0)
		timer := time.NewTimer(wait)
		select {
		case <-r.h.ctx.Done():
		case <-r.h.draining:
		case <-timer.C:
		}
		timer.Stop()
		if r.h.ctx.Err() != nil || r.stopping() {
			return
		}
		r.mu.Lock()
		r.restarts++
		r.mu.Unlock()
	}
}

func (r *run) stopping() bool {
	select {
	case <-r.h.draining:
		return true
	default:
		return false
	}
}

// live is the life of one process; it returns why it ended.
func (r *run) live() error {
	launch, cancel := context.WithTimeout(r.h.ctx, launchTimeout)
	defer cancel()
	// What the process says waits until it is attached.
	attached, failed := make(chan struct{}), make(chan struct{})
	var p Process
	p, err := r.spec.Launch(launch, func(m *adapterpb.FromAdapter) {
		select { // only ever one of them is closed
		case <-attached:
			r.receive(p, m)
		case <-failed:
		}
	})
	if err != nil {
		close(failed)
		return err
	}
	r.attach(p)
	close(attached)
	defer r.h.cfg.Ports.Detach(p)
	r.set("running", nil, p.PID())
	r.log.Info("handler runs", "pid", p.PID())
	return r.attend(p)
}

// attend feeds the lease until the process ends or is to end.
func (r *run) attend(p Process) error {
	for {
		extended := r.h.cfg.Lease.Extended()
		p.Renew(r.h.cfg.Lease.Deadline())
		select {
		case <-extended:
		case <-p.Done():
			p.Kill() // reaps, and takes what it may have left behind
			return p.Err()
		case <-r.h.ctx.Done():
			p.Kill()
			return nil
		case <-r.h.draining:
			return r.stop(p)
		}
	}
}

// stop ends the process in order, still feeding the lease.
func (r *run) stop(p Process) error {
	ctx, cancel := context.WithTimeout(r.h.ctx, stopTimeout)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- p.Stop(ctx) }() // bounded by ctx
	for {
		extended := r.h.cfg.Lease.Extended()
		p.Renew(r.h.cfg.Lease.Deadline())
		select {
		case err := <-stopped:
			return err
		case <-extended:
		case <-r.h.ctx.Done():
			p.Kill()
			return <-stopped
		}
	}
}

func (r *run) attach(p Process) {
	if r.h.cfg.Exchange != nil {
		r.h.cfg.Exchange.Attach(p, r.spec.Locations)
	}
	for _, port := range r.spec.Ports {
		r.h.cfg.Ports.Attach(p, port.Name, port.MaxInFlight)
	}
	for _, s := range p.Rejected() {
		r.log.Error("endpoint rejected by its adapter", "endpoint", s.GetEndpoint(), "error", s.GetError().GetText())
		r.receive(p, &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_EndpointState{EndpointState: s}})
	}
}

func (r *run) receive(p Process, m *adapterpb.FromAdapter) {
	r.h.cfg.Ports.Handle(p, m)
	if r.h.cfg.Exchange != nil {
		r.h.cfg.Exchange.Handle(p, m)
	}
}

func (r *run) set(state string, err error, pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state, r.pid = state, pid
	if err != nil {
		r.err = err.Error()
	} else if state == "running" {
		r.err = ""
	}
}

func (r *run) snapshot() HandlerState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return HandlerState{Adapter: r.spec.Adapter, State: r.state, Error: r.err, PID: r.pid, Restarts: r.restarts}
}
