package handler

import (
	"context"
	"errors"
	"fmt"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// hangUpWithin is how long a plugin whose time is over may take to end its stream.
const hangUpWithin = time.Second

// Stop ends the process in order: it takes up nothing new, finishes what is under
// way until ctx ends, closes its endpoints and exits, and is killed if it does not.
// What it says meanwhile still reaches Receive, and what Send has queued still
// reaches it. It returns when the process has been reaped, at most some seconds
// after ctx has ended (up to 4 for a plugin that does not obey, and KillWithin more
// for a process that hangs in the kernel).
//
// The error is nil if the process drained, or had been stopped before; otherwise it
// says that the process was ended with work under way, or how it ended by itself, or
// that something of it is left (ErrSurvives).
// A second Stop waits for the first; if its ctx ends before, it kills. Stop must
// not be called from Receive, which it waits for.
func (h *Handler) Stop(ctx context.Context) error {
	if h.stopping.Swap(true) {
		return h.awaitStop(ctx)
	}
	select {
	case <-h.done:
		return h.left()
	default:
	}
	err := h.drain(ctx)
	if !errors.Is(err, ErrExited) { // else it ends by itself, or watch sees to it
		h.setCause(ErrStopped)
		h.part(ctx)
	}
	<-h.done // bounded: see supervise
	if left := h.left(); left != nil {
		return left
	}
	if own := h.Err(); err != nil && !errors.Is(own, ErrStopped) {
		return own // it ended by itself, or for a reason that came first
	}
	return err
}

// part ends the stream, which makes the adapter close its endpoints, say the last
// things and exit, and sees to it that it does.
func (h *Handler) part(ctx context.Context) {
	close(h.hangUp)
	grace := exitWithin
	select {
	case <-h.recvDone:
	case <-ctx.Done():
		if !closedWithin(h.recvDone, hangUpWithin) {
			grace = hangUpWithin // it does not listen
		}
	}
	select {
	case <-h.gone:
	default:
		h.inst.close(grace)
	}
}

// awaitStop waits for the Stop that came first, or kills when ctx ends.
func (h *Handler) awaitStop(ctx context.Context) error {
	select {
	case <-h.done:
	case <-ctx.Done():
		h.end(ErrStopped)
		<-h.done // bounded: see supervise
	}
	return h.left()
}

// left looks again whether anything is left of a handler that is done.
func (h *Handler) left() error {
	if !errors.Is(h.Err(), ErrSurvives) {
		return nil
	}
	return h.inst.proc.finish(h.spec.KillWithin)
}

// drain asks for and waits for Drained.
func (h *Handler) drain(ctx context.Context) error {
	m := &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Drain{Drain: &adapterpb.Drain{}}}
	if err := h.Send(ctx, m); err != nil {
		return err
	}
	var err error
	select {
	case <-h.drained:
	case <-h.recvDone:
		err = ErrExited
	case <-ctx.Done():
		err = ctx.Err()
	}
	select {
	case <-h.drained: // also if the process ended right after it had said so
		return nil
	default:
		return fmt.Errorf("adapter %s (pid %d) was stopped before it had drained: %w",
			h.spec.Binary.Name, h.PID(), err)
	}
}

// Kill ends the process and all it started at once, whatever state they are in, and
// returns when they are gone, or KillWithin later with a *SurvivesError (ErrSurvives)
// that names a process which is not: it hangs in the kernel, and may still finish one
// last call there. Kill may be called again to look whether it is gone by then. It
// may be called at any time, also during Stop and from Receive.
func (h *Handler) Kill() error {
	h.end(ErrStopped)
	return h.inst.proc.finish(h.spec.KillWithin)
}
