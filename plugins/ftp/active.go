package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
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
