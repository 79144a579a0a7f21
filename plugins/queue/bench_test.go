package main

import (
	"bytes"
	"context"
	"testing"

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
