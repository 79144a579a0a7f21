package main

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/demo/natsd"
	"github.com/fairlead-io/fairlead/sdk"
)

// receiver plays the SDK: it runs a source and holds each delivery until the test
// decides.
type receiver struct {
	t      testing.TB
	s      *source
	cancel context.CancelFunc
	held   chan *held
	// endCh gets what Run returned, and is closed then.
	endCh chan error
}

// held is a delivery whose fate the test decides, by end.
type held struct {
	sdk.Delivery
	endCh chan error
}

// end lets deliver return.
func (h *held) end(err error) { h.endCh <- err }

// settle settles and lets deliver return.
func (h *held) settle(t testing.TB, v sdk.Verdict) {
	t.Helper()
	err := h.Settle(t.Context(), v)
	h.end(err)
	if err != nil {
		t.Fatalf("settle %s: %v", h.Item.Key, err)
	}
}

// receive runs a source on stream ORDERS with the consumer "fairlead".
func receive(t testing.TB, url string, more map[string]any) *receiver {
	t.Helper()
	return receiveAs(t, quiet, url, more)
}

func receiveAs(t testing.TB, env sdk.Env, url string, more map[string]any) *receiver {
	t.Helper()
	properties := map[string]any{
		"broker": url, "stream": "ORDERS", "consumer": "fairlead", "retry_delay": "50ms", "timeout": "5s",
	}
	maps.Copy(properties, more)
	s, err := openSource(t.Context(), decode[receiveProperties](t, properties), env)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{t: t, s: s.(*source)}
	r.run()
	t.Cleanup(func() {
		r.cancel()
		// Whatever is held is let go, or its delivery would not end.
		endedCh := make(chan struct{})
		go func() {
			defer close(endedCh)
			for range r.endCh { // until Run has returned
			}
			if err := s.Close(); err != nil { // waits for the deliveries
				t.Errorf("close: %v", err)
			}
		}()
		for ended := false; !ended; {
			select {
			case h := <-r.held:
				h.end(context.Canceled)
			case <-endedCh:
				ended = true
			case <-time.After(patience):
				t.Error("a delivery was not ended, or Run did not return")
				ended = true
			}
		}
	})
	return r
}

func (r *receiver) run() {
	ctx, cancel := context.WithCancel(r.t.Context())
	r.cancel, r.endCh = cancel, make(chan error, 1)
	if r.held == nil {
		r.held = make(chan *held)
	}
	heldCh, endCh := r.held, r.endCh
	deliver := func(ctx context.Context, d sdk.Delivery) (sdk.Verdict, error) {
		h := &held{d, make(chan error)}
		heldCh <- h
		return sdk.Delivered, <-h.endCh
	}
	go func() {
		endCh <- r.s.Run(ctx, deliver)
		close(endCh)
	}()
}

func (r *receiver) next() *held {
	r.t.Helper()
	select {
	case h := <-r.held:
		return h
	case err := <-r.endCh:
		r.t.Fatalf("Run ended: %v", err)
	case <-time.After(patience):
		r.t.Fatal("no message came")
	}
	return nil
}

// ended waits for Run to return.
func (r *receiver) ended() error {
	r.t.Helper()
	select {
	case err := <-r.endCh:
		return err
	case <-time.After(patience):
		r.t.Fatal("Run did not return")
	}
	return nil
}

