package main

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/demo/natsd"
	"github.com/fairlead-io/fairlead/sdk"
)

// recall brings a message back, or fails.
func (r *receiver) recall(key string) sdk.Delivery {
	r.t.Helper()
	d, err := r.s.Recall(r.t.Context(), key)
	if err != nil {
		r.t.Fatalf("recall %s: %v", key, err)
	}
	return d
}

// suspended has the next message suspended, and returns it as it came.
func (r *receiver) suspended() sdk.Item {
	r.t.Helper()
	h := r.next()
	h.settle(r.t, sdk.Suspended)
	return h.Item
}

func contentOf(t testing.TB, d sdk.Delivery) string {
	t.Helper()
	c, err := d.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return readAll(t, c)
}

// withDeadLetters makes a work queue, and a stream of dead letters.
func withDeadLetters(t testing.TB, dead jetstream.StreamConfig) *broker {
	t.Helper()
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{Retention: jetstream.WorkQueuePolicy})
	dead.Name, dead.Subjects = "DEAD", []string{"dead.>"}
	b.stream(t, dead)
	return b
}

var toDeadLetters = map[string]any{"dead_letter_subject": "dead.orders"}

func TestDeadLetterComesBackAsTheMessageItWasAndGoesWhenDelivered(t *testing.T) {
	for _, retention := range []jetstream.RetentionPolicy{jetstream.LimitsPolicy, jetstream.WorkQueuePolicy} {
		t.Run(retention.String(), func(t *testing.T) {
			b := withDeadLetters(t, jetstream.StreamConfig{Retention: retention})
			msg := &nats.Msg{Subject: "orders.a", Data: []byte("bad"), Header: nats.Header{
				"Nats-Msg-Id": {"m 1"}, "X-Kind": {"order"}, "Correlation-Id": {"c-1"}, "Content-Type": {"text/plain"},
			}}
			if _, err := b.js.PublishMsg(t.Context(), msg); err != nil {
				t.Fatal(err)
			}
			r := receive(t, b.s.URL(), toDeadLetters)
			was := r.suspended()
			b.put(t, "dead.others", "of somebody else")

			d := receive(t, b.s.URL(), toDeadLetters).recall(was.Key) // another node
			if d.Item.Key != was.Key || d.Item.Size != was.Size || !maps.Equal(d.Item.Context, was.Context) {
				t.Errorf("item %+v, want it as it was, %+v", d.Item, was)
			}
			if got := contentOf(t, d); got != "bad" {
				t.Errorf("content %q", got)
			}
			for _, v := range []sdk.Verdict{sdk.Retry, sdk.Suspended} {
				if err := d.Settle(t.Context(), v); err != nil {
					t.Errorf("settle with %d: %v", v, err)
				}
			}
			if n := len(b.messages(t, "DEAD")); n != 2 {
				t.Fatalf("%d dead letters, want both: it was not delivered", n)
			}
			for range 2 { // as after a lost answer
				if err := r.recallAgain(was.Key, d).Settle(t.Context(), sdk.Delivered); err != nil {
					t.Errorf("settle: %v", err)
				}
			}
			if left := b.messages(t, "DEAD"); len(left) != 1 || left[0].Subject != "dead.others" {
				t.Errorf("%d dead letters left, want the other one only", len(left))
			}
			if _, err := r.s.Recall(t.Context(), was.Key); !sdk.IsGone(err) {
				t.Errorf("recall of what was delivered: %v, want Gone", err)
			}
		})
	}
}

// recallAgain recalls, or returns d if the message is gone.
func (r *receiver) recallAgain(key string, d sdk.Delivery) sdk.Delivery {
	if again, err := r.s.Recall(r.t.Context(), key); err == nil {
		return again
	}
	return d
}

func TestSuspendedAgainItStaysWhereItLiesAndIsFoundAgain(t *testing.T) {
	b := withDeadLetters(t, jetstream.StreamConfig{})
	b.put(t, "orders.a", "bad")
	r := receive(t, b.s.URL(), toDeadLetters)
	key := r.suspended().Key
	for range 3 {
		if err := r.recall(key).Settle(t.Context(), sdk.Suspended); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.messages(t, "DEAD")); n != 1 {
		t.Errorf("%d dead letters, want one", n)
	}
}

