package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-io/fairlead/runtime/exchange"
	"github.com/fairlead-io/fairlead/sdk/bootclock"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// fakeProcess is a handler that runs until it is ended.
type fakeProcess struct {
	pid      int
	rejected []*adapterpb.EndpointState
	stuck    bool // Stop does not return before its context ends
	// unkillable: nothing ends it, as long as this is set.
	unkillable atomic.Bool

	receive func(*adapterpb.FromAdapter)

	mu       sync.Mutex
	renewals []bootclock.Time
	kills    int
	once     sync.Once
	done     chan struct{}
	err      error
}

func newProcess(pid int) *fakeProcess { return &fakeProcess{pid: pid, done: make(chan struct{})} }

func (p *fakeProcess) end(err error) { p.once.Do(func() { p.err = err; close(p.done) }) }

// Send answers every message to send at once.
func (p *fakeProcess) Send(_ context.Context, m *adapterpb.ToAdapter) error {
	go p.receive(&adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Sent{Sent: &adapterpb.Sent{Call: m.GetSend().GetCall()}}})
	return nil
}

func (p *fakeProcess) Done() <-chan struct{}                { return p.done }
func (p *fakeProcess) Rejected() []*adapterpb.EndpointState { return p.rejected }
func (p *fakeProcess) Err() error                           { return p.err }
func (p *fakeProcess) PID() int                             { return p.pid }
func (p *fakeProcess) Renew(d bootclock.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.renewals = append(p.renewals, d)
}

func (p *fakeProcess) Stop(ctx context.Context) error {
	if p.stuck {
		<-ctx.Done()
	}
	if p.unkillable.Load() {
		<-p.done
	}
	p.end(nil)
	return ctx.Err()
}

func (p *fakeProcess) Kill() error {
	p.mu.Lock()
	p.kills++
	p.mu.Unlock()
	if p.unkillable.Load() {
		time.Sleep(2 * time.Second) // of a fake clock
		return fmt.Errorf("process %d in state %q: %w", p.pid, "uninterruptible sleep", ErrSurvives)
	}
	p.end(errors.New("signal: killed"))
	return nil
}

type fakeLease struct {
	mu       sync.Mutex
	deadline bootclock.Time
	extended chan struct{}
}

func (l *fakeLease) Deadline() bootclock.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deadline
}

func (l *fakeLease) Extended() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.extended
}

func (l *fakeLease) extend(d bootclock.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadline = d
	close(l.extended)
	l.extended = make(chan struct{})
}

// launcher starts fake processes, and fails where it is told to.
type launcher struct {
	mu      sync.Mutex
	started []*fakeProcess
	at      []time.Time
	fail    func(n int) error
	prepare func(*fakeProcess)
}

func (l *launcher) launch(_ context.Context, receive func(*adapterpb.FromAdapter)) (Process, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = append(l.at, time.Now())
	if l.fail != nil {
		if err := l.fail(len(l.at)); err != nil {
			return nil, err
		}
	}
	p := newProcess(1000 + len(l.at))
	p.receive = receive
	if l.prepare != nil {
		l.prepare(p)
	}
	l.started = append(l.started, p)
	return p, nil
}

func (l *launcher) times() []time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.at)
}

func (l *launcher) last() *fakeProcess {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.started[len(l.started)-1]
}

func start(l *launcher) (*Host, *fakeLease, *exchange.Ports) {
	lease := &fakeLease{deadline: 1, extended: make(chan struct{})}
	ports := exchange.NewPorts()
	h := Start(Config{
		Name: "h", Ports: ports, Lease: lease, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Handlers: []Handler{{Adapter: "fake", Ports: []Port{{Name: "out", Limits: exchange.PortLimits{MaxInFlight: 1}}}, Launch: l.launch}},
	})
	return h, lease, ports
}

func TestAHandlerThatEndsIsStartedAgainWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &launcher{fail: func(n int) error {
			if n <= 6 {
				return errors.New("adapter ftp: no fairlead-adapter-ftp in /nowhere")
			}
			return nil
		}}
		h, _, _ := start(l)
		defer h.Kill()
		time.Sleep(100 * time.Millisecond)
		if s := h.States()[0]; s.State != "failed" || s.Error == "" {
			t.Errorf("state %+v, want failed with the reason", s)
		}
		time.Sleep(time.Minute)
		at := l.times()
		for i := 2; i < len(at); i++ {
			if before, now := at[i-1].Sub(at[i-2]), at[i].Sub(at[i-1]); now < before {
				t.Errorf("pause %d is %v, shorter than the one before (%v)", i, now, before)
			}
		}
		s := h.States()[0]
		if s.State != "running" || s.Error != "" || s.PID == 0 || s.Restarts != 6 {
			t.Errorf("state %+v, want running after 6 restarts", s)
		}
		l.last().end(errors.New("exit status 2"))
		time.Sleep(longestBackoff)
		if s := h.States()[0]; s.Restarts != 7 || s.State != "running" {
			t.Errorf("state %+v, want running after 7 restarts", s)
		}
	})
}

func TestEveryRenewalReachesTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &launcher{}
		h, lease, _ := start(l)
		defer h.Kill()
		synctest.Wait()
		for _, d := range []bootclock.Time{10, 20, 30} {
			lease.extend(d)
			synctest.Wait()
		}
		p := l.last()
		p.mu.Lock()
		defer p.mu.Unlock()
		if n := len(p.renewals); n < 4 || p.renewals[n-1] != 30 {
			t.Errorf("renewals %v, want 1 10 20 30", p.renewals)
		}
	})
}

func TestAHandlerThatDoesNotStopIsKilledWhenTheTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &launcher{prepare: func(p *fakeProcess) { p.stuck = true }}
		h, _, _ := start(l)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		h.Stop(ctx)
		h.Stop(ctx) // twice is no harm
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("stop took %v", took)
		}
		if l.last().kills == 0 {
			t.Error("the stuck process was not killed")
		}
		if s := h.States()[0]; s.State != "stopped" {
			t.Errorf("state %+v", s)
		}
	})
}

func TestThePortsOfAnEndedHandlerAreNotOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &launcher{prepare: func(p *fakeProcess) {
			p.rejected = []*adapterpb.EndpointState{{
				Endpoint: "out", State: adapterpb.EndpointState_REJECTED, Error: &adapterpb.Error{Text: "no such directory"},
			}}
		}}
		h, _, ports := start(l)
		synctest.Wait()
		if state, why, runs := ports.State("out"); state != "stopped" || why != "no such directory" || !runs {
			t.Errorf("rejected port: %q because %q, runs %v", state, why, runs)
		}
		h.Kill()
		if _, _, runs := ports.State("out"); runs {
			t.Error("the port is still offered after its handler was killed")
		}
	})
}

// Once, half of what a handler said was dropped as soon as it had run for longer
// than its launch might have taken.
func TestNothingThatALongRunningHandlerSaysIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, ports := start(&launcher{})
		defer h.Kill()
		time.Sleep(2 * launchTimeout)
		for i := range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := ports.Send(ctx, "out", &exchange.Message{Id: fmt.Sprint(i)})
			cancel()
			if err != nil {
				t.Fatalf("send %d: %v", i, err)
			}
		}
	})
}
