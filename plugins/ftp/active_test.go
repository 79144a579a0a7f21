package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/internal/freeport"
	"github.com/fairlead-io/fairlead/sdk"
)

func TestInteropActiveMode(t *testing.T) {
	everyRealServer(t, func(t *testing.T, s *realServer) {
		checkActive(t, s, 3)
	})
	t.Run("pureftpd", func(t *testing.T) { checkActive(t, startReal(t, "pureftpd"), 3) })
	// pyftpd forgets a data connection that it made, now and then, if it has several: it
	// never reads what is sent on it.
	t.Run("pyftpd", func(t *testing.T) { checkActive(t, startReal(t, "pyftpd"), 1) })
}

// checkActive sends and receives files of all sizes, several at once.
func checkActive(t *testing.T, s *realServer, connections int) {
	t.Helper()
	before := listeners(t) // those that keep ports free for servers
	props := with(s.props, "data_mode", "active", "connections", connections)
	k, log := tracedSink(t, with(props, "trace", true, "name", "{{fairlead.id}}.bin"))
	var wg sync.WaitGroup
	for i, size := range []int{0, 1, 300_000, 3 << 20, 0, 70} {
		wg.Go(func() {
			m := newMessage(t, noise(byte(i), size))
			if err := k.Send(testContext(t), m); err != nil {
				t.Errorf("send %d bytes: %v", size, err)
				return
			}
			got, err := os.ReadFile(filepath.Join(s.Dir, m.ID+".bin"))
			if err != nil || !bytes.Equal(got, noise(byte(i), size)) {
				t.Errorf("%d of %d bytes arrived, %v", len(got), size, err)
			}
		})
	}
	wg.Wait()
	if log.count("sent=EPSV") > 0 || log.count("sent=PASV") > 0 || log.count(`sent="EPRT |1|127.0.0.1|`) < 6 {
		t.Errorf("want EPRT alone:\n%s", log)
	}
	if s.props["tls"] != nil && log.count("resumed=true") != 6 {
		t.Errorf("%d data connections resume the TLS session, want 6", log.count("resumed=true"))
	}
	src := newSource(t, props)
	items := list(t, src)
	if len(items) != 6 {
		t.Fatalf("listed are %q, want 6", itemNames(items))
	}
	for name, item := range items {
		got, err := read(t, src, item)
		if err != nil || int64(len(got)) != item.Size {
			t.Errorf("read %s: %d of %d bytes, %v", name, len(got), item.Size, err)
		}
		if err := src.Settle(testContext(t), item); err != nil {
			t.Errorf("settle %s: %v", name, err)
		}
	}
	if _, err := newSource(t, with(props, "directory", "missing")).List(testContext(t)); err == nil {
		t.Error("a missing directory is an empty listing")
	}
	start := time.Now()
	if err := newSink(t, with(props, "directory", "missing")).Send(testContext(t), newMessage(t, []byte("x"))); err == nil {
		t.Error("sent into a missing directory")
	}
	if waited := time.Since(start); waited > 5*time.Second {
		t.Errorf("a refused upload waited %s for the server to connect", waited)
	}
	if n := listeners(t); n != before {
		t.Errorf("%d listeners are left", n-before)
	}
}

// listeners counts the listening sockets of this process.
func listeners(t *testing.T) int {
	t.Helper()
	inodes := map[string]bool{}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("counts sockets as Linux does")
	}
	for _, fd := range fds {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(target, "socket:[") {
			inodes[strings.Trim(target, "socket:[]")] = true
		}
	}
	n := 0
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		data, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == "0A" && inodes[f[9]] {
				n++
			}
		}
	}
	return n
}

