package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/plugins/internal/mail/mailtest"
	"github.com/fairlead-io/fairlead/sdk"
)

func TestDovecot(t *testing.T) {
	server := mailtest.StartDovecot(t)
	base := map[string]any{"address": server.Address(0), "user": server.User, "password": server.Password}
	for name, props := range map[string]map[string]any{
		"plain":            base,
		"user and pass":    with(base, "auth", "user"),
		"stls":             with(base, "tls", "starttls", "ca_file", server.CAFile),
		"implicit":         with(base, "tls", "implicit", "ca_file", server.CAFile, "address", server.Address(1)),
		"stls, sasl plain": with(base, "tls", "starttls", "ca_file", server.CAFile, "auth", "plain"),
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			for i := range 3 {
				want = append(want, string(plainMail(i)))
			}
			want = append(want, "A: b\r\n\r\n.\r\n..\r\n"+strings.Repeat("x", 200_000)+"\r\n\x00\xff\r\n")
			for _, m := range want {
				server.Deliver(t, []byte(m))
			}
			s := newTestSource(t, props)
			items := mustList(t, s, len(want))
			for _, item := range items {
				if got := mustRead(t, s, item); !slices.Contains(want, got) {
					t.Errorf("mail %s of %d bytes is not one of those delivered", item.Key, len(got))
				}
			}
			mustSettle(t, s, items[1:]...)
			mustFlush(t, s)
			if n := len(server.Mails(t)); n != 1 {
				t.Errorf("%d mails are left, want 1", n)
			}
			again := mustList(t, s, 1)
			if again[0].Key != items[0].Key {
				t.Errorf("key was %s and is %s", items[0].Key, again[0].Key)
			}
			mustSettle(t, s, again...)
			mustFlush(t, s)
			mustList(t, s, 0)
		})
	}
	t.Run("a session that is dropped deletes nothing", func(t *testing.T) {
		server.Deliver(t, plainMail(9))
		s := openTestSource(t, base, longIdle)
		mustSettle(t, s, mustList(t, s, 1)...)
		s.Close()
		s = newTestSource(t, base)
		mustSettle(t, s, mustList(t, s, 1)...)
		mustFlush(t, s)
	})
	t.Run("wrong password", func(t *testing.T) {
		s := newTestSource(t, with(base, "password", "wr0ng"))
		_, err := s.List(testContext(t))
		mustContain(t, err, "AUTH", "check user, password")
	})
}

func TestDovecotWithLockedMaildrop(t *testing.T) {
	server := mailtest.StartDovecot(t, "LOCK=1")
	server.Deliver(t, plainMail(1))
	base := map[string]any{"address": server.Address(0), "user": server.User, "password": server.Password}
	first := openTestSource(t, base, longIdle)
	items := mustList(t, first, 1)
	second := newTestSource(t, base)
	_, err := second.List(testContext(t)) // the server thinks about it for 10 s
	if !sdk.IsDisconnected(err) {
		t.Errorf("error %v is not marked as disconnected", err)
	}
	mustContain(t, err, "in use by another session")
	mustSettle(t, first, items...)
	mustFlush(t, first)
	first.Close()
	mustList(t, second, 0)
}

func TestDovecotThatRefusesPlainTextSaysWhy(t *testing.T) {
	server := mailtest.StartDovecot(t, "PLAIN=0")
	server.Deliver(t, plainMail(1))
	base := map[string]any{"address": server.Address(0), "user": server.User, "password": server.Password}
	_, err := newTestSource(t, base).List(testContext(t))
	mustContain(t, err, "AUTH")
	s := newTestSource(t, with(base, "tls", "starttls", "ca_file", server.CAFile))
	mustList(t, s, 1)
}
