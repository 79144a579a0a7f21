package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
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
	r *bufio.Reader // of Conn: command reads single bytes
	// said is for the library to read before what comes from the server: what the server
	// said before TLS began, and our own answers.
	said []byte
	// answer, if there is one, may answer a command of the library in the server's place:
	// then the reply is not empty. It may send commands of its own meanwhile.
	answer func(line string) (reply string, err error)
	// ahead was sent already, and the library has not come to it yet.
	ahead []byte
}

// Read implements io.Reader.
func (c *controlConn) Read(p []byte) (int, error) {
	if len(c.said) > 0 {
		n := copy(p, c.said)
		c.said = c.said[n:]
		return n, nil
	}
	if c.r == nil {
		c.r = bufio.NewReader(c.Conn)
	}
	return c.r.Read(p)
}

// Write sends a command, unless it is the next of those that were sent ahead.
func (c *controlConn) Write(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.writeAlone(p)
	}
	if !bytes.HasPrefix(c.ahead, p) {
		return 0, errOutOfStep
	}
	c.ahead = c.ahead[len(p):]
	return len(p), nil
}

// writeAlone sends a command that nothing was sent ahead of, or answers it. The library
// writes a command at once, unless it is longer than those that we answer.
func (c *controlConn) writeAlone(p []byte) (int, error) {
	if c.answer != nil {
		reply, err := c.answer(strings.TrimRight(string(p), "\r\n"))
		if err != nil {
			return 0, err
		}
		if reply != "" {
			c.said = append(c.said, reply+"\r\n"...)
			return len(p), nil
		}
	}
	return c.Conn.Write(p)
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
func startTLS(conn net.Conn, cfg *tls.Config, told *trace) (*controlConn, error) {
	plain := told.wrap(conn)
	r := textproto.NewReader(bufio.NewReader(plain))
	code, text, err := r.ReadResponse(ftpclient.StatusReady)
	if err != nil {
		return nil, err
	}
	if _, err := plain.Write([]byte("AUTH TLS\r\n")); err != nil {
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
	return &controlConn{Conn: told.wrap(secured), said: fmt.Appendf(nil, "%d %s\r\n", code, first)}, nil
}