func TestManyDeadLettersAreFoundInAnyOrderAlsoWhenThereIsNoRoomToNoteThem(t *testing.T) {
	for _, room := range []int{maxGraves, 3, 0} {
		t.Run(fmt.Sprint(room), func(t *testing.T) {
			b := withDeadLetters(t, jetstream.StreamConfig{})
			r := receive(t, b.s.URL(), toDeadLetters)
			r.s.graves.room = room
			var keys []string
			for i := range 8 {
				b.put(t, "orders.a", fmt.Sprint(i))
				keys = append(keys, r.suspended().Key)
			}
			for _, i := range []int{7, 0, 4, 3, 6, 1, 2, 5} {
				d := r.recall(keys[i])
				if got := contentOf(t, d); got != fmt.Sprint(i) {
					t.Errorf("message %d has the content %q", i, got)
				}
				if err := d.Settle(t.Context(), sdk.Delivered); err != nil {
					t.Fatal(err)
				}
			}
			b.put(t, "orders.a", "late")
			if got := contentOf(t, r.recall(r.suspended().Key)); got != "late" {
				t.Errorf("the one suspended after the search has the content %q", got)
			}
			if n := len(b.messages(t, "DEAD")); n != 1 {
				t.Errorf("%d dead letters left, want the late one", n)
			}
		})
	}
}

func TestSuspendedMessageInItsOwnStreamIsBroughtBackFromThere(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	b.put(t, "orders.a", "bad", jetstream.WithMsgID("m-1"))
	r := receive(t, b.s.URL(), nil)
	was := r.suspended()
	d := r.recall(was.Key)
	if d.Item.Key != was.Key || !maps.Equal(d.Item.Context, was.Context) || contentOf(t, d) != "bad" {
		t.Errorf("item %+v, want it as it was, %+v", d.Item, was)
	}
	if err := d.Settle(t.Context(), sdk.Delivered); err != nil {
		t.Errorf("settle: %v", err)
	}
	if n := len(b.messages(t, "ORDERS")); n != 1 {
		t.Errorf("the stream has %d messages, want it untouched", n)
	}

	// A dead-letter subject that was set later hides nothing.
	b.stream(t, jetstream.StreamConfig{Name: "DEAD", Subjects: []string{"dead.>"}})
	if got := contentOf(t, receive(t, b.s.URL(), toDeadLetters).recall(was.Key)); got != "bad" {
		t.Errorf("content %q", got)
	}

	// The same number in a new stream is another message.
	if err := b.js.DeleteStream(t.Context(), "ORDERS"); err != nil {
		t.Fatal(err)
	}
	b.stream(t, jetstream.StreamConfig{})
	b.put(t, "orders.a", "another")
	if _, err := r.s.Recall(t.Context(), was.Key); !sdk.IsGone(err) {
		t.Errorf("recall from a new stream: %v, want Gone", err)
	}
}

func TestRecallsThatCannotBeFulfilled(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	r := receive(t, b.s.URL(), nil)
	for key, ok := range map[string]func(error) bool{
		"nonsense":           sdk.IsPermanent,
		"ORDERS:x:1":         sdk.IsPermanent,
		"ORDERS:1:y":         sdk.IsPermanent,
		"ELSEWHERE:1:1":      sdk.IsPermanent,
		"ORDERS:17:17000000": sdk.IsGone,
	} {
		if _, err := r.s.Recall(t.Context(), key); !ok(err) {
			t.Errorf("recall of %q: %v", key, err)
		}
	}
	b.stop()
	waitFor(t, "a recall without a broker to say so", func() bool {
		_, err := r.s.Recall(t.Context(), "ORDERS:17:17000000")
		return sdk.IsDisconnected(err)
	})
}

func TestDeadLetterThatNobodyMayDeleteStays(t *testing.T) {
	b := withDeadLetters(t, jetstream.StreamConfig{DenyDelete: true})
	b.put(t, "orders.a", "bad")
	r := receive(t, b.s.URL(), toDeadLetters)
	if err := r.recall(r.suspended().Key).Settle(t.Context(), sdk.Delivered); err != nil {
		t.Errorf("settle: %v; want no endless tries", err)
	}
}

func TestKeysAreParsedAsTheyWereMade(t *testing.T) {
	for _, want := range []letter{
		{stream: "ORDERS", seq: 7, stored: time.Unix(0, 1234567890123456789)},
		{stream: "a:b:3", seq: 1 << 63, stored: time.Unix(0, 1)},
	} {
		got, err := parseKey(want.key())
		if err != nil || got.stream != want.stream || got.seq != want.seq || !got.stored.Equal(want.stored) {
			t.Errorf("key %s gives %+v, %v", want.key(), got, err)
		}
	}
}