func TestReceivedMessageIsAcknowledgedOnlyWhenDelivered(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	msg := &nats.Msg{Subject: "orders.a", Data: []byte("hello"), Header: nats.Header{
		"Nats-Msg-Id": {"m-1"}, "X-Kind": {"order"}, "Content-Type": {"text/plain"}, "Correlation-Id": {"c-1"},
	}}
	if _, err := b.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	r := receive(t, b.s.URL(), nil)
	h := r.next()
	for name, want := range map[string]string{
		"queue.message_id": "m-1", "queue.destination": "orders.a", "queue.header.X-Kind": "order", "queue.correlation_id": "c-1",
	} {
		if got := h.Item.Context[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if h.Item.Size != 5 || h.Item.Kept {
		t.Errorf("item %+v", h.Item)
	}
	content, err := h.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for part := range content.Parts {
		if part.ContentType != "text/plain" {
			t.Errorf("content type %q", part.ContentType)
		}
	}
	if got := readAll(t, content); got != "hello" {
		t.Errorf("content %q", got)
	}
	if info := b.consumer(t); info.NumAckPending != 1 || info.AckFloor.Stream != 0 {
		t.Errorf("before settling: %d pending, floor %d", info.NumAckPending, info.AckFloor.Stream)
	}
	h.settle(t, sdk.Delivered)
	if info := b.consumer(t); info.NumAckPending != 0 || info.AckFloor.Stream != 1 {
		t.Errorf("after settling: %d pending, floor %d", info.NumAckPending, info.AckFloor.Stream)
	}
}

func TestWhatFairleadSentComesBackAsItWas(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	m := message(newID(t), "x")
	m.Context = map[string]string{"ftp.name": "Zoë\r\n%41.txt", "fairlead.location": "elsewhere", "queue.correlation_id": "ü"}
	m.Parts[0].Name, m.Parts[0].ContentType = "ä.txt", "text/plain"
	send(t, newSink(t, b.s.URL(), nil), m)
	h := receive(t, b.s.URL(), nil).next()
	c := h.Item.Context
	if c["ftp.name"] != m.Context["ftp.name"] || c["queue.correlation_id"] != "ü" || c["queue.message_id"] != m.ID {
		t.Errorf("context %q", c)
	}
	if v, ok := c["fairlead.location"]; ok {
		t.Errorf("the runtime's own property came from a header: %q", v)
	}
	content, err := h.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for part := range content.Parts {
		if part.Name != "ä.txt" || part.ContentType != "text/plain" {
			t.Errorf("part %q of type %q", part.Name, part.ContentType)
		}
	}
	h.settle(t, sdk.Delivered)
}

func TestMessageGivenBackComesAgainUnderTheSameKey(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	b.put(t, "orders.a", "x")
	r := receive(t, b.s.URL(), nil)
	first := r.next()
	first.settle(t, sdk.Retry)
	second := r.next()
	if first.Item.Key != second.Item.Key {
		t.Errorf("keys %q and %q of one message", first.Item.Key, second.Item.Key)
	}
	second.end(fmt.Errorf("not handed over")) // no settle at all: given back too
	third := r.next()
	if first.Item.Key != third.Item.Key {
		t.Errorf("keys %q and %q of one message", first.Item.Key, third.Item.Key)
	}
	third.settle(t, sdk.Delivered)
}

func TestMessageGivenBackComesAgainWhenSaidAndNotWhenItsHolderIsDone(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	b.put(t, "orders.a", "x")
	r := receive(t, b.s.URL(), map[string]any{"ack_wait": "1s", "retry_delay": "600ms"})
	first := r.next()
	began := time.Now()
	if err := first.Settle(t.Context(), sdk.Retry); err != nil {
		t.Fatal(err)
	}
	again := r.next() // a further sign of life of the first would put it off
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("came again after %s, want 600ms", took)
	}
	first.end(nil)
	again.settle(t, sdk.Delivered)
}

func TestSameSequenceNumberInANewStreamIsAnotherItem(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	b.put(t, "orders.a", "old")
	r := receive(t, b.s.URL(), nil)
	old := r.next()
	if err := b.js.DeleteStream(t.Context(), "ORDERS"); err != nil {
		t.Fatal(err)
	}
	b.stream(t, jetstream.StreamConfig{})
	b.put(t, "orders.a", "new")

	// Another node consumes the new stream; its message must not be acknowledged by
	// the answer to the old one, which has the same number.
	other := receive(t, b.s.URL(), nil)
	young := other.next()
	if old.Item.Key == young.Item.Key {
		t.Errorf("both have the key %q", old.Item.Key)
	}
	made := time.Now()
	waitFor(t, "the source to look again", func() bool { return time.Since(made) > verifyEvery })
	if err := old.Settle(t.Context(), sdk.Delivered); err == nil {
		t.Error("a message of the old stream was settled")
	}
	if info := b.consumer(t); info.NumAckPending != 1 {
		t.Errorf("%d messages wait for an acknowledgement, want 1", info.NumAckPending)
	}
	old.end(context.Canceled)
	if err := r.ended(); err == nil {
		t.Error("Run went on although the stream was made anew")
	}
	young.settle(t, sdk.Delivered)
}

func TestSuspendedMessageGoesToTheDeadLetterSubjectOnce(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{Retention: jetstream.WorkQueuePolicy})
	b.stream(t, jetstream.StreamConfig{Name: "DEAD", Subjects: []string{"dead.>"}})
	msg := &nats.Msg{Subject: "orders.a", Data: []byte("bad"), Header: nats.Header{"Nats-Msg-Id": {"m-1"}, "X-Kind": {"order"}}}
	if _, err := b.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	r := receive(t, b.s.URL(), map[string]any{"dead_letter_subject": "dead.orders"})
	h := r.next()
	for range 2 { // as after a lost answer
		if err := h.Settle(t.Context(), sdk.Suspended); err != nil {
			t.Fatal(err)
		}
	}
	h.end(nil)
	dead := b.messages(t, "DEAD")
	if len(dead) != 1 || string(dead[0].Data) != "bad" || dead[0].Subject != "dead.orders" {
		t.Fatalf("dead letters %+v", dead)
	}
	for name, want := range map[string]string{
		"X-Kind": "order", headerDeadStream: "ORDERS", headerDeadSubject: "orders.a", headerDeadSequence: "1", headerDeadID: "m-1",
	} {
		if got := dead[0].Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	if left := b.messages(t, "ORDERS"); len(left) != 0 {
		t.Errorf("%d messages left in the work queue", len(left))
	}
}

func TestDeadLetterIntoTheMessagesOwnStreamIsNotTakenForADuplicate(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	b.put(t, "orders.a", "bad", jetstream.WithMsgID("m-1"))
	r := receive(t, b.s.URL(), map[string]any{"subject": "orders.a", "dead_letter_subject": "orders.dead"})
	r.next().settle(t, sdk.Suspended)
	if all := b.messages(t, "ORDERS"); len(all) != 2 || all[1].Subject != "orders.dead" {
		t.Errorf("stream holds %d messages, want the message and its dead letter", len(all))
	}
}

func TestSuspendedMessageWithoutDeadLetterSubjectStaysAndIsNotOfferedAgain(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	b.put(t, "orders.a", "bad")
	r := receive(t, b.s.URL(), nil)
	r.next().settle(t, sdk.Suspended)
	b.put(t, "orders.a", "good")
	if h := r.next(); readContent(t, h) != "good" {
		t.Error("the suspended message was offered again")
	} else {
		h.settle(t, sdk.Delivered)
	}
	if info := b.consumer(t); info.NumAckPending != 0 || info.NumRedelivered != 0 {
		t.Errorf("%d pending, %d redelivered", info.NumAckPending, info.NumRedelivered)
	}
	if all := b.messages(t, "ORDERS"); len(all) != 2 {
		t.Errorf("stream holds %d messages, want 2", len(all))
	}
}

func readContent(t testing.TB, h *held) string {
	t.Helper()
	c, err := h.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return readAll(t, c)
}

func TestUnfitStreamsAndConsumersAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		stream     *jetstream.StreamConfig
		consumer   *jetstream.ConsumerConfig
		properties map[string]any
		want       string
	}{
		"no stream":                   {want: "does not exist"},
		"work queue, no dead letters": {stream: &jetstream.StreamConfig{Retention: jetstream.WorkQueuePolicy}, want: "set dead_letter_subject"},
		"dead letters to nowhere":     {stream: &jetstream.StreamConfig{}, properties: map[string]any{"dead_letter_subject": "dead"}, want: "no stream takes"},
		"dead letters to itself":      {stream: &jetstream.StreamConfig{}, properties: map[string]any{"dead_letter_subject": "orders.dead"}, want: "leads back"},
		"no acknowledgements":         {stream: &jetstream.StreamConfig{}, consumer: &jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy}, want: "want explicit"},
		"gives up":                    {stream: &jetstream.StreamConfig{}, consumer: &jetstream.ConsumerConfig{MaxDeliver: 3}, want: "gives a message up after 3"},
		"headers only":                {stream: &jetstream.StreamConfig{}, consumer: &jetstream.ConsumerConfig{HeadersOnly: true}, want: "headers only"},
		"push":                        {stream: &jetstream.StreamConfig{}, consumer: &jetstream.ConsumerConfig{DeliverSubject: "to.me"}, want: "push consumer"},
		"other filter":                {stream: &jetstream.StreamConfig{}, consumer: &jetstream.ConsumerConfig{FilterSubject: "orders.b"}, properties: map[string]any{"subject": "orders.a"}, want: "is filtered by"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t, natsd.Config{})
			if c.stream != nil {
				s := b.stream(t, *c.stream)
				if c.consumer != nil {
					c.consumer.Durable = "fairlead"
					var err error
					if c.consumer.DeliverSubject != "" {
						_, err = s.CreatePushConsumer(t.Context(), *c.consumer)
					} else {
						_, err = s.CreateConsumer(t.Context(), *c.consumer)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			err := receive(t, b.s.URL(), c.properties).ended()
			if !sdk.IsDisconnected(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a Disconnected error with %q", err, c.want)
			}
		})
	}
}

