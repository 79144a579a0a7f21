package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// idleMax is how long an unused connection is kept: less than the idle
	// time-outs of servers, so that it is us who close it.
	idleMax = 60 * time.Second
	// idleTrusted is how long an unused connection is taken to be alive without
	// asking.
	idleTrusted = 5 * time.Second
)

// A server may count a connection for a moment after it has closed it (vsftpd: until its
// process is gone). One that makes room for another by connection_limit is therefore
// tried to be made again after pauses from lateFirst to lateMax, which double.
const (
	lateFirst = 25 * time.Millisecond
	lateMax   = 800 * time.Millisecond
)

// pool keeps at most so many connections to one server as the endpoint may have.
// A session that it hands out belongs to one operation until it is given back.
type pool struct {
	end    *endpoint
	slots  chan struct{}
	noMLSD atomic.Bool
	// account counts the connections of all pools.
	account *account

	mu     sync.Mutex
	idle   []*session // oldest first
	closed bool
	reaper *time.Timer
	// reaping waits for a reaper that is at work when the pool is closed.
	reaping sync.WaitGroup
}

// newPool makes the pool of an endpoint that works in the directories.
func newPool(props connection, log *slog.Logger, directories ...string) (*pool, error) {
	host, port, err := props.hostPort()
	if err != nil {
		return nil, problem("address", "%v", err)
	}
	cfg, err := props.tlsConfig()
	if err != nil {
		return nil, err
	}
	zone, err := props.zone()
	if err != nil {
		return nil, err
	}
	dialer, err := props.Proxy.Dialer(props.Timeout.D())
	if err != nil {
		return nil, err
	}
	p := &pool{slots: make(chan struct{}, props.Connections)}
	p.end = &endpoint{props: props, addr: net.JoinHostPort(host, port), tls: cfg, dialer: dialer, log: log, zone: zone, noMLSD: p.noMLSD.Load}
	for _, dir := range directories {
		p.end.relative = p.end.relative || !strings.HasPrefix(dir, "/")
	}
	p.account = servers.join(p)
	return p, nil
}

// acquire waits for a slot, and for what connection_limit allows, and returns a session that was alive a moment ago.
// release must be called with it. Errors of connecting are [sdk.Disconnected].
func (p *pool) acquire(ctx context.Context) (*session, error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	s, err := p.take(ctx, true)
	if err != nil {
		<-p.slots
		return nil, err
	}
	return s, nil
}

// tryAcquire is acquire for those who can do without: it does not wait for others.
func (p *pool) tryAcquire(ctx context.Context) (*session, bool) {
	select {
	case p.slots <- struct{}{}:
	default:
		return nil, false
	}
	s, err := p.take(ctx, false)
	if err != nil {
		<-p.slots
		return nil, false
	}
	return s, true
}

func (p *pool) take(ctx context.Context, wait bool) (*session, error) {
	late := lateFirst
	for {
		s, err := p.account.take(ctx, p, wait)
		if err != nil {
			return nil, err
		}
		if s == nil {
			s, err = p.end.connect(ctx, p.account.leave)
			if err == nil || !wait || late > lateMax || !p.account.mayBeLate(err) || !pause(ctx, late) {
				return s, err
			}
			late *= 2
			continue
		}
		idle := time.Since(s.idleSince)
		if idle > idleMax {
			s.quit()
			continue
		}
		if idle <= idleTrusted {
			return s, nil
		}
		if err = s.run(ctx, s.ftp.NoOp); err == nil {
			return s, nil
		}
		s.kill()
		if ctx.Err() != nil {
			return nil, err
		}
	}
}

// pause reports false if the context ends it.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
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
	if s.isDead() {
		return
	}
	s.idleSince, s.used = time.Now(), true
	p.put(s)
}

// put passes a session on to who waits for one, or keeps it.
func (p *pool) put(s *session) {
	if p.account.give(p, s) {
		return
	}
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		s.quit()
		return
	}
	s.quitAndWait() // somebody is to have the connection's place
}

// push keeps an idle session. It reports false if the pool is closed.
func (p *pool) push(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.idle = append(p.idle, s)
	p.scheduleReaperLocked(idleMax)
	return true
}

// with does something on a session that needs no state of an earlier one and may
// be done twice. If a connection that lay idle turns out to be gone, it is done
// again on a new one; likewise if the server cannot take several commands at once.
func (p *pool) with(ctx context.Context, do func(s *session) error) error {
	for {
		again, err := p.once(ctx, do)
		if err == nil || !again || ctx.Err() != nil {
			return err
		}
	}
}

// once returns with again set if the session is dead and another may do better, or will
// list in another way.
func (p *pool) once(ctx context.Context, do func(s *session) error) (again bool, err error) {
	s, err := p.acquire(ctx)
	if err != nil {
		return false, err
	}
	defer p.release(s)
	used := s.used
	err = s.run(ctx, func() error { return do(s) })
	if errors.Is(err, errByNames) && ctx.Err() == nil {
		s.kill()
		p.dropIdle()
		return true, err
	}
	if err == nil || !s.isDead() || ctx.Err() != nil {
		return false, err
	}
	return s.pipelining && p.end.pipelining.broke() || used, unavailable(err)
}

// scheduleReaperLocked makes sure that idle connections do not stay open until
// the next poll, which may be hours away.
func (p *pool) scheduleReaperLocked(after time.Duration) {
	if p.reaper != nil {
		return
	}
	p.reaping.Add(1)
	p.reaper = time.AfterFunc(after, func() {
		defer p.reaping.Done()
		p.reap()
	})
}

func (p *pool) reap() {
	p.mu.Lock()
	p.reaper = nil
	var old []*session
	for len(p.idle) > 0 && time.Since(p.idle[0].idleSince) >= idleMax {
		old, p.idle = append(old, p.idle[0]), p.idle[1:]
	}
	if len(p.idle) > 0 && !p.closed {
		p.scheduleReaperLocked(idleMax - time.Since(p.idle[0].idleSince))
	}
	p.mu.Unlock()
	for _, s := range old {
		s.quit()
	}
}

// dropIdle ends the idle sessions, so that new ones are made.
func (p *pool) dropIdle() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, s := range idle {
		s.quit()
	}
}

// close ends the idle sessions; those in use end when they are released.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	if p.reaper != nil && p.reaper.Stop() {
		p.reaping.Done()
	}
	p.reaper = nil
	p.mu.Unlock()
	p.dropIdle()
	p.account.quit(p)
	p.reaping.Wait()
}
