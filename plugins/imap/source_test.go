package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/fairlead-io/fairlead/sdk"
)

func TestUnseenMailIsReadWithoutMarkingAndMarkedBySettle(t *testing.T) {
	server := startServer(t)
	server.deliver(t, plainMail(1), imap.FlagSeen)
	uid := server.deliver(t, plainMail(2))
	server.deliver(t, plainMail(3), imap.FlagDeleted)
	s := newTestSource(t, server.props)
	item := mustList(t, s, 1)[0]
	if !strings.HasSuffix(item.Key, ":2:INBOX") || item.Context["mail.uid"] != "2" || item.Size != int64(len(plainMail(2))) {
		t.Errorf("item %+v does not describe UID %d", item, uid)
	}
	data, content, err := read(testContext(t), s, item)
	if err != nil || !bytes.Equal(data, plainMail(2)) {
		t.Fatalf("content %q, %v", data, err)
	}
	if got := content.Context["mail.subject"]; got != "Order 2" {
		t.Errorf("mail.subject is %q", got)
	}
	mustList(t, s, 1) // reading marks nothing
	if err := s.Settle(testContext(t), item); err != nil {
		t.Fatal(err)
	}
	mustList(t, s, 0)
	if got := server.mails(t); len(got) != 3 || !hasFlag(got[1].flags, imap.FlagSeen) {
		t.Errorf("mails are %v", got)
	}
}

func TestDeleteRemovesThisMailAndNoOther(t *testing.T) {
	for name, caps := range map[string][]imap.Cap{"with UIDPLUS": {imap.CapUIDPlus}, "without UIDPLUS": nil} {
		t.Run(name, func(t *testing.T) {
			server := startServer(t, caps...)
			for i := range 3 {
				server.deliver(t, plainMail(i+1))
			}
			s := newTestSource(t, with(server.props, "after_delivery", "delete", "search", "all"))
			items := mustList(t, s, 3)
			if err := s.Settle(testContext(t), items[1]); err != nil {
				t.Fatal(err)
			}
			left := server.mails(t)
			if len(left) != 2 || left[0].uid != 1 || left[1].uid != 3 {
				t.Errorf("left are %v, want UIDs 1 and 3", left)
			}
			if err := s.Settle(testContext(t), items[1]); !sdk.IsGone(err) {
				t.Errorf("second settle: %v, want gone", err)
			}
			if _, err := s.Open(testContext(t), items[1]); !sdk.IsGone(err) {
				t.Errorf("open: %v, want gone", err)
			}
		})
	}
}

func TestWithoutUIDPLUSMailsMarkedByOthersAreSpared(t *testing.T) {
	server := startServer(t)
	server.deliver(t, plainMail(1), imap.FlagDeleted) // by somebody else
	server.deliver(t, plainMail(2))
	s := newTestSource(t, with(server.props, "after_delivery", "delete", "search", "all"))
	if err := s.Settle(testContext(t), mustList(t, s, 1)[0]); err != nil {
		t.Fatal(err)
	}
	left := server.mails(t)
	if len(left) != 2 || !hasFlag(left[1].flags, imap.FlagDeleted) {
		t.Errorf("mails are %v, want both there and the second marked", left)
	}
	if server.commands("EXPUNGE") != 0 {
		t.Error("EXPUNGE was sent")
	}
	mustList(t, s, 0)
}

func TestKeptMailsStayUntouched(t *testing.T) {
	server := startServer(t)
	server.deliver(t, plainMail(1))
	s := newTestSource(t, with(server.props, "after_delivery", "keep"))
	item := mustList(t, s, 1)[0]
	if !item.Kept {
		t.Error("item is not marked as kept")
	}
	mustRead(t, s, item)
	if got := server.mails(t); len(got[0].flags) != 0 {
		t.Errorf("flags are %v, want none", got[0].flags)
	}
	if server.commands("SELECT") != 0 {
		t.Error("the mailbox was opened for writing")
	}
}

