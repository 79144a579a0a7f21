package guardian

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/runtime/transport"
	"github.com/fairlead-io/fairlead/runtime/transport/peerpb"
)

// peer takes notices like a node does.
type peer struct {
	peerpb.UnimplementedPeerServer
	told chan *peerpb.DiedRequest
}

func (p *peer) Died(_ context.Context, r *peerpb.DiedRequest) (*peerpb.DiedReply, error) {
	p.told <- r
	return &peerpb.DiedReply{Expired: 1}, nil
}

// identity writes a certificate that is its own authority, for 127.0.0.1.
func identity(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func listenAsPeer(t *testing.T, cfg transport.Config) (*peer, string) {
	t.Helper()
	cfg.Address = "127.0.0.1:0"
	port, err := transport.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{told: make(chan *peerpb.DiedRequest, 16)}
	peerpb.RegisterPeerServer(port.Server(), p)
	port.Serve()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := port.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return p, port.Addr().String()
}

func TestNoticeReachesAPeersClusterPort(t *testing.T) {
	for _, name := range []string{"plain", "TLS"} {
		t.Run(name, func(t *testing.T) {
			var cfg transport.Config
			m := &Messenger{}
			if name == "TLS" {
				cert, key := identity(t)
				secured, err := transport.LoadTLS(cert, cert, key)
				if err != nil {
					t.Fatal(err)
				}
				cfg.TLS = secured
				m.SetTLS(secured)
			}
			p, address := listenAsPeer(t, cfg)
			gone, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			gone.Close() // the leader died, too
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			notice := Notice{Node: "node-a", Proof: []byte("proof"), Reason: "killed"}
			e := m.Prepare([]string{gone.Addr().String(), address})
			begun := time.Now()
			if err := e.Deliver(ctx, notice); err != nil {
				t.Fatal(err)
			}
			t.Logf("told in %v", time.Since(begun))
			if r := <-p.told; r.Node != "node-a" || string(r.Proof) != "proof" || r.Reason != "killed" {
				t.Errorf("the peer heard %v", r)
			}
		})
	}
}

// Somebody without a certificate of the cluster's authority is not even heard.
func TestNoticeNeedsTheNodesCertificate(t *testing.T) {
	cert, key := identity(t)
	secured, err := transport.LoadTLS(cert, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	p, address := listenAsPeer(t, transport.Config{TLS: secured})
	otherCert, otherKey := identity(t)
	stranger, err := transport.LoadTLS(cert, otherCert, otherKey)
	if err != nil {
		t.Fatal(err)
	}
	m := &Messenger{}
	m.SetTLS(stranger)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := m.Prepare([]string{address}).Deliver(ctx, Notice{Node: "node-a", Proof: []byte("proof")}); err == nil {
		t.Error("a stranger's notice was taken")
	}
	if len(p.told) > 0 {
		t.Error("a stranger's notice was heard")
	}
}
