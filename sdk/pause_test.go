package sdk

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// counted has f's listings counted.
func counted(f *fake) *atomic.Int64 {
	var polls atomic.Int64
	list := f.list
	f.list = func(ctx context.Context) ([]Item, error) { polls.Add(1); return list(ctx) }
	return &polls
}

func TestPausedSourceIsListedOnlyWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := listing("a")
		polls := counted(f)
		r := newLocation(t, f.adapter(), &adapterpb.Endpoint{PollEveryMs: 10_000, Paused: true})
		r.lease(24 * time.Hour)
		time.Sleep(time.Hour)
		if n := polls.Load(); n != 0 {
			t.Errorf("%d polls of a location that started paused, want none", n)
		}
		r.poll()
		if n := polls.Load(); n != 1 || r.lastKeys() != "a" {
			t.Errorf("%d polls, listed %q; want one on demand, with a", n, r.lastKeys())
		}
		r.take("a")
		r.settle("a")
		if n := len(all(r, (*adapterpb.FromAdapter).GetContent)); n != 1 || r.settledText() != "a" {
			t.Errorf("%d contents, settled %q: what is known goes on during a pause", n, r.settledText())
		}
		r.pause(false)
		if n := polls.Load(); n != 2 {
			t.Errorf("%d polls after the pause, want one more at once", n)
		}
		time.Sleep(25 * time.Second)
		r.pause(true)
		r.pause(true)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := polls.Load(); n != 4 {
			t.Errorf("%d polls, want 4: two at their interval, none in the second pause", n)
		}
		got := r.states()
		if !strings.HasPrefix(got, "STOPPED ") || !strings.HasSuffix(got, "POLLING IDLE STOPPED") || strings.Count(got, "STOPPED") != 2 {
			t.Errorf("states %s, want stopped in the two pauses and the others between them", got)
		}
		r.end()
	})
}

func TestPauseEndsTheTriesAfterAnErrorAndTellsOfThoseOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := listing()
		f.list = func(context.Context) ([]Item, error) { return nil, errTest }
		polls := counted(f)
		r := newLocation(t, f.adapter(), &adapterpb.Endpoint{PollEveryMs: 10_000})
		r.lease(24 * time.Hour)
		r.pause(true)
		time.Sleep(time.Hour)
		synctest.Wait()
		states := all(r, (*adapterpb.FromAdapter).GetEndpointState)
		if last := states[len(states)-1]; last.GetState() != adapterpb.EndpointState_STOPPED || last.GetError() != nil {
			t.Errorf("last state %v, want stopped without an error", last)
		}
		r.poll()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := polls.Load(); n != 2 {
			t.Errorf("%d polls, want 2: at the start and on demand", n)
		}
		states = all(r, (*adapterpb.FromAdapter).GetEndpointState)
		if last := states[len(states)-1]; last.GetState() != adapterpb.EndpointState_STOPPED || last.GetError().GetText() != errTest.Error() {
			t.Errorf("last state %v, want stopped with the error of the listing on demand", last)
		}
		r.end()
	})
}

func TestWhatIsListedOnDemandInAPauseIsLookedAtUntilItIsStable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var items shared[[]Item]
		f := listing()
		f.list = func(context.Context) ([]Item, error) { return items.get(), nil }
		polls := counted(f)
		r := newLocation(t, f.adapter(), &adapterpb.Endpoint{PollEveryMs: 10_000})
		r.lease(24 * time.Hour)
		items.set([]Item{{Key: "own", StableFor: 3 * time.Second}})
		time.Sleep(11 * time.Second) // it has listed own, and would look again
		r.pause(true)
		time.Sleep(time.Hour)
		if n := polls.Load(); n != 2 {
			t.Errorf("%d polls, want 2: no look again by itself during the pause", n)
		}
		items.set([]Item{{Key: "asked", StableFor: 3 * time.Second}})
		r.poll()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := polls.Load(); n != 4 || r.lastKeys() != "asked" {
			t.Errorf("%d polls, listed %q; want two for what was asked for, and it listed", n, r.lastKeys())
		}
		r.end()
	})
}

