package handler

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/status"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
)

// exitAfterStream is how long a process may live on after the end of its stream.
const exitAfterStream = 2 * time.Second

// watch ends the process before its lease ends, when its main loop does not answer,
// and when it lives on without its stream.
func (h *Handler) watch() {
	ping := time.NewTicker(h.spec.times.pingEvery)
	defer ping.Stop()
	look := time.NewTimer(0)
	defer look.Stop()
	ended, orphan := h.recvDone, (<-chan time.Time)(nil)
	for {
		select {
		case <-h.gone:
			return
		case <-ping.C:
			h.ping.Add(1)
			h.wakeSender()
		case <-look.C:
			if silent := h.silentFor(); silent > h.spec.times.pongWithin {
				h.end(fmt.Errorf("%w: no pong for %v", ErrNotAnswering, silent.Round(time.Millisecond)))
			}
			look.Reset(h.checkLease())
		case <-ended:
			ended = nil
			t := time.NewTimer(exitAfterStream)
			defer t.Stop()
			orphan = t.C
		case <-orphan:
			h.end(fmt.Errorf("killed: its stream ended, but not its process: %s",
				status.Convert(h.streamErr).Message()))
		}
	}
}

// checkLease passes the lease on, or kills the process if it is about to end, and
// returns when to look again.
func (h *Handler) checkLease() time.Duration {
	deadline := h.spec.Lease()
	left := deadline.Sub(bootclock.Now()) - leaseMargin
	if left <= 0 {
		h.end(ErrLeaseEnded)
		return lookEvery
	}
	h.Renew(deadline)
	return min(left, lookEvery)
}

// end kills the process for a reason. The first reason counts, and none after the
// process has ended by itself.
func (h *Handler) end(cause error) {
	h.setCause(cause)
	h.inst.proc.kill()
}

func (h *Handler) setCause(cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.inst.proc.exited:
		return
	default:
	}
	if h.cause == nil {
		h.cause = cause
	}
}

// supervise waits for the end of the process, or for what must have been its end,
// and cleans up after it.
func (h *Handler) supervise() {
	defer close(h.done)
	left := h.inst.proc.awaitEnd(h.spec.KillWithin)
	close(h.gone)
	// What the process had said before its end is still read: an acknowledgement
	// in there saves a message from being in doubt.
	if !closedWithin(h.recvDone, exitAfterStream) {
		h.cancel()
		if !closedWithin(h.recvDone, closeWithin) {
			h.log.Error("Receive does not return although the adapter has exited", "pid", h.PID())
		}
	}
	h.cancel()
	h.loops.Wait()
	if left == nil {
		left = h.inst.close(0)
	} else {
		h.inst.shutDown() // without waiting: it has been waited for
	}

	exit := h.inst.proc.exitError(!h.isReady.Load())
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case left != nil && h.cause != nil:
		h.err = fmt.Errorf("%w (it was killed because: %w)", left, h.cause)
	case left != nil:
		h.err = left
	case h.cause != nil:
		h.err = fmt.Errorf("adapter %s (pid %d): %w", h.spec.Binary.Name, h.PID(), h.cause)
	default:
		h.err = exit
	}
	if left != nil || !errors.Is(h.err, ErrStopped) {
		h.log.Warn("adapter process ended", "pid", h.PID(), "reason", h.err.Error())
	}
}

func closedWithin(ch <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ch:
		return true
	case <-t.C:
		return false
	}
}
