package exchange

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

func TestItemsArriveOnceAndLeaveTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []string
		for i := range 50 {
			names = append(names, fmt.Sprintf("item-%02d", i))
		}
		w := newWorld(t, names...)
		e, s := w.owner(map[string]PortPolicy{"out": retrying(3)})
		defer e.Close()
		s.list()
		calm()
		if got := w.arrivals("out"); len(got) != 50 {
			t.Fatalf("%d arrivals, want 50", len(got))
		}
		if w.left() != 0 {
			t.Errorf("%d items left at the source", w.left())
		}
		if got := w.fate("item-00"); got != pb.Fate_SETTLED {
			t.Errorf("fate %v, want SETTLED", got)
		}
		time.Sleep(settledGrace + 2*housekeeping)
		calm()
		if n := len(w.machine.State().GetLocations()); n != 0 {
			t.Errorf("the ledger still knows %d locations' fates after the grace time", n)
		}
	})
}

// The central test: an owner is cut off before every single step in turn, once or
// twice; whoever comes after finishes the work. Nothing is lost, nothing doubled.
func TestOwnerCutOffAtEveryStep(t *testing.T) {
	ports := map[string]PortPolicy{"a": retrying(3), "b": retrying(3)}
	for first := 1; first <= 14; first++ {
		for _, second := range []int{0, 1, 2, 3, 5, 8} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "one", "three")
				for _, cut := range []int{first, second} {
					w.steps, w.cutAt = 0, cut
					e, s := w.owner(ports)
					s.list()
					synctest.Wait()
					s.end()
					e.Close()
				}
				w.cutAt = 0
				e, s := w.owner(ports)
				defer e.Close()
				s.list()
				synctest.Wait()
				for _, port := range []string{"a", "b"} {
					got := w.arrivals(port)
					if slices.Sort(got); len(got) != 2 || got[0] == got[1] {
						t.Errorf("cut at %d then %d: port %s got %v, want two different messages", first, second, port, got)
					}
				}
				if w.left() != 0 {
					t.Errorf("cut at %d then %d: %d items left", first, second, w.left())
				}
			})
		}
	}
}

func TestWithoutTheProbeACutOffOwnerDoublesMessages(t *testing.T) {
	// The check above is only worth something if it fails without the mechanism.
	doubled := false
	for cut := 1; cut <= 14; cut++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "one")
			w.probe = func(string, *Message) adapterpb.Arrival { return adapterpb.Arrival_ARRIVAL_ABSENT }
			for _, at := range []int{cut, 0} {
				w.steps, w.cutAt = 0, at
				e, s := w.owner(map[string]PortPolicy{"a": retrying(3)})
				s.list()
				synctest.Wait()
				s.end()
				e.Close()
			}
			doubled = doubled || len(w.arrivals("a")) > 1
		})
	}
	if !doubled {
		t.Error("no message was doubled although probing was switched off: the test proves nothing")
	}
}

func TestAmbiguousFailureIsProbedBeforeItIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		lost := false
		w.lose = func(string, *Message) error {
			if lost {
				return nil
			}
			lost = true
			return &AdapterError{adapterpb.Error_RETRYABLE, errBroken.Error()}
		}
		e, s := w.owner(map[string]PortPolicy{"out": retrying(3)})
		defer e.Close()
		s.list()
		time.Sleep(5 * time.Second)
		calm()
		if got := w.arrivals("out"); len(got) != 1 || w.probes != 1 {
			t.Errorf("%d arrivals after %d probes, want 1 and 1", len(got), w.probes)
		}
		if w.fate("one") != pb.Fate_SETTLED {
			t.Errorf("fate %v", w.fate("one"))
		}
	})
}

