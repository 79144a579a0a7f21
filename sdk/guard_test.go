package sdk

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
)

func TestAGuardedConnectionWritesNothingAfterTheLease(t *testing.T) {
	now := bootclock.Time(1)
	ended := 0
	l := newLease(func() bootclock.Time { return now }, func() { ended++ })
	defer l.stop()
	l.renew(now.Add(time.Hour))
	here, there := net.Pipe()
	defer here.Close()
	got := make(chan string, 1)
	go func() { // ends when here is closed
		data, _ := io.ReadAll(there)
		got <- string(data)
	}()
	c := Guard(context.WithValue(t.Context(), leaseKey{}, l), here)
	if _, err := c.Write([]byte("RETR a")); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour) // frozen in the middle of a dialogue, and awake again
	if _, err := c.Write([]byte("DELE a")); !errors.Is(err, errNoLease) {
		t.Errorf("write after the lease: %v", err)
	}
	here.Close()
	if data := <-got; data != "RETR a" || ended != 1 {
		t.Errorf("the peer got %q; the end was told %d times", data, ended)
	}
	if Guard(t.Context(), here) != here {
		t.Error("guarded without a lease")
	}
}

// deafPeer is a guarded connection to a peer that has not read anything yet, with more
// written than the peer's kernel takes. The rest waits in our kernel.
func deafPeer(t *testing.T) (c net.Conn, own, peer *net.TCPConn, written int) {
	t.Helper()
	l := newLease(bootclock.Now, func() {})
	t.Cleanup(l.stop)
	l.renew(bootclock.Now().Add(time.Hour))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialed, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	own, peer = dialed.(*net.TCPConn), accepted.(*net.TCPConn)
	t.Cleanup(func() { own.Close(); peer.Close() })
	// So that more waits on our side than the peer has room for.
	if err := errors.Join(peer.SetReadBuffer(256<<10), own.SetWriteBuffer(2<<20)); err != nil {
		t.Fatal(err)
	}
	c = Guard(context.WithValue(t.Context(), leaseKey{}, l), own)
	if err := c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<10)
	for {
		n, err := c.Write(block)
		written += n
		if err != nil { // everything is full
			return c, own, peer, written
		}
	}
}

func TestWhatADeadProcessWroteIsNotSentLater(t *testing.T) {
	_, own, peer, written := deafPeer(t)
	own.Close() // as the kernel does for a process that is killed
	got, err := io.Copy(io.Discard, peer)
	if err == nil || got >= int64(written) {
		t.Errorf("the peer got %d of %d bytes, and %v; want less, and a reset", got, written, err)
	}
}

func TestAnOrderlyCloseSendsEverything(t *testing.T) {
	c, _, peer, written := deafPeer(t)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.Copy(io.Discard, peer); err != nil || got != int64(written) {
		t.Errorf("the peer got %d of %d bytes, and %v", got, written, err)
	}
}
