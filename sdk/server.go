package sdk

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
	"github.com/fairlead-io/fairlead/sdk/internal/inproc"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

func init() {
	inproc.NewServer = func(adapter any, o inproc.Options) (adapterpb.AdapterServer, error) {
		a, ok := adapter.(Adapter)
		if !ok {
			return nil, fmt.Errorf("adapter is a %T, want an sdk.Adapter", adapter)
		}
		if err := validate(a); err != nil {
			return nil, err
		}
		return newServer(a, hooks{now: bootclock.Now, exit: o.Exit, log: o.Log}), nil
	}
}

// server answers the runtime. It stands for one process and runs once.
type server struct {
	adapterpb.UnimplementedAdapterServer
	adapter Adapter
	hooks   hooks
	// doneCh is closed when Run has ended, with all its clean-up.
	doneCh chan struct{}

	mu      sync.Mutex
	session *session
}

func newServer(a Adapter, h hooks) *server {
	return &server{adapter: a, hooks: h, doneCh: make(chan struct{})}
}

// Describe says what the adapter is.
func (s *server) Describe(context.Context, *adapterpb.DescribeRequest) (*adapterpb.Description, error) {
	d := &adapterpb.Description{Name: s.adapter.Name, Version: s.adapter.Version, Summary: s.adapter.Summary}
	if s.adapter.Receive != nil {
		k := s.adapter.Receive.receiver()
		schema, err := k.schema()
		if err != nil {
			return nil, status.Errorf(codes.Internal, "receive properties: %v", err)
		}
		d.Receive = &adapterpb.Side{Schema: schema, Exclusive: k.exclusive}
	}
	if s.adapter.Send != nil {
		k := s.adapter.Send.sender()
		schema, err := k.schema()
		if err != nil {
			return nil, status.Errorf(codes.Internal, "send properties: %v", err)
		}
		d.Send = &adapterpb.Side{Schema: schema, Probes: k.probes}
	}
	return d, nil
}

// Check validates an endpoint's properties.
func (s *server) Check(_ context.Context, r *adapterpb.CheckRequest) (*adapterpb.CheckResponse, error) {
	check := func([]byte) error { return errors.New("the adapter has no such side") }
	switch {
	case r.GetReceive() && s.adapter.Receive != nil:
		check = s.adapter.Receive.receiver().check
	case !r.GetReceive() && s.adapter.Send != nil:
		check = s.adapter.Send.sender().check
	}
	return &adapterpb.CheckResponse{Problems: problems(r.GetProperties(), check(r.GetProperties()))}, nil
}

// Run serves the one session of this process.
func (s *server) Run(stream grpc.BidiStreamingServer[adapterpb.ToAdapter, adapterpb.FromAdapter]) error {
	s.mu.Lock()
	if s.session != nil {
		s.mu.Unlock()
		return status.Error(codes.FailedPrecondition, "Run was called before: a process runs once")
	}
	se := newSession(stream.Context(), s.adapter, stream.Send, s.hooks)
	s.session = se
	s.mu.Unlock()
	defer close(s.doneCh)
	if err := se.serve(stream); err != nil {
		return status.Error(codes.Aborted, errorText(err))
	}
	return nil
}

// terminate ends the session in an orderly way, as if the stream had ended after a
// drain. It returns false if there is none.
func (s *server) terminate(limit time.Duration) bool {
	s.mu.Lock()
	se := s.session
	s.mu.Unlock()
	if se == nil {
		return false
	}
	se.drainAndEnd(limit)
	return true
}

// wait returns when a session that was begun has ended, after limit at the latest.
func (s *server) wait(limit time.Duration) {
	s.mu.Lock()
	began := s.session != nil
	s.mu.Unlock()
	if !began {
		return
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-s.doneCh:
	case <-t.C:
	}
}

var (
	validName    = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	validVersion = regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
)

// validate finds the mistakes of an adapter's author.
func validate(a Adapter) error {
	var errs []error
	if !validName.MatchString(a.Name) {
		errs = append(errs, fmt.Errorf("Name %q: want lower case letters, digits and single dashes", a.Name))
	}
	if !validVersion.MatchString(a.Version) {
		errs = append(errs, fmt.Errorf("Version %q: want a semantic version such as 1.2.0", a.Version))
	}
	if strings.TrimSpace(a.Summary) == "" {
		errs = append(errs, errors.New("Summary is empty: want one sentence"))
	}
	if a.Receive == nil && a.Send == nil {
		errs = append(errs, errors.New("neither Receive nor Send is set"))
	}
	if a.Receive != nil {
		if _, err := a.Receive.receiver().schema(); err != nil {
			errs = append(errs, fmt.Errorf("Receive: %w", err))
		}
	}
	if a.Send != nil {
		if _, err := a.Send.sender().schema(); err != nil {
			errs = append(errs, fmt.Errorf("Send: %w", err))
		}
	}
	return errors.Join(errs...)
}
