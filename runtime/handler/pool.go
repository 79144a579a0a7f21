package handler

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"
)

// PoolConfig is what a Pool needs. The fields that are also a Spec's mean the same.
type PoolConfig struct {
	RuntimeDir string
	Inherit    []*os.File
	Log        *slog.Logger
	KillWithin time.Duration
	// Most bounds the processes of the pool, whatever is wanted. Default 8.
	Most int

	// prepare and refillAfter are for tests.
	prepare     func(context.Context, PrepareSpec) (*Prepared, error)
	refillAfter time.Duration
}

// Wanted is how many prepared processes of a binary are to be kept.
type Wanted struct {
	Binary Binary
	Count  int
}

const (
	// refillAfter is how long a pool waits after a Take before it launches anything:
	// the host that took the process is being taken over in that time, and launching
	// costs a processor 50 ms and more.
	refillAfter = 2 * time.Second
	// A binary that cannot be prepared is tried again after firstRetry, then twice as
	// long up to longestRetry.
	firstRetry   = time.Second
	longestRetry = 5 * time.Minute
)

// Pool keeps prepared processes for the adapters that this node may have to start
// soon, and replaces those that were used or have died. One goroutine of its own
// launches one process at a time. A process that waits has 18 MB resident, 3.5 MB of
// which are its own and the rest is its binary's file, which all of its processes
// share; it takes no processor time. All methods may be called at the same time.
type Pool struct {
	cfg    PoolConfig
	cancel context.CancelFunc
	wake   chan struct{}
	done   chan struct{}

	mu     sync.Mutex
	wanted []Wanted
	// idle holds those that wait, the oldest first.
	idle   []*Prepared
	rest   time.Time // nothing is launched before
	failed map[string]trouble
}

// trouble is a binary that could not be prepared.
type trouble struct {
	again time.Time
	pause time.Duration
}

// NewPool starts an empty pool. Close ends it.
func NewPool(cfg PoolConfig) *Pool {
	cfg.Log = orDiscard(cfg.Log)
	if cfg.Most <= 0 {
		cfg.Most = 8
	}
	if cfg.prepare == nil {
		cfg.prepare = Prepare
	}
	if cfg.refillAfter == 0 {
		cfg.refillAfter = refillAfter
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Pool{
		cfg: cfg, cancel: cancel, wake: make(chan struct{}, 1), done: make(chan struct{}),
		failed: map[string]trouble{},
	}
	go p.run(ctx)
	return p
}

// Set says which processes to keep from now on, the most important first: they come
// first where Most is not enough. It returns at once; surplus processes are ended and
// missing ones launched in the background.
func (p *Pool) Set(wanted []Wanted) {
	p.mu.Lock()
	p.wanted = append([]Wanted(nil), wanted...)
	p.mu.Unlock()
	p.kick()
}

// Take returns a prepared process of the binary for a Spec, or nil if there is none:
// Start takes either. It never waits. The process is the caller's.
func (p *Pool) Take(b Binary) *Prepared {
	if b.pin() != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, q := range p.idle {
		if q.binary.key() == b.key() && !q.ended() {
			p.idle = append(p.idle[:i:i], p.idle[i+1:]...)
			p.rest = time.Now().Add(p.cfg.refillAfter)
			delete(p.failed, b.key())
			p.kick()
			return q
		}
	}
	return nil
}

// Len is how many prepared processes wait.
func (p *Pool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
}

// Close ends the processes that wait and returns when they are gone, or KillWithin
// later. Take gives nothing from here on.
func (p *Pool) Close() {
	p.mu.Lock()
	p.wanted = nil
	p.mu.Unlock()
	p.cancel()
	<-p.done
}

func (p *Pool) kick() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run keeps the processes at what is wanted.
func (p *Pool) run(ctx context.Context) {
	defer close(p.done)
	defer p.closeAll()
	for ctx.Err() == nil {
		closeEach(p.surplus())
		next, wait := p.missing()
		if wait == 0 {
			p.launch(ctx, next)
			continue
		}
		p.await(ctx, wait)
	}
}

// await returns when there may be something to do: after wait at the latest, unless
// that is negative.
func (p *Pool) await(ctx context.Context, wait time.Duration) {
	var timer <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		timer = t.C
	}
	ended, stop := p.anyEnd()
	defer stop()
	select {
	case <-ctx.Done():
	case <-p.wake:
	case <-timer:
	case <-ended:
	}
}

