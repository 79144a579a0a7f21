package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/demo/natsd"
	"github.com/fairlead-io/fairlead/sdk"
)

func probe(t *testing.T, s *sink, m *sdk.Message, want sdk.Arrival) {
	t.Helper()
	got, err := s.Probe(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("probe says %d, want %d (1 arrived, 2 absent, 3 unknown)", got, want)
	}
}

func send(t *testing.T, s *sink, m *sdk.Message) {
	t.Helper()
	if err := s.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

func TestYoungMessageMayBeSentAgainBecauseTheBrokerKnowsIt(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{})
	s := newSink(t, b.s.URL(), nil)
	m := message(laterID(t), "x")
	send(t, s, m)
	probe(t, s, m, sdk.Absent)
	send(t, s, m)
	if all := b.messages(t, "ORDERS"); len(all) != 1 {
		t.Errorf("stream holds %d messages, want 1", len(all))
	}
}

// laterID makes an ID that is later than everything before, by the broker's clock
// of nanoseconds too.
func laterID(t *testing.T) string {
	t.Helper()
	began := time.Now()
	var id string
	waitFor(t, "the next millisecond", func() bool {
		id = newID(t)
		made, _ := idTime(id)
		return made.After(began)
	})
	return id
}

// outgrow waits until a message is too old for half of a window.
func outgrow(t *testing.T, id string, window time.Duration) {
	t.Helper()
	made, ok := idTime(id)
	if !ok {
		t.Fatalf("no time in %s", id)
	}
	waitFor(t, "the window to pass", func() bool { return time.Since(made) > window/2 })
}

func TestOldMessageIsLookedForInTheStream(t *testing.T) {
	const window = 100 * time.Millisecond
	b := newBroker(t, natsd.Config{})
	b.stream(t, jetstream.StreamConfig{Duplicates: window})
	s := newSink(t, b.s.URL(), nil)
	there, not := message(laterID(t), "there"), message(laterID(t), "not there")
	outgrow(t, not.ID, window)

	probe(t, s, not, sdk.Absent) // nothing ever came
	b.put(t, "orders.other", "of another subject")
	probe(t, s, not, sdk.Absent)
	send(t, s, there)
	for i := range 700 { // more than the client asks for at once
		b.put(t, "orders.in", fmt.Sprint(i))
	}
	b.put(t, "orders.other", "the last one, which the search does not see")
	probe(t, s, there, sdk.Arrived)
	probe(t, s, not, sdk.Absent)

	stream, err := b.js.Stream(t.Context(), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	probe(t, s, there, sdk.Arrived)
	probe(t, s, not, sdk.Unknown) // the deleted one may have been it
}

func TestProbeIsUnsureAboutWhatTheStreamNoLongerHolds(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	stream := b.stream(t, jetstream.StreamConfig{})
	s := newSink(t, b.s.URL(), nil)

	t.Run("stream younger than the message", func(t *testing.T) {
		probe(t, s, message(idAt(t, time.Now().Add(-time.Hour)), "x"), sdk.Unknown)
	})
	t.Run("ID without a time", func(t *testing.T) {
		probe(t, s, message("8e4f6a1e-58cc-4372-a567-0e02b2c3d479", "x"), sdk.Unknown)
		probe(t, s, message("not an ID", "x"), sdk.Unknown)
	})
	t.Run("purged", func(t *testing.T) {
		m := message(laterID(t), "x")
		send(t, s, m)
		if err := stream.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		probe(t, s, m, sdk.Unknown) // a restarted broker would not know the ID
		b.put(t, "orders.in", "next")
		probe(t, s, m, sdk.Unknown)
	})
	t.Run("discarded by a limit", func(t *testing.T) {
		b.stream(t, jetstream.StreamConfig{Name: "SMALL", Subjects: []string{"small"}, MaxMsgs: 1})
		s := newSink(t, b.s.URL(), map[string]any{"stream": "SMALL", "subject": "small"})
		m, next := message(laterID(t), "x"), message(laterID(t), "next")
		send(t, s, m)
		send(t, s, next)
		probe(t, s, m, sdk.Unknown)
		probe(t, s, next, sdk.Arrived)
	})
	t.Run("work queue that was worked off", func(t *testing.T) {
		work := b.stream(t, jetstream.StreamConfig{Name: "WORK", Subjects: []string{"work"}, Retention: jetstream.WorkQueuePolicy})
		s := newSink(t, b.s.URL(), map[string]any{"stream": "WORK", "subject": "work"})
		m := message(laterID(t), "x")
		send(t, s, m)
		probe(t, s, m, sdk.Absent) // still held, so the broker surely knows it
		c, err := work.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "w", AckPolicy: jetstream.AckExplicitPolicy})
		if err != nil {
			t.Fatal(err)
		}
		msg, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		if err := msg.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
		probe(t, s, m, sdk.Unknown)
	})
}