func TestOtherUIDValidityIsAnotherMail(t *testing.T) {
	server := startServer(t)
	server.deliver(t, plainMail(1))
	s := newTestSource(t, server.props)
	item := mustList(t, s, 1)[0]
	// The mailbox is made anew, and its first mail has the same UID.
	if err := server.user.Delete("INBOX"); err != nil {
		t.Fatal(err)
	}
	if err := server.user.Create("INBOX", nil); err != nil {
		t.Fatal(err)
	}
	server.deliver(t, plainMail(2))
	server.cut()
	if _, err := s.Open(testContext(t), item); !sdk.IsGone(err) {
		t.Errorf("open: %v, want gone", err)
	}
	if err := s.Settle(testContext(t), item); !sdk.IsGone(err) {
		t.Errorf("settle: %v, want gone", err)
	}
	if fresh := mustList(t, s, 1)[0]; fresh.Key == item.Key {
		t.Errorf("both mails have the key %s", item.Key)
	}
}

func TestNewMailsAreSeenOverTheSameConnection(t *testing.T) {
	server := startServer(t)
	s := newTestSource(t, server.props)
	mustList(t, s, 0)
	server.deliver(t, plainMail(1))
	mustList(t, s, 1)
	if n := server.commands("SELECT"); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
}

func TestConnectionEndedByTheServerIsReplaced(t *testing.T) {
	server := startServer(t)
	server.deliver(t, plainMail(1))
	s := newTestSource(t, server.props)
	item := mustList(t, s, 1)[0]
	server.cut()
	if got := mustRead(t, s, item); got != string(plainMail(1)) {
		t.Errorf("content %q", got)
	}
	server.cut()
	if err := s.Settle(testContext(t), item); err != nil {
		t.Errorf("settle: %v", err)
	}
	server.cut()
	mustList(t, s, 0)
}

func TestTimeoutCountsOnceAndNotForEveryAttemptToRead(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // never accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const timeout = 400 * time.Millisecond
	s := newTestSource(t, map[string]any{"address": l.Addr().String(), "user": "u", "password": "p", "timeout": timeout.String()})
	began := time.Now()
	if _, err := s.List(testContext(t)); !sdk.IsDisconnected(err) {
		t.Errorf("list: %v, want it marked as disconnected", err)
	}
	if took := time.Since(began); took > 2*timeout {
		t.Errorf("gave up after %s, want about %s", took, timeout)
	}
}

// Regression: the client library waits for ever on a server that goes silent.
func TestSilentServerIsLeftAfterTheTimeout(t *testing.T) {
	for _, at := range []string{"GREETING", "AUTHENTICATE", "SELECT", "NOOP", "UID SEARCH", "RFC822.SIZE"} {
		t.Run(at, func(t *testing.T) {
			server := startServer(t, imap.CapSASLIR)
			server.deliver(t, plainMail(1))
			server.set(func() { server.silentAt = at })
			s := newTestSource(t, with(server.props, "timeout", "100ms"))
			if _, err := s.List(testContext(t)); err == nil {
				t.Error("no error from a silent server")
			}
			mustList(t, s, 1)
		})
	}
}

func TestReusedConnectionThatFellSilentIsReplaced(t *testing.T) {
	server := startServer(t)
	server.deliver(t, plainMail(1))
	s := newTestSource(t, with(server.props, "timeout", "200ms"))
	item := mustList(t, s, 1)[0]
	server.set(func() { server.silentAt = "BODY.PEEK" })
	if got := mustRead(t, s, item); got != string(plainMail(1)) {
		t.Errorf("content %q", got)
	}
	server.set(func() { server.silentAt = "STORE" })
	if err := s.Settle(testContext(t), item); err != nil {
		t.Errorf("settle: %v", err)
	}
}

func TestContextEndsAWaitAtOnce(t *testing.T) {
	server := startServer(t)
	server.deliver(t, plainMail(1))
	s := newTestSource(t, with(server.props, "timeout", "1h"))
	item := mustList(t, s, 1)[0]
	server.set(func() { server.silentAt = "BODY.PEEK" })
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, _, err := read(ctx, s, item)
		done <- err
	}()
	waitFor(t, "the mail to be asked for", func() bool { return server.commands("BODY.PEEK") > 0 })
	cancel(errors.New("lease over"))
	mustContain(t, <-done, "lease over")
	mustList(t, s, 1)
}

