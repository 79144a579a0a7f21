package transport

import (
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/backoff"
)

// quickBackoff: nodes are few and near, and a restarted one is wanted back soon.
var quickBackoff = backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}

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
	case <-timer.C:
	}
	return net.ErrClosed
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
