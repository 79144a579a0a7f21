package main

import (
	"bytes"
	"fmt"
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
