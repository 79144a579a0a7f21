// Package mail is what the adapters for mailboxes have in common.
//
// It answers for the properties of a server and the connection to it ([Server],
// [Conn]), and for turning one mail into a message: whole or in its MIME parts,
// with the context made of its header ([Open]). It promises that no connection
// waits for ever, that no password gets into an error, and that no mail is too
// malformed to be delivered: what cannot be parsed travels as it is. It leaves
// the protocols, and what happens to a mail afterwards, to the adapters.
package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/fairlead-io/fairlead/sdk"
)

// How the connection is encrypted: the values of the property tls.
const (
	TLSNone     = "none"
	TLSStart    = "starttls"
	TLSImplicit = "implicit"
)

// Server holds the properties of a mail server that all adapters share.
type Server struct {
	Address            string       `json:"address" jsonschema:"required,minLength=1" jsonschema_description:"Server, as host or host:port. Without a port the protocol's usual one is used."`
	User               string       `json:"user" jsonschema:"required,minLength=1" jsonschema_description:"Name to log in with."`
	Password           sdk.Secret   `json:"password" jsonschema:"required" jsonschema_description:"Password to log in with."`
	TLS                string       `json:"tls" jsonschema:"enum=none,enum=starttls,enum=implicit,default=none" jsonschema_description:"Encryption: none, starttls (on the usual port; the login waits for it, and there is no way back to none) or implicit (TLS from the first byte)."`
	CAFile             string       `json:"ca_file,omitempty" jsonschema_description:"PEM file with the certificates to trust instead of the system's."`
	ServerName         string       `json:"server_name,omitempty" jsonschema_description:"Name that the server's certificate must have. Default: the host in address."`
	InsecureSkipVerify bool         `json:"insecure_skip_verify" jsonschema:"default=false" jsonschema_description:"Accept any certificate. For tests only: anybody on the way can read the password."`
	Timeout            sdk.Duration `json:"timeout" jsonschema:"default=30s" jsonschema_description:"How long a connect, a reply or a transfer may go without any progress."`
}

// Ports are a protocol's usual ports.
type Ports struct{ Plain, Implicit string }

// Problem makes a finding about a property.
func Problem(property, format string, args ...any) error {
	return &sdk.PropertyError{Property: property, Problem: fmt.Sprintf(format, args...)}
}

// OneOf is nil if value is one of the values that property may have.
func OneOf(property, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return Problem(property, "is %q, want one of %s", value, strings.Join(allowed, ", "))
}

// Problems returns what the schema cannot say.
func (s Server) Problems() []error {
	errs := []error{OneOf("tls", s.TLS, TLSNone, TLSStart, TLSImplicit)}
	if _, _, err := s.hostPort(Ports{"0", "0"}); err != nil {
		errs = append(errs, Problem("address", "%v; want host or host:port", err))
	}
	if s.User == "" || strings.ContainsFunc(s.User, unicode.IsControl) {
		errs = append(errs, Problem("user", "is empty or contains a control character"))
	}
	if strings.ContainsAny(s.Password.Reveal(), "\r\n\x00") {
		errs = append(errs, Problem("password", "contains a line break or a NUL; a password from a file may end in one"))
	}
	if s.Timeout.D() <= 0 {
		errs = append(errs, Problem("timeout", "must be more than 0s"))
	}
	if s.TLS == TLSNone {
		set := map[string]bool{"ca_file": s.CAFile != "", "server_name": s.ServerName != "", "insecure_skip_verify": s.InsecureSkipVerify}
		for _, name := range []string{"ca_file", "server_name", "insecure_skip_verify"} {
			if set[name] {
				errs = append(errs, Problem(name, "has no effect with tls: none; want tls: starttls or implicit"))
			}
		}
	}
	return errs
}

func (s Server) hostPort(ports Ports) (host, port string, err error) {
	port = ports.Plain
	if s.TLS == TLSImplicit {
		port = ports.Implicit
	}
	if strings.ContainsAny(s.Address, " \r\n\x00/") {
		return "", "", fmt.Errorf("%q is not an address", s.Address)
	}
	host, given, err := net.SplitHostPort(s.Address)
	switch {
	case err == nil:
		port = given
	case strings.HasPrefix(s.Address, "[") && strings.HasSuffix(s.Address, "]"):
		host = s.Address[1 : len(s.Address)-1]
	case net.ParseIP(s.Address) != nil || !strings.Contains(s.Address, ":"):
		host = s.Address
	default:
		return "", "", fmt.Errorf("%q is not an address", s.Address)
	}
	if host == "" || port == "" {
		return "", "", fmt.Errorf("%q lacks a host or a port", s.Address)
	}
	return host, port, nil
}

// HostPort is where to connect to.
func (s Server) HostPort(ports Ports) (string, error) {
	host, port, err := s.hostPort(ports)
	return net.JoinHostPort(host, port), err
}

// TLSConfig returns the settings for TLS, nil without TLS.
func (s Server) TLSConfig() (*tls.Config, error) {
	if s.TLS == TLSNone {
		return nil, nil
	}
	host, _, err := s.hostPort(Ports{"0", "0"})
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{ServerName: host, InsecureSkipVerify: s.InsecureSkipVerify, MinVersion: tls.VersionTLS12}
	if s.ServerName != "" {
		cfg.ServerName = s.ServerName
	}
	if s.CAFile == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		return nil, Problem("ca_file", "%v", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, Problem("ca_file", "%s holds no PEM certificate", s.CAFile)
	}
	return cfg, nil
}

// Dial connects, without TLS, within the time-out and the context.
func (s Server) Dial(ctx context.Context, ports Ports) (*Conn, error) {
	address, err := s.HostPort(ports)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: s.Timeout.D()}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return newConn(sdk.Guard(ctx, conn), s.Timeout.D()), nil
}

// ConnectError says what is wrong with a connection that could not be made, and
// what to do about it. It is marked as [sdk.Disconnected].
func (s Server) ConnectError(step string, err error) error {
	hint := ""
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		hint = "; name the issuer's certificate with ca_file"
	case errors.As(err, &name):
		hint = "; set server_name to a name in the certificate"
	case errors.As(err, &record):
		hint = "; the server does not speak TLS here: check the port and tls"
	case errors.Is(err, os.ErrDeadlineExceeded):
		hint = fmt.Sprintf("; the server was silent for %s", s.Timeout)
	}
	return sdk.Disconnected(fmt.Errorf("%s %s: %w%s", step, s.Address, err, hint))
}

// textMax bounds what is repeated of a server's words.
const textMax = 300

// Clean makes a text of the server fit for an error: one line, not too long, and
// without the password, which a server may well repeat.
func (s Server) Clean(text string) string {
	if p := s.Password.Reveal(); p != "" {
		for _, secret := range []string{
			base64.StdEncoding.EncodeToString([]byte("\x00" + s.User + "\x00" + p)),
			base64.StdEncoding.EncodeToString([]byte(p)),
			p,
		} {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return cut(oneLine(text), textMax)
}

// Ended makes the error of an operation that its context ended.
func Ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w (%v)", context.Cause(ctx), err)
	}
	return err
}

// TimeFormat is how times stand in a message's context, in UTC.
const TimeFormat = time.RFC3339
