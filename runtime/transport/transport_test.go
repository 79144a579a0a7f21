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

func TestSilentConnectionsAreCutOff(t *testing.T) {
	t.Parallel() // it takes as long as a handshake may
	ca := newAuthority(t)
	for name, secured := range map[string]*tls.Config{"with TLS": ca.node(t), "without TLS": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", listen(t, secured).address())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			wantCutOff(t, conn)
		})
	}
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