func TestProbeOfAMissingStreamIsAnError(t *testing.T) {
	b := newBroker(t, natsd.Config{})
	s := newSink(t, b.s.URL(), map[string]any{"create": true})
	if got, err := s.Probe(t.Context(), message(newID(t), "x")); !sdk.IsDisconnected(err) {
		t.Errorf("got %d, %v, want a Disconnected error", got, err)
	}
}

func TestRetainedIsTrueOnlyIfNothingCanBeMissing(t *testing.T) {
	made := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	long := made.Add(-time.Hour) // before any message with that ID
	just := made.Add(-time.Minute)
	info := func(change func(*jetstream.StreamInfo)) *jetstream.StreamInfo {
		i := &jetstream.StreamInfo{Created: long.Add(-time.Hour), State: jetstream.StreamState{
			Msgs: 10, FirstSeq: 1, LastSeq: 10, FirstTime: just, LastTime: made,
		}}
		change(i)
		return i
	}
	for name, c := range map[string]struct {
		change func(*jetstream.StreamInfo)
		want   bool
	}{
		"all there":                    {func(i *jetstream.StreamInfo) {}, true},
		"never used":                   {func(i *jetstream.StreamInfo) { i.State = jetstream.StreamState{} }, true},
		"never used, other start":      {func(i *jetstream.StreamInfo) { i.Config.FirstSeq = 100; i.State = jetstream.StreamState{LastSeq: 99} }, true},
		"created later":                {func(i *jetstream.StreamInfo) { i.Created = made.Add(time.Millisecond) }, false},
		"gap":                          {func(i *jetstream.StreamInfo) { i.State.Msgs = 9 }, false},
		"old ones gone":                {func(i *jetstream.StreamInfo) { i.State.FirstSeq, i.State.Msgs, i.State.FirstTime = 3, 8, long }, true},
		"old and newer ones gone":      {func(i *jetstream.StreamInfo) { i.State.FirstSeq, i.State.Msgs = 3, 8 }, false},
		"emptied, last one long ago":   {func(i *jetstream.StreamInfo) { i.State.FirstSeq, i.State.Msgs, i.State.LastTime = 11, 0, long }, true},
		"emptied, last one lately":     {func(i *jetstream.StreamInfo) { i.State.FirstSeq, i.State.Msgs = 11, 0 }, false},
		"emptied, time of last lost":   {func(i *jetstream.StreamInfo) { i.State.FirstSeq, i.State.Msgs, i.State.LastTime = 11, 0, time.Time{} }, false},
		"broker lost some on its disk": {func(i *jetstream.StreamInfo) { i.State.Lost = &jetstream.LostStreamData{} }, false},
	} {
		if got := retained(info(c.change), made); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

func TestWindowIsHalfUsedAndOnTheBrokersClock(t *testing.T) {
	made := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	for age, want := range map[time.Duration]bool{
		-time.Second: false, 0: true, 59 * time.Second: true, 60 * time.Second: false, 3 * time.Minute: false,
	} {
		info := &jetstream.StreamInfo{TimeStamp: made.Add(age), Config: jetstream.StreamConfig{Duplicates: 2 * time.Minute}}
		if got := withinWindow(info, made); got != want {
			t.Errorf("age %s: %t, want %t", age, got, want)
		}
	}
}
