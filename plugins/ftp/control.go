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

var (
	// errOutOfStep is a mistake of ours: the library sent another command than the one
	// that was announced to the server.
	errOutOfStep = errors.New("ftp: a command differs from the one that was sent ahead")
	// errTooMuchSaid ends a reply that has no end: the library would read it for ever,
	// and keep all of it.
	errTooMuchSaid = fmt.Errorf("the server's reply has more than %d bytes; is it an FTP server?", replyMax)
	// errUnasked keeps one reply from being taken for the next command's.
	errUnasked = errors.New("the server has said more than the reply to the last command; what it says next cannot be told apart, and the connection is given up")
)

// controlConn is a control connection as the client library sees it: above TLS.
//
// The library sends a command and waits for its reply before it sends the next. To
// have many commands on their way at once, they are sent ahead, in one piece; when
// the library then comes to each of them, it is not sent a second time, and the
// library finds its reply. RFC 959 has the server answer in order. One goroutine uses
// a controlConn.
type controlConn struct {
	net.Conn
	// r reads ahead of the library, which gets one line at a time: what was not asked for
	// stays here, and is seen.
	r *bufio.Reader
	// said is for the library to read before what comes from the server: what the server
	// said before TLS began, and our own answers.
	said []byte
	// answer, if there is one, may answer a command of the library in the server's place:
	// then the reply is not empty. It may send commands of its own meanwhile.
	answer func(line string) (reply string, err error)
	// ahead was sent already, and the library has not come to it yet.
	ahead []byte
	// heard is how much the server has said since the last command.
	heard int
}

// Read implements io.Reader.
func (c *controlConn) Read(p []byte) (int, error) {
	if c.heard > replyMax {
		return 0, errTooMuchSaid
	}
	if len(c.said) > 0 {
		n := copy(p, c.said)
		c.said = c.said[n:]
		return n, nil
	}
	n, err := c.readLine(p)
	c.heard += n
	return n, err
}

// readLine reads what is there of a line, and nothing of the one after it.
func (c *controlConn) readLine(p []byte) (int, error) {
	if c.r == nil {
		c.r = bufio.NewReader(c.Conn)
	}
	if _, err := c.r.Peek(1); err != nil {
		return 0, err
	}
	there, _ := c.r.Peek(c.r.Buffered())
	if end := bytes.IndexByte(there, '\n'); end >= 0 {
		there = there[:end+1]
	}
	return c.r.Read(p[:min(len(p), len(there))])
}

// begin has to be called before a command is sent for which nothing was sent ahead.
func (c *controlConn) begin() error {
	switch {
	case c.heard > replyMax:
		return errTooMuchSaid // the rest of it would be taken for the next reply
	case c.r != nil && c.r.Buffered() > 0:
		return errUnasked
	}
	c.heard = 0
	return nil
}

// Write sends a command, unless it is the next of those that were sent ahead.
func (c *controlConn) Write(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		if err := c.begin(); err != nil {
			return 0, err
		}
		return c.writeAlone(p)
	}
	if c.heard > replyMax {
		return 0, errTooMuchSaid
	}
	if !bytes.HasPrefix(c.ahead, p) {
		return 0, errOutOfStep
	}
	c.heard = 0
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
	if err := c.begin(); err != nil {
		return err
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
	r := textproto.NewReader(bufio.NewReader(io.LimitReader(plain, replyMax)))
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
