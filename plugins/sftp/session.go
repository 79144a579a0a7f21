package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/proxy"
)

// endpoint is what all sessions of one receive location or send port share. It does
// not change once made.
type endpoint struct {
	props connection
	addr  string
	check ssh.HostKeyCallback
	keys  []ssh.Signer // of private_key
	dial  *proxy.Dialer
}

func newEndpoint(props connection) (*endpoint, error) {
	addr, err := props.hostPort()
	if err != nil {
		return nil, problem("address", "%v", err)
	}
	e := &endpoint{props: props, addr: addr}
	if e.dial, err = props.Proxy.Dialer(props.Timeout.D()); err != nil {
		return nil, err
	}
	if e.check, err = props.checkHostKey(); err != nil {
		return nil, err
	}
	if props.PrivateKey.Reveal() != "" {
		signer, err := props.signer()
		if err != nil {
			return nil, err
		}
		e.keys = append(e.keys, signer)
	}
	return e, nil
}

// session is one SSH connection with one SFTP channel. One goroutine uses it at a
// time.
type session struct {
	*sftp.Client
	conn  *ssh.Client
	wire  *watched
	made  time.Time
	idle  time.Time // when it was given back last
	used  bool      // it was given back before
	close sync.Once
	over  chan struct{} // closed when the session is dead
}

// connect dials, makes sure that it is the right server, and logs in. Every error is
// [sdk.Disconnected].
func (e *endpoint) connect(ctx context.Context) (*session, error) {
	tcp, err := e.dial.DialContext(ctx, "tcp", e.addr)
	if err != nil {
		return nil, sdk.Disconnected(fmt.Errorf("connect to %s: %w", e.addr, err))
	}
	wire := &watched{Conn: tcp, timeout: e.props.Timeout.D()}
	s := &session{wire: wire, made: time.Now(), over: make(chan struct{})}
	stop := context.AfterFunc(ctx, s.kill)
	defer stop()
	// The handshake as a whole, or a server could lead us on byte by byte.
	limit := time.AfterFunc(e.props.Timeout.D(), s.kill)
	defer limit.Stop()
	wire.begin()
	defer wire.end()
	if err := e.logIn(s); err != nil {
		s.kill()
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w (%v)", cause, err)
		}
		return nil, sdk.Disconnected(e.explain(err))
	}
	return s, nil
}

func (e *endpoint) logIn(s *session) error {
	methods, done := e.methods()
	defer done()
	conn, channels, requests, err := ssh.NewClientConn(s.wire, e.addr, &ssh.ClientConfig{
		Config: ssh.Config{
			Ciphers: e.props.Ciphers, KeyExchanges: e.props.KeyExchanges, MACs: e.props.MACs,
		},
		User:              e.props.User,
		Auth:              methods,
		HostKeyCallback:   e.check,
		HostKeyAlgorithms: e.props.HostKeyAlgorithms,
		ClientVersion:     "SSH-2.0-Fairlead",
	})
	if err != nil {
		return fmt.Errorf("log in at %s: %w", e.addr, err)
	}
	s.conn = ssh.NewClient(conn, channels, requests)
	if s.Client, err = sftp.NewClient(s.conn); err != nil {
		return fmt.Errorf("open the SFTP channel at %s: %w", e.addr, err)
	}
	return nil
}

