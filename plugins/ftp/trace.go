package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"
)

// traceLineMax bounds a line of the trace, in bytes.
const traceLineMax = 8 << 10

// trace writes what one session and its server say to each other to the log of the
// endpoint. A nil trace writes nothing.
type trace struct {
	log *slog.Logger
	// secrets are hidden wherever they stand: servers repeat what they refuse.
	secrets []string
}

// newTrace returns nil if no trace is wanted. Lines of several sessions mix in the log:
// number tells them apart.
func (e *endpoint) newTrace() *trace {
	if !e.props.Trace {
		return nil
	}
	return &trace{log: e.log.With("session", e.sessions.Add(1)), secrets: e.props.secrets()}
}

// secrets are the properties that no log and no error may show.
func (c connection) secrets() []string { return []string{c.Password.Reveal(), c.Account.Reveal()} }

// hide replaces secrets in a text, also as they stand in quotes.
func hide(text string, secrets []string) string {
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		quoted := strconv.Quote(secret)
		quoted = quoted[1 : len(quoted)-1]
		text = strings.ReplaceAll(strings.ReplaceAll(text, secret, "***"), quoted, "***")
	}
	return text
}

func (t *trace) sent(line string) {
	verb, _, more := strings.Cut(line, " ")
	if upper := strings.ToUpper(verb); more && (upper == "PASS" || upper == "ACCT") {
		line = verb + " ***"
	}
	t.log.Info("trace: command", "sent", printable(hide(line, t.secrets)))
}

func (t *trace) received(line string) {
	t.log.Info("trace: reply", "received", printable(hide(line, t.secrets)))
}

// wrap returns the connection with every line on it in the trace.
func (t *trace) wrap(conn net.Conn) net.Conn {
	if t == nil {
		return conn
	}
	return &tracedConn{Conn: conn, out: traceLines{tell: t.sent}, in: traceLines{tell: t.received}}
}

// data says what became of a data connection.
func (t *trace) data(c *dataConn) {
	if t == nil {
		return
	}
	about := []any{"sent", c.sent, "received", c.received, "duration", time.Since(c.begun).Round(time.Millisecond), "tls", "none"}
	if c.tls != nil {
		about[len(about)-1] = "not begun"
		if state := c.tls.ConnectionState(); state.HandshakeComplete {
			about[len(about)-1] = tls.VersionName(state.Version)
			about = append(about, "resumed", state.DidResume)
		}
	}
	t.log.Info("trace: data connection closed", about...)
}

// tracedConn is a control connection, in plain text, that keeps a trace.
type tracedConn struct {
	net.Conn
	in, out traceLines
}

// Read implements io.Reader.
func (c *tracedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in.add(p[:n])
	return n, err
}

// Write implements io.Writer. A command is in the trace before it is sent: what the
// server does not take is of interest, too.
func (c *tracedConn) Write(p []byte) (int, error) {
	c.out.add(p)
	return c.Conn.Write(p)
}

// traceLines makes lines of what comes in pieces.
type traceLines struct {
	tell func(line string)
	line []byte
	// skipped is how much of a line that is too long was thrown away. Nothing of such
	// a line is told: half a secret at its end would not be found.
	skipped int
}

func (l *traceLines) add(p []byte) {
	for len(p) > 0 {
		piece, rest, whole := bytes.Cut(p, []byte("\n"))
		if l.skipped > 0 || len(l.line)+len(piece) > traceLineMax {
			l.skipped, l.line = l.skipped+len(l.line)+len(piece), nil
		} else {
			l.line = append(l.line, piece...)
		}
		if !whole {
			return
		}
		if l.skipped > 0 {
			l.tell(fmt.Sprintf("(a line of %d bytes)", l.skipped))
		} else {
			l.tell(strings.TrimSuffix(string(l.line), "\r"))
		}
		l.line, l.skipped, p = l.line[:0], 0, rest
	}
}
