package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk/adaptertest"
)

// hangsWhile is a handler that keeps quiet as long as the flag is set, then does the usual.
func hangsWhile(quiet *atomic.Bool, then handler) handler {
	return func(c *scriptedConn, arg string) {
		if quiet.Load() {
			c.hang()
			return
		}
		then(c, arg)
	}
}

// nextgenhealthcare/connect#2979, #2960, #4142: a reader or writer that hung in a server's
// silence could not be stopped, and connections that were never given back used up the
// pool. Here eight hang at once, three times over, with a time-out that never comes.
func TestSymptomHungTransfersCannotBeStoppedAndUseUpThePool(t *testing.T) {
	const places = 8
	usual := func(verb string) handler { return func(c *scriptedConn, _ string) { c.standard(verb, "") } }
	for name, verb := range map[string]string{"before the transfer": "EPSV", "at the command": "CWD", "in the data": "MLSD", "at login": "PASS"} {
		t.Run("receive, "+name, func(t *testing.T) {
			var quiet atomic.Bool
			then := usual(verb)
			if verb == "MLSD" {
				then = sends(mlsdOne)
			}
			s := startScripted(t, "MLST SIZE", map[string]handler{"MLSD": sends(mlsdOne), verb: hangsWhile(&quiet, then)})
			src := newSource(t, s.props("timeout", "1h", "connections", places))
			stopHung(t, s, verb, &quiet, places, func(ctx context.Context) error {
				return src.pool.with(ctx, func(c *session) error { _, err := c.list("/in"); return err })
			})
			list(t, src)
			if n := len(src.pool.slots); n != 0 {
				t.Errorf("%d places are not given back", n)
			}
		})
	}
	for name, verb := range map[string]string{"before the transfer": "EPSV", "in the data": "STOR", "at the size": "SIZE", "at the rename": "RNTO"} {
		t.Run("send, "+name, func(t *testing.T) {
			var quiet atomic.Bool
			then := usual(verb)
			if verb == "SIZE" {
				then = says("213 5")
			}
			s := startScripted(t, "MLST SIZE", map[string]handler{"SIZE": says("213 5"), verb: hangsWhile(&quiet, then)})
			k := newSink(t, s.props("timeout", "1h", "connections", places, "name", "{{fairlead.id}}"))
			stopHung(t, s, verb, &quiet, places, func(ctx context.Context) error {
				return k.Send(ctx, newMessage(t, []byte("five!")))
			})
			if err := k.Send(testContext(t), newMessage(t, []byte("five!"))); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			if n := len(k.pool.slots); n != 0 {
				t.Errorf("%d places are not given back", n)
			}
		})
	}
}

func (s *scriptedServer) forgetCommands() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commands = nil
}

// stopHung has so many operations hang, ends their context, and waits for them to return.
func stopHung(t *testing.T, s *scriptedServer, verb string, quiet *atomic.Bool, places int, do func(ctx context.Context) error) {
	t.Helper()
	for range 3 {
		quiet.Store(true)
		s.forgetCommands()
		ctx, cancel := context.WithCancel(testContext(t))
		var working sync.WaitGroup
		for range places {
			working.Go(func() {
				if err := do(ctx); !errors.Is(err, context.Canceled) {
					t.Errorf("error %v, want that of the context", err)
				}
			})
		}
		waitFor(t, "all to hang", func() bool { return s.count(verb) >= places })
		cancel()
		_ = within(t, 5*time.Second, func() error { working.Wait(); return nil })
		quiet.Store(false)
	}
}

// lavv17/lftp#335: a server that answered 421 was asked again at once, without end. One
// poll is one connection, and polls back off.
func TestSymptomServerThatIsBusyIsStormed(t *testing.T) {
	for name, verb := range map[string]string{"greeting": "", "login": "PASS", "listing": "MLSD"} {
		t.Run(name, func(t *testing.T) {
			var refused atomic.Int32
			s := startScripted(t, "MLST", map[string]handler{verb: func(c *scriptedConn, _ string) {
				refused.Add(1)
				c.say("421 Too many connections, try again later")
				c.Conn.Close()
			}})
			src := newSource(t, s.props())
			for poll := range int32(3) {
				_, err := src.List(testContext(t))
				mustContain(t, err, "421", "Too many connections", s.addr)
				if n := refused.Load(); n != poll+1 {
					t.Fatalf("%d connections after %d polls", n, poll+1)
				}
			}
			refused.Store(0)
			h := adaptertest.Start(t, adapter(), adaptertest.Endpoint{Name: "in", Receive: true, Properties: s.props(), PollEvery: time.Millisecond})
			h.WaitBackingOff("in")
			if n := refused.Load(); n != 1 {
				t.Errorf("%d connections when the location backed off, want 1", n)
			}
		})
	}
}

