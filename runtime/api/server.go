package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"
)

const (
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	// requestTimeout bounds a request from its header to the last byte of the
	// answer; moves and deployments wait for the cluster and get longer.
	requestTimeout = 30 * time.Second
	changeTimeout  = 3 * time.Minute
	readyTimeout   = 2 * time.Second
	// maxStreams bounds the event streams of one node: each holds a goroutine of
	// the backend.
	maxStreams = 64
)

// Options refine a Server. The zero value is usable.
type Options struct {
	// Version is what GET /v1/version says, besides what the build knows.
	Version string
	// Commit is the source revision.
	Commit string
	// Log gets requests that change something (info, or warn if the node could not),
	// errors that are not shown to the caller (error) and all other requests (debug).
	// Default: slog.Default.
	Log *slog.Logger
	// RemoteChanges allows requests that change something from other machines. The
	// API knows no accounts, so this is for networks whose every user may do
	// everything, or behind a proxy that decides.
	RemoteChanges bool
	// Heartbeat is the time between two signs of life on an event stream without
	// events. Default 15 s; clients give up after three of them are missing.
	Heartbeat time.Duration
	// Metrics answers GET /metrics, from anywhere as all reading. Nil: there is no
	// such path.
	Metrics http.Handler
}

// Server serves a Backend over HTTP. Make it with NewServer.
//
// Its methods may be called from several goroutines.
type Server struct {
	backend Backend
	opts    Options
	log     *slog.Logger
	handler http.Handler
	http    *http.Server

	// streams is the lifetime of event streams: they do not end by themselves.
	streams     context.Context
	endStreams  context.CancelFunc
	streamSlots chan struct{}

	serving sync.WaitGroup

	mu      sync.Mutex
	stopped chan struct{} // closed when a Stop is complete; nil before the first
	addr    net.Addr
}

// NewServer returns a server that is not listening yet.
func NewServer(b Backend, o Options) *Server {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = heartbeat
	}
	s := &Server{
		backend:     b,
		opts:        o,
		log:         o.Log.With("component", "api"),
		streamSlots: make(chan struct{}, maxStreams),
	}
	s.streams, s.endStreams = context.WithCancel(context.Background())
	s.handler = s.routes()
	s.http = &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	return s
}

// Handler returns what the server serves, for embedding into another one.
func (s *Server) Handler() http.Handler { return s.handler }

// Start listens on the unix socket and on the TCP address, either of which may be
// empty, and serves them in the background until Stop. The socket gets mode 0660;
// a socket file that a dead process left is replaced, one that answers is an
// error. On error nothing is left listening.
func (s *Server) Start(socket, address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped != nil {
		return errors.New("api: start after stop")
	}
	var listeners []net.Listener
	undo := func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}
	if socket != "" {
		l, err := listenUnix(socket)
		if err != nil {
			return fmt.Errorf("api: %w", err)
		}
		listeners = append(listeners, l)
	}
	if address != "" {
		l, err := net.Listen("tcp", address)
		if err != nil {
			undo()
			return fmt.Errorf("api: listen on %s: %w; is listen.http of another node the same?", address, err)
		}
		s.addr = l.Addr()
		listeners = append(listeners, l)
	}
	for _, l := range listeners {
		s.serving.Go(func() { s.serve(l) })
	}
	return nil
}

func (s *Server) serve(l net.Listener) {
	err := s.http.Serve(l)
	if !errors.Is(err, http.ErrServerClosed) {
		s.log.Error("api stopped serving", "address", l.Addr().String(), "error", err)
	}
}

// Addr returns the TCP address that is listened on, nil without one. With port 0
// it tells the port.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Stop ends event streams, waits until ctx ends for requests under way, then
// breaks what is left off. When it returns nothing is listening and the socket
// file is gone. It may be called twice and on a server that was never started;
// the error is ctx's if requests had to be broken off.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	if done := s.stopped; done != nil {
		s.mu.Unlock()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.stopped = make(chan struct{})
	s.mu.Unlock()

	defer close(s.stopped)
	s.endStreams()
	err := s.http.Shutdown(ctx)
	if err != nil {
		_ = s.http.Close()
	}
	s.serving.Wait()
	return err
}

// version says what this build is.
func (s *Server) version() Version {
	return Version{
		Version:  s.opts.Version,
		Commit:   s.opts.Commit,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}
