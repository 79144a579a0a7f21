// Package proxy makes connections by way of a proxy, for adapters whose servers are not
// reachable from the node itself: SOCKS5 (RFC 1928, RFC 1929) and HTTP CONNECT (RFC 9110,
// section 9.3.6). An adapter embeds [Proxy] in its properties and dials by its [Dialer].
//
// The proxy is told the server's name, and resolves it. What goes through is not changed:
// TLS and SSH are spoken with the server itself.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

// The kinds of proxy, as the scheme of the property says them.
const (
	socks5      = "socks5"
	httpConnect = "http"
)

// credentialMax is what SOCKS5 has room for (RFC 1929).
const credentialMax = 255

// Proxy are the properties. Without proxy connections are made directly.
type Proxy struct {
	Proxy         string     `json:"proxy,omitempty" reach:"1080,instead" jsonschema_description:"Proxy to reach the server by: socks5://host:port, or http://host:port (CONNECT). It resolves the server's name. The node itself need reach the proxy only."`
	ProxyUser     string     `json:"proxy_user,omitempty" jsonschema_description:"Name to log in with at the proxy."`
	ProxyPassword sdk.Secret `json:"proxy_password,omitempty" jsonschema_description:"Password of proxy_user."`
}

// Used reports whether there is a proxy.
func (p Proxy) Used() bool { return p.Proxy != "" }

// Problems are what is wrong with the properties, as [sdk.PropertyError] values.
func (p Proxy) Problems() []error {
	var errs []error
	add := func(property, format string, args ...any) {
		errs = append(errs, &sdk.PropertyError{Property: property, Problem: fmt.Sprintf(format, args...)})
	}
	user, password := p.ProxyUser, p.ProxyPassword.Reveal()
	if !p.Used() {
		if user != "" {
			add("proxy_user", "has no effect without proxy; set proxy, or take it away")
		}
		if password != "" {
			add("proxy_password", "has no effect without proxy; set proxy, or take it away")
		}
		return errs
	}
	kind, _, err := p.parse()
	if err != nil {
		add("proxy", "%v", err)
	}
	switch {
	case password != "" && user == "":
		add("proxy_password", "has no effect without proxy_user; set proxy_user")
	case kind == socks5 && user != "" && password == "":
		add("proxy_password", "is missing; socks5 has no login by name alone")
	case len(password) > credentialMax:
		add("proxy_password", "has %d bytes, at most %d are possible", len(password), credentialMax)
	case strings.ContainsAny(password, "\r\n\x00"):
		add("proxy_password", "contains a line break or a NUL; a password from a file may end in one")
	}
	switch {
	case len(user) > credentialMax:
		add("proxy_user", "has %d bytes, at most %d are possible", len(user), credentialMax)
	case strings.ContainsAny(user, "\r\n\x00"):
		add("proxy_user", "contains a line break or a NUL")
	case kind == httpConnect && strings.Contains(user, ":"):
		add("proxy_user", "contains a colon, which a login at an http proxy cannot have (RFC 7617)")
	}
	return errs
}

// parse takes the property apart. Its errors do not repeat what may hold a password.
func (p Proxy) parse() (kind, address string, err error) {
	u, err := url.Parse(p.Proxy)
	const want = "want socks5://host:port or http://host:port"
	switch {
	case err != nil:
		return "", "", errors.New("is not a URL; " + want)
	case u.User != nil:
		return "", "", errors.New("holds a login; put it into proxy_user and proxy_password")
	case u.Scheme != socks5 && u.Scheme != httpConnect:
		return "", "", fmt.Errorf("%q is not a kind of proxy that is known; %s", u.Scheme, want)
	case u.Hostname() == "" || u.Port() == "":
		return "", "", fmt.Errorf("%q lacks a host or a port; %s", p.Proxy, want)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return "", "", fmt.Errorf("%q has more than a host and a port; %s", p.Proxy, want)
	}
	return u.Scheme, u.Host, nil
}

// Dialer makes connections, directly or by a proxy.
type Dialer struct {
	props         Proxy
	kind, address string
	timeout       time.Duration
}

// Dialer returns the dialer of the properties. Each connection has to be made within
// the timeout, with all that is said to the proxy.
func (p Proxy) Dialer(timeout time.Duration) (*Dialer, error) {
	d := &Dialer{props: p, timeout: timeout}
	if !p.Used() {
		return d, nil
	}
	var err error
	if d.kind, d.address, err = p.parse(); err != nil {
		return nil, &sdk.PropertyError{Property: "proxy", Problem: err.Error()}
	}
	return d, nil
}

// DialContext connects to the address, as host:port. ctx is the one that the adapter's
// method was given, or one derived from it: the connection is guarded ([sdk.Guard]).
// It is a plain TCP connection also by a proxy, so that it can be closed by halves; its
// RemoteAddr is then the proxy's.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	if !d.props.Used() {
		return tcp(ctx, network, address)
	}
	conn, err := tcp(ctx, "tcp", d.address)
	if err != nil {
		return nil, fmt.Errorf("connect to the proxy %s: %w", d.address, err)
	}
	if err := d.ask(ctx, conn, address); err != nil {
		_ = conn.Close() // nothing was said on it to the server
		return nil, fmt.Errorf("ask the proxy %s for %s: %w", d.address, address, d.withoutSecret(err))
	}
	return conn, nil
}

// keepAlive keeps firewalls from forgetting a connection that is silent for a while, as the
// control connection of FTP is during a transfer. A NOOP would do that too, but many servers
// read no command then: its reply comes at any time, before or after that of the transfer,
// and some close the connection. Idle is less than the minute after which the most impatient
// firewalls forget.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 15 * time.Second, Count: 6}

func tcp(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return sdk.Guard(ctx, conn), nil
}

// ask has the proxy connect to the address. It ends with the context.
func (d *Dialer) ask(ctx context.Context, conn net.Conn, address string) error {
	if err := conn.SetDeadline(time.Now().Add(d.timeout)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	var err error
	if d.kind == socks5 {
		err = d.askSOCKS(ctx, conn, address)
	} else {
		err = d.askHTTP(conn, address)
	}
	if !stop() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("no answer within %v: %w", d.timeout, context.Cause(ctx))
		}
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

// withoutSecret is for proxies that repeat what they refuse.
func (d *Dialer) withoutSecret(err error) error {
	text := err.Error()
	if secret := d.props.ProxyPassword.Reveal(); secret != "" && strings.Contains(text, secret) {
		return errors.New(strings.ReplaceAll(text, secret, "***"))
	}
	return err
}
