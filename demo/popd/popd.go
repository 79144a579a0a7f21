// Package popd is a small POP3 server for the demo and for tests.
//
// It answers for: one account whose maildrop is in memory (RFC 1939), with CAPA
// (RFC 2449), STLS or implicit TLS (RFC 2595), APOP and SASL PLAIN (RFC 5034); the
// exclusive lock that a session holds on the maildrop; deletions that happen at
// QUIT and not before; UIDLs that never change and never return; a journal of who
// did what when, by which a judge can tell whether two clients overlapped; and
// faults on request. It promises to be reached from this machine only and to
// leave nothing behind after [Server.Stop]. It stores nothing on disk and leaves
// what a real server needs (accounts, quotas, hardening) to real servers.
package popd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/demo/internal/selfsigned"
)

// TLSMode says how the server encrypts.
type TLSMode string

// The modes. With STLS a client that does not encrypt before it logs in is refused.
const (
	Plain    TLSMode = ""
	STLS     TLSMode = "stls"
	Implicit TLSMode = "implicit"
)

// defaultIdle is shorter than the ten minutes that RFC 1939 asks for, so that the
// maildrop of a demo is not held by a client that was stopped.
const defaultIdle = time.Minute

// Config is what Start needs. User is required.
type Config struct {
	// Addr is where to listen, default "127.0.0.1:0". Only loopback addresses are
	// taken.
	Addr string
	// User and Password of the only account.
	User, Password string
	// TLS is the mode; the certificate is Certificate, or one made at start.
	TLS         TLSMode
	Certificate *tls.Certificate
	// IdleTimeout ends a session that sends nothing for so long, without deleting.
	// Default: one minute.
	IdleTimeout time.Duration
	// WithoutCAPA and WithoutUIDL take these commands away, WithoutSASL takes AUTH,
	// and WithoutAPOP the timestamp in the greeting.
	WithoutCAPA, WithoutUIDL, WithoutSASL, WithoutAPOP bool
	// Log is called for every event, from the session's goroutine; it must be quick.
	Log func(Event)
}

// Server is a running server.
type Server struct {
	cfg     Config
	tls     *tls.Config
	pem     []byte
	journal journal
	drop    maildrop

	// running are the accept loops and sessions.
	running sync.WaitGroup

	mu       sync.Mutex
	addr     string       // once it listens
	listener net.Listener // nil while down
	conns    map[net.Conn]struct{}
	sessions uint32 // begun so far
	fault    func(Event) Fault
	stopped  bool
}

// Start listens and serves until Stop.
func Start(cfg Config) (*Server, error) {
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.IdleTimeout <= 0 {
		cfg.IdleTimeout = defaultIdle
	}
	if err := checkLoopback(cfg.Addr); err != nil {
		return nil, err
	}
	if cfg.User == "" {
		return nil, errors.New("popd: no user given")
	}
	s := &Server{cfg: cfg, conns: map[net.Conn]struct{}{}, journal: journal{log: cfg.Log}}
	if err := s.prepareTLS(); err != nil {
		return nil, err
	}
	if err := s.listen(cfg.Addr); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) prepareTLS() error {
	switch s.cfg.TLS {
	case Plain:
		return nil
	case STLS, Implicit:
	default:
		return fmt.Errorf("popd: TLS mode %q; want %q, %q or none", s.cfg.TLS, STLS, Implicit)
	}
	cert := s.cfg.Certificate
	if cert == nil {
		made, pem, err := selfsigned.New()
		if err != nil {
			return fmt.Errorf("popd: make certificate: %w", err)
		}
		cert, s.pem = &made, pem
	}
	s.tls = &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
	return nil
}

func checkLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("popd: address %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("popd: address %q is not on loopback; use 127.0.0.1:PORT", addr)
	}
	return nil
}

func (s *Server) listen(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("popd: listen on %s: %w", addr, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.listener != nil {
		_ = l.Close()
		return errors.New("popd: already listening, or stopped")
	}
	s.listener, s.addr = l, l.Addr().String()
	s.running.Go(func() { s.accept(l) })
	return nil
}

// accept ends when its listener is closed.
func (s *Server) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.listener != l {
			s.mu.Unlock()
			_ = conn.Close()
			return
		}
		s.conns[conn] = struct{}{}
		s.sessions++
		n := s.sessions
		s.running.Go(func() { s.serve(conn, n) })
		s.mu.Unlock()
	}
}

// Addr is the address to connect to, as host:port. It stays the same after Down
// and Up.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// CertificatePEM is the server's certificate for clients to trust; nil without
// TLS, and when the certificate was given.
func (s *Server) CertificatePEM() []byte { return s.pem }

// Deliver puts a mail into the maildrop, visible to sessions that log in from now
// on, and returns its UIDL. The bytes are kept as they are; POP3 itself adds a
// line end to a mail that lacks the last one.
func (s *Server) Deliver(mail []byte) (uidl string) { return s.drop.deliver(mail) }

// Count is the number of mails in the maildrop.
func (s *Server) Count() int { return s.drop.count() }

// Mails returns the mails in the maildrop, oldest first.
func (s *Server) Mails() [][]byte { return s.drop.mails() }

// Remove takes a mail out of the maildrop, as a client of another protocol would,
// and reports whether it was there.
func (s *Server) Remove(uidl string) bool { return s.drop.remove(uidl) }

// Locked reports whether a session holds the maildrop.
func (s *Server) Locked() bool { return s.drop.isLocked() }

// Lock takes the maildrop away from all clients until Unlock, as a session that
// was left behind would. It reports false while a session holds it.
func (s *Server) Lock() bool { return s.drop.lock() }

// Unlock ends Lock.
func (s *Server) Unlock() { s.drop.unlock() }

// Events returns a copy of the journal, oldest first: the last 100,000 events.
func (s *Server) Events() []Event { return s.journal.events() }

// SetFault sets what decides, before each command is carried out, how to fail;
// nil ends it. The function is called from the sessions' goroutines.
func (s *Server) SetFault(f func(Event) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

func (s *Server) faultFor(e Event) Fault {
	s.mu.Lock()
	f := s.fault
	s.mu.Unlock()
	if f == nil {
		return None
	}
	return f(e)
}

// DropSessions ends every session at once without a word, as a crash of the
// server would: nothing is deleted. New ones are taken.
func (s *Server) DropSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

// Down makes the server unreachable: nobody listens, and sessions end without a
// word. The maildrop stays.
func (s *Server) Down() {
	s.mu.Lock()
	l := s.listener
	s.listener = nil
	s.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
	s.DropSessions()
}

// Up makes the server reachable again after Down, under the same address.
func (s *Server) Up() error { return s.listen(s.Addr()) }

// Stop ends the server and every session and waits for them. It may be called
// several times.
func (s *Server) Stop() error {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.Down()
	s.running.Wait()
	return nil
}