func TestMailThatBreaksOffIsNotTakenForWhole(t *testing.T) {
	server := startServer(t)
	big := append(plainMail(1), bytes.Repeat([]byte("0123456789\r\n"), 50000)...)
	server.deliver(t, big)
	for _, content := range []string{"raw", "parts"} {
		s := newTestSource(t, with(server.props, "content", content))
		item := mustList(t, s, 1)[0]
		server.set(func() { server.cutAfter = 100_000 })
		_, _, err := read(testContext(t), s, item)
		mustContain(t, err, "broke off")
		server.set(func() { server.cutAfter = 0 })
		if got := mustRead(t, s, item); content == "raw" && got != string(big) {
			t.Errorf("second attempt reads %d bytes, want %d", len(got), len(big))
		}
	}
}

func TestContentClosedEarlyDoesNotBlockTheNext(t *testing.T) {
	server := startServer(t)
	server.deliver(t, append(plainMail(1), bytes.Repeat([]byte("0123456789\r\n"), 500_000)...))
	server.deliver(t, plainMail(2))
	s := newTestSource(t, server.props)
	items := mustList(t, s, 2)
	content, err := s.Open(testContext(t), items[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := content.Close(); err == nil {
		t.Error("close reports a mail as whole that was not read")
	}
	if got := mustRead(t, s, items[1]); got != string(plainMail(2)) {
		t.Errorf("next mail reads %.60q", got)
	}
}

func TestWrongPasswordIsClearAndKeepsTheSecret(t *testing.T) {
	server := startServer(t)
	s := newTestSource(t, with(server.props, "password", "wr0ng-Secret"))
	_, err := s.List(testContext(t))
	if !sdk.IsDisconnected(err) {
		t.Errorf("error %v is not marked as disconnected", err)
	}
	mustContain(t, err, "log in to", "check user and password")
	if strings.Contains(err.Error(), "wr0ng-Secret") {
		t.Errorf("the secret is in %q", err)
	}
}

func TestMissingMailboxIsAClearError(t *testing.T) {
	server := startServer(t)
	s := newTestSource(t, with(server.props, "mailbox", "Orders"))
	_, err := s.List(testContext(t))
	mustContain(t, err, "select mailbox Orders")
}

func TestMalformedMailTravelsRaw(t *testing.T) {
	server := startServer(t)
	broken := "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nno header\x00\r\n"
	server.deliver(t, []byte(broken))
	server.deliver(t, plainMail(2))
	s := newTestSource(t, with(server.props, "content", "parts"))
	items := mustList(t, s, 2)
	data, content, err := read(testContext(t), s, items[0])
	if err != nil || string(data) != broken || content.Context["mail.parse_error"] == "" {
		t.Errorf("broken mail: %v, %q", err, data)
	}
	if got := mustRead(t, s, items[1]); got != "body 2\r\n" {
		t.Errorf("next mail has the body %q", got)
	}
}

func TestManyMailsAreMeasuredOnce(t *testing.T) {
	server := startServer(t)
	for i := range fetchMax + 10 {
		server.deliver(t, plainMail(i))
	}
	s := newTestSource(t, server.props)
	for _, item := range mustList(t, s, fetchMax+10) {
		if item.Size <= 0 {
			t.Fatalf("size of %s is %d", item.Key, item.Size)
		}
	}
	mustList(t, s, fetchMax+10)
	if n := server.commands("RFC822.SIZE"); n != 2 {
		t.Errorf("%d commands ask for sizes, want 2", n)
	}
}

func TestPropertiesThatContradictAreFound(t *testing.T) {
	base := receiveProperties{Mailbox: "INBOX", Search: "unseen", AfterDelivery: "mark", Content: "raw"}
	base.Address, base.User, base.Password, base.TLS, base.Timeout = "mail.example", "u", "p", "none", 1
	if err := base.Validate(); err != nil {
		t.Fatalf("good properties: %v", err)
	}
	for want, change := range map[string]func(*receiveProperties){
		"after_delivery": func(p *receiveProperties) { p.Search = "all" },
		"mailbox":        func(p *receiveProperties) { p.Mailbox = "a\r\nb" },
		"user":           func(p *receiveProperties) { p.User = "a\r\nb" },
		"password":       func(p *receiveProperties) { p.Password = "a\n" },
		"ca_file":        func(p *receiveProperties) { p.CAFile = "x" },
		"search":         func(p *receiveProperties) { p.Search = "new" },
		"address":        func(p *receiveProperties) { p.Address = "a:b:c" },
		"timeout":        func(p *receiveProperties) { p.Timeout = 0 },
	} {
		p := base
		change(&p)
		mustContain(t, p.Validate(), want+": ")
	}
}
