package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/demo/natsd"
	"github.com/fairlead-io/fairlead/sdk"
)

func TestRoomForMessages(t *testing.T) {
	const mib = 1 << 20
	for name, c := range map[string]struct {
		prefetch, largest, held, heldBytes, asked, maxBatch int
		want, bytes                                         int
	}{
		"all of it":                    {prefetch: 16, largest: mib, want: 16},
		"what the broker can buffer":   {prefetch: 1024, largest: mib, want: 1024, bytes: 32 * mib},
		"one, however large":           {prefetch: 16, largest: 100 * mib, want: 16, bytes: 100 * mib},
		"no second one":                {prefetch: 16, largest: 100 * mib, held: 1, heldBytes: 100 * mib, want: 0},
		"memory is full":               {prefetch: 1024, largest: mib, held: 70, heldBytes: 64 * mib, want: 0},
		"memory is nearly full":        {prefetch: 1024, largest: mib, held: 70, heldBytes: 60 * mib, want: 954, bytes: 4 * mib},
		"many small ones held":         {prefetch: 1024, largest: mib, held: 1000, heldBytes: mib, want: 24},
		"little, but nothing asked":    {prefetch: 16, largest: mib, held: 15, want: 1},
		"little, and some asked":       {prefetch: 16, largest: mib, held: 8, asked: 5, want: 0},
		"a quarter, and some asked":    {prefetch: 16, largest: mib, held: 8, asked: 4, want: 4},
		"more than is wanted":          {prefetch: 16, largest: mib, held: 20, want: 0},
		"the consumer's largest batch": {prefetch: 16, largest: mib, maxBatch: 5, want: 5},
		"one at a time":                {prefetch: 1, largest: mib, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := &puller{
				ses:     &session{prefetch: c.prefetch, maxBatch: c.maxBatch},
				largest: c.largest, held: c.held, heldBytes: c.heldBytes, asked: c.asked,
			}
			if n, bytes := p.roomLocked(); n != c.want || c.bytes > 0 && bytes != c.bytes {
				t.Errorf("room for %d of %d bytes, want %d of %d", n, bytes, c.want, c.bytes)
			}
		})
	}
}

func TestPrefetchFollowsMaxInFlight(t *testing.T) {
	for _, c := range []struct {
		property int
		env      sdk.Env
		want     int
	}{
		{0, sdk.Env{}, 16},
		{0, sdk.Env{MaxInFlight: 256}, 384},
		{0, sdk.Env{MaxInFlight: 4096}, 1024},
		{0, sdk.Env{MaxInFlight: 256, Ordered: true}, 1},
		{40, sdk.Env{MaxInFlight: 256}, 40},
	} {
		s := &source{p: receiveProperties{Prefetch: c.property}, env: c.env}
		if got := s.prefetch(); got != c.want {
			t.Errorf("prefetch %d with %+v holds %d, want %d", c.property, c.env, got, c.want)
		}
	}
}

func TestManyMessagesComeOnceEach(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	const n = 500
	for i := range n {
		b.put(t, "orders.a", fmt.Sprint(i))
	}
	r := receive(t, b.s.URL(), map[string]any{"prefetch": 50})
	seen := map[string]bool{}
	for range n {
		h := r.next()
		if got := readContent(t, h); seen[got] {
			t.Fatalf("message %s came twice", got)
		} else {
			seen[got] = true
		}
		h.settle(t, sdk.Delivered)
	}
	if info := b.consumer(t); info.NumRedelivered != 0 || info.NumAckPending != 0 || info.NumPending != 0 {
		t.Errorf("in the end: %d redelivered, %d not acknowledged, %d not delivered", info.NumRedelivered, info.NumAckPending, info.NumPending)
	}
}