func TestSourceWithoutAnIntervalIsListedAtTheStartAndWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := listing("a")
		polls := counted(f)
		r := newLocation(t, f.adapter(), &adapterpb.Endpoint{})
		r.lease(24 * time.Hour)
		time.Sleep(time.Hour)
		if n := polls.Load(); n != 1 {
			t.Errorf("%d polls, want one at the start", n)
		}
		r.poll()
		if n := polls.Load(); n != 2 {
			t.Errorf("%d polls, want one more on demand", n)
		}
		r.end()
	})
}

// A batcher whose session was lost has to list again before it can settle.
func TestSettleThatNeedsAListingGetsItDuringAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := listing("a")
		var lost shared[int] // listings to fail
		list := f.list
		f.list = func(ctx context.Context) ([]Item, error) {
			if n := lost.get(); n > 0 {
				lost.set(n - 1)
				return nil, errTest
			}
			return list(ctx)
		}
		b := &batcherOf{fake: f, flush: []error{errTest}}
		r := newLocation(t, b.adapter(), &adapterpb.Endpoint{PollEveryMs: 10_000, MaxInFlight: 1})
		r.lease(24 * time.Hour)
		r.pause(true)
		lost.set(2)
		r.settle("a")
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.settledText(); got != "a" {
			t.Errorf("settled %q, want a after the listing has succeeded", got)
		}
		r.end()
	})
}

// batcherOf is a Batcher whose flushes have these errors, and then none.
type batcherOf struct {
	*fake
	flush []error
}

func (b *batcherOf) Flush(context.Context) error {
	if len(b.flush) == 0 {
		return nil
	}
	err := b.flush[0]
	b.flush = b.flush[1:]
	return err
}

func (b *batcherOf) adapter() Adapter {
	return Adapter{Receive: Polled(func(context.Context, struct{}, Env) (PolledSource, error) { return b, nil })}
}

// endless delivers these keys at each run, and counts runs.
func endless(runs *atomic.Int64, outcomes chan<- delivered, keys ...string) *fakePushed {
	f := pushing(outcomes, keys...)
	run := f.run
	f.run = func(ctx context.Context, deliver Deliver) error {
		if runs.Add(1) > 1 {
			<-ctx.Done()
			return ctx.Err()
		}
		return run(ctx, deliver)
	}
	return f
}

func TestPauseEndsReceivingAndLeavesWhatIsUnderWayAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outcomes := make(chan delivered, 10)
		var runs atomic.Int64
		r := newLocation(t, endless(&runs, outcomes, "taken", "offered", "queued").adapter(), &adapterpb.Endpoint{MaxInFlight: 2})
		r.lease(time.Hour)
		offers := strings.Fields(r.offered())
		taken := offers[0]
		r.take(taken)
		r.pause(true)
		for range 2 {
			if got := <-outcomes; got.key == taken || !IsDisconnected(got.err) {
				t.Errorf("outcome %+v, want what was not taken to be withdrawn", got)
			}
		}
		time.Sleep(10 * time.Minute)
		if n := runs.Load(); n != 1 {
			t.Errorf("%d runs during the pause, want the first only", n)
		}
		r.pause(false)
		if n := runs.Load(); n != 2 {
			t.Errorf("%d runs after the pause, want 2 although a delivery of the first goes on", n)
		}
		r.settle(taken)
		if got := <-outcomes; got.key != taken || got.verdict != Delivered || got.err != nil {
			t.Errorf("outcome %+v, want %s delivered", got, taken)
		}
		if got := r.states(); got != "STOPPED IDLE" {
			t.Errorf("states %s", got)
		}
		r.end()
	})
}

func TestPausedReceivingBeginsWhenThePauseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		r := newLocation(t, endless(&runs, nil).adapter(), &adapterpb.Endpoint{Paused: true})
		r.lease(time.Hour)
		time.Sleep(time.Minute)
		if n := runs.Load(); n != 0 || r.states() != "STOPPED" {
			t.Errorf("%d runs, states %s; want none, stopped", n, r.states())
		}
		r.pause(false)
		if n := runs.Load(); n != 1 {
			t.Errorf("%d runs after the pause, want 1", n)
		}
		r.drain()
		if n := len(all(r, (*adapterpb.FromAdapter).GetDrained)); n != 1 {
			t.Errorf("%d Drained, want 1", n)
		}
		r.end()
	})
}
