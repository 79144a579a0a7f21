package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/sdk"
)

const (
	// A lost connection is sought again this often, per server, before it is given
	// up; then the endpoint reports the error and starts anew after its back-off.
	reconnects    = 10
	reconnectWait = 500 * time.Millisecond
	// A broker that has fallen silent is noticed after pingEvery × (pingsOut + 1).
	pingEvery = 10 * time.Second
	pingsOut  = 2
	// closeTimeout bounds the wait for a connection's last callback.
	closeTimeout = 5 * time.Second
	// statusPoll is how often a wait looks whether the connection is back.
	statusPoll = 100 * time.Millisecond
)

var (
	// errLinkClosed is returned by connect after close.
	errLinkClosed = errors.New("endpoint is closed")
	// errLost is the cause of contexts that ended with the connection.
	errLost = errors.New("connection to broker lost")
)

// link holds the one connection of an endpoint, made at first use and again after
// it was given up. Nothing is buffered while it is down: what is published then
// fails at once instead of going out at a time when it may be wrong.
type link struct {
	p   connection
	log *slog.Logger

	// dialing holds a token while a goroutine dials.
	dialing chan struct{}
	ctx     context.Context // ends at close
	cancel  context.CancelFunc

	mu   sync.Mutex
	conn *conn
}

// conn is one connection, through reconnects.
type conn struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	asker    *asker
	closedCh chan struct{} // closed after the last callback

	mu   sync.Mutex
	up   context.Context // ends when the connection is lost; a new one when it is back
	down context.CancelFunc
}

func newConn() *conn {
	c := &conn{closedCh: make(chan struct{})}
	c.up, c.down = context.WithCancel(context.Background())
	return c
}

func (c *conn) lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down()
}

func (c *conn) back() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.up, c.down = context.WithCancel(context.Background())
}

func (c *conn) upContext() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up
}

// generation counts the connections behind this one. It grows before anything is sent
// on a new one.
func (c *conn) generation() uint64 { return c.nc.Stats().Reconnects }

// connected reports whether requests can be made now.
func (c *conn) connected() bool {
	return c.nc.Status() == nats.CONNECTED && c.upContext().Err() == nil
}

// whileUp makes a context for one request, which ends with the connection too:
// nats.go would let the request wait for an answer that cannot come any more.
func (c *conn) whileUp(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.upContext(), func() { cancel(errLost) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// why is the reason for an error of a request that was made with ctx.
func why(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) && errors.Is(context.Cause(ctx), errLost) {
		return errLost
	}
	return err
}

func newLink(p connection, log *slog.Logger) *link {
	ctx, cancel := context.WithCancel(context.Background())
	return &link{p: p, log: log, dialing: make(chan struct{}, 1), ctx: ctx, cancel: cancel}
}

// connect returns the connection, dialling if there is none. Its errors are
// sdk.Disconnected.
func (l *link) connect(ctx context.Context) (*conn, error) {
	if c := l.current(); c != nil && l.ctx.Err() == nil && c.connected() {
		return c, nil
	}
	select {
	case l.dialing <- struct{}{}:
		defer func() { <-l.dialing }()
	case <-ctx.Done():
		return nil, sdk.Disconnected(fmt.Errorf("connect to broker: %w", ctx.Err()))
	}
	if l.ctx.Err() != nil {
		return nil, sdk.Disconnected(errLinkClosed)
	}
	if c := l.current(); c != nil && !c.nc.IsClosed() {
		if !c.connected() {
			return nil, sdk.Disconnected(fmt.Errorf("%w; it is sought again", errLost))
		}
		return c, nil
	}
	c, err := l.dial(ctx)
	if err != nil {
		return nil, sdk.Disconnected(fmt.Errorf("connect to broker: %w", err))
	}
	l.mu.Lock()
	l.conn = c
	l.mu.Unlock()
	return c, nil
}

func (l *link) current() *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn
}

func (l *link) dial(ctx context.Context) (*conn, error) {
	d := &dialer{life: l.ctx, first: ctx, timeout: l.p.Timeout.D()}
	c := newConn()
	nc, err := nats.Connect(l.p.Broker, append(l.auth(),
		nats.Name("fairlead"),
		nats.SetCustomDialer(d), nats.SkipHostLookup(),
		nats.Timeout(l.p.Timeout.D()), nats.FlusherTimeout(l.p.Timeout.D()),
		nats.MaxReconnects(reconnects), nats.ReconnectWait(reconnectWait),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(pingsOut),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			l.log.Warn("broker reports an error", "error", err)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			c.lost()
			if err != nil {
				l.log.Warn("connection to broker lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			c.back()
			l.log.Info("connection to broker is back")
		}),
		nats.ClosedHandler(func(*nats.Conn) {
			c.lost()
			close(c.closedCh)
		}),
	)...)
	if err != nil {
		c.lost()
		return nil, err
	}
	d.connected()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(l.p.Timeout.D()))
	if err != nil {
		nc.Close()
		return nil, err
	}
	if c.asker, err = newAsker(nc); err != nil {
		nc.Close()
		return nil, err
	}
	c.nc, c.js = nc, js
	return c, nil
}

func (l *link) auth() []nats.Option {
	var opts []nats.Option
	switch {
	case l.p.CredentialsFile != "":
		opts = append(opts, nats.UserCredentials(l.p.CredentialsFile))
	case l.p.Token != "":
		opts = append(opts, nats.Token(l.p.Token.Reveal()))
	case l.p.User != "":
		opts = append(opts, nats.UserInfo(l.p.User, l.p.Password.Reveal()))
	}
	if l.p.CAFile != "" {
		opts = append(opts, nats.RootCAs(l.p.CAFile))
	}
	return opts
}

// close ends the connection and waits, bounded, for its goroutines' last words.
func (l *link) close() {
	l.cancel()
	l.dialing <- struct{}{} // a dial under way ends by l.ctx
	defer func() { <-l.dialing }()
	c := l.current()
	if c == nil {
		return
	}
	c.nc.Close()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-c.closedCh:
	case <-timer.C:
	}
}

// waitConnected waits until the connection is up, is given up, or ctx ends.
func (c *conn) waitConnected(ctx context.Context) error {
	if c.connected() {
		return nil
	}
	ticker := time.NewTicker(statusPoll)
	defer ticker.Stop()
	for {
		switch {
		case c.connected():
			return nil
		case c.nc.IsClosed():
			return sdk.Disconnected(fmt.Errorf("broker: connection given up after %d attempts", reconnects))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return sdk.Disconnected(fmt.Errorf("broker: not connected: %w", ctx.Err()))
		}
	}
}

// dialer makes dials end with the endpoint, and the first one also with the
// context of who asked for it. nats.go itself knows no contexts.
type dialer struct {
	life    context.Context
	timeout time.Duration

	mu    sync.Mutex
	first context.Context // nil after the first connect
}

func (d *dialer) connected() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.first = nil
}

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.life, d.timeout)
	defer cancel()
	d.mu.Lock()
	first := d.first
	d.mu.Unlock()
	if first != nil {
		defer context.AfterFunc(first, cancel)()
	}
	var nd net.Dialer
	conn, err := nd.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return sdk.Guard(ctx, conn), nil
}
