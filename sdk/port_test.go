package sdk

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

func TestSendsKeepToMaxInFlightAndAnswerEachCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sending gauge
		sink := &fakeSink{send: func(_ context.Context, m *Message) error {
			sending.enter()
			time.Sleep(time.Second)
			sending.leave()
			switch m.ID {
			case "1":
				return Permanent(errTest)
			case "2":
				return Disconnected(errTest)
			case "3":
				panic("oh no")
			}
			return nil
		}}
		r := newSide(t, sink.adapter(), 3, "out")
		r.lease(time.Hour)
		for call := range uint64(10) {
			r.send(call)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		kinds := map[uint64]string{}
		for _, s := range all(r, (*adapterpb.FromAdapter).GetSent) {
			kinds[s.GetCall()] = "ok"
			if s.GetError() != nil {
				kinds[s.GetCall()] = s.GetError().GetKind().String()
			}
		}
		if len(kinds) != 10 || sending.most != 3 {
			t.Errorf("%d answers with at most %d at once, want 10 and 3", len(kinds), sending.most)
		}
		// A panic leaves open whether the message has arrived.
		if kinds[0] != "ok" || kinds[1] != "PERMANENT" || kinds[2] != "DISCONNECTED" || kinds[3] != "RETRYABLE" {
			t.Errorf("answers %v", kinds)
		}
		r.end()
	})
}

func TestProbeOfASinkThatCannotTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSide(t, (&fakeSink{}).adapter(), 1, "out")
		r.lease(time.Hour)
		r.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Probe{Probe: &adapterpb.Probe{Call: 5, Port: "out",
			Message: &adapterpb.Message{Id: "x", Parts: []*adapterpb.Part{{}}}}}})
		synctest.Wait()
		got := all(r, (*adapterpb.FromAdapter).GetProbed)
		if len(got) != 1 || got[0].GetArrival() != adapterpb.Arrival_ARRIVAL_UNKNOWN || got[0].GetError() != nil {
			t.Errorf("answers %v, want unknown", got)
		}
		r.end()
	})
}

type fakeProber struct{ fakeSink }

func (*fakeProber) Probe(context.Context, *Message) (Arrival, error) { return Absent, nil }

func TestUndeclaredProberIsRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := func(context.Context, struct{}, Env) (Sink, error) { return &fakeProber{}, nil }
		r := newSide(t, Adapter{Send: Sends(open)}, 1, "out")
		if n := len(all(r, (*adapterpb.FromAdapter).GetReady)[0].GetRejected()); n != 1 {
			t.Errorf("%d rejected, want 1", n)
		}
		r.end()
		r = newSide(t, Adapter{Send: Sends(open, Probes())}, 1, "out", "out")
		if n := len(all(r, (*adapterpb.FromAdapter).GetReady)[0].GetRejected()); n != 1 {
			t.Errorf("%d rejected, want the second of the same name", n)
		}
		r.end()
	})
}
