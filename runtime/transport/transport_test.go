package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fairlead-io/fairlead/runtime/transport/peerpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// journal is a log that tests wait on.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func newJournal() *journal { return &journal{more: make(chan struct{}, 1)} }

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text.Write(p)
	select {
	case j.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) waitFor(t *testing.T, texts ...string) {
	t.Helper()
	limit := time.After(patience)
	for {
		missing := ""
		for _, text := range texts {
			if !strings.Contains(j.String(), text) {
				missing = text
			}
		}
		if missing == "" {
			return
		}
		select {
		case <-j.more:
		case <-limit:
			t.Fatalf("the log does not say %q:\n%s", missing, j)
		}
	}
}

// peer answers calls.
type peer struct {
	peerpb.UnimplementedPeerServer
	hold chan struct{} // Status waits for it, if it is not nil
	held chan struct{}
}

func (p *peer) Propose(_ context.Context, r *peerpb.ProposeRequest) (*peerpb.ProposeReply, error) {
	return &peerpb.ProposeReply{Text: string(r.GetCommand())}, nil
}

func (p *peer) Status(ctx context.Context, _ *peerpb.StatusRequest) (*peerpb.StatusReply, error) {
	close(p.held)
	select {
	case <-p.hold:
	case <-ctx.Done():
	}
	return nil, ctx.Err()
}

type node struct {
	*Transport
	log  *journal
	peer *peer
	raft raft.StreamLayer
}

