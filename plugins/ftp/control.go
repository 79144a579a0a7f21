package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"

	ftpclient "github.com/jlaffaye/ftp"
)

// errOutOfStep is a mistake of ours: the library sent another command than the one
// that was announced to the server.
var errOutOfStep = errors.New("ftp: a command differs from the one that was sent ahead")

// controlConn is a control connection as the client library sees it: above TLS.
//
// The library sends a command and waits for its reply before it sends the next. To
// have many commands on their way at once, they are sent ahead, in one piece; when
// the library then comes to each of them, it is not sent a second time, and the
// library finds its reply. RFC 959 has the server answer in order. One goroutine uses
// a controlConn.
type controlConn struct {
	net.Conn
	// greeting is what the server said before TLS began, for the library to read.
	greeting []byte
	// ahead was sent already, and the library has not come to it yet.
	ahead []byte
	// heard is how much the server has said since the last command.
	heard int
}

// errTooMuchSaid ends a reply that has no end: the library would read it for ever, and
// keep all of it.
var errTooMuchSaid = fmt.Errorf("the server's reply has more than %d bytes; is it an FTP server?", replyMax)

// Read implements io.Reader.
func (c *controlConn) Read(p []byte) (int, error) {
	if c.heard > replyMax {
		return 0, errTooMuchSaid
	}
	if len(c.greeting) > 0 {
		n := copy(p, c.greeting)
		c.greeting = c.greeting[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p)
	c.heard += n
	return n, err
}

// Write sends a command, unless it is the next of those that were sent ahead.
func (c *controlConn) Write(p []byte) (int, error) {
	if c.heard > replyMax {
		return 0, errTooMuchSaid // the rest of it would be taken for the next reply
	}
	c.heard = 0
	if len(c.ahead) == 0 {
		return c.Conn.Write(p)
	}
	if !bytes.HasPrefix(c.ahead, p) {
		return 0, errOutOfStep
	}
	c.ahead = c.ahead[len(p):]
	return len(p), nil
}

// sendAhead sends commands whose replies the library will ask for one by one.
func (c *controlConn) sendAhead(lines []byte) error {
	if len(c.ahead) > 0 {
		return errOutOfStep
	}
	if _, err := c.Conn.Write(lines); err != nil {
		return fmt.Errorf("send commands: %w", err)
	}
	c.ahead = lines
	return nil
}

// startTLS does what AUTH TLS asks for (RFC 4217, section 4) and hides it from the
// library, which would put TLS above the controlConn.
func startTLS(conn net.Conn, cfg *tls.Config) (*controlConn, error) {
	r := textproto.NewReader(bufio.NewReader(io.LimitReader(conn, replyMax)))
	code, text, err := r.ReadResponse(ftpclient.StatusReady)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write([]byte("AUTH TLS\r\n")); err != nil {
		return nil, err
	}
	if _, _, err := r.ReadResponse(ftpclient.StatusAuthOK); err != nil {
		return nil, err
	}
	// Such bytes came unprotected, from whoever is on the way.
	if r.R.Buffered() > 0 {
		return nil, errors.New("the server, or somebody on the way to it, said more in plain text after it had agreed to TLS")
	}
	secured := tls.Client(conn, cfg)
	if err := secured.Handshake(); err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(text, "\n")
	return &controlConn{Conn: secured, greeting: fmt.Appendf(nil, "%d %s\r\n", code, first)}, nil
}
