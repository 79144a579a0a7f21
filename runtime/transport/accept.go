package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

func (t *Transport) accept() {
	for {
		conn, err := t.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, most likely
			t.log.Warn("cluster port: accept", "error", err)
			select {
			case <-time.After(50 * time.Millisecond):
				continue
			case <-t.ctx.Done():
				return
			}
		}
		select {
		case t.slots <- struct{}{}:
		default:
			_ = conn.Close()
			t.complain(conn, errors.New("too many connections are being opened"))
			continue
		}
		t.tasks.Go(func() {
			defer func() { <-t.slots }()
			if err := t.greet(conn); err != nil {
				_ = conn.Close()
				t.complain(conn, err)
			}
		})
	}
}

// complain tells of a refused connection, not too often: whoever tries once tries
// again.
func (t *Transport) complain(conn net.Conn, err error) {
	if t.ctx.Err() != nil {
		return
	}
	host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
	what := err.Error()
	var op *net.OpError
	if errors.As(err, &op) {
		what = op.Op + op.Err.Error() // without the port, which is always another
	}
	if others, due := t.refused.due(host+what, time.Now()); due {
		t.log.Warn("cluster port: connection refused", "from", conn.RemoteAddr(), "error", err, "alike_before", others)
	}
}

// greet finds out what the connection is for, and hands it over.
func (t *Transport) greet(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	protocol, conn, err := t.identify(conn)
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	switch protocol {
	case raftProtocol:
		if conn, err = t.conns.add(conn); err != nil {
			return err
		}
		if err := t.raft.put(conn); err != nil {
			return errors.Join(err, conn.Close())
		}
		return nil
	case peerProtocol:
		return t.peers.put(conn)
	}
	return errors.New("it is not a Fairlead node")
}

// identify returns what is spoken on the connection, and the connection secured.
func (t *Transport) identify(conn net.Conn) (string, net.Conn, error) {
	if t.cfg.TLS != nil {
		secured := tls.Server(conn, t.serverTLS())
		if err := secured.HandshakeContext(t.ctx); err != nil {
			return "", nil, fmt.Errorf("TLS: %w%s", err, hint(err))
		}
		return secured.ConnectionState().NegotiatedProtocol, secured, nil
	}
	stop := context.AfterFunc(t.ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	first := make([]byte, 1)
	if _, err := conn.Read(first); err != nil {
		return "", nil, fmt.Errorf("it said nothing: %w", err)
	}
	switch first[0] {
	case raftByte:
		return raftProtocol, conn, nil
	case peerByte:
		return peerProtocol, conn, nil
	case 0x16: // a TLS record
		return "", nil, errors.New("the other side speaks TLS, this node does not: give all nodes a tls section, or none")
	}
	return "", conn, nil
}

// hint says what to do about a failed handshake, where that is known.
func hint(err error) string {
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) {
		return ": the other side does not speak TLS: give all nodes a tls section, or none"
	}
	return ""
}

func (t *Transport) serverTLS() *tls.Config {
	c := t.cfg.TLS.Clone()
	c.MinVersion = tls.VersionTLS13
	c.ClientAuth = tls.RequireAndVerifyClientCert
	c.ClientCAs = c.RootCAs
	c.NextProtos = []string{raftProtocol, peerProtocol}
	return c
}
