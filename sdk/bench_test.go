package sdk

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

const (
	benchWindow = 256
	benchSize   = 1 << 10
)

// benchStream is a stream without a wire: what the SDK itself costs.
type benchStream struct {
	ctx  context.Context
	toCh chan *adapterpb.ToAdapter
	got  func(*adapterpb.FromAdapter)
}

func (s *benchStream) Context() context.Context            { return s.ctx }
func (s *benchStream) Send(m *adapterpb.FromAdapter) error { s.got(m); return nil }

func (s *benchStream) Recv() (*adapterpb.ToAdapter, error) {
	m, ok := <-s.toCh
	if !ok {
		return nil, io.EOF
	}
	return m, nil
}

// startBench starts a session with one endpoint and a lease, and returns its stream.
func startBench(b *testing.B, a Adapter, e *adapterpb.Endpoint, got func(*adapterpb.FromAdapter)) *benchStream {
	b.Helper()
	readyCh := make(chan struct{})
	st := &benchStream{ctx: b.Context(), toCh: make(chan *adapterpb.ToAdapter, benchWindow), got: func(m *adapterpb.FromAdapter) {
		if m.GetReady() != nil {
			close(readyCh)
		}
		got(m)
	}}
	a.Name, a.Version, a.Summary = "bench", "1.0.0", "A benchmark."
	s := newSession(b.Context(), a, st.Send, hooks{now: bootclock.Now, exit: func(int) {}, log: slog.New(slog.DiscardHandler)})
	endedCh := make(chan struct{})
	go func() { defer close(endedCh); _ = s.serve(st) }()
	b.Cleanup(func() { close(st.toCh); <-endedCh })
	e.Properties = []byte("{}")
	st.toCh <- &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Configure{Configure: &adapterpb.Configure{Endpoints: []*adapterpb.Endpoint{e}}}}
	<-readyCh
	st.toCh <- &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Lease{Lease: &adapterpb.Lease{DeadlineNs: int64(bootclock.Now().Add(time.Hour))}}}
	return st
}

// BenchmarkOffer is the way of a pushed item of 1 KiB: deliver, the offer with its
// content or a take, the verdict, Settled.
func BenchmarkOffer(b *testing.B) {
	for _, way := range []struct {
		name   string
		inline int64
	}{{"with content", 64 << 10}, {"taken", 0}} {
		b.Run(way.name, func(b *testing.B) {
			var st *benchStream
			var left atomic.Int64
			left.Store(int64(b.N))
			doneCh := make(chan struct{})
			settle := func(key string) {
				st.toCh <- &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Settle{Settle: &adapterpb.Settle{
					Location: "in", Key: key, Verdict: adapterpb.Verdict_VERDICT_DELIVERED}}}
			}
			b.ReportAllocs()
			st = startBench(b, delivering(b.N).adapter(), &adapterpb.Endpoint{
				Name: "in", Receive: true, MaxInFlight: benchWindow, OfferInlineMax: way.inline,
			}, func(m *adapterpb.FromAdapter) {
				switch k := m.GetKind().(type) {
				case *adapterpb.FromAdapter_Offer:
					if k.Offer.GetContent() != nil {
						settle(k.Offer.GetItem().GetKey())
						return
					}
					st.toCh <- &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Take{Take: &adapterpb.Take{
						Location: "in", Key: k.Offer.GetItem().GetKey(), InlineMax: 256 << 10, MaxBytes: 1 << 20}}}
				case *adapterpb.FromAdapter_Content:
					settle(k.Content.GetKey())
				case *adapterpb.FromAdapter_Settled:
					if left.Add(-1) == 0 {
						close(doneCh)
					}
				}
			})
			<-doneCh
		})
	}
}

// delivering delivers n items, as many at once as it may.
func delivering(n int) *fakePushed {
	data := bytes.Repeat([]byte{'x'}, benchSize)
	return &fakePushed{run: func(ctx context.Context, deliver Deliver) error {
		slots := make(chan struct{}, benchWindow)
		for i := range n {
			slots <- struct{}{}
			go func() {
				defer func() { <-slots }()
				_, _ = deliver(context.WithoutCancel(ctx), Delivery{
					Item: Item{Key: fmt.Sprintf("ORDERS:%d:1234567890123456789", i), Size: benchSize, Context: map[string]string{
						"queue.message_id": "x", "queue.destination": "orders.in"}},
					Open: func(context.Context) (*Content, error) {
						return Body(io.NopCloser(bytes.NewReader(data))), nil
					},
					Settle: func(context.Context, Verdict) error { return nil },
				})
			}()
		}
		<-ctx.Done()
		return ctx.Err()
	}}
}

// BenchmarkPort is the way of a message of 1 KiB to a sink.
func BenchmarkPort(b *testing.B) {
	f := &fakeSink{send: func(_ context.Context, m *Message) error {
		r, err := m.Body().Open()
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(io.Discard, r)
		return err
	}}
	slots := make(chan struct{}, benchWindow)
	st := startBench(b, f.adapter(), &adapterpb.Endpoint{Name: "out", MaxInFlight: benchWindow}, func(m *adapterpb.FromAdapter) {
		if m.GetSent() != nil {
			<-slots
		}
	})
	m := &adapterpb.Message{Id: "x", Context: map[string]string{"queue.destination": "orders.in"}, Parts: []*adapterpb.Part{{
		Size: benchSize, Content: &adapterpb.Part_Inline{Inline: bytes.Repeat([]byte{'x'}, benchSize)}}}}
	b.ReportAllocs()
	call := uint64(0)
	for b.Loop() {
		slots <- struct{}{}
		call++
		st.toCh <- &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Send{Send: &adapterpb.Send{Call: call, Port: "out", Message: m}}}
	}
	for range benchWindow { // until the last is answered
		slots <- struct{}{}
	}
}