// activeServer is a scripted server that makes its data connections itself. connect, if
// set, replaces the plain dial.
func activeServer(t *testing.T, knowsEPRT bool, connect func(addr string) (net.Conn, error), more map[string]handler) *scriptedServer {
	var mu sync.Mutex
	told := map[*scriptedConn]string{}
	if connect == nil {
		connect = func(addr string) (net.Conn, error) { return net.DialTimeout("tcp", addr, testWait) }
	}
	tell := func(c *scriptedConn, addr string) {
		mu.Lock()
		defer mu.Unlock()
		told[c] = addr
		c.say("200 ok")
	}
	transfer := func(f func(data net.Conn)) handler {
		return func(c *scriptedConn, _ string) {
			mu.Lock()
			addr := told[c]
			mu.Unlock()
			c.say("150 I connect")
			data, err := connect(addr)
			if err != nil {
				c.say("425 cannot connect")
				return
			}
			f(data)
			data.Close()
			c.say("226 done")
		}
	}
	handlers := map[string]handler{
		"PORT": func(c *scriptedConn, arg string) {
			f := strings.Split(arg, ",")
			high, _ := strconv.Atoi(f[4])
			low, _ := strconv.Atoi(f[5])
			tell(c, fmt.Sprintf("%s:%d", strings.Join(f[:4], "."), high<<8+low))
		},
		"EPRT": func(c *scriptedConn, arg string) {
			if !knowsEPRT {
				c.say("500 what is EPRT?")
				return
			}
			f := strings.Split(arg, "|")
			tell(c, net.JoinHostPort(f[2], f[3]))
		},
		"LIST": transfer(func(data net.Conn) { fmt.Fprint(data, "-rw-r--r-- 1 1 1 3 Jan 05 10:33 a.edi\r\n") }),
		"RETR": transfer(func(data net.Conn) { fmt.Fprint(data, "abc") }),
		"STOR": transfer(func(data net.Conn) { _, _ = io.Copy(io.Discard, data) }),
		"MDTM": says("213 20260105103317"), "SIZE": says("213 3"),
	}
	for name, h := range more {
		handlers[name] = h
	}
	return startScripted(t, "MDTM SIZE", handlers)
}

func TestServerWithoutEPRTIsToldByPORT(t *testing.T) {
	s := activeServer(t, false, nil, nil)
	src := newSource(t, s.props("data_mode", "active", "timeout", "10s"))
	for range 3 {
		if got, err := read(t, src, list(t, src)["a.edi"]); err != nil || string(got) != "abc" {
			t.Fatalf("read %q, %v", got, err)
		}
	}
	if eprt, port := s.count("EPRT"), s.count("PORT"); eprt != 1 || port != 6 {
		t.Errorf("%d EPRT and %d PORT, want one attempt and one PORT for each transfer", eprt, port)
	}
}

func TestServerThatRefusesActiveModeIsNamedAsSuch(t *testing.T) {
	s := activeServer(t, false, nil, map[string]handler{"PORT": says("500 not here")})
	src := newSource(t, s.props("data_mode", "active"))
	_, err := src.List(testContext(t))
	mustContain(t, err, "EPRT and PORT", "not here", "set data_mode: passive")
	if sdk.IsDisconnected(err) || s.count("PASS") != 1 || s.count("PASV") != 0 {
		t.Errorf("%v, %d logins: want the refusal on one session in step", err, s.count("PASS"))
	}
	if n := listeners(t); n != 1 { // the test server's own
		t.Errorf("%d listeners are left beside the server's", n-1)
	}
}

// A firewall in between: the server says that it connects, and nothing comes.
func TestServerThatNeverConnectsIsWaitedForBriefly(t *testing.T) {
	s := activeServer(t, true, func(string) (net.Conn, error) { return nil, errors.New("filtered") }, nil)
	src := newSource(t, s.props("data_mode", "active"))
	_, err := src.List(testContext(t))
	mustContain(t, err, "did not connect", "300ms", "active_address", "passive")
	err = newSink(t, s.props("data_mode", "active")).Send(testContext(t), newMessage(t, nil))
	mustContain(t, err, "did not connect")
	ctx, cancel := context.WithCancel(testContext(t))
	patient := newSource(t, s.props("data_mode", "active", "timeout", "10m"))
	ended := make(chan error, 1)
	go func() { _, err := patient.List(ctx); ended <- err }()
	waitFor(t, "the listing", func() bool { return s.count("LIST") == 2 })
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("an ended listing says %v", err)
		}
	case <-time.After(testWait):
		t.Fatal("the end of the context does not end the wait for the server")
	}
	if n := listeners(t); n != 1 {
		t.Errorf("%d listeners are left beside the server's", n-1)
	}
}

