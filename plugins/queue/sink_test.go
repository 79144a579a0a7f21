package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/demo/natsd"
	"github.com/fairlead-io/fairlead/sdk"
)

func TestSentMessageIsInTheStreamWithItsIDAndContext(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	s := newSink(t, b.s.URL(), nil)
	m := message(newID(t), "hello")
	m.Context = map[string]string{"ftp.name": "Zoë\r\n.txt", "queue.correlation_id": "c-1"}
	m.Parts[0].ContentType = "text/plain"
	m.Redelivered = true
	if err := s.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	all := b.messages(t, "ORDERS")
	if len(all) != 1 || string(all[0].Data) != "hello" || all[0].Subject != "orders.in" {
		t.Fatalf("stream holds %+v", all)
	}
	for name, want := range map[string]string{
		"Nats-Msg-Id":               m.ID,
		"Fairlead-Id":               m.ID,
		"Fairlead-Redelivered":      "true",
		"Fairlead-Context-ftp.name": "Zo%C3%AB%0D%0A.txt",
		"Correlation-Id":            "c-1",
		"Content-Type":              "text/plain",
	} {
		if got := all[0].Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
}

func TestMessageSentAgainIsThereOnceEvenAfterABrokerRestart(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{Storage: jetstream.FileStorage})
	s := newSink(t, b.s.URL(), nil)
	m := message(newID(t), "once")
	for range 2 {
		if err := s.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	b.stop()
	waitFor(t, "the port to notice that the broker is down", func() bool {
		err := s.Send(t.Context(), m)
		if err == nil {
			t.Fatal("sent to a stopped broker")
		}
		return sdk.IsDisconnected(err)
	})
	b.start(t)
	waitFor(t, "a send after the restart", func() bool {
		err := s.Send(t.Context(), m)
		if err != nil && !sdk.IsDisconnected(err) {
			t.Fatal(err)
		}
		return err == nil
	})
	if all := b.messages(t, "ORDERS"); len(all) != 1 {
		t.Errorf("stream holds %d messages, want 1", len(all))
	}
}

func TestUnreachableBrokerIsDisconnectedFromTheStart(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	url := b.s.URL()
	b.stop()
	s := newSink(t, url, nil)
	if err := s.Send(t.Context(), message(newID(t), "x")); !sdk.IsDisconnected(err) {
		t.Errorf("got %v, want a Disconnected error", err)
	}
	if _, err := s.Probe(t.Context(), message(newID(t), "x")); !sdk.IsDisconnected(err) {
		t.Errorf("probe: got %v, want a Disconnected error", err)
	}
}

func TestNothingIsKeptForLaterWhileTheConnectionIsDown(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	s := newSink(t, b.s.URL(), nil)
	send(t, s, message(newID(t), "x"))
	b.stop()
	c := s.link.current()
	waitFor(t, "the connection to be lost", func() bool { return !c.connected() })
	if err := c.nc.Publish("orders.in", []byte("late")); err == nil {
		t.Error("a publish without a connection was accepted; it would go out when nobody expects it")
	}
}

func TestSilentBrokerEndsTheConnectInTime(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	p := newProxy(t, b.s.Addr())
	p.deaf.Store(true)
	s := newSink(t, p.url(), map[string]any{"timeout": "300ms"})
	began := time.Now()
	if err := s.Send(t.Context(), message(newID(t), "x")); !sdk.IsDisconnected(err) {
		t.Errorf("got %v, want a Disconnected error", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s with a timeout of 300ms", took)
	}
}

func TestLoginIsUsedAndItsFailureDoesNotShowThePassword(t *testing.T) {
	b := newBroker(t, natsd.Config{User: "u", Password: "right"})
	b.stream(t, jetstream.StreamConfig{})
	good := newSink(t, b.s.URL(), map[string]any{"user": "u", "password": "right"})
	if err := good.Send(t.Context(), message(newID(t), "x")); err != nil {
		t.Error(err)
	}
	bad := newSink(t, b.s.URL(), map[string]any{"user": "u", "password": "wr0ng"})
	err := bad.Send(t.Context(), message(newID(t), "x"))
	if !sdk.IsDisconnected(err) || strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("got %v, want a Disconnected error without the password", err)
	}
}

func TestLostConfirmationMeansItMayHaveArrived(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	p := newProxy(t, b.s.Addr())
	s := newSink(t, p.url(), map[string]any{"timeout": "500ms"})
	if err := s.Send(t.Context(), message(newID(t), "first")); err != nil {
		t.Fatal(err)
	}
	p.deaf.Store(true)
	err := s.Send(t.Context(), message(newID(t), "second"))
	if err == nil || sdk.IsDisconnected(err) || sdk.IsPermanent(err) {
		t.Errorf("got %v, want an error that leaves open whether it arrived", err)
	}
	waitFor(t, "the message whose confirmation was lost", func() bool { return len(b.messages(t, "ORDERS")) == 2 })
}

func TestLargeContentGoesThroughUpToTheBrokersLimit(t *testing.T) {
	b := newBroker(t, natsd.Config{MaxPayload: 9 << 20})
	b.stream(t, jetstream.StreamConfig{})
	s := newSink(t, b.s.URL(), nil)
	content := bytes.Repeat([]byte("0123456789abcdef"), 8<<20/16)
	if err := s.Send(t.Context(), message(newID(t), string(content))); err != nil {
		t.Fatal(err)
	}
	if all := b.messages(t, "ORDERS"); len(all) != 1 || !bytes.Equal(all[0].Data, content) {
		t.Error("8 MiB did not arrive as they were sent")
	}
	err := s.Send(t.Context(), message(newID(t), string(make([]byte, 9<<20))))
	wantPermanent(t, err, "9437184", "max_payload")
}

func TestWhatCannotFitIsPermanent(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{MaxMsgSize: 1000})
	s := newSink(t, b.s.URL(), nil)
	t.Run("larger than the broker takes", func(t *testing.T) {
		// With its headers it is too large, alone it would not be.
		err := s.Send(t.Context(), message(newID(t), string(make([]byte, 1<<20-10))))
		wantPermanent(t, err, "1048566", "1048576", "max_payload")
	})
	t.Run("larger than the stream takes", func(t *testing.T) {
		wantPermanent(t, s.Send(t.Context(), message(newID(t), string(make([]byte, 2000)))), "max_msg_size")
	})
	t.Run("too much context", func(t *testing.T) {
		m := message(newID(t), "x")
		m.Context = map[string]string{"mail.header.To": strings.Repeat("a", 64<<10)}
		wantPermanent(t, s.Send(t.Context(), m), "headers")
	})
	t.Run("several parts", func(t *testing.T) {
		m := message(newID(t), "x")
		m.Parts = append(m.Parts, sdk.InlinePart("a.pdf", "", nil))
		wantPermanent(t, s.Send(t.Context(), m), "2 parts")
	})
	if all := b.messages(t, "ORDERS"); len(all) != 0 {
		t.Errorf("%d messages arrived nevertheless", len(all))
	}
}

