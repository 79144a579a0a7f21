package exchange

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// benchWorld answers everything at once, so that what is measured is the exchange.
type benchWorld struct {
	e       *Exchange
	content []byte
	settled sync.WaitGroup
	entries atomic.Int64
}

func (w *benchWorld) propose(context.Context, *pb.Command) error {
	w.entries.Add(1)
	return nil
}

func (w *benchWorld) Deliver(context.Context, Tenure, string, *Message) error { return nil }

func (w *benchWorld) Probe(context.Context, Tenure, string, *Message) (adapterpb.Arrival, error) {
	return adapterpb.Arrival_ARRIVAL_ABSENT, nil
}

func (w *benchWorld) Done() <-chan struct{} { return nil }

func (w *benchWorld) Send(_ context.Context, m *adapterpb.ToAdapter) error {
	if s := m.GetSettle(); s != nil {
		w.e.Handle(w, &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Settled{Settled: &adapterpb.Settled{Location: "in", Key: s.GetKey()}}})
		w.settled.Done()
	}
	return nil
}

// BenchmarkMessages is one message of 1 KiB after the other through the whole
// exchange, 256 at once, with a ledger, a source and a destination that cost nothing.
func BenchmarkMessages(b *testing.B) {
	for _, atLeastOnce := range []bool{false, true} {
		b.Run(fmt.Sprintf("at-least-once=%v", atLeastOnce), func(b *testing.B) {
			w := &benchWorld{content: make([]byte, 1024)}
			spool, err := OpenSpool(b.TempDir(), 1<<30)
			if err != nil {
				b.Fatal(err)
			}
			w.e = New(Config{
				Tenure: Tenure{"g", "i", 1}, Locations: []Location{{Name: "in", Ports: []string{"out"}, MaxInFlight: 256, AtLeastOnce: atLeastOnce}},
				Ports: map[string]PortPolicy{"out": {}}, Propose: w.propose, Delivery: w, Spool: spool,
				Fate:  func(string, string) *pb.Fate { return nil },
				NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
				Log:   slog.New(slog.NewTextHandler(io.Discard, nil)),
			})
			defer w.e.Close()
			w.e.Attach(w, []string{"in"})
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				w.settled.Add(1)
				key := fmt.Sprint(n)
				w.e.Handle(w, &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Offer{Offer: &adapterpb.Offer{
					Location: "in", Item: &adapterpb.Item{Key: key, Size: 1024, Context: map[string]string{"queue.message_id": key}},
					Content: &adapterpb.Content{Parts: []*adapterpb.Part{{Size: 1024, Content: &adapterpb.Part_Inline{Inline: w.content}}}},
				}}})
			}
			w.settled.Wait()
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "msgs/s")
			b.ReportMetric(float64(w.entries.Load())/float64(n), "entries/msg")
		})
	}
}

// BenchmarkPollThatFindsNothingNew is one listing of 100,000 items that the source
// keeps and that were all delivered. Nothing may be written to the ledger.
func BenchmarkPollThatFindsNothingNew(b *testing.B) {
	const items = 100_000
	w := &benchWorld{}
	spool, err := OpenSpool(b.TempDir(), 1<<30)
	if err != nil {
		b.Fatal(err)
	}
	fates := map[string]*pb.Fate{}
	var listing []*adapterpb.FromAdapter
	for i := 0; i < items; {
		chunk := &adapterpb.Listing{Location: "in"}
		for range 500 {
			key := fmt.Sprintf("/out/file-%06d.edi:10240:1795421482221382508", i)
			fates[key] = &pb.Fate{State: pb.Fate_DELIVERED, MessageId: "x", Delivered: []string{"out"}}
			chunk.Items = append(chunk.Items, &adapterpb.Item{Key: key, Size: 10240, Kept: true})
			i++
		}
		chunk.Final = i == items
		listing = append(listing, &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Listing{Listing: chunk}})
	}
	w.e = New(Config{
		Tenure: Tenure{"g", "i", 1}, Locations: []Location{{Name: "in", Ports: []string{"out"}, MaxInFlight: 16}},
		Ports: map[string]PortPolicy{"out": {}}, Fates: map[string]map[string]*pb.Fate{"in": fates}, Propose: w.propose, Delivery: w, Spool: spool,
		Fate: func(string, string) *pb.Fate { return nil }, NewID: uuid.NewString, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	defer w.e.Close()
	w.e.Attach(w, []string{"in"})
	for b.Loop() {
		for _, m := range listing {
			w.e.Handle(w, m)
		}
	}
	if n := w.entries.Load(); n > 0 {
		b.Errorf("%d entries in the ledger", n)
	}
}
