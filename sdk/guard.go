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
// ctx is the one that the adapter's method was given, or one derived from it. With
// any other, such as in tests of the adapter alone, c itself is returned.
func Guard(ctx context.Context, c net.Conn) net.Conn {
	l, ok := ctx.Value(leaseKey{}).(*lease)
	if !ok {
		return c
	}
	return &guarded{c, l}
}

type guarded struct {
	net.Conn
	lease *lease
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
