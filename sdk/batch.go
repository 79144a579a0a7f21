package sdk

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// flushAfter and flushItems bound how long, and how many, settles wait for a
	// Flush while the source is busy.
	flushAfter = 2 * time.Second
	flushItems = 64

	// gateWidth is what Flush takes of the gate, and every other method one of.
	gateWidth = 1 << 30
)

// batch calls Flush for a Batcher and tells each settle how it went.
type batch struct {
	src Batcher
	l   *polled
	// gate keeps Flush apart from all other methods.
	gate *semaphore.Weighted
	// kickCh says that something may have changed for the next Flush.
	kickCh chan struct{}

	mu      sync.Mutex
	waiting []chan error
	since   time.Time // of the first that waits
}

// add registers a settle whose method has returned nil. It is called in the gate.
func (b *batch) add() <-chan error {
	ch := make(chan error, 1)
	b.mu.Lock()
	if len(b.waiting) == 0 {
		b.since = time.Now()
	}
	b.waiting = append(b.waiting, ch)
	b.mu.Unlock()
	nudge(b.kickCh)
	return ch
}

// run flushes when nothing else is under way or waiting for the source, and at the
// latest after flushItems settles or flushAfter.
func (b *batch) run() {
	timer := time.NewTimer(flushAfter)
	defer timer.Stop()
	for {
		select {
		case <-b.l.s.ctx.Done():
			return
		case <-b.kickCh:
		case <-timer.C:
		}
		if left := b.due(); left > 0 {
			timer.Reset(left)
			continue
		}
		b.flush()
	}
}

// due returns the time until a Flush is called for: 0 for now.
func (b *batch) due() time.Duration {
	b.l.mu.Lock()
	busy := b.l.active > 0
	b.l.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case len(b.waiting) == 0:
		return flushAfter
	case !busy || len(b.waiting) >= flushItems:
		return 0
	default:
		return max(0, time.Until(b.since.Add(flushAfter)))
	}
}

func (b *batch) flush() {
	if b.gate.Acquire(b.l.s.ctx, gateWidth) != nil {
		return // the session is over, and those who wait know
	}
	defer b.gate.Release(gateWidth)
	b.mu.Lock()
	waiting := b.waiting
	b.waiting = nil
	b.mu.Unlock()
	if len(waiting) == 0 {
		return
	}
	err := b.l.call(b.l.s.ctx, "flush", flushLimit, func(ctx context.Context) error { return b.src.Flush(ctx) })
	for _, ch := range waiting {
		ch <- err
	}
}
