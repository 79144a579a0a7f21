package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// pin is the SHA-256 of a certificate.
type pin [sha256.Size]byte

const pinPrefix = "SHA256:"

// String is how openssl x509 -fingerprint -sha256 prints it.
func (p pin) String() string {
	digits := strings.ToUpper(hex.EncodeToString(p[:]))
	pairs := slices.Collect(slices.Chunk([]byte(digits), 2))
	return pinPrefix + string(bytes.Join(pairs, []byte(":")))
}

func parsePin(text string) (p pin, err error) {
	digest := strings.TrimSpace(text)
	if len(digest) > len(pinPrefix) && strings.EqualFold(digest[:len(pinPrefix)], pinPrefix) {
		digest = digest[len(pinPrefix):]
	}
	sum, err := hex.DecodeString(strings.ReplaceAll(digest, ":", ""))
	if err != nil || len(sum) != len(p) {
		sum, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(digest, "="))
	}
	if err != nil || len(sum) != len(p) {
		return p, fmt.Errorf("%q is not a SHA-256 in 64 hex digits or in base64; openssl x509 -in CERTIFICATE -noout -fingerprint -sha256 prints it", text)
	}
	return pin(sum), nil
}

// wrongCertificate is the error of a server whose certificate is not pinned.
type wrongCertificate struct{ is pin }

func (e *wrongCertificate) Error() string {
	return fmt.Sprintf("the server's certificate is %v, which is not in tls_pins", e.is)
}

// pinned returns what compares the server's certificate, also that of a session which is
// resumed.
func pinned(pins []pin) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("the server has no certificate")
		}
		is := pin(sha256.Sum256(state.PeerCertificates[0].Raw))
		if !slices.Contains(pins, is) {
			return &wrongCertificate{is}
		}
		return nil
	}
}

func (c connection) pins() ([]pin, error) {
	var pins []pin
	var errs []error
	for i, text := range c.TLSPins {
		p, err := parsePin(text)
		if err != nil {
			errs = append(errs, problem(fmt.Sprintf("tls_pins.%d", i), "%v", err))
		}
		pins = append(pins, p)
	}
	return pins, errors.Join(errs...)
}

// clientCertificate returns nil if none is given.
func (c connection) clientCertificate() (*tls.Certificate, error) {
	certificate, key := []byte(c.ClientCertificate), []byte(c.ClientKey.Reveal())
	switch {
	case len(certificate) == 0 && len(key) == 0:
		return nil, nil
	case len(certificate) == 0:
		return nil, problem("client_certificate", "is missing; client_key has no effect without it")
	case len(key) == 0:
		return nil, problem("client_key", "is missing; a certificate is of no use without its private key")
	}
	first, _ := pem.Decode(certificate)
	if first == nil {
		return nil, problem("client_certificate", "holds no PEM certificate; it wants the content of a file, as ${file:/etc/fairlead/partner.crt}")
	}
	if block, _ := pem.Decode(key); block != nil && (block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "") {
		return nil, problem("client_key", "is encrypted; openssl pkey -in KEY -out PLAIN decrypts it")
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, problem("client_key", "cannot be used with client_certificate: %v", err)
	}
	return &pair, nil
}

func (c connection) certificateProblems() []error {
	_, pinErr := c.pins()
	_, certificateErr := c.clientCertificate()
	errs := []error{pinErr, certificateErr}
	if len(c.TLSPins) > 0 && c.InsecureSkipVerify {
		errs = append(errs, problem("insecure_skip_verify", "contradicts tls_pins; take it away"))
	}
	return errs
}

// tlsConfig returns the settings that every session clones, nil without TLS.
func (c connection) tlsConfig() (*tls.Config, error) {
	if c.TLS == tlsNone {
		return nil, nil
	}
	host, _, err := c.hostPort()
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		// The client library derives it neither in explicit mode nor for data
		// connections; it is also the key of the session cache.
		ServerName:         host,
		InsecureSkipVerify: c.InsecureSkipVerify,
		MinVersion:         tls.VersionTLS12,
		MaxVersion:         tls.VersionTLS12,
	}
	if c.ServerName != "" {
		cfg.ServerName = c.ServerName
	}
	if c.TLS13 {
		cfg.MaxVersion = tls.VersionTLS13
	}
	if err := c.useCertificates(cfg); err != nil || c.CAFile == "" {
		return cfg, err
	}
	authorities, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, problem("ca_file", "%v", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(authorities) {
		return nil, problem("ca_file", "%s holds no PEM certificate", c.CAFile)
	}
	return cfg, nil
}

// useCertificates sets our own certificate, and the pins of the server's.
func (c connection) useCertificates(cfg *tls.Config) error {
	own, err := c.clientCertificate()
	if err != nil {
		return err
	}
	if own != nil {
		// Also if the server names other authorities than ours: it then says so, instead
		// of missing a certificate.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	}
	pins, err := c.pins()
	if err != nil {
		return err
	}
	if len(pins) > 0 {
		cfg.VerifyConnection = pinned(pins)
		cfg.InsecureSkipVerify = c.CAFile == "" // the pins are in its place
	}
	return nil
}