func TestConsumerWithBoundsOfItsOwnIsServed(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	s := b.stream(t, jetstream.StreamConfig{})
	_, err := s.CreateConsumer(t.Context(), jetstream.ConsumerConfig{
		Durable: "fairlead", MaxRequestBatch: 2, MaxRequestExpires: time.Second, MaxWaiting: 3,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := receive(t, b.s.URL(), nil)
	for i := range 10 {
		b.put(t, "orders.a", fmt.Sprint(i))
	}
	for range 10 {
		r.next().settle(t, sdk.Delivered)
	}
}

// A request goes round by itself: nothing comes for longer than it lasts.
func TestMessagesStillComeAfterAnIdleTime(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	s := b.stream(t, jetstream.StreamConfig{})
	_, err := s.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "fairlead", MaxRequestExpires: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	r := receive(t, b.s.URL(), nil)
	began := time.Now()
	waitFor(t, "some requests to expire", func() bool { return time.Since(began) > 500*time.Millisecond })
	b.put(t, "orders.a", "x")
	r.next().settle(t, sdk.Delivered)
}

// More is there than may be asked for at once, and than may be held: the broker ends
// requests for that, and the rest comes when there is room.
func TestLargeMessagesAllCome(t *testing.T) {
	const messages, size = 90, 900_000
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	for range messages {
		b.put(t, "orders.a", strings.Repeat("x", size))
	}
	r := receive(t, b.s.URL(), map[string]any{"prefetch": 1000})
	var held []*held
	for bytes := 0; bytes+size < maxAsked; bytes += size { // all of the first request
		held = append(held, r.next())
	}
	for n := len(held); n < messages; n++ {
		held[0].settle(t, sdk.Delivered)
		held = append(held[1:], r.next())
	}
	for _, h := range held {
		h.settle(t, sdk.Delivered)
	}
}

func TestWhatIsOnItsWayWhenReceivingEndsIsGivenBackAtOnce(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	for i := range 50 {
		b.put(t, "orders.a", fmt.Sprint(i))
	}
	r := receive(t, b.s.URL(), map[string]any{"prefetch": 50, "ack_wait": "60s"})
	first := r.next()
	r.cancel()
	if err := r.ended(); err != nil {
		t.Errorf("Run ended with %v", err)
	}
	sent := b.consumer(t).NumAckPending // by the broker, which knows of the end now
	for range sent - 1 {
		select {
		case h := <-r.held:
			h.end(fmt.Errorf("not handed over"))
		case <-time.After(patience):
			first.end(nil)
			t.Fatalf("a message is lost on its way, of %d that the broker has sent", sent)
		}
	}
	other := receive(t, b.s.URL(), nil)
	for range 49 {
		other.next().settle(t, sdk.Delivered)
	}
	first.settle(t, sdk.Delivered) // its delivery outlived Run
	if info := b.consumer(t); info.NumAckPending != 0 || info.AckFloor.Stream != 50 {
		t.Errorf("%d pending, floor %d", info.NumAckPending, info.AckFloor.Stream)
	}
}

func TestReceivingGoesOnWhileDeliveriesOfThePauseBeforeAreUnderWay(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	b.put(t, "orders.a", "long")
	r := receive(t, b.s.URL(), map[string]any{"ack_wait": "1s"})
	long := r.next()
	r.cancel() // as for a pause
	if err := r.ended(); err != nil {
		t.Errorf("Run ended with %v", err)
	}
	r.run()
	b.put(t, "orders.a", "next")
	next := r.next()
	if got := readContent(t, next); got != "next" {
		t.Errorf("got %q", got)
	}
	began := time.Now()
	waitFor(t, "more than ack_wait to pass", func() bool { return time.Since(began) > 1500*time.Millisecond })
	long.settle(t, sdk.Delivered)
	next.settle(t, sdk.Delivered)
	if info := b.consumer(t); info.NumRedelivered != 0 || info.NumAckPending != 0 {
		t.Errorf("%d redelivered, %d pending: signs of life were missing", info.NumRedelivered, info.NumAckPending)
	}
}

func TestOrderedSourceHasOneMessageUnderWay(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	for i := range 5 {
		b.put(t, "orders.a", fmt.Sprint(i))
	}
	ordered := quiet
	ordered.Ordered, ordered.MaxInFlight = true, 16
	r := receiveAs(t, ordered, b.s.URL(), nil)
	for i := range 5 {
		h := r.next()
		if i == 2 {
			h.settle(t, sdk.Retry) // the others wait for it
			h = r.next()
		}
		if got := readContent(t, h); got != fmt.Sprint(i) {
			t.Errorf("message %d is %q", i, got)
		}
		if info := b.consumer(t); info.NumAckPending != 1 {
			t.Errorf("%d messages are under way, want 1", info.NumAckPending)
		}
		h.settle(t, sdk.Delivered)
	}
}

func TestOrderedSourceRefusesAConsumerThatHandsOutMany(t *testing.T) {
	for _, pending := range []int{0, 2, -1} {
		b := newBroker(t, natsd.Config{})
		s := b.stream(t, jetstream.StreamConfig{})
		_, err := s.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "fairlead", MaxAckPending: pending})
		if err != nil {
			t.Fatal(err)
		}
		ordered := quiet
		ordered.Ordered = true
		err = receiveAs(t, ordered, b.s.URL(), nil).ended()
		if !sdk.IsDisconnected(err) || !strings.Contains(err.Error(), "--max-pending=1") {
			t.Errorf("max_ack_pending %d: %v, want a refusal with the remedy", pending, err)
		}
	}
}

