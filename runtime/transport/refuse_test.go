package transport

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

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
