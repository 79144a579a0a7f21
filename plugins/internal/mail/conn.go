package mail

import (
	"net"
	"sync"
	"time"
)

// Conn gives every read and write the full time-out anew, so that a transfer may
// take hours but may not stop. Deadlines set from outside are ignored: client
// libraries clear ours where they wait for replies. It is safe for concurrent use
// as any [net.Conn] is.
type Conn struct {
	net.Conn
	timeout time.Duration

	mu   sync.Mutex
	idle bool
	err  error // of the first read that failed
}

func newConn(c net.Conn, timeout time.Duration) *Conn {
	return &Conn{Conn: c, timeout: timeout}
}

// SetIdle(true) says that nothing is expected of the server, so that a pending
// read may take any time; SetIdle(false) ends that, also for a pending read.
func (c *Conn) SetIdle(idle bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = idle
	return c.Conn.SetReadDeadline(c.readDeadlineLocked())
}

func (c *Conn) readDeadlineLocked() time.Time {
	if c.idle {
		return time.Time{}
	}
	return time.Now().Add(c.timeout)
}

// extend is in the lock, so that a deadline set here cannot undo a later SetIdle.
func (c *Conn) extend() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	return c.Conn.SetReadDeadline(c.readDeadlineLocked())
}

// Read fails for good with the first error: parsers try several times more before
// they give up, and would wait for the time-out each time.
func (c *Conn) Read(p []byte) (int, error) {
	if err := c.extend(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if err != nil {
		c.mu.Lock()
		c.err = err
		c.mu.Unlock()
	}
	return n, err
}

func (c *Conn) Write(p []byte) (int, error) {
	if err := c.SetIdle(false); err != nil {
		return 0, err
	}
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// SetDeadline does nothing, see [Conn].
func (c *Conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing, see [Conn].
func (c *Conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing, see [Conn].
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }
