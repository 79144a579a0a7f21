package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ftpclient "github.com/jlaffaye/ftp"

	"github.com/fairlead-io/fairlead/sdk/files"
	"github.com/fairlead-io/fairlead/sdk/proxy"
)

// The steps of connecting, as they stand in errors.
const (
	stepConnect = "connect to"
	stepLogin   = "log in at"
)

// leaveMax bounds how long a server is waited for when it is left.
const leaveMax = 2 * time.Second

// endpoint is what all sessions of one receive location or send port share. It
// does not change once made.
type endpoint struct {
	props connection
	addr  string
	tls   *tls.Config // nil without TLS
	log   *slog.Logger
	zone  *time.Location // of LIST
	// sessions counts those that were made, for the trace.
	sessions atomic.Int64
	// dialer also makes the data connections.
	dialer *proxy.Dialer
	// relative says that some directory counts from the login directory.
	relative bool
	// noMLSD is set when the server offers MLSD and then does not know it.
	noMLSD func() bool
	// nlst is set when LIST turned out not to be understood.
	nlst atomic.Bool
	// pipelining is learned by the first session that tries.
	pipelining pipelining
	active     activeState
}

// session is one control connection that is logged in, and its data connection
// while there is one. One goroutine uses it at a time.
type session struct {
	end     *endpoint
	ftp     *ftpclient.ServerConn
	control *controlConn
	trace   *trace
	tls     *tls.Config // with the session cache of this control connection alone
	// login is the directory after login, if the endpoint has relative ones.
	login string
	// idleSince is when it was last given back; used says that it has been.
	idleSince time.Time
	used      bool
	// loggedIn: before that errors name the server anyway.
	loggedIn bool
	// pipelining: several commands were sent and not all replies have come.
	pipelining bool

	// For the dial function, which the library calls without arguments of ours.
	opCtx  context.Context
	record *bytes.Buffer // set while a listing is read
	upload bool          // set while a file is sent
	// awaited is the data connection that the server was told to make.
	awaited *rollingConn

	// left says that the sockets are closed.
	left func()

	mu   sync.Mutex
	raw  map[*rollingConn]struct{}
	dead bool
}

// connect dials, encrypts and logs in. Every error says that nothing has
// happened but that ([sdk.Disconnected]).
//
// left is called once when the session is over, also if it never was.
func (e *endpoint) connect(ctx context.Context, left func()) (*session, error) {
	s := &session{end: e, trace: e.newTrace(), raw: map[*rollingConn]struct{}{}, opCtx: ctx, left: sync.OnceFunc(left)}
	options := []ftpclient.DialOption{
		ftpclient.DialWithDialFunc(s.dial),
		ftpclient.DialWithLocation(e.zone),
		ftpclient.DialWithDisabledEPSV(e.props.DisableEPSV || e.props.Mode == modeActive),
		ftpclient.DialWithDisabledMLSD(e.withoutMLSD()),
	}
	if e.tls != nil {
		s.tls = e.tls.Clone()
		// A data connection has to resume the session of its own control
		// connection. A cache that several share would offer another's.
		s.tls.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		options = append(options, ftpclient.DialWithTLS(s.tls))
	}
	step := stepConnect
	err := s.run(ctx, func() error {
		conn, err := ftpclient.Dial(e.addr, options...)
		if err != nil {
			return err
		}
		s.ftp, step = conn, stepLogin
		if err := conn.Login(e.props.User, e.props.Password.Reveal()); err != nil {
			return err
		}
		return s.askLogin()
	})
	if err != nil {
		s.kill()
		return nil, e.connectError(step, err)
	}
	s.loggedIn = true
	return s, nil
}

// dial is called by the library: first for the control connection, then for
// every data connection.
func (s *session) dial(network, addr string) (net.Conn, error) {
	if s.awaited != nil {
		raw := s.awaited
		s.awaited = nil
		return s.dataConn(raw), nil
	}
	conn, err := s.end.dialer.DialContext(s.opCtx, network, s.end.beyondProxy(addr))
	if err != nil {
		return nil, err
	}
	raw := s.track(conn)
	if raw == nil {
		return nil, net.ErrClosed
	}
	if s.ftp != nil {
		return s.dataConn(raw), nil
	}
	control, err := s.secure(raw)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	control.answer = s.answer
	s.control = control
	return control, nil
}

// track makes a socket one of the session's, to be closed with it. It returns nil, and
// closes the socket, if the session is dead already.
func (s *session) track(conn net.Conn) *rollingConn {
	raw := &rollingConn{Conn: conn, timeout: s.end.props.Timeout.D()}
	raw.closed = func() { s.forget(raw) }
	if !s.remember(raw) {
		_ = conn.Close()
		return nil
	}
	return raw
}

func (s *session) dataConn(raw *rollingConn) *dataConn {
	data := &dataConn{Conn: raw, raw: raw, record: s.record, upload: s.upload, trace: s.trace, begun: time.Now()}
	if s.tls != nil {
		// The handshake waits for the first byte: servers begin theirs only
		// after they have replied to the command.
		data.tls = tls.Client(raw, s.tls)
		data.Conn = data.tls
	}
	return data
}

// answer does what takes other commands than those of the library: see
// [controlConn].
func (s *session) answer(line string) (reply string, err error) {
	if line == "PASV" && s.end.props.Mode == modeActive {
		return s.goActive()
	}
	if line == "FEAT" {
		return s.features()
	}
	if verb, _, _ := strings.Cut(line, " "); verb == "USER" || verb == "PASS" {
		return s.logIn(line)
	}
	return "", nil
}

// beyondProxy puts the server's name into an address that the library made of its
// control connection, whose other end is the proxy.
func (e *endpoint) beyondProxy(addr string) string {
	host, _, _ := net.SplitHostPort(e.addr)
	if _, port, err := net.SplitHostPort(addr); err == nil && e.props.Proxy.Used() {
		return net.JoinHostPort(host, port)
	}
	return addr
}

// secure makes the control connection of a socket.
func (s *session) secure(raw net.Conn) (*controlConn, error) {
	switch s.end.props.TLS {
	case tlsExplicit:
		return startTLS(raw, s.tls, s.trace)
	case tlsImplicit:
		conn := tls.Client(raw, s.tls)
		return &controlConn{Conn: s.trace.wrap(conn)}, conn.Handshake()
	}
	return &controlConn{Conn: s.trace.wrap(raw)}, nil
}

func (s *session) remember(c *rollingConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return false
	}
	s.raw[c] = struct{}{}
	return true
}

func (s *session) forget(c *rollingConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.raw, c)
}

// kill closes the sockets at once, which ends every wait on them. It may be
// called from any goroutine and several times.
func (s *session) kill() {
	s.mu.Lock()
	s.dead = true
	open := make([]*rollingConn, 0, len(s.raw))
	for c := range s.raw {
		open = append(open, c)
	}
	s.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // whatever it says, the connection is given up
	}
	s.left()
}

func (s *session) isDead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

// quit takes leave of the server without waiting for its answer.
func (s *session) quit() {
	if !s.isDead() {
		_ = s.ftp.Quit()
	}
	s.kill()
}

// quitAndWait also waits a moment for the server to close the connection, which counts
// there until then.
func (s *session) quitAndWait() {
	limit := time.AfterFunc(leaveMax, s.kill)
	defer limit.Stop()
	if !s.isDead() {
		if _, _, err := s.command("QUIT"); err == nil {
			_, _ = io.Copy(io.Discard, s.control) // it ends with the connection
		}
	}
	s.kill()
}

// run does something on the connection under a context. When the context ends,
// the sockets are closed, so that run returns soon. After anything but a plain
// refusal by the server the session is dead: replies may still be on their way.
func (s *session) run(ctx context.Context, do func() error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	s.opCtx = ctx
	stop := context.AfterFunc(ctx, s.kill)
	err := brief(unpanicked(do))
	if s.loggedIn {
		err = s.end.at(err)
	}
	if !stop() {
		s.kill()
		if err == nil {
			// It was done before the context ended.
			return nil
		}
		return ended(ctx, err)
	}
	if err != nil && (!isRefusal(err) || s.pipelining) {
		s.kill()
	}
	return err
}

// unpanicked makes an error of a panic: the library has some over replies that make no
// sense, and a session that is not given back would keep its place for good. It happened
// in the middle of who knows what.
func unpanicked(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a reply of the server makes no sense, or this adapter has a fault: panic: %v, %s", p, panicPlace())
		}
	}()
	return do()
}

// panicPlace names the functions in which a panic happened, innermost first.
func panicPlace() string {
	var callers [16]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(0, callers[:])])
	var names []string
	for frame, more := frames.Next(); more; frame, more = frames.Next() {
		if !strings.HasPrefix(frame.Function, "runtime.") {
			names = append(names, fmt.Sprintf("%s:%d", path.Base(frame.Function), frame.Line))
		}
	}
	return "in " + strings.Join(names[min(2, len(names)):min(6, len(names))], ", ")
}

// askLogin notes where the login led, from which relative directories count. It
// must come before the first CWD.
func (s *session) askLogin() error {
	if !s.end.relative {
		return nil
	}
	login, err := s.ftp.CurrentDir()
	if err != nil {
		return fmt.Errorf("ask for the login directory: %w", err)
	}
	// RFC 959: a quote in the name is doubled.
	login = strings.ReplaceAll(login, `""`, `"`)
	if !strings.HasPrefix(login, "/") {
		return fmt.Errorf("the login directory is %q; write directories with a leading slash", login)
	}
	s.login = login
	return nil
}

// absolute makes a path that begins with a slash from a directory property.
func (s *session) absolute(dir string) string {
	if strings.HasPrefix(dir, "/") {
		return path.Clean(dir)
	}
	return path.Join(s.login, dir)
}

// makeDirectory makes a directory and those above it that are missing.
func (s *session) makeDirectory(dir string) error {
	is := func(dir string) (bool, error) {
		err := s.ftp.ChangeDir(dir)
		if err != nil && isRefusal(err) {
			return false, nil
		}
		return err == nil, err
	}
	return files.MakeDirectory(dir, is, s.ftp.MakeDir)
}
