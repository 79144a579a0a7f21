package sdk

import (
	"context"
	"errors"
	"sync"
)

// errPaused gives back what a paused location had not begun with.
var errPaused = Disconnected(errors.New("the location is paused"))

// pausing says whether a location is paused: whether it looks for nothing by itself.
type pausing struct {
	mu sync.Mutex
	on bool
	// changedCh is closed, and replaced, whenever on changes, beginCh when it becomes
	// true.
	changedCh, beginCh chan struct{}
}

func newPausing(on bool) *pausing {
	return &pausing{on: on, changedCh: make(chan struct{}), beginCh: make(chan struct{})}
}

// set reports whether that is a change.
func (p *pausing) set(on bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.on == on {
		return false
	}
	p.on = on
	close(p.changedCh)
	p.changedCh = make(chan struct{})
	if on {
		close(p.beginCh)
		p.beginCh = make(chan struct{})
	}
	return true
}

// now returns how it is, and what is closed when that changes.
func (p *pausing) now() (on bool, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.on, p.changedCh
}

func (p *pausing) isOn() bool {
	on, _ := p.now()
	return on
}

// untilNext is a context that ends with errPaused when a pause begins from now on,
// or with ctx. It says whether one is on already.
func (p *pausing) untilNext(ctx context.Context) (until context.Context, on bool, stop context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	p.mu.Lock()
	on, begin := p.on, p.beginCh
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-begin:
			cancel(errPaused)
		case <-ctx.Done():
		}
	})
	return ctx, on, func() {
		cancel(nil)
		wg.Wait()
	}
}
