package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/fairlead-io/fairlead/runtime/transport/peerpb"
)

// quickBackoff: nodes are few and near, and a restarted one is wanted back soon.
var quickBackoff = backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}

// Client returns the way to the node at the address. Connections are made when they
// are needed, kept, and ended by Close.
func (t *Transport) Client(address string) (peerpb.PeerClient, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		return nil, fmt.Errorf("node at %s: %w", address, errClosing)
	}
	if conn := t.clients[address]; conn != nil {
		return peerpb.NewPeerClient(conn), nil
	}
	conn, err := newClient(address, func(ctx context.Context, address string) (net.Conn, error) {
		return t.dial(ctx, address, peerProtocol, peerByte)
	})
	if err != nil {
		return nil, err
	}
	t.clients[address] = conn
	return peerpb.NewPeerClient(conn), nil
}

// Dial returns a connection for calls to the node at the address, for a process that
// has no Transport: the guardian. TLS is as in Config. The connection is made when it
// is needed, or by its Connect; the caller closes it.
func Dial(address string, secured *tls.Config) (*grpc.ClientConn, error) {
	return newClient(address, func(ctx context.Context, address string) (net.Conn, error) {
		return dial(ctx, secured, address, peerProtocol, peerByte)
	})
}

func newClient(address string, dialer func(context.Context, string) (net.Conn, error)) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the dialer speaks TLS
		grpc.WithContextDialer(dialer),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: quickBackoff, MinConnectTimeout: dialTimeout}),
		// 10 s is the shortest that gRPC allows.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second, PermitWithoutStream: true}),
	)
	if err != nil {
		return nil, fmt.Errorf("node at %s: %w", address, err)
	}
	return conn, nil
}

// closeClients ends the connections that Client made. There are no new ones: the
// transport's context has ended.
func (t *Transport) closeClients() {
	t.mu.Lock()
	clients := t.clients
	t.clients = nil
	t.mu.Unlock()
	for _, conn := range clients {
		_ = conn.Close()
	}
}

// dial opens a connection for one of the two uses, until the transport closes.
func (t *Transport) dial(ctx context.Context, address, protocol string, first byte) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	return dial(ctx, t.cfg.TLS, address, protocol, first)
}

func dial(ctx context.Context, secured *tls.Config, address, protocol string, first byte) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if secured != nil {
		return secure(ctx, conn, secured, address, protocol)
	}
	if err := announce(conn, first); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// announce says what the connection is for.
func announce(conn net.Conn, first byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(dialTimeout)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{first}); err != nil {
		return err
	}
	return conn.SetWriteDeadline(time.Time{})
}

func secure(ctx context.Context, conn net.Conn, config *tls.Config, address, protocol string) (net.Conn, error) {
	c := config.Clone()
	c.MinVersion = tls.VersionTLS13
	c.NextProtos = []string{protocol}
	if c.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		c.ServerName = host
	}
	secured := tls.Client(conn, c)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS with %s: %w%s", address, err, hint(err)), conn.Close())
	}
	return secured, nil
}
