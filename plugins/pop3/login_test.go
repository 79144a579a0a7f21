package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/demo/popd"
	"github.com/fairlead-io/fairlead/sdk"
)

func TestLockedMaildropBacksOffAndHealsItself(t *testing.T) {
	server := startServer(t, popd.Config{})
	server.Deliver(plainMail(1))
	if !server.Lock() {
		t.Fatal("cannot lock")
	}
	s := newTestSource(t, server.props)
	_, err := s.List(testContext(t))
	if !sdk.IsDisconnected(err) {
		t.Errorf("error %v is not marked as disconnected", err)
	}
	mustContain(t, err, "in use by another session", "IN-USE")
	if strings.Contains(err.Error(), "check user") {
		t.Errorf("error %q blames the password", err)
	}
	server.Unlock()
	mustList(t, s, 1)
}

func TestWrongPasswordIsClearAndKeepsTheSecret(t *testing.T) {
	server := startServer(t, popd.Config{})
	for _, auth := range []string{"user", "plain", "apop"} {
		s := newTestSource(t, with(server.props, "auth", auth, "password", "wr0ng-Secret"))
		_, err := s.List(testContext(t))
		if !sdk.IsDisconnected(err) {
			t.Errorf("%s: error %v is not marked as disconnected", auth, err)
		}
		mustContain(t, err, "log in to", "check user, password")
		if strings.Contains(err.Error(), "wr0ng-Secret") {
			t.Errorf("%s: the secret is in %q", auth, err)
		}
	}
}

func TestEveryWayToLogIn(t *testing.T) {
	for _, c := range []struct {
		auth string
		cfg  popd.Config
		want string // the command used
	}{
		{"auto", popd.Config{}, "AUTH"},
		{"auto", popd.Config{WithoutSASL: true}, "PASS"},
		{"auto", popd.Config{WithoutCAPA: true}, "PASS"},
		{"user", popd.Config{}, "PASS"},
		{"plain", popd.Config{WithoutCAPA: true}, "AUTH"},
		{"apop", popd.Config{}, "APOP"},
		{"auto", popd.Config{TLS: popd.STLS}, "AUTH"},
		{"user", popd.Config{TLS: popd.STLS, WithoutCAPA: true}, "PASS"},
		{"auto", popd.Config{TLS: popd.Implicit}, "AUTH"},
	} {
		t.Run(fmt.Sprintf("%s %s %s", c.auth, c.cfg.TLS, c.want), func(t *testing.T) {
			server := startServer(t, c.cfg)
			server.Deliver(plainMail(1))
			s := newTestSource(t, with(server.props, "auth", c.auth))
			if got := mustRead(t, s, mustList(t, s, 1)[0]); got != string(plainMail(1)) {
				t.Errorf("content %q", got)
			}
			if server.commands(c.want) != 1 {
				t.Errorf("%s was not used", c.want)
			}
		})
	}
}

func TestStartTLSIsNeverGivenUp(t *testing.T) {
	server := startServer(t, popd.Config{}) // knows no STLS
	s := newTestSource(t, with(server.props, "tls", "starttls"))
	_, err := s.List(testContext(t))
	mustContain(t, err, "STLS")
	for _, command := range []string{"USER", "PASS", "AUTH", "APOP"} {
		if server.commands(command) > 0 {
			t.Errorf("%s was sent in plain text", command)
		}
	}
}

func TestUnknownCertificateIsRefusedWithAdvice(t *testing.T) {
	server := startServer(t, popd.Config{TLS: popd.Implicit})
	props := with(server.props)
	delete(props, "ca_file")
	s := newTestSource(t, props)
	_, err := s.List(testContext(t))
	mustContain(t, err, "ca_file")
	s = newTestSource(t, with(server.props, "server_name", "other.example"))
	_, err = s.List(testContext(t))
	mustContain(t, err, "server_name")
}

func TestServerWithoutUIDLIsAClearError(t *testing.T) {
	server := startServer(t, popd.Config{WithoutUIDL: true})
	server.Deliver(plainMail(1))
	s := newTestSource(t, server.props)
	_, err := s.List(testContext(t))
	mustContain(t, err, "without UIDL mails cannot be told apart")
}
