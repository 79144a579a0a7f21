package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/demo/natsd"
	"github.com/fairlead-io/fairlead/sdk"
)

func TestBrokerRestartInMidWorkLosesAndDoublesNothing(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{Storage: jetstream.FileStorage})
	b.put(t, "orders.a", "under way")
	r := receive(t, b.s.URL(), nil)
	h := r.next()
	b.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := h.Settle(ctx, sdk.Delivered); err == nil {
		t.Error("settled with a stopped broker")
	}
	b.start(t)
	b.put(t, "orders.a", "next")
	h.settle(t, sdk.Delivered) // waits for the reconnect
	if info := b.consumer(t); info.AckFloor.Stream != 1 {
		t.Errorf("acknowledged up to %d, want 1", info.AckFloor.Stream)
	}
	next := r.next()
	if got := readContent(t, next); got != "next" {
		t.Errorf("got %q after the restart, want %q", got, "next")
	}
	next.settle(t, sdk.Delivered)
	if info := b.consumer(t); info.NumRedelivered != 0 || info.NumAckPending != 0 || info.NumPending != 0 {
		t.Errorf("in the end: %d redelivered, %d not acknowledged, %d not delivered", info.NumRedelivered, info.NumAckPending, info.NumPending)
	}
}

func TestLostConfirmationOfAnAcknowledgementIsAnErrorAndCanBeRepeated(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	b.put(t, "orders.a", "x")
	p := newProxy(t, b.s.Addr())
	r := receive(t, p.url(), map[string]any{"timeout": "1s"})
	h := r.next()
	p.deaf.Store(true)
	if err := h.Settle(t.Context(), sdk.Delivered); err == nil {
		t.Error("settled although no confirmation came")
	}
	p.deaf.Store(false)
	p.cut() // what the client missed would confuse it
	waitFor(t, "a second acknowledgement", func() bool { return h.Settle(t.Context(), sdk.Delivered) == nil })
	h.end(nil)
	if info := b.consumer(t); info.NumAckPending != 0 || info.AckFloor.Stream != 1 {
		t.Errorf("%d pending, floor %d", info.NumAckPending, info.AckFloor.Stream)
	}
}

func TestMessageWorkedOnForLongIsNotOfferedAgain(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	b.put(t, "orders.a", "slow")
	beats, err := b.nc.SubscribeSync("$JS.ACK.ORDERS.fairlead.>")
	if err != nil {
		t.Fatal(err)
	}
	r := receive(t, b.s.URL(), map[string]any{"ack_wait": "1s"})
	h := r.next()
	for range 5 { // 5/3 of ack_wait
		m, err := beats.NextMsg(patience)
		if err != nil {
			t.Fatalf("no sign of life: %v", err)
		}
		if string(m.Data) != answerProgress {
			t.Fatalf("answered %q", m.Data)
		}
	}
	if info := b.consumer(t); info.NumRedelivered != 0 {
		t.Errorf("%d messages were offered again", info.NumRedelivered)
	}
	h.settle(t, sdk.Delivered)
}

func TestWhatADeadNodeHeldComesToAnotherAfterAckWait(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	b.put(t, "orders.a", "x")
	p := newProxy(t, b.s.Addr())
	dead := receive(t, p.url(), map[string]any{"ack_wait": "1s"})
	first := dead.next()
	p.l.Close()
	p.cut() // the node is off the network for good
	alive := receive(t, b.s.URL(), nil)
	second := alive.next()
	if first.Item.Key != second.Item.Key {
		t.Errorf("keys %q and %q of one message", first.Item.Key, second.Item.Key)
	}
	second.settle(t, sdk.Delivered)
	if err := first.Settle(t.Context(), sdk.Delivered); !sdk.IsDisconnected(err) {
		t.Errorf("settle without a connection: %v, want a Disconnected error", err)
	}
	first.end(context.Canceled)
}

func TestGivenUpConnectionEndsRunWithAnError(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{Storage: jetstream.FileStorage})
	r := receive(t, b.s.URL(), nil)
	waitFor(t, "the consumer", func() bool {
		_, err := b.js.Consumer(t.Context(), "ORDERS", "fairlead")
		return err == nil
	})
	b.stop()
	if err := r.ended(); !sdk.IsDisconnected(err) {
		t.Fatalf("Run ended with %v, want a Disconnected error", err)
	}
	b.start(t)
	b.put(t, "orders.a", "x")
	r.run() // as the SDK does after its back-off
	r.next().settle(t, sdk.Delivered)
}

func TestDrainWaitsForWhatIsUnderWayAndGivesBackTheRest(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	b.put(t, "orders.a", "1")
	b.put(t, "orders.a", "2")
	r := receive(t, b.s.URL(), map[string]any{"retry_delay": "1h", "ack_wait": "1h"})
	first, second := r.next(), r.next()
	r.cancel()
	select {
	case err := <-r.endCh:
		t.Fatalf("Run returned (%v) before its deliveries", err)
	default:
	}
	first.settle(t, sdk.Delivered)
	second.end(context.Canceled) // as the SDK does with what it has not taken up
	if err := r.ended(); err != nil {
		t.Errorf("Run returned %v after a drain", err)
	}
	// Another node gets it now and not after an hour.
	again := receive(t, b.s.URL(), nil).next()
	if again.Item.Key != second.Item.Key {
		t.Errorf("got %q, want %q", again.Item.Key, second.Item.Key)
	}
	again.settle(t, sdk.Delivered)
}

func TestManyMessagesThroughACutConnectionAllSettle(t *testing.T) {
	const n = 200
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	for i := range n {
		b.put(t, "orders.a", fmt.Sprint(i))
	}
	p := newProxy(t, b.s.Addr())
	r := receive(t, p.url(), map[string]any{"ack_wait": "1s"})
	settled := map[string]bool{}
	for i := 0; len(settled) < n; i++ {
		h := r.next()
		if i == 50 || i == 120 {
			p.cut()
		}
		err := h.Settle(t.Context(), sdk.Delivered)
		h.end(err)
		if err == nil {
			settled[h.Item.Key] = true
		}
	}
	waitFor(t, "all to be acknowledged", func() bool {
		info := b.consumer(t)
		return info.AckFloor.Stream == n && info.NumAckPending == 0
	})
}
