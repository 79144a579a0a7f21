package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

// awaited is a data connection that the server is to make. The first Read or Write of
// the rollingConn around it waits for it.
type awaited struct {
	listener *net.TCPListener
	from     netip.Addr // who may connect
	ctx      context.Context
	timeout  time.Duration

	once sync.Once
	err  error

	mu     sync.Mutex
	conn   net.Conn
	closed bool
}

// arrive waits for the connection, once.
func (a *awaited) arrive() error {
	a.once.Do(func() {
		a.err = a.accept()
		_ = a.listener.Close() // one connection is all that is wanted
	})
	return a.err
}

// accept takes the first connection from the server. Others, who found the port by
// chance or want to get at the file, are closed.
func (a *awaited) accept() error {
	if err := a.listener.SetDeadline(time.Now().Add(a.timeout)); err != nil {
		return fmt.Errorf("data_mode: active: %w", err)
	}
	strangers := 0
	for {
		conn, err := a.listener.AcceptTCP()
		if err != nil {
			return fmt.Errorf("data_mode: active: the server did not connect to %s within %s (connections from elsewhere: %d); check active_address, active_ports and the firewall, or set data_mode: passive: %w", a.listener.Addr(), a.timeout, strangers, err)
		}
		if conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap() != a.from {
			strangers++
			_ = conn.Close()
			continue
		}
		return a.take(sdk.Guard(a.ctx, conn))
	}
}

func (a *awaited) take(conn net.Conn) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		_ = conn.Close()
		return net.ErrClosed
	}
	a.conn = conn
	return nil
}

func (a *awaited) arrived() (net.Conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn == nil {
		return nil, net.ErrClosed
	}
	return a.conn, nil
}

// Close implements net.Conn. It ends a wait for the connection.
func (a *awaited) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	err := a.listener.Close()
	if a.conn != nil {
		return a.conn.Close()
	}
	return err
}

// CloseWrite ends the writing side.
func (a *awaited) CloseWrite() error {
	conn, err := a.arrived()
	if err != nil {
		return err
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Read implements io.Reader.
func (a *awaited) Read(p []byte) (int, error) {
	conn, err := a.arrived()
	if err != nil {
		return 0, err
	}
	return conn.Read(p)
}

// Write implements io.Writer.
func (a *awaited) Write(p []byte) (int, error) {
	conn, err := a.arrived()
	if err != nil {
		return 0, err
	}
	return conn.Write(p)
}

// LocalAddr implements net.Conn.
func (a *awaited) LocalAddr() net.Addr { return a.listener.Addr() }

// RemoteAddr implements net.Conn. It is where the connection will come from.
func (a *awaited) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.from, 0))
}

// SetDeadline implements net.Conn.
func (a *awaited) SetDeadline(t time.Time) error {
	conn, err := a.arrived()
	if err != nil {
		return err
	}
	return conn.SetDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (a *awaited) SetReadDeadline(t time.Time) error {
	conn, err := a.arrived()
	if err != nil {
		return err
	}
	return conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (a *awaited) SetWriteDeadline(t time.Time) error {
	conn, err := a.arrived()
	if err != nil {
		return err
	}
	return conn.SetWriteDeadline(t)
}
