package proxy

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/proxy"
)

// headerMax bounds what an HTTP proxy may answer, in bytes.
const headerMax = 64 << 10

// askSOCKS lets the library speak on a connection that we keep: what it returns hides
// that the connection can be closed by halves.
func (d *Dialer) askSOCKS(ctx context.Context, conn net.Conn, address string) error {
	var login *proxy.Auth
	if d.props.ProxyUser != "" {
		login = &proxy.Auth{User: d.props.ProxyUser, Password: d.props.ProxyPassword.Reveal()}
	}
	dialer, err := proxy.SOCKS5("tcp", d.address, login, made{conn})
	if err != nil {
		return err
	}
	inContext, ok := dialer.(proxy.ContextDialer)
	if !ok {
		return fmt.Errorf("socks5: %T knows no context", dialer)
	}
	if _, err := inContext.DialContext(ctx, "tcp", address); err != nil {
		return fmt.Errorf("%w%s", err, socksHint(err))
	}
	return nil
}

func socksHint(err error) string {
	switch text := err.Error(); {
	case strings.Contains(text, "no acceptable authentication methods"), strings.Contains(text, "username/password"):
		return "; check proxy_user and proxy_password"
	case strings.Contains(text, "not allowed by ruleset"):
		return "; the proxy's administrator has to allow the address and port"
	case strings.Contains(text, "unexpected protocol version"):
		return "; is it an http proxy?"
	}
	return ""
}

// made dials by returning a connection that is there.
type made struct{ conn net.Conn }

func (m made) Dial(string, string) (net.Conn, error) { return m.conn, nil }

func (m made) DialContext(context.Context, string, string) (net.Conn, error) { return m.conn, nil }

func (d *Dialer) askHTTP(conn net.Conn, address string) error {
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	request.Header.Set("User-Agent", "Fairlead")
	if d.props.ProxyUser != "" {
		login := d.props.ProxyUser + ":" + d.props.ProxyPassword.Reveal()
		request.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(login)))
	}
	if err := request.Write(conn); err != nil {
		return err
	}
	// Byte by byte: what follows the header is the server's, and must stay on the
	// connection. There is no body to close after CONNECT.
	answer := bufio.NewReader(bytewise{io.LimitReader(conn, headerMax)})
	response, err := http.ReadResponse(answer, request) //nolint:bodyclose // it would be the tunnel
	if err != nil {
		return fmt.Errorf("read the answer to CONNECT: %w", err)
	}
	hint := ""
	switch code := response.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusProxyAuthRequired || code == http.StatusUnauthorized:
		hint = "; check proxy_user and proxy_password"
	case code == http.StatusForbidden || code == http.StatusMethodNotAllowed:
		hint = "; the proxy's administrator has to allow CONNECT to the address and port"
	}
	return fmt.Errorf("it answers %s%s", response.Status, hint)
}

// bytewise returns one byte at a time.
type bytewise struct{ io.Reader }

// Read implements io.Reader.
func (b bytewise) Read(p []byte) (int, error) { return b.Reader.Read(p[:min(1, len(p))]) }
