package ftpd

import (
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	ftpserver "github.com/fclairamb/ftpserverlib"
	"github.com/spf13/afero"

	"github.com/fairlead-io/fairlead/demo/internal/selfsigned"
)

// driver is what the FTP library asks about accounts, settings and files.
type driver struct {
	cfg     Config
	listen  net.Listener // set before the server starts
	fs      afero.Fs
	tls     *tls.Config
	pem     []byte
	journal *journal

	mu      sync.Mutex
	clients map[uint32]struct{}
	changed chan struct{} // closed and replaced whenever a client leaves
}

var _ ftpserver.MainDriver = (*driver)(nil)

func newDriver(cfg Config) (*driver, error) {
	d := &driver{
		cfg: cfg, fs: cfg.Fs, journal: &journal{log: cfg.Log},
		clients: map[uint32]struct{}{}, changed: make(chan struct{}),
	}
	if d.fs == nil {
		if cfg.Root == "" {
			return nil, errors.New("ftpd: neither a root directory nor a file system given")
		}
		d.fs = afero.NewBasePathFs(afero.NewOsFs(), cfg.Root)
	}
	switch cfg.TLS {
	case Plain:
		return d, nil
	case Explicit, Implicit:
	default:
		return nil, fmt.Errorf("ftpd: TLS mode %q; want %q, %q or none", cfg.TLS, Explicit, Implicit)
	}
	cert := cfg.Certificate
	if cert == nil {
		made, pem, err := selfsigned.New()
		if err != nil {
			return nil, fmt.Errorf("ftpd: make certificate: %w", err)
		}
		cert, d.pem = &made, pem
	}
	// One config for both channels: its ticket keys are what lets a data
	// connection resume the session of its control connection.
	d.tls = &tls.Config{
		Certificates: []tls.Certificate{*cert},
		MinVersion:   tls.VersionTLS12,
		VerifyConnection: func(cs tls.ConnectionState) error {
			d.journal.add(Event{Command: "TLS", Resumed: cs.DidResume})
			return nil
		},
	}
	if d.cfg.ClientCAs != nil {
		d.tls.ClientCAs, d.tls.ClientAuth = d.cfg.ClientCAs, tls.RequireAndVerifyClientCert
	}
	return d, nil
}

// GetSettings is called once, when the server starts to listen.
func (d *driver) GetSettings() (*ftpserver.Settings, error) {
	s := &ftpserver.Settings{
		Listener: d.listen,
		Banner:   "Fairlead demo FTP server",
		// Data ports are opened on all interfaces by the library; it drops peers
		// that are not the control connection's, which is on loopback.
		PasvConnectionsCheck: ftpserver.IPMatchRequired,
		DisableActiveMode:    true,
		DisableSite:          true,
		DisableLISTArgs:      true,
		DisableMLSD:          d.cfg.DisableMLSD,
		DisableMLST:          d.cfg.DisableMLSD,
		DefaultTransferType:  ftpserver.TransferTypeBinary,
		ConnectionTimeout:    10,
		IdleTimeout:          300,
	}
	switch d.cfg.TLS {
	case Explicit:
		s.TLSRequired = ftpserver.MandatoryEncryption
	case Implicit:
		s.TLSRequired = ftpserver.ImplicitEncryption
	}
	return s, nil
}

// GetTLSConfig is called per handshake.
func (d *driver) GetTLSConfig() (*tls.Config, error) {
	if d.tls == nil {
		return nil, errors.New("TLS is not enabled")
	}
	return d.tls, nil
}

// ClientConnected opens a session.
func (d *driver) ClientConnected(cc ftpserver.ClientContext) (string, error) {
	d.mu.Lock()
	d.clients[cc.ID()] = struct{}{}
	d.mu.Unlock()
	d.journal.add(Event{Session: cc.ID(), Remote: cc.RemoteAddr().String(), Command: "CONNECT"})
	return "Fairlead demo FTP server", nil
}

// ClientDisconnected ends a session.
func (d *driver) ClientDisconnected(cc ftpserver.ClientContext) {
	d.journal.add(Event{Session: cc.ID(), Remote: cc.RemoteAddr().String(), Command: "DISCONNECT"})
	d.mu.Lock()
	delete(d.clients, cc.ID())
	close(d.changed)
	d.changed = make(chan struct{})
	d.mu.Unlock()
}

// AuthUser knows one account.
func (d *driver) AuthUser(cc ftpserver.ClientContext, user, pass string) (ftpserver.ClientDriver, error) {
	ok := subtle.ConstantTimeCompare([]byte(user), []byte(d.cfg.User)) &
		subtle.ConstantTimeCompare([]byte(pass), []byte(d.cfg.Password))
	var err error
	if ok != 1 {
		err = errors.New("wrong user or password")
	}
	d.journal.add(Event{Session: cc.ID(), Remote: cc.RemoteAddr().String(), Command: "PASS", Err: err})
	if err != nil {
		return nil, err
	}
	return &sessionFs{Fs: d.fs, client: cc, journal: d.journal}, nil
}

func (d *driver) sessions() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.clients)
}

// waitIdle reports whether the last session ended in time.
func (d *driver) waitIdle(limit time.Duration) bool {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		d.mu.Lock()
		left, changed := len(d.clients), d.changed
		d.mu.Unlock()
		if left == 0 {
			return true
		}
		select {
		case <-changed:
		case <-timeout.C:
			return false
		}
	}
}
