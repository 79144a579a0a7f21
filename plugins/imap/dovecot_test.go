package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/plugins/internal/mail/mailtest"
	"github.com/fairlead-io/fairlead/sdk"
)

func TestDovecot(t *testing.T) {
	server := mailtest.StartDovecot(t)
	base := map[string]any{
		"address": server.Address(2), "user": server.User, "password": server.Password,
		"search": "all", "after_delivery": "delete",
	}
	for name, props := range map[string]map[string]any{
		"plain":    base,
		"starttls": with(base, "tls", "starttls", "ca_file", server.CAFile),
		"implicit": with(base, "tls", "implicit", "ca_file", server.CAFile, "address", server.Address(3)),
	} {
		t.Run(name, func(t *testing.T) {
			for i := range 3 {
				server.Deliver(t, plainMail(i))
			}
			long := "A: b\r\n\r\n" + strings.Repeat("x", 200_000) + "\r\n.\r\n\xff\r\n"
			server.Deliver(t, []byte(long))
			s := newTestSource(t, props)
			items := mustList(t, s, 4)
			for i, item := range items[:3] {
				if got := mustRead(t, s, item); got != string(plainMail(i)) {
					t.Errorf("mail %d is %q", i, got)
				}
			}
			if got := mustRead(t, s, items[3]); got != long {
				t.Errorf("long mail has %d bytes, want %d", len(got), len(long))
			}
			for _, item := range items {
				if err := s.Settle(testContext(t), item); err != nil {
					t.Fatalf("settle %s: %v", item.Key, err)
				}
			}
			if n := len(server.Mails(t)); n != 0 {
				t.Errorf("%d mails are left", n)
			}
			if err := s.Settle(testContext(t), items[0]); !sdk.IsGone(err) {
				t.Errorf("second settle: %v, want gone", err)
			}
		})
	}
	t.Run("mark", func(t *testing.T) {
		server.Deliver(t, plainMail(7))
		s := newTestSource(t, with(base, "search", "unseen", "after_delivery", "mark"))
		item := mustList(t, s, 1)[0]
		if got := mustRead(t, s, item); got != string(plainMail(7)) {
			t.Errorf("mail is %q", got)
		}
		mustList(t, s, 1)
		if err := s.Settle(testContext(t), item); err != nil {
			t.Fatal(err)
		}
		mustList(t, s, 0)
		if n := len(server.Mails(t)); n != 1 {
			t.Errorf("%d mails, want 1", n)
		}
	})
	t.Run("keys are the same in every session", func(t *testing.T) {
		var keys []string
		for range 2 {
			s := newTestSource(t, with(base, "after_delivery", "keep"))
			keys = append(keys, fmt.Sprint(mustList(t, s, 1)[0].Key))
		}
		if keys[0] != keys[1] {
			t.Errorf("keys are %q", keys)
		}
	})
	t.Run("wrong password", func(t *testing.T) {
		s := newTestSource(t, with(base, "password", "wr0ng"))
		_, err := s.List(testContext(t))
		mustContain(t, err, "check user and password")
	})
}
