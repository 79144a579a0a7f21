package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/demo/popd"
	"github.com/fairlead-io/fairlead/sdk"
)

func TestMailIsReadWholeAndDeletedAtFlush(t *testing.T) {
	server := startServer(t, popd.Config{})
	uidl := server.Deliver(plainMail(1))
	s := newTestSource(t, server.props)
	item := mustList(t, s, 1)[0]
	if item.Key != uidl || item.Context["mail.uid"] != uidl || item.Size != int64(len(plainMail(1))) || item.Kept {
		t.Errorf("item %+v does not describe mail %s of %d bytes", item, uidl, len(plainMail(1)))
	}
	parts, data, content, err := read(t, s, item)
	if err != nil {
		t.Fatal(err)
	}
	if len(parts) != 1 || string(data[0]) != string(plainMail(1)) || parts[0].ContentType != "message/rfc822" {
		t.Errorf("got %d parts, content %q", len(parts), data)
	}
	for name, want := range map[string]string{
		"mail.uid": uidl, "mail.from": "ann@example.org", "mail.to": "edi@example.org", "mail.subject": "Order 1",
		"mail.message_id": "<1@example.org>", "mail.date": "2026-01-05T09:00:00Z", "mail.header.From": "Ann <ann@example.org>",
	} {
		if got := content.Context[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	mustSettle(t, s, item)
	if server.Count() != 1 {
		t.Error("the mail is gone before the session's end")
	}
	mustFlush(t, s)
	if server.Count() != 0 {
		t.Error("the mail is still there after the flush")
	}
	mustList(t, s, 0)
}

// Regression: sequence numbers taken for identities index a whole box again.
func TestKeysStayTheSameWhenNumbersShift(t *testing.T) {
	server := startServer(t, popd.Config{})
	for i := range 3 {
		server.Deliver(plainMail(i))
	}
	s := newTestSource(t, server.props)
	items := mustList(t, s, 3)
	mustSettle(t, s, items[0])
	mustFlush(t, s)
	// Mail 2 now has number 1. The old items must still mean the same mails.
	if got := mustRead(t, s, items[1]); got != string(plainMail(1)) {
		t.Errorf("item of mail 1 reads %q", got)
	}
	mustSettle(t, s, items[2])
	mustFlush(t, s)
	left := server.Mails()
	if len(left) != 1 || !bytes.Equal(left[0], plainMail(1)) {
		t.Errorf("left are %q, want mail 1", left)
	}
	if again := mustList(t, s, 1); again[0].Key != items[1].Key {
		t.Errorf("key was %s and is %s", items[1].Key, again[0].Key)
	}
}

func TestSettleOfAMailThatIsGoneSaysSo(t *testing.T) {
	server := startServer(t, popd.Config{})
	uidl := server.Deliver(plainMail(1))
	server.Deliver(plainMail(2))
	s := newTestSource(t, server.props)
	items := mustList(t, s, 2)
	mustSettle(t, s, items[1])
	mustFlush(t, s)
	server.Remove(uidl)
	if err := s.Settle(testContext(t), items[0]); !sdk.IsGone(err) {
		t.Errorf("settle: %v, want gone", err)
	}
	if _, err := s.Open(testContext(t), items[0]); !sdk.IsGone(err) {
		t.Errorf("open: %v, want gone", err)
	}
}

func TestMailRemovedByAnotherClientDuringTheSessionIsGone(t *testing.T) {
	server := startServer(t, popd.Config{})
	uidl := server.Deliver(plainMail(1))
	s := newTestSource(t, server.props)
	item := mustList(t, s, 1)[0]
	server.Remove(uidl)
	// The session still lists it, but its RETR is refused.
	if _, err := s.Open(testContext(t), item); !sdk.IsGone(err) {
		t.Errorf("open: %v, want gone", err)
	}
}

func TestSessionLostBeforeQuitDeletesNothingAndFlushSaysSo(t *testing.T) {
	for _, fault := range []popd.Fault{popd.DropBefore, popd.DropAfter, popd.Refuse} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			server := startServer(t, popd.Config{})
			server.Deliver(plainMail(1))
			server.Deliver(plainMail(2))
			s := newTestSource(t, server.props)
			items := mustList(t, s, 2)
			mustSettle(t, s, items...)
			server.faultOnce("QUIT", fault)
			mustContain(t, s.Flush(testContext(t)), "2 deletions", "not confirmed")

			// What the SDK does next: list again, settle what is still there.
			waitFor(t, "the server to free the maildrop", func() bool { return !server.Locked() })
			want := 2
			if fault == popd.DropAfter {
				want = 0 // the deletions had happened, only the answer was lost
			}
			again := mustList(t, s, want)
			mustSettle(t, s, again...)
			mustFlush(t, s)
			if n := server.Count(); n != 0 {
				t.Errorf("%d mails are left", n)
			}
		})
	}
}