func TestExistingConsumerGoesOnWhereItWas(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	s := b.stream(t, jetstream.StreamConfig{})
	b.put(t, "orders.a", "before")
	_, err := s.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "fairlead", DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		t.Fatal(err)
	}
	b.put(t, "orders.a", "after")
	h := receive(t, b.s.URL(), nil).next()
	if got := readContent(t, h); got != "after" {
		t.Errorf("got %q, want %q", got, "after")
	}
	h.settle(t, sdk.Delivered)
}

func TestDeletedConsumerIsNotMadeAgainFromTheBeginning(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	s := b.stream(t, jetstream.StreamConfig{})
	b.put(t, "orders.a", "x")
	r := receive(t, b.s.URL(), nil)
	r.next().settle(t, sdk.Delivered)
	if err := s.DeleteConsumer(t.Context(), "fairlead"); err != nil {
		t.Fatal(err)
	}
	if err := r.ended(); !sdk.IsDisconnected(err) {
		t.Errorf("Run ended with %v, want a Disconnected error", err)
	}
	r.run()
	if err := r.ended(); err == nil || !strings.Contains(err.Error(), "deleted while in use") {
		t.Errorf("Run again ended with %v", err)
	}
	if _, err := s.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "fairlead", DeliverPolicy: jetstream.DeliverNewPolicy}); err != nil {
		t.Fatal(err)
	}
	r.run()
	b.put(t, "orders.a", "y")
	r.next().settle(t, sdk.Delivered)
}

func TestStrictOrderWithPrefetchOne(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	for i := range 5 {
		b.put(t, "orders.a", fmt.Sprint(i))
	}
	r := receive(t, b.s.URL(), map[string]any{"prefetch": 1})
	for i := range 5 {
		h := r.next()
		if i == 2 {
			h.settle(t, sdk.Retry) // the others wait for it
			h = r.next()
		}
		if got := readContent(t, h); got != fmt.Sprint(i) {
			t.Errorf("message %d is %q", i, got)
		}
		h.settle(t, sdk.Delivered)
	}
}

func TestNoMoreThanPrefetchAreHeld(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	for range 10 {
		b.put(t, "orders.a", "x")
	}
	r := receive(t, b.s.URL(), map[string]any{"prefetch": 3})
	var all []*held
	for range 3 {
		all = append(all, r.next())
	}
	if info := b.consumer(t); info.NumAckPending != 3 {
		t.Errorf("%d messages are under way, want 3", info.NumAckPending)
	}
	for _, h := range all {
		h.settle(t, sdk.Delivered)
	}
	for range 7 {
		r.next().settle(t, sdk.Delivered)
	}
}
