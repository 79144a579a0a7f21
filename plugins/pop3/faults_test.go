package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/fairlead-io/fairlead/demo/popd"
	"github.com/fairlead-io/fairlead/sdk"
)

func TestMailThatBreaksOffIsNotTakenForWhole(t *testing.T) {
	server := startServer(t, popd.Config{})
	server.Deliver(append(plainMail(1), bytes.Repeat([]byte("0123456789\r\n"), 5000)...))
	s := newTestSource(t, server.props)
	item := mustList(t, s, 1)[0]
	server.faultOnce("RETR", popd.Half)
	_, _, _, err := read(t, s, item)
	mustContain(t, err, "broke off")
	waitFor(t, "the server to free the maildrop", func() bool { return !server.Locked() })
	if got := mustRead(t, s, item); len(got) != len(plainMail(1))+60000 {
		t.Errorf("second attempt reads %d bytes", len(got))
	}
}

func TestSilentServerIsLeftAfterTheTimeout(t *testing.T) {
	for _, c := range []struct {
		command string
		fault   popd.Fault
		tls     popd.TLSMode
	}{
		{"GREETING", popd.Silent, popd.Plain}, {"CAPA", popd.Silent, popd.Plain}, {"STLS", popd.Silent, popd.STLS},
		{"AUTH", popd.Silent, popd.Plain}, {"LIST", popd.HalfSilent, popd.Plain}, {"UIDL", popd.Silent, popd.Plain},
		{"UIDL", popd.HalfSilent, popd.Implicit},
	} {
		t.Run(c.command, func(t *testing.T) {
			server := startServer(t, popd.Config{TLS: c.tls})
			server.Deliver(plainMail(1))
			server.faultOnce(c.command, c.fault)
			s := newTestSource(t, with(server.props, "timeout", "100ms"))
			_, err := s.List(testContext(t))
			if !sdk.IsDisconnected(err) {
				t.Errorf("list: %v, want it marked as disconnected", err)
			}
			waitFor(t, "the server to free the maildrop", func() bool { return !server.Locked() })
			mustList(t, s, 1)
		})
	}
	for _, command := range []string{"RETR", "DELE", "QUIT"} {
		t.Run(command, func(t *testing.T) {
			server := startServer(t, popd.Config{})
			server.Deliver(plainMail(1))
			s := newTestSource(t, with(server.props, "timeout", "100ms"))
			item := mustList(t, s, 1)[0]
			server.faultOnce(command, popd.HalfSilent)
			_, _, _, errRead := read(t, s, item)
			errSettle := s.Settle(testContext(t), item)
			errFlush := s.Flush(testContext(t))
			if err := errors.Join(errRead, errSettle, errFlush); err == nil && command != "DELE" {
				t.Error("no error from a silent server")
			}
			waitFor(t, "the server to free the maildrop", func() bool { return !server.Locked() })
			for _, item := range mustListAny(t, s) {
				mustSettle(t, s, item)
			}
			mustFlush(t, s)
			if server.Count() != 0 {
				t.Error("the mail is left")
			}
		})
	}
}

func mustListAny(t testing.TB, s *source) []sdk.Item {
	t.Helper()
	items, err := s.List(testContext(t))
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	return items
}

func TestContextEndsAWaitAtOnce(t *testing.T) {
	server := startServer(t, popd.Config{})
	server.Deliver(plainMail(1))
	s := newTestSource(t, with(server.props, "timeout", "1h"))
	item := mustList(t, s, 1)[0]
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	server.SetFault(func(e popd.Event) popd.Fault {
		if e.Command != "RETR" {
			return popd.None
		}
		cancel(errors.New("lease over"))
		return popd.HalfSilent
	})
	content, err := s.Open(ctx, item)
	if err == nil {
		for part, partErr := range content.Parts {
			if err = partErr; err == nil {
				_, err = io.ReadAll(part.Reader)
			}
		}
		content.Close()
	}
	mustContain(t, err, "lease over")
}
