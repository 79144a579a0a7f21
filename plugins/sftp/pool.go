package main

import (
	"context"
	"sync"
	"time"
)

// idleMax is how long an unused connection is kept: less than the idle time-outs of
// servers, so that it is us who close it.
const idleMax = 60 * time.Second

// idleTrusted is how long an unused connection is taken to be alive without asking.
const idleTrusted = 5 * time.Second

// pool keeps at most so many connections as the endpoint may have. A session that it
// hands out belongs to one operation until it is given back.
type pool struct {
	end   *endpoint
	slots chan struct{}

	mu     sync.Mutex
	idle   []*session // oldest first
	closed bool
	reaper *time.Timer
}

func newPool(props connection) (*pool, error) {
	end, err := newEndpoint(props)
	if err != nil {
		return nil, err
	}
	return &pool{end: end, slots: make(chan struct{}, props.Connections)}, nil
}

// acquire waits for a slot and returns a session that was alive a moment ago; release
// must be called with it. Errors of connecting are [sdk.Disconnected].
func (p *pool) acquire(ctx context.Context) (*session, error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	s, err := p.take(ctx)
	if err != nil {
		<-p.slots
		return nil, err
	}
	return s, nil
}

func (p *pool) take(ctx context.Context) (*session, error) {
	for {
		s := p.pop()
		if s == nil {
			return p.end.connect(ctx)
		}
		if p.old(s) {
			s.kill()
			continue
		}
		if time.Since(s.idle) <= idleTrusted {
			return s, nil
		}
		err := s.run(ctx, func() error { _, err := s.RealPath("."); return err })
		if err == nil {
			return s, nil
		}
		s.kill()
		if ctx.Err() != nil {
			return nil, err
		}
	}
}

func (p *pool) old(s *session) bool {
	most := p.end.props.MaxConnectionAge.D()
	return s.isDead() || time.Since(s.idle) > idleMax || most > 0 && time.Since(s.made) > most
}

func (p *pool) pop() *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	s := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	return s
}

// release gives a session back; a dead one only makes room.
func (p *pool) release(s *session) {
	defer func() { <-p.slots }()
	s.idle, s.used = time.Now(), true
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.old(s) {
		s.kill()
		return
	}
	p.idle = append(p.idle, s)
	if p.reaper == nil {
		p.reaper = time.AfterFunc(idleMax, p.reap)
	}
}

// reap closes what lies idle for too long, so that connections do not stay open until
// the next poll, which may be hours away.
func (p *pool) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 && p.old(p.idle[0]) {
		p.idle[0].kill()
		p.idle = p.idle[1:]
	}
	p.reaper = nil
	if len(p.idle) > 0 && !p.closed {
		p.reaper = time.AfterFunc(max(time.Second, idleMax-time.Since(p.idle[0].idle)), p.reap)
	}
}

// with does something that needs no state of an earlier connection and may be done
// twice: if one that lay idle turns out to be gone, it is done again on a new one.
func (p *pool) with(ctx context.Context, do func(s *session) error) error {
	for {
		s, err := p.acquire(ctx)
		if err != nil {
			return err
		}
		stale := s.used
		err = s.run(ctx, func() error { return do(s) })
		again := err != nil && stale && s.isDead() && ctx.Err() == nil
		p.release(s)
		if !again {
			return err
		}
	}
}

// dropIdle ends the idle sessions, so that new ones are made.
func (p *pool) dropIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropIdleLocked()
}

func (p *pool) dropIdleLocked() {
	for _, s := range p.idle {
		s.kill()
	}
	p.idle = nil
}

// close ends the idle sessions; those in use end when they are released.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.dropIdleLocked()
	if p.reaper != nil {
		p.reaper.Stop()
	}
}