func TestSessionDroppedAmidSettlesFailsTheNextFlush(t *testing.T) {
	server := startServer(t, popd.Config{})
	for i := range 3 {
		server.Deliver(plainMail(i))
	}
	s := newTestSource(t, server.props)
	items := mustList(t, s, 3)
	mustSettle(t, s, items[0])
	server.DropSessions()
	if err := s.Settle(testContext(t), items[1]); err == nil {
		t.Error("settle succeeds in a dead session whose deletions are lost")
	}
	waitFor(t, "the server to free the maildrop", func() bool { return !server.Locked() })
	mustSettle(t, s, items[2]) // in a new session
	mustContain(t, s.Flush(testContext(t)), "1 deletions")
	if n := server.Count(); n != 2 {
		t.Errorf("%d mails, want 2: only what the new session deleted is gone", n)
	}
	mustSettle(t, s, items[0], items[1])
	mustFlush(t, s)
	if n := server.Count(); n != 0 {
		t.Errorf("%d mails are left", n)
	}
}

// Regression: a worker killed in the middle handles everything again when it
// deletes only at the very end. Here each settle that was flushed has counted.
func TestEachFlushCountsForItself(t *testing.T) {
	server := startServer(t, popd.Config{})
	for i := range 4 {
		server.Deliver(plainMail(i))
	}
	s := openTestSource(t, server.props, longIdle)
	items := mustList(t, s, 4)
	mustSettle(t, s, items[0], items[1])
	mustFlush(t, s)
	mustSettle(t, s, items[2]) // never flushed
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the server to free the maildrop", func() bool { return !server.Locked() })
	next := newTestSource(t, server.props)
	left := mustList(t, next, 2)
	if left[0].Key != items[2].Key || left[1].Key != items[3].Key {
		t.Errorf("left are %s and %s", left[0].Key, left[1].Key)
	}
}

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

func TestKeptMailsStayAndAreMarkedAsKept(t *testing.T) {
	server := startServer(t, popd.Config{})
	server.Deliver(plainMail(1))
	s := newTestSource(t, with(server.props, "after_delivery", "keep"))
	if item := mustList(t, s, 1)[0]; !item.Kept {
		t.Error("item is not marked as kept")
	}
}

func TestContentSurvivesToTheLastByte(t *testing.T) {
	for name, mail := range map[string]string{
		"dots":                "A: b\r\n\r\n.\r\n..\r\n...\r\n.x\r\nx.\r\n",
		"no header":           "\r\n\r\n.\r\n",
		"bare line feeds":     "A: b\n\n.\n.\nend\r\n",
		"bare carriage":       "A: b\r\n\r\n\r.\r\n.\r\r\n\r\r\n",
		"dot, CR, other":      "A: b\r\n\r\n.\rx\r\n.\r.\r\n",
		"NUL and 8 bit":       "A: b\r\n\r\n\x00\x01\xff\xfe\x80\r\n",
		"huge line":           "A: b\r\n\r\n" + strings.Repeat("x", 300<<10) + "\r\n.y\r\n",
		"huge header":         "A: " + strings.Repeat("x", 600<<10) + "\r\n\r\nbody\r\n",
		"smuggled end":        "A: b\r\n\r\n\n.\r\nDELE 1\r\n\r.\r\n",
		"only a header":       "A: b\r\n",
		"nothing but an end":  "\r\n",
		"header that is none": "this is no header\r\n at all\r\n:\r\n\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			server := startServer(t, popd.Config{})
			server.Deliver([]byte(mail))
			s := newTestSource(t, server.props)
			if got := mustRead(t, s, mustList(t, s, 1)[0]); got != mail {
				t.Errorf("got %d bytes %.80q, want %d bytes %.80q", len(got), got, len(mail), mail)
			}
		})
	}
}

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

