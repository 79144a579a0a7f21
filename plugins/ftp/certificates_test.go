package main

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk"
)

// texts are the certificate and its key as they stand in files.
func (c testCertificate) texts(t testing.TB) (certificate, key string) {
	t.Helper()
	text, err := os.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(c.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	return string(text), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

func fingerprint(c testCertificate) [32]byte { return sha256.Sum256(c.Certificate.Certificate[0]) }

// everyTLS runs a test in the modes and versions of TLS.
func everyTLS(t *testing.T, test func(t *testing.T, mode ftpd.TLSMode, tls13 bool)) {
	for _, mode := range []ftpd.TLSMode{ftpd.Explicit, ftpd.Implicit} {
		for version, tls13 := range map[string]bool{" 1.2": false, " 1.3": true} {
			t.Run(string(mode)+version, func(t *testing.T) { test(t, mode, tls13) })
		}
	}
}

func TestClientCertificateIsShown(t *testing.T) {
	everyTLS(t, func(t *testing.T, mode ftpd.TLSMode, tls13 bool) {
		ours, others := selfSignedForClient(t), selfSignedForClient(t)
		roots := x509.NewCertPool()
		text, key := ours.texts(t)
		roots.AppendCertsFromPEM([]byte(text))
		s := startServer(t, ftpd.Config{TLS: mode, ClientCAs: roots})
		s.write(t, "a", noise(1, 5000))
		props := with(s.props, "tls13", tls13)
		src := newSource(t, with(props, "client_certificate", text, "client_key", key))
		if got, err := read(t, src, list(t, src)["a"]); err != nil || len(got) != 5000 {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		_, err := newSource(t, props).List(testContext(t))
		mustContain(t, err, "set client_certificate and client_key")
		text, key = others.texts(t)
		_, err = newSource(t, with(props, "client_certificate", text, "client_key", key)).List(testContext(t))
		mustContain(t, err, "does not accept client_certificate")
		if !sdk.IsDisconnected(err) || strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%v is not Disconnected, or shows the key", err)
		}
	})
}

func TestPinnedCertificateIsEnoughAndNoOtherIsAccepted(t *testing.T) {
	everyTLS(t, func(t *testing.T, mode ftpd.TLSMode, tls13 bool) {
		theirs, another := selfSigned(t), selfSigned(t)
		s := startServer(t, ftpd.Config{TLS: mode, Certificate: &theirs.Certificate})
		s.write(t, "a", noise(1, 5000))
		sum, wrong := fingerprint(theirs), fingerprint(another)
		props := with(s.props, "tls13", tls13, "server_name", "quite.another")
		delete(props, "ca_file")
		for name, text := range map[string]string{
			"as openssl prints it": pin(sum).String(), "hex": "sha256:" + hex.EncodeToString(sum[:]),
			"base64": "SHA256:" + base64.StdEncoding.EncodeToString(sum[:]), "bare": base64.RawStdEncoding.EncodeToString(sum[:]),
		} {
			src := newSource(t, with(props, "tls_pins", []string{pin(wrong).String(), text}))
			// The data connections resume the session.
			if got, err := read(t, src, list(t, src)["a"]); err != nil || len(got) != 5000 {
				t.Errorf("%s: read %d bytes, %v", name, len(got), err)
			}
		}
		_, err := newSource(t, with(props, "tls_pins", []string{pin(wrong).String()})).List(testContext(t))
		mustContain(t, err, pin(sum).String(), "tls_pins", "administrator")
		if !sdk.IsDisconnected(err) {
			t.Errorf("%v is not Disconnected", err)
		}
		if s.commands("PASS") != 4 {
			t.Errorf("the password was sent %d times, want 4", s.commands("PASS"))
		}
	})
}

// With ca_file both must be right: the chain with the name, and the pin.
func TestPinsAreInAdditionToCAFile(t *testing.T) {
	theirs, another := selfSigned(t), selfSigned(t)
	s := startServer(t, ftpd.Config{TLS: ftpd.Explicit, Certificate: &theirs.Certificate})
	right, wrong := []string{pin(fingerprint(theirs)).String()}, []string{pin(fingerprint(another)).String()}
	list(t, newSource(t, with(s.props, "ca_file", theirs.file, "tls_pins", right)))
	for name, pairs := range map[string][]any{
		"wrong authority": {"ca_file", another.file, "tls_pins", right},
		"wrong name":      {"ca_file", theirs.file, "tls_pins", right, "server_name", "quite.another"},
		"wrong pin":       {"ca_file", theirs.file, "tls_pins", wrong},
	} {
		if _, err := newSource(t, with(s.props, pairs...)).List(testContext(t)); err == nil {
			t.Errorf("%s: the server was accepted", name)
		}
	}
}

func TestWrongCertificatePropertiesAreNamed(t *testing.T) {
	text, key := selfSigned(t).texts(t)
	_, otherKey := selfSigned(t).texts(t)
	for name, c := range map[string]struct {
		pairs          []any
		property, want string
	}{
		"no key":         {[]any{"client_certificate", text}, "client_key", "missing"},
		"no certificate": {[]any{"client_key", key}, "client_certificate", "missing"},
		"a path":         {[]any{"client_certificate", "/etc/a.crt", "client_key", key}, "client_certificate", "${file:"},
		"another key":    {[]any{"client_certificate", text, "client_key", otherKey}, "client_key", "does not match"},
		"no PEM":         {[]any{"client_certificate", text, "client_key", "secret"}, "client_key", "cannot be used"},
		"an encrypted key": {[]any{"client_certificate", text, "client_key",
			"-----BEGIN ENCRYPTED PRIVATE KEY-----\nc2VjcmV0\n-----END ENCRYPTED PRIVATE KEY-----\n"}, "client_key", "openssl pkey"},
		"half a pin": {[]any{"tls_pins", []string{"SHA256:AB:CD"}}, "tls_pins.0", "fingerprint -sha256"},
		"an MD5":     {[]any{"tls_pins", []string{strings.Repeat("ab", 16)}}, "tls_pins.0", "SHA-256"},
		"both":       {[]any{"tls_pins", []string{strings.Repeat("ab", 32)}, "insecure_skip_verify", true}, "insecure_skip_verify", "contradicts"},
		"no TLS":     {[]any{"tls", "none", "tls_pins", []string{strings.Repeat("ab", 32)}}, "tls_pins", "tls: none"},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := json.Marshal(with(map[string]any{"address": "h", "tls": "explicit"}, c.pairs...))
			if err != nil {
				t.Fatal(err)
			}
			_, err = sdk.DecodeProperties[sendProperties](data)
			var of *sdk.PropertyError
			if !errors.As(err, &of) || of.Property != c.property || !strings.Contains(of.Problem, c.want) {
				t.Errorf("%v; want one about %s that contains %q", err, c.property, c.want)
			}
			if err != nil && (strings.Contains(err.Error(), "PRIVATE KEY-") || strings.Contains(err.Error(), "c2Vj")) {
				t.Errorf("%v shows the key", err)
			}
		})
	}
}
