package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

type testCertificate struct {
	tls.Certificate
	file string
}

// selfSigned makes a certificate for 127.0.0.1 that outlives a server's restart.
func selfSigned(t testing.TB) testCertificate { return selfSignedFor(t) }

// selfSignedForClient makes a certificate that a client may show.
func selfSignedForClient(t testing.TB) testCertificate {
	return selfSignedFor(t, x509.ExtKeyUsageClientAuth)
}

func selfSignedFor(t testing.TB, usage ...x509.ExtKeyUsage) testCertificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: usage,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return testCertificate{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file}
}
