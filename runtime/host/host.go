// Package host runs one host on this node: its handlers, one process per adapter,
// each started again with back-off when it ends, and fed with the lease.
//
// It is answerable for the policy of failures on this node: a handler that ends is
// started again at once, the next time later, and when it has ended more often than
// RestartPolicy allows, the host says so, once, to whoever can take it elsewhere. It
// promises that it never starts a process beside one that could not be killed, that
// the end of a host is bounded in time, and that it says so if a process is left
// (ErrSurvives). It tells which locations make no progress (Stalled); whether their
// source can be reached from elsewhere, it does not know.
//
// When a host may run, where it runs next, and whether items move, is decided by
// ownership, placement and the exchange.
package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/runtime/exchange"
	"github.com/fairlead-io/fairlead/runtime/handler"
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
	// endWithin bounds Kill as a whole: a launch that is under way, and then twice
	// the time that a process may take to be gone.
	endWithin = 10 * time.Second
)

// ErrSurvives is what Stop and Kill return while a process of the host is there that
// got SIGKILL and does not end, with its number and state in the text. The node must
// then keep the group, and give up its lease.
var ErrSurvives = handler.ErrSurvives

// Process is a running handler.
type Process interface {
	exchange.Link
	// Renew tells it until when it may act.
	Renew(deadline bootclock.Time)
	// Rejected are the endpoints that cannot work as configured.
	Rejected() []*adapterpb.EndpointState
	// Stop drains and ends it, within ctx; Kill ends it at once. Both return when
	// the process and all it started are gone, or in bounded time with ErrSurvives.
	// Kill may be called again, and then looks again.
	Stop(ctx context.Context) error
	Kill() error
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
	Name   string
	Limits exchange.PortLimits
}

// Config is what a Host needs.
type Config struct {
	Name     string
	Handlers []Handler
	// Exchange takes what locations say; nil for a host without any.
	Exchange *exchange.Exchange
	Ports    *exchange.Ports
	Lease    Lease
	// Restart is how often a handler may end before the host has failed here.
	Restart RestartPolicy
	// Failed is called with a sentence for people when the host has failed here: a
	// handler ended (crashed, hung, could not be launched) more often than Restart
	// allows, or left a process that cannot be killed. It is called at most once,
	// from a goroutine of the host, and must neither block nor call Stop or Kill.
	// After it the host keeps the handler down for two seconds, for its owner to
	// stop it and have another node take over. If nobody does, because there is
	// nowhere to go, it goes on trying with growing pauses. Nil: it only does that.
	Failed func(reason string)
	// StallAfter is how long a location may be out of reach of its source before
	// Stalled tells of it. Default 1 minute. A restart of a server takes that long.
	StallAfter time.Duration
	// PollStallAfter is the same for a location that lists and does not come to an
	// end. Default 6 minutes: an adapter may take 5 to list, and is told so then;
	// longer than that takes only one that does not listen.
	PollStallAfter time.Duration
	Log            *slog.Logger
}

// RestartPolicy allows Max ends of a handler Within a time.
type RestartPolicy struct {
	// Max is how often the handler may end and be started again on this node.
	Max int
	// Within is the length of the window that is looked at, back from each end. 0
	// means the default policy: one restart in 15 minutes.
	Within time.Duration
}

var defaultRestart = RestartPolicy{Max: 1, Within: 15 * time.Minute}

// Host is a running host.
type Host struct {
	cfg      Config
	runs     []*run
	ctx      context.Context
	cancel   context.CancelFunc
	draining chan struct{}
	once     sync.Once
	failed   sync.Once
	progress *progress
	tasks    sync.WaitGroup
	done     chan struct{} // closed when all tasks have ended
}

// Start starts the host's handlers and returns at once.
func Start(cfg Config) *Host {
	if cfg.Restart.Within <= 0 {
		cfg.Restart = defaultRestart
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &Host{
		cfg: cfg, ctx: ctx, cancel: cancel,
		draining: make(chan struct{}), done: make(chan struct{}),
		progress: newProgress(cmp.Or(cfg.StallAfter, time.Minute), cmp.Or(cfg.PollStallAfter, 6*time.Minute)),
	}
	for _, spec := range cfg.Handlers {
		r := &run{h: h, spec: spec, log: cfg.Log.With("host", cfg.Name, "adapter", spec.Adapter), state: "starting"}
		h.runs = append(h.runs, r)
		h.tasks.Go(r.loop)
	}
	go func() { // ends with the handlers
		defer close(h.done)
		h.tasks.Wait()
	}()
	return h
}

// Stop ends the handlers in order, within ctx, and returns when they are gone.
// What is left at ctx's end is killed, as by Kill. Items under way should have been
// drained from the exchange before.
func (h *Host) Stop(ctx context.Context) error {
	h.once.Do(func() { close(h.draining) })
	select {
	case <-h.done:
	case <-ctx.Done():
	}
	return h.Kill()
}

// Kill ends the handlers at once and returns when they are gone, or in bounded time
// with ErrSurvives: usually two seconds, never much more than ten. It may be called
// during Stop, after it, and more than once: each call looks again.
func (h *Host) Kill() error {
	h.cancel()
	t := time.NewTimer(endWithin)
	defer t.Stop()
	select {
	case <-h.done:
	case <-t.C:
		return fmt.Errorf("host %s: %w: its handlers have not ended %v after they were told to",
			h.cfg.Name, ErrSurvives, endWithin)
	}
	left := make(chan error, len(h.runs))
	for _, r := range h.runs {
		go func() { left <- r.leftover() }()
	}
	var err error
	for range h.runs {
		err = errors.Join(err, <-left)
	}
	if err != nil {
		return fmt.Errorf("host %s: %w", h.cfg.Name, err)
	}
	return nil
}

// fail says that the host has failed here, if that has not been said.
func (h *Host) fail(reason string) (told bool) {
	if h.cfg.Failed == nil {
		return false
	}
	h.failed.Do(func() {
		told = true
		h.cfg.Failed(reason)
	})
	return told
}

// Stalled returns the locations that have made no progress for too long, by name;
// see Config.StallAfter. Locations of a handler that is down are not among them.
func (h *Host) Stalled(now time.Time) []Stall { return h.progress.stalled(now) }

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
