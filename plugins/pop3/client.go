package main

import (
	"bufio"
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/fairlead-io/fairlead/plugins/internal/mail"
)

// partingTime is how long the end of the connection is waited for after QUIT: a
// server that has closed it has released the maildrop, too.
const partingTime = time.Second

// client is a connection to a POP3 server. Only one goroutine uses it at a time.
// Every read and write ends after the time-out; bind adds a context.
type client struct {
	props receiveProperties
	raw   *mail.Conn
	conn  net.Conn // raw, or TLS over it
	r     *bufio.Reader
	stamp string // of the greeting, for APOP
	// caps are the capabilities, upper case, with their arguments; nil if the
	// server does not tell.
	caps map[string][]string
}

// dial connects and logs in. Its errors are marked as [sdk.Disconnected].
func dial(ctx context.Context, props receiveProperties, cfg *tls.Config) (*client, error) {
	raw, err := props.Dial(ctx, ports)
	if err != nil {
		return nil, props.ConnectError("connect to", mail.Ended(ctx, err))
	}
	c := &client{props: props, raw: raw}
	c.use(raw)
	release := c.bind(ctx)
	defer release()
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"TLS with", func() error { return c.implicitTLS(ctx, cfg) }},
		{"greeting of", c.greet},
		{"STLS with", func() error { return c.startTLS(ctx, cfg) }},
		{"capabilities of", c.capabilities},
		{"log in to", c.login},
	} {
		if err := step.do(); err != nil {
			c.close()
			return nil, props.ConnectError(step.name, mail.Ended(ctx, err))
		}
	}
	return c, nil
}

func (c *client) use(conn net.Conn) {
	c.conn = conn
	c.r = bufio.NewReaderSize(conn, lineMax)
}

// bind closes the connection when ctx ends, until release is called.
func (c *client) bind(ctx context.Context) (release func()) {
	stop := context.AfterFunc(ctx, c.close)
	return func() { stop() }
}

// close may be called at any time, from any goroutine.
func (c *client) close() { _ = c.raw.Close() }

// encrypt lets TLS close the socket too; its own farewell is not waited for.
func (c *client) encrypt(ctx context.Context, cfg *tls.Config) error {
	t := tls.Client(c.raw, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	c.use(t)
	return nil
}

func (c *client) implicitTLS(ctx context.Context, cfg *tls.Config) error {
	if c.props.TLS != mail.TLSImplicit {
		return nil
	}
	return c.encrypt(ctx, cfg)
}

func (c *client) greet() error {
	text, err := c.answer()
	if err != nil {
		return err
	}
	if from := strings.LastIndexByte(text, '<'); from >= 0 {
		if to := strings.IndexByte(text[from:], '>'); to > 0 {
			c.stamp = text[from : from+to+1]
		}
	}
	return nil
}

// startTLS is STLS (RFC 2595). There is no way on without it.
func (c *client) startTLS(ctx context.Context, cfg *tls.Config) error {
	if c.props.TLS != mail.TLSStart {
		return nil
	}
	if _, err := c.command("STLS"); err != nil {
		return fmt.Errorf("%w; the server may want tls: implicit", err)
	}
	if c.r.Buffered() > 0 {
		// Somebody put it there who is not the server, or nobody who can be trusted.
		return errors.New("more came in plain text after the answer to STLS")
	}
	return c.encrypt(ctx, cfg)
}

// capabilities is CAPA (RFC 2449). Servers without it are taken for the oldest.
func (c *client) capabilities() error {
	if _, err := c.command("CAPA"); err != nil {
		if isRefusal(err) {
			return nil
		}
		return err
	}
	c.caps = map[string][]string{}
	return readLines(c.r, func(line string) error {
		if fields := strings.Fields(strings.ToUpper(line)); len(fields) > 0 {
			c.caps[fields[0]] = fields[1:]
		}
		return nil
	})
}

// command sends one line and reads the status of the answer.
func (c *client) command(line string) (string, error) {
	if _, err := c.conn.Write([]byte(line + "\r\n")); err != nil {
		return "", err
	}
	return c.answer()
}

func (c *client) answer() (string, error) {
	line, err := readLine(c.r)
	if err != nil {
		return "", err
	}
	text, err := parseReply(line)
	var r *refusal
	if errors.As(err, &r) {
		r.text, r.code = c.props.Clean(r.text), c.props.Clean(r.code)
	} else if err != nil {
		err = errors.New(c.props.Clean(err.Error()))
	}
	return text, err
}

func (c *client) login() error {
	err := c.authenticate()
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	switch {
	case r.locked():
		return fmt.Errorf("maildrop of %s is in use by another session: %w", c.props.User, err)
	case r.code == "LOGIN-DELAY":
		return fmt.Errorf("%w; poll less often", err)
	case strings.HasPrefix(r.code, "SYS/"):
		return err
	}
	return fmt.Errorf("%w; check user, password and auth", err)
}

func (c *client) authenticate() error {
	user, password := c.props.User, c.props.Password.Reveal()
	switch c.method() {
	case authAPOP:
		if c.stamp == "" {
			return errors.New("the server does not offer APOP; choose another auth")
		}
		sum := md5.Sum([]byte(c.stamp + password)) // APOP is made of it
		_, err := c.command("APOP " + user + " " + hex.EncodeToString(sum[:]))
		return err
	case authPlain:
		return c.plain(user, password)
	}
	if _, err := c.command("USER " + user); err != nil {
		return err
	}
	_, err := c.command("PASS " + password)
	return err
}

func (c *client) method() string {
	if c.props.Auth != authAuto {
		return c.props.Auth
	}
	for _, mechanism := range c.caps["SASL"] {
		if mechanism == "PLAIN" {
			return authPlain
		}
	}
	return authUser
}

// plain is SASL PLAIN (RFC 5034), without an initial response, which servers of
// RFC 1734 do not know.
func (c *client) plain(user, password string) error {
	if _, err := c.conn.Write([]byte("AUTH PLAIN\r\n")); err != nil {
		return err
	}
	line, err := readLine(c.r)
	if err != nil {
		return err
	}
	if line != "+" && !strings.HasPrefix(line, "+ ") {
		if _, err := parseReply(line); isRefusal(err) {
			return err
		}
		return errors.New("the server does not ask for the response of AUTH PLAIN")
	}
	_, err = c.command(base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password)))
	return err
}

// quit ends the session; nil means that the server has carried out the deletions.
// The connection is closed in any case.
func (c *client) quit() error {
	defer c.close()
	if _, err := c.command("QUIT"); err != nil {
		return fmt.Errorf("end of session not confirmed: %w", err)
	}
	// Past the rolling time-out: this wait has a shorter one, and how it ends does
	// not matter.
	_ = c.raw.Conn.SetReadDeadline(time.Now().Add(partingTime))
	var sink [512]byte
	for {
		if _, err := c.raw.Conn.Read(sink[:]); err != nil {
			return nil
		}
	}
}
