package handler

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
	"github.com/fairlead-io/fairlead/sdk/wire"
)

// Send queues m for the adapter; m must not be changed any more. It returns before
// the adapter has it: answers, or the end of the process, tell what became of it.
// It waits while the queue is full, until ctx ends, and fails with ErrExited when
// the process is gone.
//
// There are two queues. Send, Probe and Drain share a short one and keep their
// order. Poll, Pause, Recall, Take and Settle, the usual answers to what Receive gets,
// have one of their own for 8,192 messages: with no more items in flight than that they never
// wait, so that Receive may send them with any context. From Receive, the others
// need a context with a deadline, because an adapter that waits until it is read
// does not read. Lease, Ping and Configure are the handler's own.
func (h *Handler) Send(ctx context.Context, m *adapterpb.ToAdapter) error {
	queue := h.content
	switch m.GetKind().(type) {
	case *adapterpb.ToAdapter_Send, *adapterpb.ToAdapter_Probe:
		if n := proto.Size(m); n > wire.MaxMessageBytes {
			return fmt.Errorf("adapter %s: message of %d bytes is over the limit of %d: spool its content",
				h.spec.Binary.Name, n, wire.MaxMessageBytes)
		}
	case *adapterpb.ToAdapter_Drain:
	case *adapterpb.ToAdapter_Poll, *adapterpb.ToAdapter_Pause, *adapterpb.ToAdapter_Recall,
		*adapterpb.ToAdapter_Take, *adapterpb.ToAdapter_Settle:
		queue = h.control
	default:
		return fmt.Errorf("adapter %s: %T is not for callers to send", h.spec.Binary.Name, m.GetKind())
	}
	select {
	case <-h.gone: // first: the queue may have room for ever
		return h.exited()
	default:
	}
	select {
	case queue <- m:
		return nil
	case <-h.gone:
		return h.exited()
	case <-ctx.Done():
		return fmt.Errorf("adapter %s: its queue is full: %w", h.spec.Binary.Name, ctx.Err())
	}
}

func (h *Handler) exited() error {
	return fmt.Errorf("adapter %s: %w", h.spec.Binary.Name, ErrExited)
}

// Renew tells the adapter the lease's new deadline, ahead of everything queued. It
// never blocks: of several deadlines the adapter gets the last. A deadline that is
// not later than one before is ignored.
func (h *Handler) Renew(deadline bootclock.Time) {
	for {
		old := h.lease.Load()
		if int64(deadline) <= old {
			return
		}
		if h.lease.CompareAndSwap(old, int64(deadline)) {
			h.wakeSender()
			return
		}
	}
}

func (h *Handler) wakeSender() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// sendLoop is the only one that sends on the stream.
func (h *Handler) sendLoop() {
	var sent urgent
	for next := h.configuration(); next != nil; next = h.next(&sent) {
		if h.stream.Send(next) != nil {
			return // the receive loop learns why
		}
	}
	_ = h.stream.CloseSend() // never fails; the adapter ends its side in answer
}

// urgent is what has been sent of lease and ping.
type urgent struct{ lease, ping int64 }

// next waits for something to send. It returns nil at the end of the process, of
// the adapter's side of the stream, and after hangUp when nothing is queued.
func (h *Handler) next(sent *urgent) *adapterpb.ToAdapter {
	hangUp := h.hangUp
	for {
		if lease := h.lease.Load(); lease != sent.lease {
			sent.lease = lease
			return leaseMessage(lease)
		}
		if ping := h.ping.Load(); ping != sent.ping {
			sent.ping = ping
			return pingMessage(ping)
		}
		select {
		case <-h.wake:
		case m := <-h.control:
			return m
		case m := <-h.content:
			return m
		case <-h.gone:
			return nil
		case <-h.recvDone:
			return nil
		case <-hangUp:
			if len(h.control) == 0 && len(h.content) == 0 {
				return nil
			}
			hangUp = nil // the queues are not empty: this cannot block for good
		}
	}
}

func leaseMessage(deadline int64) *adapterpb.ToAdapter {
	return &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Lease{Lease: &adapterpb.Lease{DeadlineNs: deadline}}}
}

func pingMessage(number int64) *adapterpb.ToAdapter {
	return &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Ping{Ping: &adapterpb.Ping{Number: uint64(number)}}}
}

// earlyMessages bounds what an adapter may say before it is Ready.
const earlyMessages = 4096

// receiveLoop reads the stream to its end and keeps to itself what is the
// handler's own.
func (h *Handler) receiveLoop() {
	defer close(h.recvDone)
	var early []*adapterpb.FromAdapter
	isDrained := false
	for {
		m, err := h.stream.Recv()
		if err != nil {
			h.streamErr = err
			return
		}
		switch k := m.GetKind().(type) {
		case *adapterpb.FromAdapter_Pong:
			h.hear()
		case *adapterpb.FromAdapter_Ready:
			if h.isReady.Load() {
				continue
			}
			h.hear() // pings count from here
			h.isReady.Store(true)
			h.ready <- k.Ready
			h.pass(early...)
			early = nil
		case *adapterpb.FromAdapter_Drained:
			if !isDrained {
				isDrained = true
				close(h.drained)
			}
		case nil:
			h.log.Debug("adapter sent a message of an unknown kind")
		default:
			if h.isReady.Load() {
				h.pass(m)
				continue
			}
			// Receive may wait for Start to return, which waits for Ready.
			if early = append(early, m); len(early) > earlyMessages {
				h.end(fmt.Errorf("sent more than %d messages before Ready", earlyMessages))
				return
			}
		}
	}
}

func (h *Handler) pass(all ...*adapterpb.FromAdapter) {
	h.receiving.Store(true)
	began := time.Now()
	for _, m := range all {
		h.spec.Receive(m)
	}
	// A Pong may have waited behind: the time counts as ours, not as its silence.
	// Other messages are no answer: they come from elsewhere than the main loop.
	h.heard.Add(int64(time.Since(began)))
	h.receiving.Store(false)
}

// origin is what monotonic times are counted from.
var origin = time.Now()

func (h *Handler) hear() { h.heard.Store(int64(time.Since(origin))) }

// silentFor is how long the adapter has not answered although it could have been
// heard.
func (h *Handler) silentFor() time.Duration {
	if h.receiving.Load() || !h.isReady.Load() {
		return 0
	}
	return time.Since(origin) - time.Duration(h.heard.Load())
}
