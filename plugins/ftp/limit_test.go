package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk"
)

// strictServer lets so many in and no more. A connection counts until the server closes
// it.
type strictServer struct {
	*scriptedServer
	mu         sync.Mutex
	open, peak int
	refused    int
}

func startStrict(t *testing.T, most int) *strictServer {
	t.Helper()
	s := &strictServer{}
	s.scriptedServer = startScripted(t, "", map[string]handler{
		"": func(c *scriptedConn, _ string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.open == most {
				s.refused++
				c.say("421 too many connections")
				c.Close()
				return
			}
			s.open++
			s.peak = max(s.peak, s.open)
			c.say("220 ready")
		},
		"QUIT": func(c *scriptedConn, _ string) {
			c.say("221 bye")
			s.mu.Lock()
			s.open--
			s.mu.Unlock()
			c.Close()
		},
	})
	return s
}

func noOp(c *session) error { return c.ftp.NoOp() }

// use makes an endpoint do something, and leaves its connection idle.
func use(t *testing.T, p *pool) {
	t.Helper()
	if err := p.with(testContext(t), noOp); err != nil {
		t.Fatal(err)
	}
}

func TestConnectionLimitHoldsOverAllEndpoints(t *testing.T) {
	s := startStrict(t, 2)
	var wg sync.WaitGroup
	for range 3 {
		p := newSource(t, s.props("connections", 2, "connection_limit", 2, "timeout", "10s")).pool
		for range 3 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), testWait)
				defer cancel()
				for range 20 {
					if err := p.with(ctx, noOp); err != nil {
						t.Errorf("with two connections for nine: %v", err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused > 0 || s.peak != 2 {
		t.Errorf("the server refused %d connections and had %d at most, want 0 and 2", s.refused, s.peak)
	}
}

func TestIdleConnectionsMakeRoomForOtherEndpoints(t *testing.T) {
	s := startStrict(t, 1)
	props := s.props("connection_limit", 1, "timeout", "10s")
	receiving, sending := newSource(t, props).pool, newSink(t, props).pool
	began := time.Now()
	for range 3 {
		use(t, receiving)
		use(t, sending)
	}
	if took := time.Since(began); took > idleMax/2 {
		t.Errorf("took %v: it waited for idle connections to end by themselves", took)
	}
	if s.refused > 0 {
		t.Errorf("%d were refused", s.refused)
	}
	// Another user counts for himself, and an endpoint without a limit does not wait.
	s2 := startStrict(t, 3)
	holder := newSource(t, s2.props("connection_limit", 1, "timeout", "10s")).pool
	c, err := holder.acquire(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	use(t, newSource(t, s2.props("connection_limit", 1, "user", "another", "timeout", "10s")).pool)
	use(t, newSource(t, s2.props("timeout", "10s")).pool)
	holder.release(c)
}

func TestWhoWaitsForAConnectionOfAnotherEndpoint(t *testing.T) {
	s := startStrict(t, 1)
	props := s.props("connection_limit", 1, "timeout", "10s")
	holder, other := newSource(t, props).pool, newSource(t, props).pool
	c, err := holder.acquire(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := other.with(ctx, noOp); !sdk.IsDisconnected(err) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waited in vain: %v, want Disconnected and the time-out", err)
	} else {
		mustContain(t, err, "connection_limit", s.addr)
	}
	if _, ok := other.tryAcquire(testContext(t)); ok {
		t.Error("who can do without got a second connection")
	}
	got := make(chan error, 1)
	go func() { got <- other.with(testContext(t), noOp) }()
	waitFor(t, "the other to wait", func() bool {
		servers.mu.Lock()
		defer servers.mu.Unlock()
		return len(other.account.waiting) == 1
	})
	holder.release(c)
	if err := <-got; err != nil {
		t.Errorf("after the release: %v", err)
	}
	holder.close()
	other.close()
	servers.mu.Lock()
	defer servers.mu.Unlock()
	if u := servers.known[holder.account.name]; u != nil {
		t.Errorf("%d connections of %d endpoints are remembered after their end", u.open, len(u.pools))
	}
}

// Helpers of a listing do without, so that a listing never waits for itself.
func TestListingWithManyFilesNeedsOneConnectionOnly(t *testing.T) {
	s := startServer(t, ftpd.Config{DisableMLSD: true})
	for i := range 3 * filesPerHelper {
		s.write(t, fmt.Sprintf("f%03d", i), nil)
	}
	src := newSource(t, with(s.props, "connections", 4, "connection_limit", 1, "listing", "list"))
	if items := list(t, src); len(items) != 3*filesPerHelper || s.commands("CONNECT") != 1 {
		t.Errorf("%d files by %d connections, want %d by one", len(items), s.commands("CONNECT"), 3*filesPerHelper)
	}
}

// A connection that breaks counts no longer.
func TestBrokenConnectionsDoNotUseUpTheLimit(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	src := newSource(t, with(s.props, "connection_limit", 1))
	for range 3 {
		list(t, src)
		s.DropSessions()
		waitFor(t, "the sessions to end", func() bool { return s.Sessions() == 0 })
	}
	wrong := newSource(t, with(s.props, "connection_limit", 1, "password", "wrong"))
	for range 3 {
		if _, err := wrong.List(testContext(t)); err == nil {
			t.Fatal("a wrong password was accepted")
		}
	}
	list(t, src)
}
