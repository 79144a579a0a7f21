package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
)

// scriptedServer is a TCP server that behaves as well or as badly as a test
// wants. By default it is a plain FTP server without files and with few manners;
// a test overrides single commands.
type scriptedServer struct {
	addr string

	mu       sync.Mutex
	commands []string
}

// reply is what a handler answers a command with.
type handler func(c *scriptedConn, arg string)

type scriptedConn struct {
	net.Conn
	s    *scriptedServer
	data net.Listener
	stop <-chan struct{}
	// forgetful throws away what comes along with a command.
	forgetful bool
}

func (c *scriptedConn) say(format string, args ...any) {
	fmt.Fprintf(c.Conn, format+"\r\n", args...)
}

// hang keeps quiet until the test or the client ends the connection.
func (c *scriptedConn) hang() { <-c.stop }

// transfer opens the data connection of a command, lets f use it and confirms.
func (c *scriptedConn) transfer(f func(data net.Conn)) {
	c.say("150 here it comes")
	data, err := c.data.Accept()
	if err != nil {
		return
	}
	f(data)
	data.Close()
	c.say("226 done")
}

// sends is a handler that answers with text on the data connection.
func sends(text string) handler {
	return func(c *scriptedConn, _ string) {
		c.transfer(func(data net.Conn) { fmt.Fprint(data, text) })
	}
}

func says(reply string) handler {
	return func(c *scriptedConn, _ string) { c.say("%s", reply) }
}

// startScripted serves until the end of the test. A handler under "" greets.
func startScripted(t *testing.T, features string, handlers map[string]handler) *scriptedServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scriptedServer{addr: listener.Addr().String()}
	stop := make(chan struct{})
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { s.serve(conn, stop, features, handlers) })
		}
	})
	t.Cleanup(func() {
		close(stop)
		listener.Close()
		serving.Wait()
	})
	return s
}

func (s *scriptedServer) serve(conn net.Conn, stop chan struct{}, features string, handlers map[string]handler) {
	c := &scriptedConn{Conn: conn, s: s, stop: stop}
	defer conn.Close()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-stop:
		case <-done:
		}
		conn.Close()
	}()
	defer func() {
		if c.data != nil {
			c.data.Close()
		}
	}()
	if greet := handlers[""]; greet != nil {
		greet(c, "")
	} else {
		c.say("220 ready")
	}
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		if c.forgetful {
			_, _ = lines.Discard(lines.Buffered())
		}
		verb = strings.ToUpper(verb)
		s.mu.Lock()
		s.commands = append(s.commands, verb)
		s.mu.Unlock()
		if h := handlers[verb]; h != nil {
			h(c, arg)
			continue
		}
		c.standard(verb, features)
	}
}

func (c *scriptedConn) standard(verb, features string) {
	switch verb {
	case "USER":
		c.say("331 password?")
	case "PASS":
		c.say("230 welcome")
	case "FEAT":
		c.say("211-features")
		for feature := range strings.FieldsSeq(features) {
			c.say(" %s", feature)
		}
		c.say("211 end")
	case "TYPE", "NOOP":
		c.say("200 ok")
	case "CWD", "DELE", "RNTO":
		c.say("250 ok")
	case "RNFR":
		c.say("350 to what?")
	case "PWD":
		c.say(`257 "/" is it`)
	case "EPSV":
		if c.listen() {
			c.say("229 Entering Extended Passive Mode (|||%d|)", c.data.Addr().(*net.TCPAddr).Port)
		}
	case "PASV":
		if c.listen() {
			port := c.data.Addr().(*net.TCPAddr).Port
			c.say("227 Entering Passive Mode (127,0,0,1,%d,%d)", port/256, port%256)
		}
	case "STOR":
		c.transfer(func(data net.Conn) {
			for buf := make([]byte, 4096); ; {
				if _, err := data.Read(buf); err != nil {
					return
				}
			}
		})
	case "LIST", "NLST", "MLSD":
		c.transfer(func(net.Conn) {})
	case "QUIT":
		c.say("221 bye")
	default:
		c.say("500 what is %s?", verb)
	}
}

func (c *scriptedConn) listen() bool {
	if c.data != nil {
		c.data.Close()
	}
	var err error
	c.data, err = net.Listen("tcp", "127.0.0.1:0")
	return err == nil
}

func (s *scriptedServer) count(verb string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.commands {
		if c == verb {
			n++
		}
	}
	return n
}

func (s *scriptedServer) props(pairs ...any) map[string]any {
	return with(map[string]any{"address": s.addr, "user": testUser, "password": testPassword, "directory": "/in", "timeout": "300ms"}, pairs...)
}
