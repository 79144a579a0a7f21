package sdk

import (
	"context"
	"fmt"
	"sync"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// outboxSize is how many messages may wait for the stream. Who has more to say
// waits, so that a runtime that does not read stops the adapter and not its memory.
const outboxSize = 256

// lingerTime bounds how long messages are still sent after the session's end.
const lingerTime = 2 * time.Second

// outbox is the only sender of the stream.
type outbox struct {
	send func(*adapterpb.FromAdapter) error
	ch   chan *adapterpb.FromAdapter

	// The main loop must not wait, so what it says goes past the queue. That is one
	// Ready, one Drained, and the newest Pong.
	mu     sync.Mutex
	urgent []*adapterpb.FromAdapter
	pong   *adapterpb.FromAdapter
	wakeCh chan struct{}

	// stopCh is closed by stop, doneCh by run.
	stopCh, doneCh chan struct{}
	stopOnce       sync.Once
	err            error // why run ended, set before doneCh is closed
}

func newOutbox(send func(*adapterpb.FromAdapter) error) *outbox {
	return &outbox{
		send:   send,
		ch:     make(chan *adapterpb.FromAdapter, outboxSize),
		wakeCh: make(chan struct{}, 1),
		stopCh: make(chan struct{}),
		doneCh: make(chan struct{}),
	}
}

// put queues a message. It waits while the queue is full.
func (o *outbox) put(ctx context.Context, m *adapterpb.FromAdapter) error {
	select {
	case o.ch <- m:
		return nil
	default:
	}
	select {
	case o.ch <- m:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-o.doneCh:
		return fmt.Errorf("stream to the runtime: %w", o.err)
	}
}

// putUrgent sends a message before all that wait. It never waits.
func (o *outbox) putUrgent(m *adapterpb.FromAdapter) {
	o.mu.Lock()
	if m.GetPong() != nil {
		o.pong = m
	} else {
		o.urgent = append(o.urgent, m)
	}
	o.mu.Unlock()
	select {
	case o.wakeCh <- struct{}{}:
	default:
	}
}

func (o *outbox) takeUrgent() []*adapterpb.FromAdapter {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := o.urgent
	if o.pong != nil {
		all = append(all, o.pong)
	}
	o.urgent, o.pong = nil, nil
	return all
}

// run sends until stop, then what is still queued, or until sending fails.
func (o *outbox) run() {
	defer close(o.doneCh)
	for {
		var m *adapterpb.FromAdapter
		select {
		case m = <-o.ch:
		case <-o.wakeCh:
		case <-o.stopCh:
			o.flush()
			return
		}
		if !o.sendAll(m) {
			return
		}
	}
}

func (o *outbox) sendAll(m *adapterpb.FromAdapter) bool {
	for _, u := range o.takeUrgent() {
		if o.err = o.send(u); o.err != nil {
			return false
		}
	}
	if m != nil {
		o.err = o.send(m)
	}
	return o.err == nil
}

func (o *outbox) flush() {
	for {
		select {
		case m := <-o.ch:
			if !o.sendAll(m) {
				return
			}
		default:
			o.sendAll(nil)
			return
		}
	}
}

// stop sends what is queued and waits for the end, for lingerTime at most: a peer
// that does not read must not hold up the exit.
func (o *outbox) stop() {
	o.stopOnce.Do(func() { close(o.stopCh) })
	t := time.NewTimer(lingerTime)
	defer t.Stop()
	select {
	case <-o.doneCh:
	case <-t.C:
	}
}
