package main

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk"
)

func TestDataConnectionsResumeTheControlSession(t *testing.T) {
	for _, mode := range []ftpd.TLSMode{ftpd.Explicit, ftpd.Implicit} {
		t.Run(string(mode), func(t *testing.T) {
			s := startServer(t, ftpd.Config{TLS: mode})
			for i := range 8 {
				s.write(t, string(rune('a'+i)), noise(byte(i), 5000))
			}
			src := newSource(t, with(s.props, "connections", 4))
			var wg sync.WaitGroup
			for _, item := range list(t, src) {
				wg.Go(func() {
					if _, err := readContext(testContext(t), src, item); err != nil {
						t.Errorf("read: %v", err)
					}
				})
			}
			wg.Wait()
			full, resumed := 0, 0
			for _, e := range s.Events() {
				if e.Command == "TLS" && e.Resumed {
					resumed++
				} else if e.Command == "TLS" {
					full++
				}
			}
			if controls := s.commands("CONNECT"); full != controls || resumed != 9 {
				t.Errorf("%d full and %d resumed handshakes for %d control connections; want one full each and 9 resumed", full, resumed, controls)
			}
		})
	}
}

func TestNoMoreConnectionsThanAllowedAndAllGivenBack(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	const files = 30
	for i := range files {
		s.write(t, string(rune('A'+i)), noise(byte(i), 2000))
	}
	src := newSource(t, with(s.props, "connections", 3))
	var wg sync.WaitGroup
	for _, item := range list(t, src) {
		wg.Go(func() {
			if _, err := readContext(testContext(t), src, item); err != nil {
				t.Errorf("read: %v", err)
			}
			if err := src.Settle(testContext(t), item); err != nil {
				t.Errorf("settle: %v", err)
			}
		})
	}
	wg.Wait()
	if n := s.commands("CONNECT"); n > 3 {
		t.Errorf("%d connections were made, want 3 at most", n)
	}
	if left := s.names(t); len(left) != 0 {
		t.Errorf("left are %q", left)
	}
	src.Close()
	waitFor(t, "all sessions to end", func() bool { return s.Sessions() == 0 })
}

func TestServerRestartIsSurvivedByTheNextCall(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	s.write(t, "a", []byte("x"))
	src := newSource(t, s.props)
	item := list(t, src)["a"]
	for _, step := range []func() error{
		func() error { _, err := src.List(testContext(t)); return err },
		func() error { _, err := read(t, src, item); return err },
		func() error { return src.Settle(testContext(t), item) },
	} {
		s.DropSessions()
		waitFor(t, "the sessions to end", func() bool { return s.Sessions() == 0 })
		if err := step(); err != nil {
			t.Errorf("after a lost connection: %v", err)
		}
	}
}

func TestRefusedLoginBacksOffAndShowsNoPassword(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	src := newSource(t, with(s.props, "password", "wr0ng-Secret"))
	_, err := src.List(testContext(t))
	if !sdk.IsDisconnected(err) {
		t.Errorf("a refused login is %v, want disconnected", err)
	}
	mustContain(t, err, "530", "check user and password")
	if bytes.Contains([]byte(err.Error()), []byte("wr0ng-Secret")) {
		t.Errorf("error %q shows the password", err)
	}
}

func TestUntrustedCertificateIsRefused(t *testing.T) {
	s := startServer(t, ftpd.Config{TLS: ftpd.Explicit})
	props := with(s.props)
	delete(props, "ca_file")
	_, err := newSource(t, props).List(testContext(t))
	if !sdk.IsDisconnected(err) {
		t.Errorf("an untrusted certificate is %v, want disconnected", err)
	}
	mustContain(t, err, "ca_file")

	_, err = newSource(t, with(s.props, "server_name", "other.example")).List(testContext(t))
	mustContain(t, err, "server_name")

	if _, err := newSource(t, with(props, "insecure_skip_verify", true)).List(testContext(t)); err != nil {
		t.Errorf("with insecure_skip_verify: %v", err)
	}
	if n := s.commands("PASS"); n != 1 {
		t.Errorf("the password was sent %d times, want only to the accepted server", n)
	}
}

