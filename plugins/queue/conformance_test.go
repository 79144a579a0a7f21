package main

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/demo/natsd"
	"github.com/fairlead-io/fairlead/sdk/adaptertest"
)

func TestSourceConformance(t *testing.T) {
	adaptertest.Source(t, adaptertest.SourceCase{
		Adapter:      adapter(),
		New:          newSourceFixture,
		NameProperty: "file.name",
		Recalls:      true,
		Ordered:      true,
	})
}

// newSourceFixture makes a work queue, which holds what is not acknowledged.
func newSourceFixture(t testing.TB) adaptertest.SourceFixture {
	t.Helper()
	b := newBroker(t, natsd.Config{MaxPayload: 8 << 20})
	s := b.stream(t, jetstream.StreamConfig{Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage})
	b.stream(t, jetstream.StreamConfig{Name: "DEAD", Subjects: []string{"dead"}, Storage: jetstream.FileStorage})
	// Made here and not by the adapter, whose handler would seem to leak what the
	// broker runs in this process for a consumer.
	consumer := jetstream.ConsumerConfig{Durable: "fairlead", AckWait: time.Second}
	_, err := s.CreateConsumer(t.Context(), consumer)
	if err != nil {
		t.Fatal(err)
	}
	const header = headerContext + "file.name"
	f := adaptertest.SourceFixture{
		Properties: map[string]any{
			"broker": b.s.URL(), "stream": "ORDERS", "consumer": "fairlead", "dead_letter_subject": "dead",
			"retry_delay": "50ms", "timeout": "5s",
		},
		MakeOrdered: func(t testing.TB) {
			t.Helper()
			cfg := consumer
			cfg.MaxAckPending = 1
			if _, err := s.UpdateConsumer(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
		},
		Put: func(t testing.TB, name string, content []byte) {
			t.Helper()
			msg := &nats.Msg{Subject: "orders.in", Data: content, Header: nats.Header{header: {escapeValue(name)}}}
			if _, err := b.js.PublishMsg(t.Context(), msg); err != nil {
				t.Fatal(err)
			}
		},
		Remaining: func(t testing.TB) []string {
			t.Helper()
			all := []string{}
			for _, m := range b.messages(t, "ORDERS") {
				all = append(all, unescape(m.Header.Get(header)))
			}
			return all
		},
	}
	// The fixture's properties name the broker's address: it keeps it.
	f.Down = func(testing.TB) { b.stop() }
	f.Up = b.start
	return f
}

// The kit's check of Probe wants Arrived at once after a send. This adapter says
// Absent as long as the broker drops what is sent again; see probe_test.go.
func TestSinkConformance(t *testing.T) {
	adaptertest.Sink(t, adaptertest.SinkCase{
		Adapter: adapter(),
		New: func(t testing.TB) adaptertest.SinkFixture {
			t.Helper()
			b := newBroker(t, natsd.Config{MaxPayload: 8 << 20})
			b.stream(t, jetstream.StreamConfig{Storage: jetstream.FileStorage})
			return adaptertest.SinkFixture{
				Properties: map[string]any{
					"broker": b.s.URL(), "stream": "ORDERS", "subject": "orders.in", "timeout": "5s",
				},
				Received: func(t testing.TB) []adaptertest.Received {
					t.Helper()
					var all []adaptertest.Received
					for _, m := range b.messages(t, "ORDERS") {
						all = append(all, adaptertest.Received{Name: m.Subject, Content: m.Data})
					}
					return all
				},
				Down: func(testing.TB) { b.stop() },
				Up:   b.start,
			}
		},
		Deduplicates: true,
		Context:      map[string]string{"ftp.name": "Zoë\r\n.txt"},
	})
}