// Somebody else who finds the port neither gets a file nor gives us one.
func TestConnectionFromElsewhereIsNotTaken(t *testing.T) {
	connect := func(addr string) (net.Conn, error) {
		stranger := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		conn, err := stranger.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		fmt.Fprint(conn, "-rw-r--r-- 1 1 1 3 Jan 05 10:33 forged\r\n")
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			return nil, errors.New("the stranger was told something")
		}
		return net.DialTimeout("tcp", addr, testWait)
	}
	s := activeServer(t, true, connect, nil)
	src := newSource(t, s.props("data_mode", "active", "timeout", "10s"))
	if got := itemNames(list(t, src)); len(got) != 1 || got[0] != "a.edi" {
		t.Errorf("listed are %q, want what the server says", got)
	}
}

func TestActivePortsAndAddressAreWhatTheServerIsTold(t *testing.T) {
	first, release, err := freeport.Take(3)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+1))
	if err != nil {
		t.Fatal(err)
	}
	s := activeServer(t, true, func(addr string) (net.Conn, error) {
		_, port, _ := net.SplitHostPort(addr)
		return net.DialTimeout("tcp", "127.0.0.1:"+port, testWait)
	}, nil)
	src, log := tracedSource(t, s.props("data_mode", "active", "active_ports", fmt.Sprintf("%d-%d", first, first+2), "active_address", "203.0.113.7", "trace", true, "timeout", "10s"))
	for range 4 {
		list(t, src)
	}
	at := func(n int) int { return log.count(fmt.Sprintf("EPRT |1|203.0.113.7|%d|", first+n)) }
	if at(0)+at(2) != 4 || at(0) == 0 || at(2) == 0 || at(1) != 0 {
		t.Errorf("told were %d, %d and %d times of the three ports, the second of which is taken:\n%s", at(0), at(1), at(2), log)
	}
	for _, n := range []int{0, 2} {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+n))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	_, err = src.List(testContext(t))
	mustContain(t, err, "active_ports", "in use")
	taken.Close()
	list(t, src)
}

func TestActiveModeOverIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here")
	}
	s := activeServer(t, true, nil, nil)
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		client, err := l.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		server, err := net.Dial("tcp", s.addr)
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(server, client); server.Close() }()
		_, _ = io.Copy(client, server)
	}()
	src, log := tracedSource(t, s.props("address", l.Addr().String(), "data_mode", "active", "trace", true, "timeout", "10s", "connections", 1))
	list(t, src)
	wantLogged(t, log, "EPRT |2|::1|")
	src.Close()
	l.Close()
	<-forwarded
}

func TestActivePropertiesThatCannotWorkAreRefused(t *testing.T) {
	for _, test := range []struct {
		property string
		props    map[string]any
	}{
		{"active_ports", map[string]any{"active_ports": "1-2"}},
		{"active_address", map[string]any{"active_address": "1.2.3.4"}},
		{"active_ports", map[string]any{"data_mode": "active", "active_ports": "40100-40000"}},
		{"active_ports", map[string]any{"data_mode": "active", "active_ports": "0-70000"}},
		{"active_ports", map[string]any{"data_mode": "active", "active_ports": "40000-40002", "connections": 4}},
		{"active_address", map[string]any{"data_mode": "active", "active_address": "nat.example"}},
		{"active_address", map[string]any{"data_mode": "active", "active_address": "0.0.0.0"}},
		{"disable_epsv", map[string]any{"data_mode": "active", "disable_epsv": true}},
		{"data_mode", map[string]any{"data_mode": "active", "proxy": "socks5://127.0.0.1:1"}},
	} {
		test.props["address"] = "ftp.example"
		_, err := sdk.DecodeProperties[receiveProperties](mustJSON(t, test.props))
		var wrong *sdk.PropertyError
		if !errors.As(err, &wrong) || wrong.Property != test.property {
			t.Errorf("%v: %v, want a problem of %s", test.props, err, test.property)
		}
	}
}