// startBehindTLS is startScripted, with the control connection inside TLS from its first
// byte. What happens on data connections is the handlers' business.
func startBehindTLS(t *testing.T, handlers map[string]handler) *scriptedServer {
	t.Helper()
	web := httptest.NewTLSServer(nil) // has a certificate
	defer web.Close()
	merge := map[string]handler{"PBSZ": says("200 ok"), "PROT": says("200 ok")}
	for verb, h := range handlers {
		merge[verb] = h
	}
	s := startScripted(t, "MLST SIZE", merge)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: web.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	behind := s.addr
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { join2(client, behind) })
		}
	})
	t.Cleanup(func() { listener.Close(); passing.Wait() }) // after the end of the clients
	s.addr = listener.Addr().String()
	return s
}

// join2 passes everything on, both ways, until one side ends.
func join2(client net.Conn, to string) {
	defer client.Close()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, server)
		client.Close()
	})
	_, _ = io.Copy(server, client)
	server.Close()
	back.Wait()
}

// apache/camel#4651: a TLS handshake that the server never answers hung for ever;
// axpdev-lab/aeroftp#655: a server refuses on the control connection while the client
// waits in the handshake of the data connection. The time-out ends both.
func TestSymptomHandshakeThatIsNotAnsweredHangs(t *testing.T) {
	hang := func(c *scriptedConn, _ string) { c.hang() }
	accepted := func(reply string) handler {
		return func(c *scriptedConn, _ string) {
			c.say("150 here it comes")
			data, err := c.data.Accept()
			if err != nil {
				return
			}
			defer data.Close()
			if reply != "" {
				c.say("%s", reply)
			}
			c.hang()
		}
	}
	control := map[string]*scriptedServer{
		"implicit":            startScripted(t, "", map[string]handler{"": hang}),
		"explicit":            startScripted(t, "", map[string]handler{"AUTH": func(c *scriptedConn, _ string) { c.say("234 go"); c.hang() }}),
		"explicit, no answer": startScripted(t, "", map[string]handler{"AUTH": hang}),
	}
	for name, s := range control {
		t.Run("control, "+name, func(t *testing.T) {
			mode, _, _ := strings.Cut(name, ",")
			src := newSource(t, s.props("tls", mode, "insecure_skip_verify", true))
			err := within(t, 5*time.Second, func() error { _, err := src.List(testContext(t)); return err })
			mustContain(t, err, "connect to", s.addr, "timeout")
		})
	}
	for name, reply := range map[string]string{"silence": "", "refused": "522 TLS session of data connection not resumed", "421": "421 bye"} {
		t.Run("data, "+name, func(t *testing.T) {
			s := startBehindTLS(t, map[string]handler{"MLSD": accepted(reply), "STOR": accepted(reply)})
			props := s.props("tls", "implicit", "insecure_skip_verify", true)
			src, k := newSource(t, props), newSink(t, with(props, "name", "a"))
			err := within(t, 5*time.Second, func() error { _, err := src.List(testContext(t)); return err })
			mustContain(t, err, "list /in", s.addr)
			m := newMessage(t, []byte("five!"))
			err = within(t, 5*time.Second, func() error { return k.Send(testContext(t), m) })
			mustContain(t, err, "upload to /in", s.addr)
			if !k.sent.knownAbsent(m) {
				t.Errorf("the message may have arrived, says %v", err)
			}
		})
	}
}