func wantPermanent(t *testing.T, err error, parts ...string) {
	t.Helper()
	if !sdk.IsPermanent(err) {
		t.Fatalf("got %v, want a Permanent error", err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not mention %q", err, part)
		}
	}
}

func TestUnfitStreamsMakeThePortWait(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	t.Run("missing", func(t *testing.T) {
		s := newSink(t, b.s.URL(), nil)
		err := s.Send(t.Context(), message(newID(t), "x"))
		if !sdk.IsDisconnected(err) || !strings.Contains(err.Error(), "create: true") {
			t.Errorf("got %v", err)
		}
		b.stream(t, jetstream.StreamConfig{Subjects: []string{"orders.other"}})
		err = s.Send(t.Context(), message(newID(t), "x"))
		if !sdk.IsDisconnected(err) || !strings.Contains(err.Error(), "does not take subject") {
			t.Errorf("other subject: got %v", err)
		}
	})
	t.Run("subject of another stream", func(t *testing.T) {
		b.stream(t, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"taken"}})
		b.stream(t, jetstream.StreamConfig{Name: "FULL", Subjects: []string{"full"}, MaxMsgs: 1, Discard: jetstream.DiscardNew})
		s := newSink(t, b.s.URL(), map[string]any{"stream": "OTHER", "subject": "full"})
		s.checked, _ = s.link.connect(t.Context()) // as if the subject had moved since
		err := s.Send(t.Context(), message(newID(t), "x"))
		if !sdk.IsDisconnected(err) || !strings.Contains(err.Error(), "another stream") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("full", func(t *testing.T) {
		s := newSink(t, b.s.URL(), map[string]any{"stream": "FULL", "subject": "full"})
		if err := s.Send(t.Context(), message(newID(t), "fits")); err != nil {
			t.Fatal(err)
		}
		if err := s.Send(t.Context(), message(newID(t), "does not")); !sdk.IsDisconnected(err) {
			t.Errorf("got %v, want a Disconnected error", err)
		}
	})
	t.Run("deleted while in use", func(t *testing.T) {
		b.stream(t, jetstream.StreamConfig{Name: "GONE", Subjects: []string{"gone"}})
		s := newSink(t, b.s.URL(), map[string]any{"stream": "GONE", "subject": "gone"})
		if err := s.Send(t.Context(), message(newID(t), "x")); err != nil {
			t.Fatal(err)
		}
		if err := b.js.DeleteStream(t.Context(), "GONE"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Send(t.Context(), message(newID(t), "x")); !sdk.IsDisconnected(err) {
				t.Errorf("got %v, want a Disconnected error", err)
			}
		}
	})
}

func TestMissingStreamIsCreatedOnRequest(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	s := newSink(t, b.s.URL(), map[string]any{"create": true, "duplicate_window": "7m"})
	if err := s.Send(t.Context(), message(newID(t), "x")); err != nil {
		t.Fatal(err)
	}
	stream, err := b.js.Stream(t.Context(), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	if cfg.Storage != jetstream.FileStorage || cfg.Duplicates != 7*time.Minute || len(cfg.Subjects) != 1 || cfg.Subjects[0] != "orders.in" {
		t.Errorf("created as %+v", cfg)
	}
}
