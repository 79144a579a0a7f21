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
	"google.golang.org/grpc/keepalive"
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
	// Advertise is the address that peers use, as host:port. Default: the one that
	// was taken.
	Advertise string
	// TLS holds the node's own certificate in Certificates, and in RootCAs the
	// authority that signs its peers'; the rest is set here. Nil: anybody who
	// reaches the port may speak.
	TLS *tls.Config
	Log *slog.Logger
}

// Transport is a listening node port. Safe for concurrent use.
type Transport struct {
	cfg      Config
	log      *slog.Logger
	addr     net.Addr // that peers use
	listener net.Listener
	raft     *queue
	peers    *queue
	conns    *conns // raft's; gRPC looks after its own
	server   *grpc.Server
	slots    chan struct{}
	ctx      context.Context // ends when Close begins
	cancel   context.CancelFunc
	tasks    sync.WaitGroup
	once     sync.Once
	done     chan struct{} // closed when everything has ended
	refused  complaints

	mu      sync.Mutex
	clients map[string]*grpc.ClientConn
}

// Listen takes the port. Register services on Server, then call Serve.
func Listen(cfg Config) (*Transport, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if t := cfg.TLS; t != nil && (t.RootCAs == nil || len(t.Certificates) == 0) {
		// Go would take the system's authorities: everybody with any certificate.
		return nil, errors.New("cluster port: TLS needs the node's certificate and the authority of its peers (tls.cert, tls.key, tls.ca)")
	}
	l, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s (listen.cluster): %w", cfg.Address, err)
	}
	addr := l.Addr()
	if cfg.Advertise != "" {
		if addr, err = net.ResolveTCPAddr("tcp", cfg.Advertise); err != nil {
			return nil, errors.Join(fmt.Errorf("advertised cluster address %q: %w", cfg.Advertise, err), l.Close())
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Transport{
		cfg: cfg, log: cfg.Log, addr: addr, listener: l, ctx: ctx, cancel: cancel,
		raft: newQueue(addr), peers: newQueue(addr), conns: newConns(), done: make(chan struct{}),
		slots: make(chan struct{}, maxHandshakes), clients: map[string]*grpc.ClientConn{},
		server: grpc.NewServer(
			grpc.MaxRecvMsgSize(maxMessage),
			grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 2 * time.Second, PermitWithoutStream: true}),
		),
	}, nil
}

// Addr is the address that peers use.
func (t *Transport) Addr() net.Addr { return t.addr }

// Server is where services are registered before Serve.
func (t *Transport) Server() *grpc.Server { return t.server }

// Serve begins to take connections, and returns at once.
func (t *Transport) Serve() {
	t.tasks.Go(t.accept)
	t.tasks.Go(func() {
		if err := t.server.Serve(t.peers); err != nil && t.ctx.Err() == nil {
			t.log.Error("cluster port: calls between nodes have ended", "error", err)
		}
	})
}

// Close ends everything on the port, within ctx: also raft's connections, and calls
// under way. It may be called more than once.
func (t *Transport) Close(ctx context.Context) error {
	var err error
	t.once.Do(func() {
		t.cancel()
		err = t.listener.Close()
		t.raft.close()
		t.peers.close()
		t.conns.closeAll()
		go func() { // ends with the last handler, whose context has ended
			defer close(t.done)
			t.closeClients()
			t.server.Stop()
			t.tasks.Wait()
		}()
	})
	select {
	case <-t.done:
		return err
	case <-ctx.Done():
		return errors.Join(err, fmt.Errorf("close cluster port: %w", ctx.Err()))
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
	conn, err := s.t.dial(ctx, string(address), raftProtocol, raftByte)
	if err != nil {
		return nil, err
	}
	return s.t.conns.add(conn)
}

// Close implements raft.StreamLayer. It ends raft's connections, too: raft's own
// transport leaves them open.
func (s *streamLayer) Close() error {
	s.close()
	s.t.conns.closeAll()
	return nil
}
