package sdk

import (
	"context"
	"net"
)

// leaseKey is the context key of the process's lease.
type leaseKey struct{}

// Guard returns the connection with every Write checked against the lease: after its
// end nothing is written any more, and the process exits. The SDK checks the lease
// before each call of an adapter, but a call may take many steps: a process that was
// frozen in the middle of one, and wakes up when another node has taken over, must
// not go on to the next step. Wrap every connection that an adapter dials, below TLS.
//
// What was written and has not reached the peer dies with the process: the kernel
// would go on to send it, also when a node that was cut off comes back long after
// another has taken over. Close, while the lease is valid, still sends everything.
//
// ctx is the one that the adapter's method was given, or one derived from it. With
// any other, such as in tests of the adapter alone, c itself is returned.
func Guard(ctx context.Context, c net.Conn) net.Conn {
	l, ok := ctx.Value(leaseKey{}).(*lease)
	if !ok {
		return c
	}
	g := &guarded{c, l}
	g.linger(0)
	return g
}

type guarded struct {
	net.Conn
	lease *lease
}

// linger sets what becomes of unsent data when the socket is closed, by us or by the
// end of the process: with 0 seconds it is thrown away and the connection is reset,
// with a negative number the kernel sends it in the background. Only TCP has this, and
// where it fails the lease is checked before every write all the same.
func (g *guarded) linger(seconds int) {
	if tcp, ok := g.Conn.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(seconds)
	}
}

// Close implements net.Conn. An orderly close is an effect as any other.
func (g *guarded) Close() error {
	if g.lease.check() == nil {
		g.linger(-1)
	}
	return g.Conn.Close()
}

// Write implements net.Conn.
func (g *guarded) Write(b []byte) (int, error) {
	if err := g.lease.check(); err != nil {
		return 0, err
	}
	return g.Conn.Write(b)
}

// CloseWrite ends the writing side where the connection can: TCP does. Who wraps a
// connection hides it, and a peer that waits for the end of a file waits for ever.
func (g *guarded) CloseWrite() error {
	if err := g.lease.check(); err != nil {
		return err
	}
	if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return g.Conn.Close()
}