// Many new files are asked for over all connections that are free.
func TestTimesOfManyFilesAreAskedOverSeveralConnections(t *testing.T) {
	s := startServer(t, ftpd.Config{DisableMLSD: true})
	for i := range 4 * filesPerHelper {
		s.write(t, fmt.Sprint(i), []byte("x"))
	}
	src := newSource(t, with(s.props, "connections", 3))
	if n := len(list(t, src)); n != 4*filesPerHelper {
		t.Errorf("%d files are listed", n)
	}
	asked := map[uint32]int{}
	for _, e := range s.Events() {
		if e.Command == "MDTM" {
			asked[e.Session]++
		}
	}
	total := 0
	for _, n := range asked {
		total += n
	}
	if len(asked) != 3 || total != 4*filesPerHelper {
		t.Errorf("%d questions over %d connections, want one per file over 3", total, len(asked))
	}
}

func TestHalfReadFileCostsItsConnectionOnly(t *testing.T) {
	everyServer(t, func(t *testing.T, s *testServer) {
		s.write(t, "big", noise(1, 8<<20))
		src := newSource(t, with(s.props, "connections", 1))
		item := list(t, src)["big"]
		for range 3 {
			content, err := src.Open(testContext(t), item)
			if err != nil {
				t.Fatal(err)
			}
			for part, err := range content.Parts {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := part.Reader.Read(make([]byte, 100)); err != nil {
					t.Fatal(err)
				}
			}
			_ = content.Close()
		}
		if got, err := read(t, src, item); err != nil || len(got) != 8<<20 {
			t.Errorf("read afterwards: %d bytes, %v", len(got), err)
		}
	})
}

func TestContextEndsAReading(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	s.write(t, "big", noise(1, 8<<20))
	src := newSource(t, s.props)
	item := list(t, src)["big"]
	ctx, cancel := context.WithCancel(testContext(t))
	content, err := src.Open(ctx, item)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for part := range content.Parts {
		buf := make([]byte, 64<<10)
		for err == nil {
			_, err = part.Reader.Read(buf)
		}
	}
	if closeErr := content.Close(); closeErr == nil {
		t.Error("the content ended by its context counts as whole")
	}
	if _, err := read(t, src, item); err != nil {
		t.Errorf("read afterwards: %v", err)
	}
}

func TestIdleConnectionsAreClosedAfterAWhile(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	src := newSource(t, s.props)
	list(t, src)
	if n := s.Sessions(); n != 1 {
		t.Fatalf("%d sessions after a listing, want the one that is kept", n)
	}
	src.pool.mu.Lock()
	src.pool.idle[0].idleSince = src.pool.idle[0].idleSince.Add(-idleMax)
	src.pool.reaper.Reset(0)
	src.pool.mu.Unlock()
	waitFor(t, "the idle session to end", func() bool { return s.Sessions() == 0 })
	list(t, src)
}

func TestConnectionThatLayIdleIsAskedBeforeItIsTrusted(t *testing.T) {
	s := startScripted(t, "MLST", map[string]handler{"NOOP": func(c *scriptedConn, _ string) { c.say("421 too late"); c.Conn.Close() }})
	src := newSource(t, s.props())
	list(t, src)
	src.pool.mu.Lock()
	src.pool.idle[0].idleSince = src.pool.idle[0].idleSince.Add(-2 * idleTrusted)
	src.pool.mu.Unlock()
	list(t, src)
	if noops, logins := s.count("NOOP"), s.count("PASS"); noops != 1 || logins != 2 {
		t.Errorf("%d NOOP and %d logins, want 1 and 2", noops, logins)
	}
}

func TestOperationsAfterCloseLeaveNoConnection(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	src := newSource(t, s.props)
	c, err := src.pool.acquire(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	src.Close()
	src.pool.release(c)
	waitFor(t, "the session to end", func() bool { return s.Sessions() == 0 })
}
