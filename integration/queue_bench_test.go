package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// queueMessages is how many messages one round has, of queueSize bytes.
	queueMessages = 10_000
	queueSize     = 1 << 10
	// queueWindow is how many are under way at once, here and there.
	queueWindow = 256
	queueRounds = 3
)

// BenchmarkQueueToQueue carries messages from one stream to another. The plain loop
// uses the same client library and as large a window, and waits for the same two
// confirmations of each message: that the other stream has stored it, and that its
// acknowledgement was taken. It keeps no record: what it had published when it was
// killed would be published again, deduplicated by the broker for two minutes.
func BenchmarkQueueToQueue(b *testing.B) {
	for _, nodes := range []int{1, 3} {
		for _, delivery := range []string{"exactly-once", "at-least-once"} {
			b.Run(fmt.Sprintf("nodes-%d/%s", nodes, delivery), func(b *testing.B) {
				q := newQueueBench(b, nodes, delivery)
				var ours, plain []float64
				for b.Loop() {
					for round := range queueRounds {
						ways := []func(){
							func() { plain = append(plain, q.plain(b).Seconds()) },
							func() { ours = append(ours, q.ours(b).Seconds()) },
						}
						ways[round%2]()
						ways[1-round%2]()
					}
				}
				slices.Sort(ours)
				slices.Sort(plain)
				o, p := ours[len(ours)/2], plain[len(plain)/2]
				b.ReportMetric(queueMessages/o, "msgs/s")
				b.ReportMetric(queueMessages/p, "plain-msgs/s")
				b.ReportMetric(p/o, "ratio-to-plain")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// queueBench is a broker with four streams, two for each way.
type queueBench struct {
	js      jetstream.JetStream
	streams map[string]jetstream.Stream
}

func newQueueBench(b *testing.B, nodes int, delivery string) *queueBench {
	b.Helper()
	server := startServer(b, "nats")
	nc, err := nats.Connect("nats://"+server.addr(), nats.UserInfo("tester", "secret"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	q := &queueBench{streams: map[string]jetstream.Stream{}}
	if q.js, err = jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(queueWindow)); err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"PLAININ", "PLAINOUT", "IN", "OUT"} {
		q.streams[name], err = q.js.CreateStream(b.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name + ".x"}})
		if err != nil {
			b.Fatal(err)
		}
	}
	deploy(b, startCluster(b, nodes), fmt.Sprintf(`
hosts:
  carrier: {clustered: true}
receive_locations:
  in:
    host: carrier
    adapter: queue
    endpoint: {broker: %[1]q, user: tester, password: secret, stream: IN, consumer: bench, prefetch: %[2]d}
    max_in_flight: %[2]d
    delivery: %[3]s
    track: none
    to: [out]
send_ports:
  out:
    host: carrier
    adapter: queue
    max_in_flight: %[2]d
    endpoint: {broker: %[1]q, user: tester, password: secret, stream: OUT, subject: OUT.x}
`, "nats://"+server.addr(), queueWindow, delivery), "carrier")
	return q
}

// fill publishes a round's messages and waits until they are stored.
func (q *queueBench) fill(b *testing.B, stream string) {
	b.Helper()
	content := make([]byte, queueSize)
	for range queueMessages {
		if _, err := q.js.PublishAsync(stream+".x", content); err != nil {
			b.Fatal(err)
		}
	}
	select {
	case <-q.js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		b.Fatal("the messages of the round were not stored within a minute")
	}
}

func (q *queueBench) count(b *testing.B, stream string) uint64 {
	b.Helper()
	info, err := q.streams[stream].Info(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return info.State.Msgs
}

// ours is the time from the first message stored to the last one at the other end.
func (q *queueBench) ours(b *testing.B) time.Duration {
	b.Helper()
	want := q.count(b, "OUT") + queueMessages
	began := time.Now()
	q.fill(b, "IN")
	eventually(b, 3*time.Minute, func() string {
		if have := q.count(b, "OUT"); have < want {
			return fmt.Sprintf("%d messages are not there yet", want-have)
		}
		return ""
	})
	return time.Since(began)
}

// plain does the same with a loop.
func (q *queueBench) plain(b *testing.B) time.Duration {
	b.Helper()
	consumer, err := q.streams["PLAININ"].CreateOrUpdateConsumer(b.Context(), jetstream.ConsumerConfig{
		Durable: "bench", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: queueWindow,
	})
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	messages, err := consumer.Messages(jetstream.PullMaxMessages(queueWindow))
	if err != nil {
		b.Fatal(err)
	}
	var left atomic.Int64
	left.Store(queueMessages)
	var workers sync.WaitGroup
	for range queueWindow {
		workers.Go(func() {
			for {
				m, err := messages.Next()
				if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
					return
				}
				if err == nil {
					err = q.carry(b.Context(), m)
				}
				if err != nil {
					b.Error(err)
					messages.Stop()
					return
				}
				if left.Add(-1) == 0 {
					messages.Stop()
				}
			}
		})
	}
	q.fill(b, "PLAININ")
	workers.Wait()
	return time.Since(began)
}

func (q *queueBench) carry(ctx context.Context, m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	out := &nats.Msg{Subject: "PLAINOUT.x", Data: m.Data(), Header: nats.Header{
		jetstream.MsgIDHeader: []string{fmt.Sprintf("%d:%d", meta.Sequence.Stream, meta.Timestamp.UnixNano())},
	}}
	if _, err := q.js.PublishMsg(ctx, out); err != nil {
		return err
	}
	return m.DoubleAck(ctx)
}
