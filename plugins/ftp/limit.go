package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

// errAllInUse is for those who can do without a connection.
var errAllInUse = errors.New("all connections that connection_limit allows are in use")

// servers are the accounts that the endpoints of this process use.
var servers = accounts{known: map[string]*account{}}

type accounts struct {
	mu    sync.Mutex
	known map[string]*account
}

// account is one user at one server: the endpoints that use it, and what they have open
// there. Endpoints without connection_limit count, too, but do not wait.
//
// Who waits holds no connection, and those of others that lie idle are closed for it: two
// endpoints can neither block nor starve each other.
type account struct {
	of   *accounts // whose lock guards the rest; taken before that of a pool
	name string

	pools   []*pool
	open    int
	waiting []*waiter // in the order of coming
	// closed is when a connection was last closed to make room for another.
	closed time.Time
}

// lateFor is how long a server may take to notice that it is one client less.
const lateFor = 5 * time.Second

// waiter waits until its pool may have one more connection.
type waiter struct {
	pool *pool
	// given gets a session, or nil for the right to make one. It has room for it.
	given chan *session
}

// join adds a pool to the account of a user at a server.
func (a *accounts) join(p *pool) *account {
	a.mu.Lock()
	defer a.mu.Unlock()
	name := strings.ToLower(p.end.addr) + " " + p.end.props.User
	u := a.known[name]
	if u == nil {
		u = &account{of: a, name: name}
		a.known[name] = u
	}
	u.pools = append(u.pools, p)
	return u
}

// quit is the end of join. What the pool has open counts until it is closed.
func (u *account) quit(p *pool) {
	u.of.mu.Lock()
	defer u.of.mu.Unlock()
	u.pools = slices.DeleteFunc(u.pools, func(one *pool) bool { return one == p })
	u.forgetLocked()
}

func (u *account) forgetLocked() {
	if len(u.pools) == 0 && u.open == 0 && u.of.known[u.name] == u {
		delete(u.of.known, u.name)
	}
}

// take returns an idle session of the pool, or nil: then a connection may be made, and
// leave has to be called when it is closed. Unless wait is set it does not wait for
// others.
func (u *account) take(ctx context.Context, p *pool, wait bool) (*session, error) {
	u.of.mu.Lock()
	if s := p.pop(); s != nil {
		u.of.mu.Unlock()
		return s, nil
	}
	if u.fitsLocked(p) {
		u.open++
		u.of.mu.Unlock()
		return nil, nil
	}
	if !wait {
		u.of.mu.Unlock()
		return nil, errAllInUse
	}
	w := &waiter{pool: p, given: make(chan *session, 1)}
	u.waiting = append(u.waiting, w)
	idle := u.idleLocked(u.open - p.end.props.ConnectionLimit + 1)
	if len(idle) > 0 {
		u.closed = time.Now()
	}
	u.of.mu.Unlock()
	for _, s := range idle {
		s.quitAndWait()
	}
	select {
	case s := <-w.given:
		return s, nil
	case <-ctx.Done():
		u.withdraw(w)
		return nil, sdk.Disconnected(fmt.Errorf("wait for one of the %d connections to %s that connection_limit allows all endpoints of the process together: %w",
			p.end.props.ConnectionLimit, p.end.addr, context.Cause(ctx)))
	}
}

func (u *account) fitsLocked(p *pool) bool {
	limit := p.end.props.ConnectionLimit
	return limit == 0 || u.open < limit
}

// idleLocked takes up to n sessions that lie idle out of their pools.
func (u *account) idleLocked(n int) []*session {
	var idle []*session
	for _, p := range u.pools {
		for len(idle) < n {
			s := p.pop()
			if s == nil {
				break
			}
			idle = append(idle, s)
		}
	}
	return idle
}

// withdraw ends a wait, and gives back what came at the last moment.
func (u *account) withdraw(w *waiter) {
	u.of.mu.Lock()
	u.waiting = slices.DeleteFunc(u.waiting, func(one *waiter) bool { return one == w })
	u.of.mu.Unlock()
	select {
	case s := <-w.given:
		if s == nil {
			u.leave()
		} else {
			w.pool.put(s)
		}
	default:
	}
}

// give takes a session that its user is done with: it goes to who of the pool waits, if
// it is his turn, or lies idle if nobody waits. It reports false if the session has to
// be closed.
func (u *account) give(p *pool, s *session) bool {
	u.of.mu.Lock()
	defer u.of.mu.Unlock()
	switch {
	case len(u.waiting) == 0:
		return p.push(s)
	case u.waiting[0].pool == p:
		u.waiting[0].given <- s
		u.waiting = u.waiting[1:]
		return true
	}
	u.closed = time.Now()
	return false
}

// mayBeLate reports whether a server that takes no more clients may only not have
// noticed yet that one of ours has left.
func (u *account) mayBeLate(err error) bool {
	var full *fullServer
	if !errors.As(err, &full) {
		return false
	}
	u.of.mu.Lock()
	defer u.of.mu.Unlock()
	return time.Since(u.closed) < lateFor
}

// leave counts one connection less, and lets the next make one.
func (u *account) leave() {
	u.of.mu.Lock()
	defer u.of.mu.Unlock()
	u.open--
	u.waiting = slices.DeleteFunc(u.waiting, func(w *waiter) bool {
		if !u.fitsLocked(w.pool) {
			return false
		}
		u.open++
		w.given <- nil
		return true
	})
	u.forgetLocked()
}