func TestConfirmationsOfStreams(t *testing.T) {
	for answer, want := range map[string]bool{
		`{"stream":"ORDERS","seq":7}`:                      true,
		`{"stream":"ORDERS", "seq":7,"duplicate": true}`:   false, // read as JSON
		`{"stream":"ORDERS","seq":7,"duplicate": true}`:    true,
		`{"stream":"ORDERS","domain":"d","seq":7}`:         true,
		`{"stream":"","seq":7}`:                            false,
		`{"error":{"code":503},"stream":"ORDERS","seq":0}`: false,
		`{"stream":"ORDERS","seq":0,"error":{"code":503}}`: false,
		`{"stream":"ORDERS","seq":7`:                       false,
		`{"type":"x","stream":"ORDERS","seq":7}`:           false,
		``:                                                 false,
		`+OK`:                                              false,
	} {
		if got := plainlyConfirmed([]byte(answer)); got != want {
			t.Errorf("%s: %v, want %v", answer, got, want)
		}
	}
}

func TestReceivingEndsAlsoWithoutABroker(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{Storage: jetstream.FileStorage})
	b.put(t, "orders.a", "x")
	r := receive(t, b.s.URL(), nil)
	h := r.next()
	b.stop()
	waitFor(t, "the connection to be missed", func() bool { return !r.s.link.current().connected() })
	began := time.Now()
	r.cancel()
	if err := r.ended(); err != nil {
		t.Errorf("Run ended with %v", err)
	}
	if took := time.Since(began); took > closeTimeout/2 {
		t.Errorf("it took %s to end", took)
	}
	h.end(nil)
}

func TestMessageLostWithTheConnectionComesAgain(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	p := newProxy(t, b.s.Addr())
	r := receive(t, p.url(), map[string]any{"timeout": "3s", "ack_wait": "1s"})
	b.put(t, "orders.a", "first")
	r.next().settle(t, sdk.Delivered)
	p.deaf.Store(true)
	b.put(t, "orders.a", "second") // sent, and lost on its way
	waitFor(t, "the message to be sent", func() bool { return b.consumer(t).NumAckPending == 1 })
	p.deaf.Store(false)
	p.cut()
	h := r.next()
	if got := readContent(t, h); got != "second" {
		t.Errorf("got %q, want the message that was lost", got)
	}
	h.settle(t, sdk.Delivered)
}