// anyEnd returns a channel that gets a value when one of those that wait ends. stop
// ends the watching and waits for its end.
func (p *Pool) anyEnd() (ended <-chan struct{}, stop func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ch, over := make(chan struct{}, len(p.idle)), make(chan struct{})
	var watchers sync.WaitGroup
	for _, q := range p.idle {
		watchers.Go(func() {
			select {
			case <-q.Done():
				ch <- struct{}{}
			case <-over:
			}
		})
	}
	return ch, func() { close(over); watchers.Wait() }
}

// surplus takes those out of the pool that have ended or are wanted no more.
func (p *Pool) surplus() []*Prepared {
	p.mu.Lock()
	defer p.mu.Unlock()
	room := p.counts()
	var keep, drop []*Prepared
	for _, q := range p.idle {
		key := q.binary.key()
		switch {
		case q.ended():
			p.cfg.Log.Warn("prepared process ended by itself", "adapter", q.binary.Name, "pid", q.PID())
			p.noteFailureLocked(key)
			drop = append(drop, q)
		case room[key] == 0:
			drop = append(drop, q)
		default:
			room[key]--
			keep = append(keep, q)
		}
	}
	p.idle = keep
	return drop
}

// counts is how many of each binary there should be, within Most.
func (p *Pool) counts() map[string]int {
	counts, left := map[string]int{}, p.cfg.Most
	for _, w := range p.wanted {
		if b := w.Binary; b.pin() == nil {
			n := min(max(w.Count, 0), left)
			counts[b.key()] += n
			left -= n
		}
	}
	return counts
}

// missing returns what to launch next, and how long to wait before looking again: 0
// to launch, negative if there is nothing to do.
func (p *Pool) missing() (next Binary, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	room, now := p.counts(), time.Now()
	for _, q := range p.idle {
		room[q.binary.key()]--
	}
	wait = -1
	for _, w := range p.wanted {
		b := w.Binary
		if b.pin() != nil || room[b.key()] <= 0 {
			continue
		}
		due := p.rest
		if t := p.failed[b.key()].again; t.After(due) {
			due = t
		}
		left := due.Sub(now)
		if left <= 0 {
			return b, 0
		}
		if wait < 0 || left < wait {
			wait = left
		}
	}
	return Binary{}, wait
}

func (p *Pool) launch(ctx context.Context, b Binary) {
	q, err := p.cfg.prepare(ctx, PrepareSpec{
		Binary: b, RuntimeDir: p.cfg.RuntimeDir, Inherit: p.cfg.Inherit,
		Log: p.cfg.Log, KillWithin: p.cfg.KillWithin,
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.idle = append(p.idle, q)
		return // what is known of its failures stays: it may end by itself
	}
	p.noteFailureLocked(b.key())
	if ctx.Err() == nil {
		p.cfg.Log.Warn("cannot prepare a process", "adapter", b.Name, "error", err,
			"again_in", p.failed[b.key()].pause)
	}
}

func (p *Pool) noteFailureLocked(key string) {
	t := p.failed[key]
	t.pause = min(max(2*t.pause, firstRetry), longestRetry)
	t.again = time.Now().Add(t.pause)
	p.failed[key] = t
}

func (p *Pool) closeAll() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	closeEach(idle)
}

// closeEach closes all at the same time.
func closeEach(all []*Prepared) {
	var closing sync.WaitGroup
	for _, q := range all {
		closing.Go(func() { _ = q.Close() }) // bounded, and logged there
	}
	closing.Wait()
}
