package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
	"github.com/fairlead-io/fairlead/sdk/wire"
)

// Spec says what Start starts.
type Spec struct {
	// Binary as Scan returned it, without Err.
	Binary Binary
	// Host and Node say for whom; the adapter sees them.
	Host, Node string
	// Cluster and Epoch are the cluster's identity and the ownership's fencing token.
	Cluster string
	Epoch   uint64
	// Endpoints of this handler. Their properties hold resolved secrets: they go
	// over the process's private socket only.
	Endpoints []*adapterpb.Endpoint
	// RuntimeDir is where the private directory of the process's socket is made.
	// Empty, or too long for a socket's path: the system's temporary directory.
	RuntimeDir string
	// Inherit are files that the process gets as descriptors 3 and up, such as the
	// lock of the data directory. They stay open here.
	Inherit []*os.File
	// Log gets the process's log with the adapter's and host's name. Nil discards.
	Log *slog.Logger
	// Lease returns the node's current deadline. It is asked several times a second
	// and must not block. The process is killed shortly before that time, and at
	// once if it has passed. Required.
	Lease func() bootclock.Time
	// Receive is called with everything the adapter says, except Ready, Drained and
	// Pong: from one goroutine, in order, after Ready (so possibly a little before
	// Start returns) and until Done is closed. While it runs nothing more is read from the process, which is
	// the back pressure. It may call Send (see there), Renew and Kill, but not Stop.
	// Required.
	Receive func(*adapterpb.FromAdapter)
	// KillWithin is how long the process may take to be gone when it got SIGKILL,
	// after which it counts as one that cannot be killed (ErrSurvives). 0 means the
	// constant KillWithin, 2 s.
	KillWithin time.Duration
	// Prepared, if set, is used instead of a new process, provided that it is still
	// alive and of the same binary; else it is closed. It is used up either way.
	Prepared *Prepared

	// times and means are for tests; zero fields get the defaults.
	times times
	means means
}

// times are the waits of a handler.
type times struct {
	start, ready, pingEvery, pongWithin time.Duration
}

func (t times) orDefault() times {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&t.start, StartTimeout)
	set(&t.ready, 30*time.Second)
	set(&t.pingEvery, 5*time.Second)
	set(&t.pongWithin, 15*time.Second)
	return t
}

const (
	// leaseMargin is the time before the lease's end at which the process is
	// killed: it must be gone when the lease is.
	leaseMargin = 100 * time.Millisecond
	// lookEvery bounds the time between two looks at the lease, because timers do
	// not count the time a machine is suspended.
	lookEvery = 250 * time.Millisecond
	// contentQueue and controlQueue are the lengths of the two outgoing queues.
	contentQueue = 64
	controlQueue = 8192
)

// Handler is one running adapter process that has said Ready. All methods may be
// called at the same time.
type Handler struct {
	spec   Spec
	log    *slog.Logger
	inst   *instance
	stream adapterpb.Adapter_RunClient
	cancel context.CancelFunc

	// content carries what may be large, control the rest; see Send.
	content, control chan *adapterpb.ToAdapter
	// lease and ping are the newest of their kind, sent ahead of the queues; wake
	// says that there is one.
	lease, ping atomic.Int64
	wake        chan struct{}

	ready    chan *adapterpb.Ready // receives once
	rejected []*adapterpb.EndpointState
	isReady  atomic.Bool
	// receiving is set while Receive runs, heard is when the adapter last answered
	// a ping, plus the time spent in Receive since (nanoseconds since origin).
	receiving atomic.Bool
	heard     atomic.Int64

	hangUp    chan struct{} // closed by Stop: send what is queued, then end the stream
	drained   chan struct{} // closed by the receiver at the first Drained
	recvDone  chan struct{} // closed when the stream has ended
	gone      chan struct{} // closed when the process has been reaped
	done      chan struct{} // closed when everything has been cleaned up
	loops     sync.WaitGroup
	stopping  atomic.Bool
	streamErr error // valid after recvDone

	mu    sync.Mutex
	cause error // why we ended the process, if we did
	err   error // how it ended; set before done is closed
}

// Start launches the process, checks that it is what Scan saw, configures it and
// returns when it is Ready. ctx bounds the start only. The errors say what is wrong
// with the binary or how the process ended; nothing is left behind after one, unless
// it is ErrSurvives. Endpoints that the adapter refuses are no error: see Rejected.
func Start(ctx context.Context, s Spec) (*Handler, error) {
	err := s.prepare()
	if err != nil {
		return nil, errors.Join(err, s.Prepared.Close())
	}
	inst := s.Prepared.take(ctx, s)
	if inst == nil {
		if inst, err = s.launch(ctx); err != nil {
			return nil, err
		}
	}
	h, err := open(inst, s)
	if err != nil {
		return nil, inst.discard(err)
	}
	if err := h.awaitReady(ctx); err != nil {
		h.end(err)
		<-h.done // bounded: see supervise
		return nil, h.startError(err)
	}
	return h, nil
}

