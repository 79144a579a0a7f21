// Package transport is the one port between nodes. Raft and the nodes' own calls
// share it: mutual TLS 1.3 and ALPN tell them apart, or, where TLS is left out
// (loopback, or by an explicit choice in the node file), one byte at the start.
// It answers for who may speak on the port; what is said belongs to others.
package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/fairlead-io/fairlead/runtime/transport/peerpb"
)

// What is spoken on a connection: the ALPN name, and the byte without TLS.
const (
	raftProtocol, raftByte = "fairlead-raft/1", 'R'
	peerProtocol, peerByte = "h2", 'G'
)

const (
	// handshakeTimeout bounds the time from accepting a connection to knowing what
	// it is for, maxHandshakes how many may be at that stage.
	handshakeTimeout = 5 * time.Second
	maxHandshakes    = 128
	dialTimeout      = 2 * time.Second
	maxMessage       = 4 << 20
)

// Config is what Listen needs.
type Config struct {
	// Address to listen on, as host:port.
	Address string
	// TLS is the node's own certificate, and the authority that signs its peers';
	// nil for none.
	TLS *tls.Config
	Log *slog.Logger
}

// Transport is a listening node port. Safe for concurrent use.
type Transport struct {
	cfg      Config
	listener net.Listener
	raft     *queue
	peers    *queue
	server   *grpc.Server
	slots    chan struct{}
	ctx      context.Context
	cancel   context.CancelFunc
	tasks    sync.WaitGroup
	once     sync.Once

	mu      sync.Mutex
	clients map[string]*grpc.ClientConn
}

// Listen takes the port. Register services on Server, then call Serve.
func Listen(cfg Config) (*Transport, error) {
	l, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s (listen.cluster): %w", cfg.Address, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &Transport{
		cfg: cfg, listener: l, ctx: ctx, cancel: cancel,
		raft: newQueue(l.Addr()), peers: newQueue(l.Addr()),
		slots: make(chan struct{}, maxHandshakes), clients: map[string]*grpc.ClientConn{},
		server: grpc.NewServer(
			grpc.MaxRecvMsgSize(maxMessage),
			grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 2 * time.Second, PermitWithoutStream: true}),
		),
	}
	return t, nil
}

// Addr is the address that was taken.
func (t *Transport) Addr() net.Addr { return t.listener.Addr() }

// Server is where services are registered before Serve.
func (t *Transport) Server() *grpc.Server { return t.server }

// Serve begins to take connections, and returns at once.
func (t *Transport) Serve() {
	t.tasks.Go(t.accept)
	t.tasks.Go(func() { _ = t.server.Serve(t.peers) }) // ends with Close
}

func (t *Transport) accept() {
	for {
		conn, err := t.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.cfg.Log.Warn("cluster port: accept", "error", err)
			select { // out of descriptors, most likely
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
			t.cfg.Log.Warn("cluster port: too many connections are being opened; one was refused", "from", conn.RemoteAddr())
			continue
		}
		t.tasks.Go(func() {
			defer func() { <-t.slots }()
			if err := t.greet(conn); err != nil {
				_ = conn.Close()
				t.cfg.Log.Warn("cluster port: connection refused", "from", conn.RemoteAddr(), "error", err)
			}
		})
	}
}

// greet finds out what the connection is for, and hands it over.
func (t *Transport) greet(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	protocol := ""
	if t.cfg.TLS != nil {
		secured := tls.Server(conn, t.serverTLS())
		if err := secured.HandshakeContext(t.ctx); err != nil {
			return fmt.Errorf("TLS: %w", err)
		}
		conn, protocol = secured, secured.ConnectionState().NegotiatedProtocol
	} else {
		first := make([]byte, 1)
		if _, err := conn.Read(first); err != nil {
			return fmt.Errorf("it said nothing: %w", err)
		}
		switch first[0] {
		case raftByte:
			protocol = raftProtocol
		case peerByte:
			protocol = peerProtocol
		case 0x16: // a TLS record
			return errors.New("the other side speaks TLS, this node does not: give all nodes a tls section, or none")
		}
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	switch protocol {
	case raftProtocol:
		return t.raft.put(conn)
	case peerProtocol:
		return t.peers.put(conn)
	}
	return errors.New("it is not a Fairlead node")
}

func (t *Transport) serverTLS() *tls.Config {
	c := t.cfg.TLS.Clone()
	c.MinVersion = tls.VersionTLS13
	c.ClientAuth = tls.RequireAndVerifyClientCert
	c.ClientCAs = c.RootCAs
	c.NextProtos = []string{raftProtocol, peerProtocol}
	return c
}

// dial opens a connection for one of the two uses.
func (t *Transport) dial(ctx context.Context, address, protocol string, first byte) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if t.cfg.TLS == nil {
		if err = conn.SetWriteDeadline(time.Now().Add(dialTimeout)); err == nil {
			_, err = conn.Write([]byte{first})
		}
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return conn, conn.SetWriteDeadline(time.Time{})
	}
	c := t.cfg.TLS.Clone()
	c.MinVersion = tls.VersionTLS13
	c.NextProtos = []string{protocol}
	if c.ServerName == "" {
		if c.ServerName, _, err = net.SplitHostPort(address); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	secured := tls.Client(conn, c)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS with %s: %w", address, err), conn.Close())
	}
	return secured, nil
}

// Client returns the way to the node at the address. Connections are kept.
func (t *Transport) Client(address string) (peerpb.PeerClient, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if conn := t.clients[address]; conn != nil {
		return peerpb.NewPeerClient(conn), nil
	}
	if t.ctx.Err() != nil {
		return nil, errors.New("the node is stopping")
	}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the dialer speaks TLS
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return t.dial(ctx, address, peerProtocol, peerByte)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: quickBackoff, MinConnectTimeout: dialTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 5 * time.Second, Timeout: 3 * time.Second, PermitWithoutStream: true}),
	)
	if err != nil {
		return nil, fmt.Errorf("node at %s: %w", address, err)
	}
	t.clients[address] = conn
	return peerpb.NewPeerClient(conn), nil
}

// Close ends everything on the port, within ctx. It may be called more than once.
func (t *Transport) Close(ctx context.Context) error {
	var err error
	t.once.Do(func() {
		t.cancel()
		err = t.listener.Close()
		t.raft.close()
		t.peers.close()
		t.mu.Lock()
		for _, conn := range t.clients {
			_ = conn.Close()
		}
		t.mu.Unlock()
		t.server.Stop()
	})
	done := make(chan struct{})
	go func() { defer close(done); t.tasks.Wait() }() // bounded: handshakes end with ctx
	select {
	case <-done:
		return err
	case <-ctx.Done():
		return errors.Join(err, ctx.Err())
	}
}

// StreamLayer is raft's share of the port.
func (t *Transport) StreamLayer() raft.StreamLayer { return &streamLayer{t.raft, t} }

type streamLayer struct {
	*queue
	t *Transport
}

// Dial implements raft.StreamLayer.
func (s *streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.t.ctx, timeout)
	defer cancel()
	return s.t.dial(ctx, string(address), raftProtocol, raftByte)
}
