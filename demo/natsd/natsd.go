// Package natsd runs a NATS server with JetStream inside the calling process. It
// is the broker of `fairlead demo` and of tests: one node, one account, without TLS and
// login unless told otherwise, so it belongs on loopback only.
//
// It promises that Start returns a server that accepts clients and has recovered
// its streams, and that Stop returns after everything was written and every
// goroutine of the server has been told to end. Started again on the same
// directory and address it has the same streams and consumers. Durability across
// a power loss is not its business: like every NATS server it acknowledges before
// it syncs, unless SyncAlways is set.
package natsd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// MaxMaxPayload is the largest Config.MaxPayload that the broker takes, in bytes.
const MaxMaxPayload = 64 << 20

// startTimeout bounds how long Start waits for recovery and the listener.
const startTimeout = 30 * time.Second

// Config says how a server runs.
type Config struct {
	// Addr to listen on, as host:port. Empty means 127.0.0.1:0; port 0 takes a
	// free one, to be read from Server.Addr.
	Addr string
	// Dir is where streams are stored. It is made when missing. Required.
	Dir string
	// MaxPayload is the largest message, headers included, in bytes; at most
	// MaxMaxPayload. 0 means the broker's own default of 1 MiB.
	MaxPayload int
	// SyncAlways makes the broker sync every message before it acknowledges it.
	SyncAlways bool
	// User and Password, when set, are asked of every client.
	User, Password string
	// TLS, when set, makes the server speak TLS only.
	TLS *tls.Config
}

// Server is a running broker. Its methods may be called from several goroutines.
type Server struct {
	s *server.Server
}

// Start starts a broker and returns when it accepts clients.
func Start(cfg Config) (*Server, error) {
	opts, err := options(cfg)
	if err != nil {
		return nil, err
	}
	if err := free(opts); err != nil {
		return nil, err
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	s.Start() // does not block
	if !s.ReadyForConnections(startTimeout) {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("start broker: not ready on %s within %s; is the address taken?", cfg.Addr, startTimeout)
	}
	return &Server{s}, nil
}

func options(cfg Config) (*server.Options, error) {
	if cfg.Dir == "" {
		return nil, errors.New("start broker: no directory given")
	}
	if cfg.MaxPayload < 0 || cfg.MaxPayload > MaxMaxPayload {
		return nil, fmt.Errorf("start broker: max payload of %d bytes; the broker takes at most %d", cfg.MaxPayload, MaxMaxPayload)
	}
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	host, portText, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("start broker: address %q: %w", cfg.Addr, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil || port < 0 || port > 65535 {
		return nil, fmt.Errorf("start broker: address %q: port is not a number between 0 and 65535", cfg.Addr)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return &server.Options{
		TLS:                    cfg.TLS != nil,
		TLSConfig:              cfg.TLS,
		Host:                   host,
		Port:                   port,
		JetStream:              true,
		StoreDir:               cfg.Dir,
		MaxPayload:             int32(cfg.MaxPayload),
		SyncAlways:             cfg.SyncAlways,
		Username:               cfg.User,
		Password:               cfg.Password,
		NoLog:                  true,
		NoSigs:                 true,
		DisableJetStreamBanner: true,
	}, nil
}

// free finds out at once whether the address can be listened on; the broker would
// only log it and never become ready.
func free(opts *server.Options) error {
	port := max(opts.Port, 0)
	l, err := net.Listen("tcp", net.JoinHostPort(opts.Host, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("start broker: %w", err)
	}
	return l.Close()
}

// Addr is the address that the broker listens on, as host:port.
func (s *Server) Addr() string { return s.s.Addr().String() }

// URL is what clients connect to, as nats://host:port, without credentials.
func (s *Server) URL() string { return "nats://" + s.Addr() }

// Stop closes every connection and stops the broker. It may be called twice.
func (s *Server) Stop() {
	s.s.Shutdown()
	s.s.WaitForShutdown()
}