func TestFailedSendsAreRetriedThenSuspendedAndTheRestGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "bad", "fine")
		w.fail = func(_ string, m *Message) error {
			if strings.HasSuffix(string(m.GetParts()[0].GetInline()), "bad") {
				return &AdapterError{adapterpb.Error_RETRYABLE, "no room on the destination"}
			}
			return nil
		}
		e, s := w.owner(map[string]PortPolicy{"out": retrying(2)})
		defer e.Close()
		s.list()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if w.fate("bad") != pb.Fate_SUSPENDED || !strings.Contains(w.reason("bad"), "no room on the destination") {
			t.Errorf("fate %v because %q", w.fate("bad"), w.reason("bad"))
		}
		if w.sends["out"] != 3+1 {
			t.Errorf("%d sends, want 1 + 2 retries and the fine one's", w.sends["out"])
		}
		if w.left() != 1 {
			t.Error("the suspended item must stay at the source, and the other one go")
		}
		s.list() // it is not taken up again
		synctest.Wait()
		if w.sends["out"] != 4 {
			t.Error("a suspended item was sent again")
		}
	})
}

func TestAnUnreachablePortUsesUpNoRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		down := true
		w.fail = func(string, *Message) error {
			if down {
				return Unreachable("connection refused")
			}
			return nil
		}
		e, s := w.owner(map[string]PortPolicy{"out": {Attempts: 0}})
		defer e.Close()
		s.list()
		time.Sleep(time.Hour)
		w.mu.Lock()
		down = false
		w.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(w.arrivals("out")) != 1 || w.probes != 0 {
			t.Errorf("%d arrivals, %d probes; want 1 and none", len(w.arrivals("out")), w.probes)
		}
	})
}

func TestFanOutRetriesOnlyThePortThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		failures := 0
		w.fail = func(port string, _ *Message) error {
			if port == "b" && failures < 2 {
				failures++
				return &AdapterError{adapterpb.Error_RETRYABLE, "busy"}
			}
			return nil
		}
		e, s := w.owner(map[string]PortPolicy{"a": retrying(3), "b": retrying(3)})
		defer e.Close()
		s.list()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if w.sends["a"] != 1 || w.sends["b"] != 3 {
			t.Errorf("sends: a %d, b %d; want 1 and 3", w.sends["a"], w.sends["b"])
		}
		if w.left() != 0 {
			t.Error("the item is still at the source")
		}
	})
}

func TestInDoubtSuspendsWhereTheAdapterCannotTell(t *testing.T) {
	for _, suspend := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "one")
			w.probe = func(string, *Message) adapterpb.Arrival { return adapterpb.Arrival_ARRIVAL_UNKNOWN }
			policy := retrying(3)
			policy.SuspendInDoubt = suspend
			w.cutAt = 2 // after the intent
			e, s := w.owner(map[string]PortPolicy{"out": policy})
			s.list()
			synctest.Wait()
			s.end()
			e.Close()
			w.cutAt = 0
			marked := false
			w.fail = func(_ string, m *Message) error {
				marked = m.GetRedelivered() && m.GetContext()["fairlead.redelivered"] == "true"
				return nil
			}
			e, s = w.owner(map[string]PortPolicy{"out": policy})
			defer e.Close()
			s.list()
			synctest.Wait()
			if suspended := w.fate("one") == pb.Fate_SUSPENDED; suspended != suspend {
				t.Errorf("in_doubt suspend=%v: fate %v", suspend, w.fate("one"))
			}
			if !suspend && !marked {
				t.Error("sent again without the mark fairlead.redelivered")
			}
		})
	}
}

func TestKeptItemsAreDeliveredOnceAsLongAsTheyAreListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		w.kept = true
		e, s := w.owner(map[string]PortPolicy{"out": retrying(3)})
		for range 5 {
			s.list()
			time.Sleep(time.Minute)
		}
		s.end()
		e.Close()
		e, s = w.owner(map[string]PortPolicy{"out": retrying(3)})
		defer e.Close()
		gone := w.items
		w.items = map[string]string{} // the directory is away for a while
		for range 3 {
			s.list()
			time.Sleep(time.Minute)
		}
		w.items = gone
		s.list()
		synctest.Wait()
		if got := w.arrivals("out"); len(got) != 1 {
			t.Fatalf("a kept item was delivered %d times", len(got))
		}
		w.items = map[string]string{}
		for range 15 {
			s.list()
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		if got := w.fate("one"); got != pb.Fate_UNKNOWN {
			t.Errorf("fate %v of an item that has been gone for long", got)
		}
	})
}