func listen(t *testing.T, secured *tls.Config) *node {
	t.Helper()
	n := &node{log: newJournal(), peer: &peer{hold: make(chan struct{}), held: make(chan struct{})}}
	var err error
	n.Transport, err = Listen(Config{Address: "127.0.0.1:0", TLS: secured, Log: slog.New(slog.NewTextHandler(n.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	n.raft = n.StreamLayer()
	peerpb.RegisterPeerServer(n.Server(), n.peer)
	n.Serve()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return n
}

func (n *node) address() string { return n.Addr().String() }

// wantRaft sends over raft's share of the port and back.
func wantRaft(t *testing.T, from, to *node) {
	t.Helper()
	out, err := from.raft.Dial(raft.ServerAddress(to.address()), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := to.raft.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for _, way := range []struct{ from, to net.Conn }{{out, in}, {in, out}} {
		if err := errors.Join(way.from.SetDeadline(time.Now().Add(patience)), way.to.SetDeadline(time.Now().Add(patience))); err != nil {
			t.Fatal(err)
		}
		if _, err := way.from.Write([]byte("vote")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4)
		if _, err := io.ReadFull(way.to, got); err != nil || string(got) != "vote" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}

func call(t *testing.T, from, to *node, command []byte) (*peerpb.ProposeReply, error) {
	t.Helper()
	client, err := from.Client(to.address())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return client.Propose(ctx, &peerpb.ProposeRequest{Command: command})
}

func wantCall(t *testing.T, from, to *node) {
	t.Helper()
	if reply, err := call(t, from, to, []byte("hello")); err != nil || reply.GetText() != "hello" {
		t.Fatalf("Propose = %v, %v", reply, err)
	}
}

func TestBothProtocolsShareThePort(t *testing.T) {
	ca := newAuthority(t)
	for name, secured := range map[string]func() *tls.Config{
		"with TLS":    func() *tls.Config { return ca.node(t) },
		"without TLS": func() *tls.Config { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := listen(t, secured()), listen(t, secured())
			wantRaft(t, a, b)
			wantCall(t, a, b)
			wantRaft(t, b, a)
			wantCall(t, b, a)
		})
	}
}

func TestCallsToOneNodeShareAConnection(t *testing.T) {
	a, b := listen(t, nil), listen(t, nil)
	for range 3 {
		wantCall(t, a, b)
	}
	if len(a.clients) != 1 {
		t.Errorf("%d connections to one node", len(a.clients))
	}
}

func TestTooBigACallIsRefused(t *testing.T) {
	a, b := listen(t, nil), listen(t, nil)
	if _, err := call(t, a, b, make([]byte, maxMessage+1)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("Propose = %v", err)
	}
	if _, err := call(t, a, b, make([]byte, maxMessage/4)); err != nil {
		t.Errorf("a big call: %v", err)
	}
}

func TestNodeOfAnotherAuthorityIsRefused(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	a := listen(t, ours.node(t))
	// It knows our authority, so that only its own certificate is at fault.
	secured := theirs.node(t)
	secured.RootCAs = ours.pool
	stranger := listen(t, secured)

	if _, err := call(t, stranger, a, nil); status.Code(err) != codes.Unavailable {
		t.Errorf("Propose = %v", err)
	}
	a.log.waitFor(t, "connection refused", "signed by unknown authority")
	// And we do not speak with it.
	_, err := a.raft.Dial(raft.ServerAddress(stranger.address()), patience)
	if err == nil || !strings.Contains(err.Error(), "TLS with "+stranger.address()) || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("Dial = %v", err)
	}
}

func TestNodeWithoutCertificateIsRefused(t *testing.T) {
	ca := newAuthority(t)
	a := listen(t, ca.node(t))
	conn, err := tls.Dial("tcp", a.address(), &tls.Config{RootCAs: ca.pool, NextProtos: []string{raftProtocol}})
	if err == nil { // the client's part of TLS 1.3 ends before the server's
		defer conn.Close()
		wantCutOff(t, conn)
	}
	a.log.waitFor(t, "client didn't provide a certificate")
}

func TestOldTLSIsRefused(t *testing.T) {
	ca := newAuthority(t)
	a := listen(t, ca.node(t))
	c := ca.node(t)
	c.MinVersion, c.MaxVersion, c.NextProtos, c.ServerName = tls.VersionTLS12, tls.VersionTLS12, []string{raftProtocol}, "127.0.0.1"
	conn, err := tls.Dial("tcp", a.address(), c)
	if err == nil {
		conn.Close()
		t.Fatal("TLS 1.2 was accepted")
	}
	a.log.waitFor(t, "unsupported versions")
}

func TestUnknownProtocolIsRefused(t *testing.T) {
	ca := newAuthority(t)
	a := listen(t, ca.node(t))
	for protocol, complaint := range map[string]string{
		"smtp":     "unsupported application protocols",
		"http/1.1": "not a Fairlead node", // Go takes it for a browser and goes on
		"":         "not a Fairlead node",
	} {
		c := ca.node(t)
		c.ServerName = "127.0.0.1"
		if protocol != "" {
			c.NextProtos = []string{protocol}
		}
		if conn, err := tls.Dial("tcp", a.address(), c); err == nil {
			wantCutOff(t, conn)
			conn.Close()
		}
		a.log.waitFor(t, complaint)
	}
}

func TestNodesWithAndWithoutTLSAreToldApart(t *testing.T) {
	ca := newAuthority(t)
	secured, plain := listen(t, ca.node(t)), listen(t, nil)
	if _, err := call(t, plain, secured, nil); err == nil {
		t.Error("a node with TLS answered one without")
	}
	secured.log.waitFor(t, "the other side does not speak TLS")
	if _, err := secured.raft.Dial(raft.ServerAddress(plain.address()), patience); err == nil {
		t.Error("a node without TLS answered one with it")
	}
	plain.log.waitFor(t, "the other side speaks TLS, this node does not")
}

func TestTLSWithoutAnAuthorityIsNotServed(t *testing.T) {
	c := newAuthority(t).node(t)
	c.RootCAs = nil
	if n, err := Listen(Config{Address: "127.0.0.1:0", TLS: c}); err == nil || !strings.Contains(err.Error(), "tls.ca") {
		t.Errorf("Listen = %v, %v", n, err)
	}
}

// wantCutOff waits for the other side to close the connection.
func wantCutOff(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, conn)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() || n > 0 {
		t.Errorf("the connection is open after %d bytes, %v", n, err)
	}
}

func TestGarbageIsRefused(t *testing.T) {
	ca := newAuthority(t)
	for name, secured := range map[string]*tls.Config{"with TLS": ca.node(t), "without TLS": nil} {
		t.Run(name, func(t *testing.T) {
			a := listen(t, secured)
			for _, garbage := range []string{"GET / HTTP/1.1\r\n\r\n", "\x00\xff\x00\xff\x00", "SSH-2.0-x\r\n", "Rubbish for raft", "\x16\x03\x01"} {
				conn, err := net.Dial("tcp", a.address())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(conn, garbage); err != nil {
					t.Fatal(err)
				}
				if garbage[0] == raftByte && secured == nil {
					in, err := a.raft.Accept() // it is raft that finds out
					if err != nil {
						t.Fatal(err)
					}
					in.Close()
				}
				_ = conn.(*net.TCPConn).CloseWrite() // fails if it is cut off already
				if secured != nil || garbage[0] != peerByte {
					wantCutOff(t, conn)
				}
				conn.Close()
			}
			a.log.waitFor(t, "connection refused")
			b := listen(t, secured)
			wantRaft(t, b, a)
			wantCall(t, b, a)
		})
	}
}

func TestSilentConnectionsDoNotHoldUpOthers(t *testing.T) {
	ca := newAuthority(t)
	for name, secured := range map[string]*tls.Config{"with TLS": ca.node(t), "without TLS": nil} {
		t.Run(name, func(t *testing.T) {
			a, b := listen(t, secured), listen(t, secured)
			for range maxHandshakes / 2 {
				conn, err := net.Dial("tcp", a.address())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			}
			began := time.Now()
			wantRaft(t, b, a)
			wantCall(t, b, a)
			if d := time.Since(began); d >= handshakeTimeout {
				t.Errorf("others waited %v", d)
			}
		})
	}
}

func TestTooManySilentConnectionsAreRefused(t *testing.T) {
	a := listen(t, nil)
	for range maxHandshakes + 10 {
		conn, err := net.Dial("tcp", a.address())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	a.log.waitFor(t, "too many connections are being opened")
}

func TestCloseEndsEverything(t *testing.T) {
	ca := newAuthority(t)
	for name, secured := range map[string]*tls.Config{"with TLS": ca.node(t), "without TLS": nil} {
		t.Run(name, func(t *testing.T) {
			a, b := listen(t, secured), listen(t, secured)
			silent, err := net.Dial("tcp", b.address())
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			out, err := a.raft.Dial(raft.ServerAddress(b.address()), patience)
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			in, err := b.raft.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			client, err := a.Client(b.address())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			answer := make(chan error, 1)
			go func() {
				_, err := client.Status(ctx, &peerpb.StatusRequest{})
				answer <- err
			}()
			<-b.peer.held

			if err := b.Close(ctx); err != nil {
				t.Errorf("Close: %v", err)
			}
			if err := b.Close(ctx); err != nil {
				t.Errorf("second Close: %v", err)
			}
			if err := <-answer; status.Code(err) != codes.Unavailable {
				t.Errorf("the call under way ended with %v", err)
			}
			wantCutOff(t, silent)
			wantCutOff(t, out)
			if _, err := b.raft.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept = %v", err)
			}
			if _, err := b.Client(a.address()); err == nil {
				t.Error("Client after Close gives a connection")
			}
			if _, err := b.raft.Dial(raft.ServerAddress(a.address()), patience); err == nil {
				t.Error("Dial after Close gives a connection")
			}
		})
	}
}

func TestClosedStreamLayerLeavesCallsAlone(t *testing.T) {
	a, b := listen(t, nil), listen(t, nil)
	if err := b.raft.Close(); err != nil {
		t.Fatal(err)
	}
	wantCall(t, a, b)
	if _, err := b.raft.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	a, b := listen(t, nil), listen(t, nil)
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.raft.Dial(raft.ServerAddress(b.address()), patience); err == nil {
		t.Error("Dial reached a closed port")
	}
	if _, err := call(t, a, b, nil); status.Code(err) != codes.Unavailable {
		t.Errorf("Propose = %v", err)
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	a := listen(t, nil)
	_, err := Listen(Config{Address: a.address()})
	if err == nil || !strings.Contains(err.Error(), a.address()) || !strings.Contains(err.Error(), "listen.cluster") {
		t.Errorf("Listen = %v", err)
	}
}

func TestAdvertisedAddressIsTheOneThatPeersUse(t *testing.T) {
	n, err := Listen(Config{Address: "127.0.0.1:0", Advertise: "192.0.2.7:7947"})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(t.Context())
	if got := n.StreamLayer().Addr().String(); got != "192.0.2.7:7947" {
		t.Errorf("Addr = %s", got)
	}
}

func TestSameComplaintIsHeardOnceInAWhile(t *testing.T) {
	var cs complaints
	now := time.Now()
	for i, want := range []bool{true, false, false} {
		if _, due := cs.due("x", now.Add(time.Duration(i)*time.Second)); due != want {
			t.Errorf("complaint %d: due = %v, want %v", i, due, want)
		}
	}
	if _, due := cs.due("y", now); !due {
		t.Error("another complaint was kept back")
	}
	if others, due := cs.due("x", now.Add(complainEvery)); !due || others != 2 {
		t.Errorf("later: %d kept back, due = %v", others, due)
	}
}