// jlaffaye/ftp#117, #148, #241, #112, #173, rclone/rclone#3086: the client waited for ever
// for the greeting of a silent server, in LIST, and for the reply that ends a transfer,
// because a time-out of the dial covers the dial alone. Each wait has one here.
func TestSymptomSilentServerIsWaitedForForEver(t *testing.T) {
	hang := func(c *scriptedConn, _ string) { c.hang() }
	begun := func(text string) handler { // all of it comes, but for the end
		return func(c *scriptedConn, _ string) {
			c.say("150 here it comes")
			data, err := c.data.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(data, text)
			if text == "" {
				_, _ = io.Copy(io.Discard, data)
			}
			data.Close()
			c.hang()
		}
	}
	stalled := func(c *scriptedConn, _ string) { // the data connection is open, and nothing comes
		c.say("150 here it comes")
		if data, err := c.data.Accept(); err == nil {
			defer data.Close()
		}
		c.hang()
	}
	entry := "type=file;size=5;modify=20260105103300; a\r\n"
	for name, handlers := range map[string]map[string]handler{
		"greeting":              {"": hang},
		"no reply to MLSD":      {"MLSD": hang},
		"nothing of a listing":  {"MLSD": stalled},
		"a listing has no end":  {"MLSD": begun(entry)},
		"no reply to RETR":      {"MLSD": sends(entry), "RETR": hang},
		"nothing of a file":     {"MLSD": sends(entry), "RETR": stalled},
		"a file has no end":     {"MLSD": sends(entry), "RETR": begun("five!")},
		"an upload has no end":  {"MLSD": sends(""), "STOR": begun("")},
		"no reply to an upload": {"MLSD": sends(""), "STOR": hang},
	} {
		t.Run(name, func(t *testing.T) {
			s := startScripted(t, "MLST type*;size*;modify*;", handlers)
			props := s.props("timeout", "150ms")
			src := newSource(t, props)
			err := within(t, 5*time.Second, func() error {
				items, err := src.List(testContext(t))
				if err != nil || len(items) == 0 {
					return err
				}
				_, err = read(t, src, items[0])
				return err
			})
			if err == nil {
				err = within(t, 5*time.Second, func() error { return newSink(t, props).Send(testContext(t), newMessage(t, []byte("five!"))) })
			}
			mustContain(t, err, s.addr, "timeout")
		})
	}
}

// jlaffaye/ftp#435, #203, secsy/goftp#49: servers that want the TLS session of the control
// connection resumed on data connections refuse clients that do not, under TLS 1.2 and 1.3.
func TestSymptomSessionReuseIsRequired(t *testing.T) {
	for _, name := range []string{"vsftpd", "proftpd"} {
		for _, mode := range []string{tlsExplicit, tlsImplicit} {
			for _, tls13 := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s, TLS 1.3 %t", name, mode, tls13), func(t *testing.T) {
					s := startReal(t, name, "FTPS="+mode, "TLS_REUSE=1", "TLS_FORCE=1")
					props := with(s.props, "tls13", tls13, "connections", 2)
					k := newSink(t, with(props, "name", "{{ftp.name}}"))
					for i := range 3 {
						if err := k.Send(testContext(t), newMessage(t, noise(byte(i), 100_000), "ftp.name", fmt.Sprint(i))); err != nil {
							t.Fatalf("send: %v", err)
						}
					}
					src := newSource(t, props)
					items := list(t, src)
					for i := range 3 {
						got, err := read(t, src, items[fmt.Sprint(i)])
						if err != nil || !bytes.Equal(got, noise(byte(i), 100_000)) {
							t.Errorf("read %d bytes, %v", len(got), err)
						}
					}
				})
			}
		}
	}
}

// RFC 3659, 7.3: a server may list the directory itself, under its own name. It is not one
// of its subdirectories.
func TestDirectoryThatListsItselfIsNotEntered(t *testing.T) {
	s := startScripted(t, "MLST", map[string]handler{
		"MLSD": sends("Type=cdir;Modify=19981107085215;Perm=el; in\r\nType=pdir; above\r\n" + mlsdOne),
	})
	if got := list(t, newSource(t, s.props("max_depth", 3))); len(got) != 1 {
		t.Errorf("listed are %q, want one file", itemNames(got))
	}
	if n := s.count("MLSD"); n != 1 {
		t.Errorf("%d directories were listed, want one", n)
	}
}