func TestAnItemThatCannotBeReadIsSuspendedAndDoesNotStopTheLocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "malformed", "fine")
		w.readFail = func(key string) *adapterpb.Error {
			if key == "malformed" {
				return &adapterpb.Error{Text: "unexpected end of header"}
			}
			return nil
		}
		e, s := w.owner(map[string]PortPolicy{"out": retrying(3)})
		defer e.Close()
		for range maxReadFailures {
			s.list()
			synctest.Wait()
		}
		if w.fate("malformed") != pb.Fate_SUSPENDED || len(w.arrivals("out")) != 1 {
			t.Errorf("fate %v, %d arrivals", w.fate("malformed"), len(w.arrivals("out")))
		}
	})
}

func TestALateOwnerIsFencedAndStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		old, oldSource := w.owner(map[string]PortPolicy{"out": retrying(3)})
		e, s := w.owner(map[string]PortPolicy{"out": retrying(3)})
		defer e.Close()
		oldSource.list()
		synctest.Wait()
		if old.ctx.Err() == nil {
			t.Error("the old owner's exchange goes on after its commit was refused")
		}
		if len(w.arrivals("out")) != 0 {
			t.Error("the old owner sent something")
		}
		old.Close()
		s.list()
		synctest.Wait()
		if len(w.arrivals("out")) != 1 {
			t.Error("the new owner did not deliver")
		}
	})
}

func TestDrainFinishesWhatIsUnderWayAndDoesNotWaitForRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		w.fail = func(string, *Message) error { return &AdapterError{adapterpb.Error_RETRYABLE, "busy"} }
		policy := PortPolicy{Attempts: 3, Interval: time.Hour, Backoff: 1}
		e, s := w.owner(map[string]PortPolicy{"out": policy})
		s.list()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		e.Drain(ctx)
		if ctx.Err() != nil {
			t.Error("drain waited for a retry that is an hour away")
		}
		e.Close()
		if w.fate("one") != pb.Fate_INTENDED {
			t.Errorf("fate %v, want INTENDED for the next owner", w.fate("one"))
		}
	})
}

func TestCommitsOfManyItemsShareEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []string
		for i := range 400 {
			names = append(names, fmt.Sprintf("item-%03d", i))
		}
		w := newWorld(t, names...)
		w.latency = 5 * time.Millisecond
		e, s := w.owner(map[string]PortPolicy{"out": retrying(3)})
		e.receivers["in"].loc.MaxInFlight = 64
		defer e.Close()
		s.list()
		time.Sleep(10 * time.Second)
		if len(w.arrivals("out")) != 400 {
			t.Fatalf("%d arrivals", len(w.arrivals("out")))
		}
		if w.batches > 300 {
			t.Errorf("%d ledger entries for 1,200 changes", w.batches)
		}
	})
}

func TestAnIntentWhoseAnswerWasLostIsTakenUpUnderItsOwnID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		e, s := w.owner(map[string]PortPolicy{"out": retrying(3)})
		defer e.Close()
		// A proposal of this tenure that nobody waits for any more is committed late.
		err := w.propose(t.Context(), &pb.Command{Kind: &pb.Command_Fates{Fates: &pb.FateBatch{
			Group: "g", Incarnation: "incarnation-1", Epoch: 1,
			Changes: []*pb.FateChange{{Location: "in", Key: "one", Change: &pb.FateChange_Intend{
				Intend: &pb.Intend{MessageId: "the-first-id", Ports: []string{"out"}},
			}}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			s.list()
			synctest.Wait()
		}
		if got := w.arrivals("out"); len(got) != 1 || got[0] != "the-first-id" || w.probes != 1 {
			t.Errorf("arrived %v after %d probes, want the first ID once, probed", got, w.probes)
		}
	})
}

func TestAnItemOfferedAgainWhileItIsUnderWayIsAnsweredTwiceAndSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		w.latency = 10 * time.Millisecond
		e, s := w.owner(map[string]PortPolicy{"out": retrying(3)})
		defer e.Close()
		offer := offerOf("one", 3)
		e.Handle(s, offer)
		time.Sleep(time.Millisecond)
		e.Handle(s, offer)
		time.Sleep(time.Second)
		if got := len(w.arrivals("out")); got != 1 {
			t.Errorf("sent %d times", got)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.settles != 2 {
			t.Errorf("%d verdicts, want one for each offer", w.settles)
		}
	})
}