// methods of logging in, in the order in which they are tried; done ends what they
// need.
func (e *endpoint) methods() (methods []ssh.AuthMethod, done func()) {
	done = func() {}
	signers := func() ([]ssh.Signer, error) { return e.keys, nil }
	if e.props.Agent != "" {
		var conn net.Conn
		done = func() {
			if conn != nil {
				_ = conn.Close()
			}
		}
		signers = func() ([]ssh.Signer, error) {
			var err error
			d := net.Dialer{Timeout: e.props.Timeout.D()}
			if conn, err = d.Dial("unix", e.props.Agent); err != nil {
				return nil, fmt.Errorf("agent: %w", err)
			}
			_ = conn.SetDeadline(time.Now().Add(e.props.Timeout.D()))
			held, err := agent.NewClient(conn).Signers()
			if err != nil {
				return nil, fmt.Errorf("agent: %w", err)
			}
			return append(held, e.keys...), nil
		}
	}
	if len(e.keys) > 0 || e.props.Agent != "" {
		methods = append(methods, ssh.PublicKeysCallback(signers))
	}
	if password := e.props.Password.Reveal(); password != "" {
		methods = append(methods, ssh.Password(password), ssh.KeyboardInteractive(
			// One hidden question is the one for the password. Others nobody is there to
			// answer.
			func(_, _ string, questions []string, echos []bool) ([]string, error) {
				answers := make([]string, len(questions))
				for i := range questions {
					if echos[i] || len(questions) > 1 {
						return nil, fmt.Errorf("the server asks %q, which no property answers", questions[i])
					}
					answers[i] = password
				}
				return answers, nil
			}))
	}
	return methods, done
}

// explain adds what to do.
func (e *endpoint) explain(err error) error {
	text := err.Error()
	var negotiation *ssh.AlgorithmNegotiationError
	hint := ""
	switch {
	case errors.Is(err, errHostKey):
		hint = "; this may be another server. If its administrator confirms the new key, put it into host_keys"
	case strings.Contains(text, "unable to authenticate"):
		hint = "; check user, password, private_key and what the server allows this user"
	case errors.As(err, &negotiation):
		hint = "; choose what it offers by ciphers, key_exchanges, macs or host_key_algorithms"
	case strings.Contains(text, "subsystem request failed"):
		hint = "; the server does not offer SFTP to this user"
	}
	if secret := e.props.Password.Reveal(); secret != "" && strings.Contains(text, secret) {
		err = errors.New(strings.ReplaceAll(text, secret, "***"))
	}
	return fmt.Errorf("%w%s", err, hint)
}

// run does something on the connection, which has to make progress all the time and
// ends with the context. After anything but an answer of the server the session is
// dead.
func (s *session) run(ctx context.Context, do func() error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, s.kill)
	s.wire.begin()
	err := do()
	s.wire.end()
	if !stop() {
		s.kill()
		if err != nil {
			return fmt.Errorf("%w (%v)", context.Cause(ctx), err)
		}
		return nil // it was done before the context ended
	}
	if err != nil && !isAnswer(err) {
		s.kill()
	}
	return err
}

// kill ends the connection at once, and every wait on it. Any goroutine may call it.
func (s *session) kill() {
	s.close.Do(func() {
		close(s.over)
		_ = s.wire.Close() // whatever it says, the connection is given up
	})
}

func (s *session) isDead() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// isAnswer reports whether err is what the server said of a request: the connection
// is in order.
func isAnswer(err error) bool {
	var status *sftp.StatusError
	var found *finding
	return errors.As(err, &status) || errors.As(err, &found) || errors.Is(err, os.ErrNotExist) ||
		errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrExist)
}

// finding is an error that we raise about what the server has: the connection is in
// order.
type finding struct{ err error }

func (f *finding) Error() string { return f.err.Error() }
func (f *finding) Unwrap() error { return f.err }

func found(err error) error { return &finding{err} }

// watched closes a connection on which the server has not said anything for the
// time-out although it was asked. Between operations it may be silent.
type watched struct {
	net.Conn
	timeout time.Duration

	mu   sync.Mutex
	busy bool
}

func (w *watched) begin() { w.set(true) }
func (w *watched) end()   { w.set(false) }

func (w *watched) set(busy bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = busy
	w.deadlineLocked()
}

func (w *watched) deadlineLocked() {
	var at time.Time
	if w.busy {
		at = time.Now().Add(w.timeout)
	}
	_ = w.Conn.SetReadDeadline(at) // fails on a closed connection, where Read does as well
}

// Read implements net.Conn. It runs in a goroutine of the SSH client all the time.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.mu.Lock()
		w.deadlineLocked()
		w.mu.Unlock()
	}
	return n, err
}

// Write implements net.Conn.
func (w *watched) Write(p []byte) (int, error) {
	if err := w.Conn.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}
