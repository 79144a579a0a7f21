package transport

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

var errClosing = errors.New("the node is stopping")

// queue is a listener of connections that have been greeted already.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

var _ net.Listener = (*queue)(nil)

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

// put hands a connection to whoever accepts next.
func (q *queue) put(conn net.Conn) error {
	timer := time.NewTimer(handshakeTimeout)
	defer timer.Stop()
	select {
	case q.conns <- conn:
		return nil
	case <-q.done:
		return errClosing
	case <-timer.C:
		return errors.New("this node is too busy to take it")
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case conn := <-q.conns:
		return conn, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *queue) Close() error {
	q.close()
	return nil
}

func (q *queue) close() { q.once.Do(func() { close(q.done) }) }

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr { return q.addr }

// conns are open connections that end together.
type conns struct {
	mu     sync.Mutex
	open   map[*tracked]bool
	closed bool
}

// tracked is a connection that conns knows until it is closed.
type tracked struct {
	net.Conn
	in *conns
}

func newConns() *conns { return &conns{open: map[*tracked]bool{}} }

// add returns the connection to use from now on. It closes it if it is too late.
func (cs *conns) add(conn net.Conn) (net.Conn, error) {
	c := &tracked{conn, cs}
	cs.mu.Lock()
	closed := cs.closed
	if !closed {
		cs.open[c] = true
	}
	cs.mu.Unlock()
	if closed {
		return nil, errors.Join(errClosing, conn.Close())
	}
	return c, nil
}

// Close implements net.Conn.
func (c *tracked) Close() error {
	c.in.mu.Lock()
	delete(c.in.open, c)
	c.in.mu.Unlock()
	return c.Conn.Close()
}

func (cs *conns) closeAll() {
	cs.mu.Lock()
	open := cs.open
	cs.open, cs.closed = map[*tracked]bool{}, true
	cs.mu.Unlock()
	for c := range open {
		conn := c.Conn
		if secured, ok := conn.(*tls.Conn); ok {
			conn = secured.NetConn() // without a farewell, which may have to wait
		}
		_ = conn.Close()
	}
}

const (
	// complainEvery is how often the log hears the same complaint.
	complainEvery = 10 * time.Second
	maxComplaints = 1000
)

// complaints keeps whoever knocks again and again from filling the log. Its zero
// value is ready.
type complaints struct {
	mu   sync.Mutex
	seen map[string]*complaint
}

type complaint struct {
	at     time.Time
	others int
}

// due reports whether to tell of it, and how many alike were kept back before.
func (cs *complaints) due(what string, now time.Time) (others int, due bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c := cs.seen[what]; c != nil {
		if now.Sub(c.at) < complainEvery {
			c.others++
			return 0, false
		}
		others = c.others
	}
	if cs.seen == nil || len(cs.seen) >= maxComplaints {
		cs.seen = map[string]*complaint{}
	}
	cs.seen[what] = &complaint{at: now}
	return others, true
}
