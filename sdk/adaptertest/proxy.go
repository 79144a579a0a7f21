package adaptertest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy stands between an adapter and its server and cuts connections. It is for tests
// of what an adapter leaves behind after many faults: give the adapter its Addr.
type Proxy struct {
	// Addr is where it listens, as host:port on loopback.
	Addr string

	backend string
	serving sync.WaitGroup

	mu   sync.Mutex
	left int64 // of every new connection; negative: all
	open map[net.Conn]bool
}

// NewProxy starts a proxy of the server at that address. It ends, and ends every
// connection, with the test.
func NewProxy(t testing.TB, backend string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: listener.Addr().String(), backend: backend, left: -1, open: map[net.Conn]bool{}}
	p.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.serving.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.Cut()
		p.serving.Wait()
	})
	return p
}

// CutAfter has every connection that is made from now on cut after that many bytes from
// the server; a negative number lets them live. Those that are open are cut at once.
func (p *Proxy) CutAfter(bytes int64) {
	p.mu.Lock()
	p.left = bytes
	p.mu.Unlock()
	p.Cut()
}

// Cut cuts every connection now.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		_ = conn.Close()
	}
}

// Open is how many connections of the adapter are open.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}

func (p *Proxy) serve(conn net.Conn) {
	p.mu.Lock()
	left := p.left
	p.open[conn] = true
	p.mu.Unlock()
	defer func() {
		_ = conn.Close()
		p.mu.Lock()
		delete(p.open, conn)
		p.mu.Unlock()
	}()
	server, err := net.Dial("tcp", p.backend)
	if err != nil {
		return
	}
	var toServer sync.WaitGroup
	toServer.Go(func() {
		_, _ = io.Copy(server, conn)
		_ = server.Close() // the adapter has gone
	})
	var from io.Reader = server
	if left >= 0 {
		from = io.LimitReader(server, left)
	}
	_, _ = io.Copy(conn, from)
	_ = conn.Close()
	_ = server.Close()
	toServer.Wait()
}
