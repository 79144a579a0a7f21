package popd

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// commandMax is the longest command line that is taken, with its argument.
const commandMax = 1024

// errEnd ends a session.
var errEnd = errors.New("end of session")

// session is one connection. Only its own goroutine uses it.
type session struct {
	s      *Server
	raw    net.Conn // the socket
	conn   net.Conn // raw, or TLS over it
	r      *bufio.Reader
	number uint32
	count  int // commands so far
	stamp  string
	tls    bool
	user   string
	// mails is what the session sees, nil before login; deleted goes by index.
	mails   []mail
	deleted map[int]bool
	login   bool
	fault   Fault // of the command that is being carried out
}

func (s *Server) serve(conn net.Conn, number uint32) {
	c := &session{s: s, raw: conn, conn: conn, number: number, deleted: map[int]bool{}}
	c.note("CONNECT", "", "")
	defer func() {
		_ = c.conn.Close()
		_ = conn.Close()
		if c.login {
			s.drop.unlock()
		}
		c.note("DISCONNECT", "", "")
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
	if s.cfg.TLS == Implicit && c.encrypt() != nil {
		return
	}
	c.r = bufio.NewReaderSize(c.conn, commandMax)
	greeting := "Fairlead demo POP3 server"
	if !s.cfg.WithoutAPOP {
		c.stamp = fmt.Sprintf("<%d.%d@popd.example>", number, time.Now().UnixNano())
		greeting += " " + c.stamp
	}
	if c.obey("GREETING", "") != nil || c.ok(greeting) != nil {
		return
	}
	for c.next() == nil {
	}
}

func (c *session) encrypt() error {
	t := tls.Server(c.raw, c.s.tls)
	_ = c.raw.SetDeadline(time.Now().Add(c.s.cfg.IdleTimeout))
	if err := t.Handshake(); err != nil {
		return err
	}
	c.conn, c.tls = t, true
	c.r = bufio.NewReaderSize(t, commandMax)
	return nil
}

func (c *session) note(command, argument, uidl string) Event {
	e := Event{
		Time: time.Now(), Session: c.number, Number: c.count, Remote: c.raw.RemoteAddr().String(),
		Command: command, Argument: argument, UIDL: uidl,
	}
	c.s.journal.add(e)
	return e
}

// next reads one command and carries it out.
func (c *session) next() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	command, argument, _ := strings.Cut(line, " ")
	command = strings.ToUpper(command)
	if command == "" {
		return c.err("empty command")
	}
	c.count++
	if err := c.obey(command, argument); err != nil {
		return err
	}
	if c.fault == Refuse {
		return c.err("[SYS/TEMP] refused on request")
	}
	return c.do(command, argument)
}

// obey notes the command and fails before it as asked.
func (c *session) obey(command, argument string) error {
	shown := argument
	if command == "PASS" || command == "APOP" || command == "AUTH" {
		shown = ""
	}
	e := c.note(command, shown, c.uidlOf(command, argument))
	c.fault = c.s.faultFor(e)
	switch c.fault {
	case DropBefore:
		return errEnd
	case Silent:
		return c.beSilent()
	}
	return nil
}

// beSilent lasts until the client or the server ends the connection.
func (c *session) beSilent() error {
	_ = c.raw.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, c.raw)
	return errEnd
}

func (c *session) uidlOf(command, argument string) string {
	switch command {
	case "RETR", "DELE":
		if n, err := strconv.Atoi(argument); err == nil && n >= 1 && n <= len(c.mails) {
			return c.mails[n-1].uidl
		}
	}
	return ""
}

func (c *session) line() (string, error) {
	_ = c.raw.SetReadDeadline(time.Now().Add(c.s.cfg.IdleTimeout))
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return "", err // also when the line is too long
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

func (c *session) ok(text string) error { return c.write([]byte("+OK " + text + "\r\n")) }

func (c *session) err(text string) error { return c.write([]byte("-ERR " + text + "\r\n")) }

func (c *session) write(data []byte) error {
	switch c.fault {
	case DropAfter:
		return errEnd
	case Half, HalfSilent:
		data = data[:len(data)/2]
	}
	_ = c.raw.SetWriteDeadline(time.Now().Add(c.s.cfg.IdleTimeout))
	if _, err := c.conn.Write(data); err != nil {
		return err
	}
	switch c.fault {
	case Half:
		return errEnd
	case HalfSilent:
		return c.beSilent()
	}
	return nil
}

// multi writes a multi-line answer: the lines are stuffed here.
func (c *session) multi(text string, body []byte) error {
	var b bytes.Buffer
	b.WriteString("+OK " + text + "\r\n")
	for rest := body; len(rest) > 0; {
		line := rest
		if i := bytes.Index(rest, []byte("\r\n")); i >= 0 {
			line = rest[:i+2]
		}
		rest = rest[len(line):]
		if line[0] == '.' {
			b.WriteByte('.')
		}
		b.Write(line)
		if !bytes.HasSuffix(line, []byte("\r\n")) {
			b.WriteString("\r\n")
		}
	}
	b.WriteString(".\r\n")
	return c.write(b.Bytes())
}

func (c *session) checkPassword(user, password string) bool {
	right := subtle.ConstantTimeCompare([]byte(password), []byte(c.s.cfg.Password)) == 1
	return right && user == c.s.cfg.User
}

func (c *session) checkDigest(user, digest string) bool {
	sum := md5.Sum([]byte(c.stamp + c.s.cfg.Password)) // APOP is made of it
	right := subtle.ConstantTimeCompare([]byte(digest), []byte(hex.EncodeToString(sum[:]))) == 1
	return right && user == c.s.cfg.User
}

// plain is SASL PLAIN (RFC 4616), with or without an initial response.
func (c *session) plain(initial string) error {
	if initial == "" {
		if err := c.write([]byte("+ \r\n")); err != nil {
			return err
		}
		var err error
		if initial, err = c.line(); err != nil {
			return err
		}
	}
	data, err := base64.StdEncoding.DecodeString(initial)
	fields := strings.Split(string(data), "\x00")
	if err != nil || len(fields) != 3 {
		return c.err("[AUTH] not a response of PLAIN")
	}
	return c.enter(c.checkPassword(fields[1], fields[2]))
}
