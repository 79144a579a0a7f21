package adaptertest

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
)

// Forward is a proxy that a client asks for an address: SOCKS5 or HTTP CONNECT, whichever
// it speaks. It is for tests of properties such as those of sdk/proxy. The name
// server.test stands for 127.0.0.1 and is known to nobody else, so that a test can tell
// whether a client resolves names itself.
type Forward struct {
	// Addr is where it listens, as host:port on loopback.
	Addr string

	user, password string
	serving        sync.WaitGroup

	mu      sync.Mutex
	targets []string
	open    map[net.Conn]bool
	deny    bool
}

// NewForward starts a proxy that ends with the test. Without a user it asks for no login.
func NewForward(t testing.TB, user, password string) *Forward {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &Forward{Addr: listener.Addr().String(), user: user, password: password, open: map[net.Conn]bool{}}
	f.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			f.serving.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		f.mu.Lock()
		for conn := range f.open {
			_ = conn.Close()
		}
		f.mu.Unlock()
		f.serving.Wait()
	})
	return f
}

// Targets are the addresses that were asked for, in order.
func (f *Forward) Targets() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.targets...)
}

// Deny has every address refused from now on.
func (f *Forward) Deny() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deny = true
}

func (f *Forward) serve(conn net.Conn) {
	f.track(conn, true)
	defer f.track(conn, false)
	in := bufio.NewReader(conn)
	first, err := in.Peek(1)
	if err != nil {
		return
	}
	if first[0] == 5 {
		f.socks(conn, in)
	} else {
		f.connect(conn, in)
	}
}

func (f *Forward) track(conn net.Conn, open bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if open {
		f.open[conn] = true
		return
	}
	delete(f.open, conn)
	_ = conn.Close()
}

// dial connects to what was asked for, nil if it is denied or out of reach.
func (f *Forward) dial(target string) net.Conn {
	f.mu.Lock()
	f.targets = append(f.targets, target)
	deny := f.deny
	f.mu.Unlock()
	host, port, err := net.SplitHostPort(target)
	if err != nil || deny {
		return nil
	}
	if host == "server.test" {
		host = "127.0.0.1"
	}
	server, err := net.Dial("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil
	}
	return server
}

func (f *Forward) connect(conn net.Conn, in *bufio.Reader) {
	request, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	say := func(status, header string) { _, _ = io.WriteString(conn, "HTTP/1.1 "+status+"\r\n"+header+"\r\n") }
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(f.user+":"+f.password))
	switch {
	case request.Method != http.MethodConnect:
		say("405 Method Not Allowed", "Content-Length: 0\r\n")
		return
	case f.user != "" && request.Header.Get("Proxy-Authorization") != want:
		say("407 Proxy Authentication Required", "Proxy-Authenticate: Basic\r\nContent-Length: 0\r\n")
		return
	}
	server := f.dial(request.Host)
	if server == nil {
		say("403 Forbidden", "Content-Length: 0\r\n")
		return
	}
	say("200 Connection established", "")
	f.relay(conn, in, server)
}

func (f *Forward) socks(conn net.Conn, in *bufio.Reader) {
	read := func(n int) []byte {
		buf := make([]byte, n)
		if _, err := io.ReadFull(in, buf); err != nil {
			return make([]byte, n) // what it says is then refused
		}
		return buf
	}
	text := func() string { return string(read(int(read(1)[0]))) }
	methods := read(2)
	offered := read(int(methods[1]))
	if f.user != "" {
		if string(offered[len(offered)-1]) != "\x02" {
			_, _ = conn.Write([]byte{5, 0xff})
			return
		}
		_, _ = conn.Write([]byte{5, 2})
		read(1)
		if user, password := text(), text(); user != f.user || password != f.password {
			_, _ = conn.Write([]byte{1, 1})
			return
		}
		_, _ = conn.Write([]byte{1, 0})
	} else {
		_, _ = conn.Write([]byte{5, 0})
	}
	host := ""
	switch read(4)[3] {
	case 1:
		host = net.IP(read(4)).String()
	case 3:
		host = text()
	case 4:
		host = net.IP(read(16)).String()
	}
	port := strconv.Itoa(int(binary.BigEndian.Uint16(read(2))))
	server := f.dial(net.JoinHostPort(host, port))
	answer := []byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	if server == nil {
		answer[1] = 2 // not allowed by ruleset
	}
	_, _ = conn.Write(answer)
	if server != nil {
		f.relay(conn, in, server)
	}
}

// relay carries both ways, each to its own end.
func (f *Forward) relay(conn net.Conn, in io.Reader, server net.Conn) {
	f.track(server, true)
	defer f.track(server, false)
	var up sync.WaitGroup
	up.Go(func() { carry(server, in) })
	carry(conn, server)
	up.Wait()
}

func carry(to net.Conn, from io.Reader) {
	_, _ = io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
