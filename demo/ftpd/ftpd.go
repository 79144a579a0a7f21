// Package ftpd is a small FTP server for the demo and for tests.
//
// It answers for: files under one directory (or in memory) for one user, in
// plain, explicit or implicit TLS, and a journal of who did what when, by which
// a judge can tell afterwards whether two clients overlapped. It promises to be
// reached from this machine only and to leave nothing behind after [Server.Stop].
// It leaves everything a real server needs (accounts, quotas, hardening) to real
// servers.
package ftpd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	ftpserver "github.com/fclairamb/ftpserverlib"
	"github.com/spf13/afero"
)

// TLSMode says how the server encrypts.
type TLSMode string

// The modes. In Explicit and Implicit mode a client that does not encrypt both
// channels is refused.
const (
	Plain    TLSMode = ""
	Explicit TLSMode = "explicit"
	Implicit TLSMode = "implicit"
)

// stopTimeout bounds how long Stop waits for sessions to notice that they ended.
const stopTimeout = 5 * time.Second

// Config is what Start needs. User and one of Root and Fs are required.
type Config struct {
	// Addr is where to listen, default "127.0.0.1:0". Only loopback addresses are
	// taken.
	Addr string
	// Root is the directory whose content is served.
	Root string
	// Fs is served instead of Root when set, such as afero.NewMemMapFs().
	Fs afero.Fs
	// User and Password of the only account.
	User, Password string
	// TLS is the mode; the certificate is Certificate, or one made at start.
	TLS         TLSMode
	Certificate *tls.Certificate
	// ClientCAs, when set, are the authorities of whose certificates every client has to
	// show one, on both channels.
	ClientCAs *x509.CertPool
	// DisableMLSD takes MLSD and MLST away, as vsftpd has neither.
	DisableMLSD bool
	// Log is called for every event, from the session's goroutine; it must be quick.
	Log func(Event)
}

// Server is a running server.
type Server struct {
	ftp     *ftpserver.FtpServer
	driver  *driver
	control *trackedListener
	addr    string
	pem     []byte
	serving sync.WaitGroup
	once    sync.Once
	stopErr error
}

// Start listens and serves until Stop.
func Start(cfg Config) (*Server, error) {
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if err := checkLoopback(cfg.Addr); err != nil {
		return nil, err
	}
	if cfg.User == "" {
		return nil, errors.New("ftpd: no user given")
	}
	d, err := newDriver(cfg)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("ftpd: listen on %s: %w", cfg.Addr, err)
	}
	s := &Server{driver: d, pem: d.pem, ftp: ftpserver.NewFtpServer(d)}
	s.control = &trackedListener{Listener: listener, open: map[*trackedConn]struct{}{}}
	d.listen = s.control
	if cfg.TLS == Implicit {
		d.listen = tls.NewListener(s.control, d.tls)
	}
	if err := s.ftp.Listen(); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("ftpd: %w", err)
	}
	s.addr = s.ftp.Addr()
	// Serve ends only by Stop, whose error it would repeat.
	s.serving.Go(func() { _ = s.ftp.Serve() })
	return s, nil
}

func checkLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("ftpd: address %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("ftpd: address %q is not on loopback; use 127.0.0.1:PORT", addr)
	}
	return nil
}

// Addr is the address to connect to, as host:port.
func (s *Server) Addr() string { return s.addr }

// CertificatePEM is the server's certificate for clients to trust; nil without
// TLS, and when the certificate was given.
func (s *Server) CertificatePEM() []byte { return s.pem }

// Events returns a copy of the journal, oldest first: the last 100,000 events.
func (s *Server) Events() []Event { return s.driver.journal.events() }

// Sessions is the number of clients connected now.
func (s *Server) Sessions() int { return s.driver.sessions() }

// DropSessions ends every session at once without a word, as a crash of the
// server would. New ones are taken.
func (s *Server) DropSessions() { s.control.cut() }

// Stop ends the server and every session and waits for them. It may be called
// several times.
func (s *Server) Stop() error {
	s.once.Do(func() {
		if err := s.ftp.Stop(); err != nil && !errors.Is(err, ftpserver.ErrNotListening) {
			s.stopErr = fmt.Errorf("ftpd: stop: %w", err)
		}
		s.serving.Wait()
		s.control.cut()
		if !s.driver.waitIdle(stopTimeout) {
			s.stopErr = errors.Join(s.stopErr, errors.New("ftpd: stop: sessions did not end"))
		}
	})
	return s.stopErr
}