func TestIdleSessionFreesTheMaildrop(t *testing.T) {
	server := startServer(t, popd.Config{})
	server.Deliver(plainMail(1))
	s := openTestSource(t, server.props, 20*time.Millisecond)
	defer s.Close()
	item := mustList(t, s, 1)[0]
	waitFor(t, "the idle session to end", func() bool { return !server.Locked() && server.commands("QUIT") == 1 })
	if got := mustRead(t, s, item); got != string(plainMail(1)) {
		t.Errorf("read after idleness: %q", got)
	}
	waitFor(t, "the idle session to end", func() bool { return !server.Locked() })
}

func TestIdlenessDoesNotCommitDeletionsBehindFlushesBack(t *testing.T) {
	server := startServer(t, popd.Config{})
	server.Deliver(plainMail(1))
	s := openTestSource(t, server.props, time.Millisecond)
	defer s.Close()
	mustSettle(t, s, mustList(t, s, 1)...)
	s.endIdle() // what the timer does
	if server.commands("QUIT") != 0 || server.Count() != 1 {
		t.Error("the session was ended with deletions in it")
	}
	mustFlush(t, s)
	if server.Count() != 0 {
		t.Error("the mail is left")
	}
}

func TestListingWithoutNewsEndsItsSession(t *testing.T) {
	server := startServer(t, popd.Config{})
	s := newTestSource(t, with(server.props, "after_delivery", "keep"))
	mustList(t, s, 0)
	if server.Locked() {
		t.Error("an empty maildrop stays locked")
	}
	server.Deliver(plainMail(1))
	mustList(t, s, 1)
	if !server.Locked() {
		t.Error("the session was ended although there is something to read")
	}
	mustList(t, s, 1)
	if server.Locked() {
		t.Error("the maildrop stays locked although there is nothing new")
	}
}

func TestListDuringAReadSaysWhatTheSessionSees(t *testing.T) {
	server := startServer(t, popd.Config{})
	server.Deliver(plainMail(1))
	s := newTestSource(t, server.props)
	item := mustList(t, s, 1)[0]
	content, err := s.Open(testContext(t), item)
	if err != nil {
		t.Fatal(err)
	}
	server.Deliver(plainMail(2))
	mustList(t, s, 1) // must not wait for the reader, nor break its session
	for part, err := range content.Parts {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := new(bytes.Buffer).ReadFrom(part.Reader); err != nil {
			t.Errorf("the read was broken by the listing: %v", err)
		}
	}
	if err := content.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	mustList(t, s, 2)
}

func TestContentClosedEarlyEndsTheSession(t *testing.T) {
	server := startServer(t, popd.Config{})
	server.Deliver(append(plainMail(1), bytes.Repeat([]byte("0123456789\r\n"), 50000)...))
	server.Deliver(plainMail(2))
	s := newTestSource(t, server.props)
	items := mustList(t, s, 2)
	content, err := s.Open(testContext(t), items[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := content.Close(); err == nil {
		t.Error("close reports a mail as whole that was not read")
	}
	waitFor(t, "the server to free the maildrop", func() bool { return !server.Locked() })
	if got := mustRead(t, s, items[1]); got != string(plainMail(2)) {
		t.Errorf("next mail reads %.60q", got)
	}
}

// Regression: one malformed mail halted a consumer for good.
func TestMalformedMailTravelsRawAndTheOthersFollow(t *testing.T) {
	server := startServer(t, popd.Config{})
	broken := "Content-Type: multipart/mixed; boundary=x\r\nSubject: =?bogus?Q?=zz?=\r\n\r\n--x\r\nno header\x00\r\n"
	server.Deliver([]byte(broken))
	server.Deliver(plainMail(2))
	s := newTestSource(t, with(server.props, "content", "parts"))
	items := mustList(t, s, 2)
	for range 2 { // the same at every attempt
		parts, data, content, err := read(t, s, items[0])
		if err != nil || len(parts) != 1 || string(data[0]) != broken || parts[0].ContentType != "message/rfc822" {
			t.Fatalf("broken mail: %v, %d parts, %q", err, len(parts), data)
		}
		if content.Context["mail.parse_error"] == "" {
			t.Error("mail.parse_error is not set")
		}
	}
	if got := mustRead(t, s, items[1]); got != "body 2\r\n" {
		t.Errorf("next mail has the body %q", got)
	}
}