// launch starts a process of the binary and checks that it is what was found.
func (s *Spec) launch(ctx context.Context) (*instance, error) {
	b := s.Binary
	inst, err := launch(ctx, launchSpec{
		name: b.Name, path: b.Path, sha256: b.SHA256, base: s.RuntimeDir, inherit: s.Inherit,
		log: s.Log, timeout: s.times.start, kill: s.KillWithin, means: s.means,
	})
	if err != nil {
		return nil, err
	}
	if err := identify(ctx, inst, b); err != nil {
		return nil, inst.discard(err)
	}
	return inst, nil
}

func (s *Spec) prepare() error {
	if s.Lease == nil || s.Receive == nil {
		return errors.New("handler: Lease and Receive are required")
	}
	if err := s.Binary.pin(); err != nil {
		return err
	}
	if s.Lease().Sub(bootclock.Now()) <= leaseMargin {
		return fmt.Errorf("adapter %s: not started: %w", s.Binary.Name, ErrLeaseEnded)
	}
	s.Log = orDiscard(s.Log).With("adapter", s.Binary.Name, "host", s.Host)
	s.times = s.times.orDefault()
	if s.KillWithin <= 0 {
		s.KillWithin = KillWithin
	}
	return nil
}

// identify checks that the process is what was found: a file may say one thing at
// the scan and another now.
func identify(ctx context.Context, inst *instance, b Binary) error {
	d, err := inst.describe(ctx)
	if err != nil {
		return err
	}
	if err := checkDescription(b.Name, b.Path, d); err != nil {
		return err
	}
	if d.GetVersion() != b.Version {
		return fmt.Errorf("adapter %s: %s says it is version %s, but was found as %s: scan again",
			b.Name, b.Path, d.GetVersion(), b.Version)
	}
	return nil
}

// open opens the stream and starts the loops. From here on supervise cleans up.
func open(inst *instance, s Spec) (*Handler, error) {
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := inst.adapter.Run(ctx)
	if err != nil {
		cancel()
		return nil, inst.callError(ctx, "open its stream", err)
	}
	h := &Handler{
		spec: s, log: s.Log, inst: inst, stream: stream, cancel: cancel,
		content:  make(chan *adapterpb.ToAdapter, contentQueue),
		control:  make(chan *adapterpb.ToAdapter, controlQueue),
		wake:     make(chan struct{}, 1),
		ready:    make(chan *adapterpb.Ready, 1),
		hangUp:   make(chan struct{}),
		drained:  make(chan struct{}),
		recvDone: make(chan struct{}),
		gone:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	h.Renew(s.Lease())
	h.loops.Go(h.sendLoop)
	h.loops.Go(h.watch)
	go h.receiveLoop()
	go h.supervise()
	return h, nil
}

func (h *Handler) configuration() *adapterpb.ToAdapter {
	return &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Configure{Configure: &adapterpb.Configure{
		Host: h.spec.Host, Node: h.spec.Node, Cluster: h.spec.Cluster, Epoch: h.spec.Epoch, Endpoints: h.spec.Endpoints,
	}}}
}

// awaitReady waits for the answer to Configure, which the send loop sends first.
func (h *Handler) awaitReady(ctx context.Context) error {
	if n := proto.Size(h.configuration()); n > wire.MaxMessageBytes {
		return fmt.Errorf("adapter %s: configuration of %d bytes is over the limit of %d: spread the endpoints over hosts",
			h.spec.Binary.Name, n, wire.MaxMessageBytes)
	}
	t := time.NewTimer(h.spec.times.ready)
	defer t.Stop()
	select {
	case r := <-h.ready:
		h.rejected = r.GetRejected()
		return nil
	case <-h.done:
		return h.Err()
	case <-ctx.Done():
		return fmt.Errorf("adapter %s: start: %w", h.spec.Binary.Name, ctx.Err())
	case <-t.C:
		return because(ErrStartTimeout, "adapter %s (pid %d) was configured but not ready after %v",
			h.spec.Binary.Name, h.PID(), h.spec.times.ready)
	}
}

// startError prefers how the process ended by itself, and that it did not end, to
// what we saw of that.
func (h *Handler) startError(err error) error {
	end := h.Err()
	var exit *ExitError
	if errors.As(end, &exit) {
		return exit
	}
	if errors.Is(end, ErrSurvives) {
		return end
	}
	return err
}

// Rejected are the endpoints that cannot work as configured, with the reasons. The
// others run.
func (h *Handler) Rejected() []*adapterpb.EndpointState { return h.rejected }

// PID is the process's number, for display. It may have been given to another
// process when Done is closed.
func (h *Handler) PID() int { return h.inst.proc.pid() }

// Done is closed when the process has been reaped, all that it had said has been
// passed to Receive, and nothing of it is left; or, with ErrSurvives, when something
// of it is still there KillWithin after SIGKILL.
func (h *Handler) Done() <-chan struct{} { return h.done }

// Err is nil until Done is closed, and then never: ErrStopped after Stop or Kill,
// ErrLeaseEnded, ErrNotAnswering, or an *ExitError if nobody asked the process to
// end; a *SurvivesError, whatever the reason, if it did not end.
func (h *Handler) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}
