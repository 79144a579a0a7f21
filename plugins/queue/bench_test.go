package main

import (
	"bytes"
	"context"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/demo/natsd"
	"github.com/fairlead-io/fairlead/sdk"
)

func BenchmarkSend(b *testing.B) {
	for name, size := range map[string]int{"1KiB": 1 << 10, "8MiB": 8 << 20} {
		b.Run(name, func(b *testing.B) {
			br := newBroker(b, natsd.Config{MaxPayload: 9 << 20})
			br.stream(b, jetstream.StreamConfig{MaxBytes: 64 << 20})
			s := newSink(b, br.s.URL(), nil)
			content := string(bytes.Repeat([]byte{'x'}, size))
			b.SetBytes(int64(size))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := s.Send(b.Context(), message(newID(b), content)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func BenchmarkReceiveAndAcknowledge(b *testing.B) {
	br := newBroker(b, natsd.Config{})
	br.stream(b, jetstream.StreamConfig{})
	for range b.N {
		br.put(b, "orders.a", "x")
	}
	s, err := openSource(b.Context(), decode[receiveProperties](b, map[string]any{
		"broker": br.s.URL(), "stream": "ORDERS", "consumer": "fairlead",
	}), quiet)
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	ctx, cancel := context.WithCancel(b.Context())
	settled := make(chan error, b.N)
	endCh := make(chan error, 1)
	go func() {
		endCh <- s.Run(ctx, func(ctx context.Context, d sdk.Delivery) (sdk.Verdict, error) {
			err := d.Settle(ctx, sdk.Delivered)
			settled <- err
			return sdk.Delivered, err
		})
	}()
	for range b.N {
		if err := <-settled; err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	cancel()
	if err := <-endCh; err != nil {
		b.Error(err)
	}
	if err := s.Close(); err != nil {
		b.Error(err)
	}
}

// figureWindow is how many messages both sides of BenchmarkConsumePublish work on at
// once. Messages have 1 KiB, storage is files, synced as the broker does by default; each
// message is acknowledged when its copy is confirmed, and that is confirmed too. The
// sides differ in what they buffer beyond the window (plain: 256 more, adapter: 128),
// in connections (one, two) and in headers (the adapter's copies have the context).
const figureWindow = 256

// BenchmarkConsumePublish moves messages from one stream to another, in plain Go with
// the broker's own client, and through this adapter's source and sink without a runtime
// between them.
func BenchmarkConsumePublish(b *testing.B) {
	for _, way := range []struct {
		name string
		move func(b *testing.B, br *broker, done func())
	}{{"plain", movePlainly}, {"adapter", moveByAdapter}} {
		b.Run(way.name, func(b *testing.B) {
			br := newBroker(b, natsd.Config{})
			br.stream(b, jetstream.StreamConfig{Storage: jetstream.FileStorage})
			br.stream(b, jetstream.StreamConfig{Name: "COPY", Subjects: []string{"copy"}, Storage: jetstream.FileStorage})
			br.fill(b, b.N, 1<<10)
			doneCh := make(chan struct{})
			var left atomic.Int64
			left.Store(int64(b.N))
			b.SetBytes(1 << 10)
			b.ResetTimer()
			go way.move(b, br, func() {
				if left.Add(-1) == 0 {
					close(doneCh)
				}
			})
			<-doneCh
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// fill puts n messages of this size into stream ORDERS.
func (b *broker) fill(t testing.TB, n, size int) {
	t.Helper()
	data := bytes.Repeat([]byte{'x'}, size)
	for range n {
		if _, err := b.js.PublishAsync("orders.in", data); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-b.js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		t.Fatal("the stream was not filled in a minute")
	}
}

// movePlainly is what somebody would write who needs just this.
func movePlainly(b *testing.B, br *broker, done func()) {
	nc, err := nats.Connect(br.s.URL())
	if err != nil {
		b.Error(err)
		return
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		b.Error(err)
		return
	}
	c, err := js.CreateConsumer(b.Context(), "ORDERS", jetstream.ConsumerConfig{Durable: "plain", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		b.Error(err)
		return
	}
	slots := make(chan struct{}, figureWindow)
	in, err := c.Consume(func(m jetstream.Msg) {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			out := &nats.Msg{Subject: "copy", Data: m.Data(), Header: nats.Header{jetstream.MsgIDHeader: {newID(b)}}}
			if _, err := js.PublishMsg(b.Context(), out); err != nil {
				b.Error(err)
			}
			if err := m.DoubleAck(b.Context()); err != nil {
				b.Error(err)
			}
			done()
		}()
	}, jetstream.PullMaxMessages(figureWindow))
	if err != nil {
		b.Error(err)
		return
	}
	b.Cleanup(func() { in.Stop(); <-in.Closed() })
}

// moveByAdapter plays the SDK between source and sink.
func moveByAdapter(b *testing.B, br *broker, done func()) {
	src, err := openSource(b.Context(), decode[receiveProperties](b, map[string]any{
		"broker": br.s.URL(), "stream": "ORDERS", "consumer": "adapter",
	}), sdk.Env{Endpoint: "bench", Log: quiet.Log, MaxInFlight: figureWindow})
	if err != nil {
		b.Error(err)
		return
	}
	dst := newSink(b, br.s.URL(), map[string]any{"stream": "COPY", "subject": "copy"})
	ctx, cancel := context.WithCancel(b.Context())
	endCh := make(chan error, 1)
	b.Cleanup(func() {
		cancel()
		if err := <-endCh; err != nil && ctx.Err() == nil {
			b.Error(err)
		}
		if err := src.Close(); err != nil {
			b.Error(err)
		}
	})
	slots := make(chan struct{}, figureWindow)
	endCh <- src.Run(ctx, func(ctx context.Context, d sdk.Delivery) (sdk.Verdict, error) {
		slots <- struct{}{}
		defer func() { <-slots }()
		if err := copyTo(ctx, dst, d, newID(b)); err != nil {
			b.Error(err)
			return 0, err
		}
		if err := d.Settle(ctx, sdk.Delivered); err != nil {
			b.Error(err)
			return 0, err
		}
		done()
		return sdk.Delivered, nil
	})
}

func copyTo(ctx context.Context, dst sdk.Sink, d sdk.Delivery, id string) error {
	content, err := d.Open(ctx)
	if err != nil {
		return err
	}
	m := &sdk.Message{ID: id, Context: d.Item.Context}
	for part, err := range content.Parts {
		if err != nil {
			return err
		}
		data, err := io.ReadAll(part.Reader)
		if err != nil {
			return err
		}
		m.Parts = append(m.Parts, sdk.InlinePart(part.Name, part.ContentType, data))
	}
	if err := content.Close(); err != nil {
		return err
	}
	return dst.Send(ctx, m)
}
