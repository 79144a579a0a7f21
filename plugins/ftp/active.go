package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

// Who makes the data connections: the values of the property data_mode.
const (
	modePassive = "passive"
	modeActive  = "active"
)

// activeMode says how the server gets to us where it makes the data connections.
type activeMode struct {
	Mode    string `json:"data_mode" jsonschema:"enum=passive,enum=active,default=passive" jsonschema_description:"Who makes the data connections: passive (we do, to the server) or active (the server does, to us; EPRT, or PORT where the server does not know it)."`
	Ports   string `json:"active_ports,omitempty" jsonschema_description:"With data_mode: active, the local ports for data connections, such as 40000-40100: at least as many as connections. Default: any free port."`
	Address string `json:"active_address,omitempty" jsonschema_description:"With data_mode: active, the IP address that the server is told to connect to, where it sees us under another than our own (NAT)."`
}

func (a activeMode) problems(connections int) []error {
	var errs []error
	if a.Mode != modeActive {
		for property, value := range map[string]string{"active_ports": a.Ports, "active_address": a.Address} {
			if value != "" {
				errs = append(errs, problem(property, "has no effect with data_mode: %s; want data_mode: active", a.Mode))
			}
		}
		return errs
	}
	first, last, err := a.ports()
	switch {
	case err != nil:
		errs = append(errs, problem("active_ports", "%v", err))
	case first > 0 && last-first+1 < connections:
		errs = append(errs, problem("active_ports", "%s are %d ports, fewer than connections, %d", a.Ports, last-first+1, connections))
	}
	if addr, err := netip.ParseAddr(a.Address); a.Address != "" && (err != nil || addr.Zone() != "" || addr.IsUnspecified()) {
		errs = append(errs, problem("active_address", "%q is not an IP address that a server can connect to; want one such as 203.0.113.7", a.Address))
	}
	return errs
}

// ports returns the range, 0 and 0 for any.
func (a activeMode) ports() (first, last int, err error) {
	if a.Ports == "" {
		return 0, 0, nil
	}
	from, to, ranged := strings.Cut(a.Ports, "-")
	if !ranged {
		to = from
	}
	low, err := strconv.ParseUint(strings.TrimSpace(from), 10, 16)
	high, err2 := strconv.ParseUint(strings.TrimSpace(to), 10, 16)
	if err != nil || err2 != nil || low == 0 || high < low {
		return 0, 0, fmt.Errorf("%q is not a range of ports; want one such as 40000-40100", a.Ports)
	}
	return int(low), int(high), nil
}

// activeState is what all sessions of an endpoint share.
type activeState struct {
	// noEPRT is set when the server has refused EPRT and taken PORT.
	noEPRT atomic.Bool
	// turn spreads the listeners over the ports.
	turn atomic.Uint32
}

// goActive answers the library's PASV in the server's place: it opens a listener, has the
// server told of it, and returns the reply of a server that listens there. The library
// then dials, and dial hands it the connection that is awaited.
func (s *session) goActive() (reply string, err error) {
	s.dropAwaited()
	a, err := s.listen()
	if err != nil {
		return fmt.Sprintf("425 %v", err), nil
	}
	raw := s.track(a)
	if raw == nil {
		return "", net.ErrClosed
	}
	if err := s.announce(a.listener.Addr().(*net.TCPAddr)); err != nil {
		_ = raw.Close()
		if !isRefusal(err) {
			return "", err
		}
		// Any other code might be taken for a refusal of what follows.
		return fmt.Sprintf("425 %v; set data_mode: passive", err), nil
	}
	s.awaited = raw
	return "227 (0,0,0,0,0,1)", nil
}

// dropAwaited closes the listener of a transfer that did not come about.
func (s *session) dropAwaited() {
	if s.awaited != nil {
		_ = s.awaited.Close()
		s.awaited = nil
	}
}

// listen opens a listener at the address that the server sees us under, if there is no NAT.
func (s *session) listen() (*awaited, error) {
	local, err := netip.ParseAddrPort(s.control.LocalAddr().String())
	if err != nil {
		return nil, fmt.Errorf("data_mode: active: the control connection has no address: %w", err)
	}
	peer, err := netip.ParseAddrPort(s.control.RemoteAddr().String())
	if err != nil {
		return nil, fmt.Errorf("data_mode: active: the server has no address: %w", err)
	}
	first, last, err := s.end.props.ports()
	if err != nil {
		return nil, err
	}
	n := last - first + 1
	start := int(s.end.active.turn.Add(1))
	for i := range n {
		port := first + (start+i)%n
		l, err := (&net.ListenConfig{}).Listen(s.opCtx, "tcp", netip.AddrPortFrom(local.Addr(), uint16(port)).String()) //nolint:gosec // a port
		if err == nil {
			return &awaited{listener: l.(*net.TCPListener), from: peer.Addr().Unmap(), ctx: s.opCtx, timeout: s.end.props.Timeout.D()}, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("data_mode: active: %w", err)
		}
	}
	return nil, fmt.Errorf("data_mode: active: all ports of active_ports, %s, are in use; name more of them", s.end.props.Ports)
}

// announce tells the server where to connect to.
func (s *session) announce(at *net.TCPAddr) error {
	addr := at.AddrPort().Addr().Unmap().WithZone("")
	if told := s.end.props.activeMode.Address; told != "" {
		addr, _ = netip.ParseAddr(told) // Validate has seen it
		addr = addr.Unmap()
	}
	family := 1
	if addr.Is6() {
		family = 2
	}
	if family == 2 || !s.end.active.noEPRT.Load() {
		_, _, err := s.command("EPRT |%d|%s|%d|", family, addr, at.Port)
		if err == nil || !isRefusal(err) {
			return err
		}
		if family == 2 {
			return fmt.Errorf("the server refuses active mode: EPRT: %w", err)
		}
	}
	_, _, err := s.command("PORT %s,%d,%d", strings.ReplaceAll(addr.String(), ".", ","), at.Port>>8, at.Port&0xff)
	if err == nil {
		s.end.active.noEPRT.Store(true)
	} else if isRefusal(err) {
		return fmt.Errorf("the server refuses active mode: EPRT and PORT: %w", err)
	}
	return err
}

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
