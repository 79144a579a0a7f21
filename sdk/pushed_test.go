package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// fakePushed is a pushed source whose Run is a function.
type fakePushed struct {
	run func(ctx context.Context, deliver Deliver) error
}

func (f *fakePushed) Run(ctx context.Context, deliver Deliver) error { return f.run(ctx, deliver) }
func (f *fakePushed) Close() error                                   { return nil }

func (f *fakePushed) adapter() Adapter {
	return Adapter{Receive: Pushed(func(context.Context, struct{}, Env) (PushedSource, error) { return f, nil })}
}

// delivered is the outcome of a delivery.
type delivered struct {
	key     string
	verdict Verdict
	err     error
}

func deliveryOf(key string) Delivery {
	return Delivery{
		Item: Item{Key: key},
		Open: func(context.Context) (*Content, error) {
			return Body(io.NopCloser(strings.NewReader("content"))), nil
		},
		Settle: func(context.Context, Verdict) error { return nil },
	}
}

// pushing delivers these keys, each from a goroutine, and then waits for the end.
func pushing(outcomes chan<- delivered, keys ...string) *fakePushed {
	return &fakePushed{run: func(ctx context.Context, deliver Deliver) error {
		for _, key := range keys {
			go func() {
				v, err := deliver(context.WithoutCancel(ctx), deliveryOf(key))
				outcomes <- delivered{key, v, err}
			}()
		}
		<-ctx.Done()
		return ctx.Err()
	}}
}

func TestDeliveriesKeepToMaxInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outcomes := make(chan delivered, 10)
		r := newSide(t, pushing(outcomes, "a", "b", "c").adapter(), 2, "in")
		r.lease(time.Hour)
		offers := func() []*adapterpb.Offer { return all(r, (*adapterpb.FromAdapter).GetOffer) }
		if n := len(offers()); n != 2 {
			t.Fatalf("%d offers, want max_in_flight, 2", n)
		}
		first := offers()[0].GetItem().GetKey()
		r.take(first)
		r.settle(first)
		if got := <-outcomes; got.key != first || got.verdict != Delivered || got.err != nil {
			t.Errorf("outcome %+v, want %s delivered", got, first)
		}
		synctest.Wait()
		if n := len(offers()); n != 3 || r.settledText() != first {
			t.Errorf("%d offers, settled %q; want 3 and %s", n, r.settledText(), first)
		}
		r.end()
		for range 2 {
			if got := <-outcomes; got.err == nil {
				t.Errorf("outcome %+v at the session's end, want an error", got)
			}
		}
	})
}

func TestDrainWithdrawsWhatWasNotTakenAndFinishesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outcomes := make(chan delivered, 10)
		r := newSide(t, pushing(outcomes, "taken", "offered").adapter(), 2, "in")
		r.lease(time.Hour)
		r.take("taken")
		r.drain()
		if got := <-outcomes; got.key != "offered" || !IsDisconnected(got.err) {
			t.Errorf("outcome %+v, want the offered item to be withdrawn", got)
		}
		r.take("offered")
		if got := r.readFailures(); got != "offered=DISCONNECTED" {
			t.Errorf("take of the withdrawn item: %q", got)
		}
		if n := len(all(r, (*adapterpb.FromAdapter).GetDrained)); n != 1 {
			t.Errorf("%d Drained, want 1: the taken item waits for the runtime, not for us", n)
		}
		r.settle("taken")
		if got := <-outcomes; got.verdict != Delivered || got.err != nil {
			t.Errorf("outcome %+v of the taken item, want delivered", got)
		}
		r.end()
	})
}

func TestReceivingIsResumedWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs []time.Time
		f := &fakePushed{run: func(ctx context.Context, deliver Deliver) error {
			runs = append(runs, time.Now())
			switch len(runs) {
			case 1:
				panic("oh no")
			case 2:
				return nil
			case 3:
				return Disconnected(errTest)
			}
			<-ctx.Done()
			return ctx.Err()
		}}
		r := newSide(t, f.adapter(), 1, "in")
		r.lease(time.Hour)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.states(); got != "BACKING_OFF BACKING_OFF BACKING_OFF IDLE" {
			t.Errorf("states %s", got)
		}
		r.end()
		if len(runs) != 4 || runs[3].Sub(runs[2]) <= time.Second {
			t.Errorf("runs at %v", runs)
		}
	})
}

func TestDeliveryErrorsReachTheAdapter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outcomes := make(chan delivered, 10)
		lost, lose := context.WithCancelCause(t.Context())
		f := &fakePushed{run: func(ctx context.Context, deliver Deliver) error {
			for i, d := range []Delivery{{}, deliveryOf("lost"), deliveryOf("lost"), deliveryOf("unsettled")} {
				if d.Item.Key == "unsettled" {
					d.Settle = func(context.Context, Verdict) error { return errTest }
				}
				go func() {
					v, err := deliver(lost, d)
					outcomes <- delivered{fmt.Sprint(i), v, err}
				}()
				time.Sleep(time.Millisecond) // one after the other
			}
			<-ctx.Done()
			return ctx.Err()
		}}
		r := newSide(t, f.adapter(), 4, "in")
		r.lease(time.Hour)
		if got := <-outcomes; got.key != "0" || !IsPermanent(got.err) {
			t.Errorf("delivery without anything: %+v", got)
		}
		if got := <-outcomes; got.key != "2" || got.err == nil {
			t.Errorf("second delivery of a key: %+v, want an error", got)
		}
		time.Sleep(time.Second)
		r.settle("unsettled")
		if got := <-outcomes; got.key != "3" || !errors.Is(got.err, errTest) || r.settledText() != "unsettled=RETRYABLE" {
			t.Errorf("settle that fails: %+v, settled %q", got, r.settledText())
		}
		lose(errTest)
		if got := <-outcomes; got.key != "1" || !errors.Is(got.err, errTest) {
			t.Errorf("delivery whose connection was lost: %+v", got)
		}
		synctest.Wait()
		r.settle("lost")
		if got := r.settledText(); got != "unsettled=RETRYABLE lost=DISCONNECTED" {
			t.Errorf("settled %q, want the lost item to be refused so that its fate is kept", got)
		}
		r.end()
	})
}
