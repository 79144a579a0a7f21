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
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/demo/natsd"
	"github.com/fairlead-io/fairlead/sdk"
)

// certificate makes one for 127.0.0.1 and a file to trust it by.
func certificate(t *testing.T) (*tls.Config, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, file
}

func TestBrokerWithTLSIsTrustedByItsCAOnly(t *testing.T) {
	cfg, ca := certificate(t)
	_, otherCA := certificate(t)
	b := newBroker(t, natsd.Config{TLS: cfg})
	b.stream(t, jetstream.StreamConfig{})
	url := strings.Replace(b.s.URL(), "nats://", "tls://", 1)
	for name, c := range map[string]struct {
		url        string
		properties map[string]any
		ok         bool
	}{
		"tls:// with the CA":        {url, map[string]any{"ca_file": ca}, true},
		"nats:// with the CA":       {b.s.URL(), map[string]any{"ca_file": ca}, true},
		"tls:// with another CA":    {url, map[string]any{"ca_file": otherCA}, false},
		"tls:// with the system's":  {url, nil, false},
		"CA file that is not there": {url, map[string]any{"ca_file": filepath.Join(t.TempDir(), "none.pem")}, false},
	} {
		err := newSink(t, c.url, c.properties).Send(t.Context(), message(newID(t), "x"))
		if c.ok && err != nil || !c.ok && !sdk.IsDisconnected(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPlainBrokerIsNotTalkedToWithoutTLSWhenTLSIsAskedFor(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	url := strings.Replace(b.s.URL(), "nats://", "tls://", 1)
	if err := newSink(t, url, nil).Send(t.Context(), message(newID(t), "x")); !sdk.IsDisconnected(err) {
		t.Errorf("got %v, want a Disconnected error", err)
	}
}
