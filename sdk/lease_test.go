package sdk

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
	"github.com/fairlead-io/fairlead/sdk/wire"
)

func (r *runtimeSide) wantExit(want ...int) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.exits, want) {
		r.t.Errorf("exits %v, want %v", r.exits, want)
	}
}

func TestNothingIsListedBeforeTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSide(t, listing("a").adapter(), 1, "in")
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := r.lastKeys(); got != "none" {
			t.Errorf("listed %q without a lease", got)
		}
		r.lease(time.Second)
		if got := r.lastKeys(); got != "a" {
			t.Errorf("listed %q under the lease, want a", got)
		}
		r.end()
	})
}

func TestLeaseHoldsAsLongAsItIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSide(t, listing().adapter(), 1, "in")
		for range 20 {
			r.lease(2 * time.Second)
			time.Sleep(1900 * time.Millisecond)
		}
		synctest.Wait()
		r.wantExit()
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		r.wantExit(wire.ExitLeaseEnded)
		if err := <-r.ended; err == nil {
			t.Error("the session ended without an error although the lease was lost")
		}
	})
}

func TestLeaseCanBeShortened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSide(t, listing().adapter(), 1, "in")
		r.lease(time.Hour)
		r.lease(time.Second)
		time.Sleep(time.Second)
		synctest.Wait()
		r.wantExit(wire.ExitLeaseEnded)
		<-r.ended
	})
}

// While a machine is suspended Go's timers stand still, and the lease does not.
func TestLeaseEndsDuringSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		sink := &fakeSink{send: func(context.Context, *Message) error { sent++; return nil }}
		r := newSide(t, sink.adapter(), 1, "out")
		r.lease(time.Minute)
		r.mu.Lock()
		r.ahead = 5 * time.Minute
		r.mu.Unlock()
		// No timer has fired yet: the check before the effect must do it.
		r.send(1)
		if sent != 0 {
			t.Error("a message was sent after the lease had ended in a suspend")
		}
		r.wantExit(wire.ExitLeaseEnded)
		<-r.ended
	})
}

func TestRenewalAfterTheEndRevivesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSide(t, listing().adapter(), 1, "in")
		r.lease(time.Minute)
		r.mu.Lock()
		r.ahead = 5 * time.Minute
		r.mu.Unlock()
		r.lease(time.Minute)
		r.wantExit(wire.ExitLeaseEnded)
		<-r.ended
	})
}

func TestMethodsUnderWayAreCancelledWhenTheLeaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause error
		sink := &fakeSink{send: func(ctx context.Context, _ *Message) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return ctx.Err()
		}}
		r := newSide(t, sink.adapter(), 1, "out")
		r.lease(time.Second)
		r.send(1)
		time.Sleep(time.Second)
		<-r.ended
		if !errors.Is(cause, errNoLease) {
			t.Errorf("the sender's context ended because of %v, want %v", cause, errNoLease)
		}
		for _, s := range all(r, (*adapterpb.FromAdapter).GetSent) {
			if s.GetError().GetKind() != adapterpb.Error_RETRYABLE {
				t.Errorf("an interrupted send was reported as %v: it may have arrived", s.GetError())
			}
		}
	})
}

// The runtime may be slow to read. Its lease must be heard all the same.
func TestLeaseIsHeardWhileTheStreamIsBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{send: func(context.Context, *Message) error { return nil }}
		r := newSide(t, sink.adapter(), 4, "out")
		r.lease(2 * time.Second)
		hold := make(chan struct{})
		r.mu.Lock()
		r.holdCh = hold
		r.mu.Unlock()
		for call := range uint64(outboxSize + 50) {
			r.send(call)
		}
		for range 5 {
			time.Sleep(time.Second)
			r.lease(2 * time.Second)
			r.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Ping{Ping: &adapterpb.Ping{Number: 7}}})
		}
		synctest.Wait()
		r.wantExit()
		close(hold)
		synctest.Wait()
		if pongs := all(r, (*adapterpb.FromAdapter).GetPong); len(pongs) != 1 {
			t.Errorf("%d pongs after a blockade, want the newest only", len(pongs))
		}
		if sent := all(r, (*adapterpb.FromAdapter).GetSent); len(sent) != outboxSize+50 {
			t.Errorf("%d answers, want %d", len(sent), outboxSize+50)
		}
		r.end()
	})
}
