package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/runtime/handler"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

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
	// left kills the process that outlived its SIGKILL once more, and returns nil if
	// it is gone by now. Nil if there is none.
	left func() error
}

// loop runs one process after the other until the host stops.
func (r *run) loop() {
	defer r.set("stopped", nil, 0)
	limits := thresholds{policy: r.h.cfg.Restart}
	for failures := 0; ; failures++ {
		began := time.Now()
		err := r.live()
		if r.stopping() {
			return
		}
		now := time.Now()
		if now.Sub(began) >= steadyAfter {
			failures = 0
		}
		wait := backoff(failures)
		r.set("failed", err, 0)
		ends := 0
		if !errors.Is(err, handler.ErrLeaseEnded) { // which is the node's failure, not its own
			ends = limits.ended(now)
		}
		if reason := r.failure(ends, err); reason != "" && r.h.fail(reason) {
			wait = max(wait, releaseWithin)
		}
		r.log.Error("handler ended; it is started again", "error", err, "again_in", wait)
		if !r.rest(wait) || !r.awaitSurvivor() {
			return
		}
		r.mu.Lock()
		r.restarts++
		r.mu.Unlock()
	}
}

// failure says why the host has failed here, or nothing if it has not. ends is how
// often the handler has ended in the policy's window, err how at last.
func (r *run) failure(ends int, err error) string {
	p := r.h.cfg.Restart
	switch {
	case errors.Is(err, ErrSurvives):
		return fmt.Sprintf("handler %s: %v", r.spec.Adapter, err)
	case ends > p.Max:
		times := fmt.Sprintf("%d times", ends)
		if ends == 1 {
			times = "once"
		}
		return fmt.Sprintf("handler %s ended %s within %v, where %d is allowed; at last: %v",
			r.spec.Adapter, times, p.Within, p.Max, err)
	}
	return ""
}

// rest waits. It returns false when the host is to end.
func (r *run) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-r.h.ctx.Done():
	case <-r.h.draining:
	case <-t.C:
	}
	return !r.stopping()
}

// awaitSurvivor waits for the end of a process that could not be killed: none is
// started beside it. It returns false when the host is to end.
func (r *run) awaitSurvivor() bool {
	for r.leftover() != nil {
		if !r.rest(longestBackoff) {
			return false
		}
	}
	return !r.stopping()
}

func (r *run) stopping() bool {
	select {
	case <-r.h.draining:
		return true
	case <-r.h.ctx.Done():
		return true
	default:
		return false
	}
}

// keep remembers a process that could not be killed, if err says so.
func (r *run) keep(err error, again func() error) {
	if errors.Is(err, ErrSurvives) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.left, r.err = again, err.Error()
	}
}

// leftover looks again whether a process is left that could not be killed.
func (r *run) leftover() error {
	r.mu.Lock()
	again := r.left
	r.mu.Unlock()
	if again == nil {
		return nil
	}
	if err := again(); errors.Is(err, ErrSurvives) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left = nil
	return nil
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
		if s := (*handler.SurvivesError)(nil); errors.As(err, &s) {
			r.keep(err, s.Again)
		}
		return err
	}
	r.attach(p)
	close(attached)
	defer r.h.cfg.Ports.Detach(p)
	defer r.h.progress.forget(r.spec.Locations)
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
			// Also takes what it may have left behind.
			if err := r.kill(p); err != nil {
				return err
			}
			return p.Err()
		case <-r.h.ctx.Done():
			return r.kill(p)
		case <-r.h.draining:
			return r.stop(p)
		}
	}
}

func (r *run) kill(p Process) error {
	err := p.Kill()
	r.keep(err, p.Kill)
	return err
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
			r.keep(err, p.Kill)
			return err
		case <-extended:
		case <-r.h.ctx.Done():
			if err := r.kill(p); err != nil {
				return err // and Stop may not return either
			}
			return <-stopped
		}
	}
}

func (r *run) attach(p Process) {
	if r.h.cfg.Exchange != nil {
		r.h.cfg.Exchange.Attach(p, r.spec.Locations)
	}
	for _, port := range r.spec.Ports {
		r.h.cfg.Ports.Attach(p, port.Name, port.Limits)
	}
	for _, s := range p.Rejected() {
		r.log.Error("endpoint rejected by its adapter", "endpoint", s.GetEndpoint(), "error", s.GetError().GetText())
		r.receive(p, &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_EndpointState{EndpointState: s}})
	}
}

func (r *run) receive(p Process, m *adapterpb.FromAdapter) {
	r.h.progress.note(m, time.Now())
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
	state := r.state
	if r.left != nil {
		state = "failed"
	}
	return HandlerState{Adapter: r.spec.Adapter, State: state, Error: r.err, PID: r.pid, Restarts: r.restarts}
}
