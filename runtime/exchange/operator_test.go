package exchange

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// refused has one port refuse everything for good.
func (w *world) refused(port string) {
	w.fail = func(p string, _ *Message) error {
		if p == port {
			return &AdapterError{adapterpb.Error_PERMANENT, "no such mailbox"}
		}
		return nil
	}
}

func TestASuspendedItemIsResumed(t *testing.T) {
	for name, to := range map[string]string{"where it was to go": "", "elsewhere": "other"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "one")
				w.location = func(l *Location) { l.Ports = []string{"out"} }
				w.refused("out")
				e, s := w.owner(map[string]PortPolicy{"out": {}, "other": {}})
				defer e.Close()
				s.list()
				calm()
				if w.fate("one") != pb.Fate_SUSPENDED {
					t.Fatalf("fate %v", w.fate("one"))
				}
				if to == "" {
					w.fail = nil
				}
				w.order(e, pb.OrderItems_RESUME, to, "one")
				calm() // the source is asked for it, not waited for
				want := map[string]string{"": "out", "other": "other"}[to]
				if len(w.arrivals(want)) != 1 || w.fate("one") != pb.Fate_SETTLED || w.left() != 0 {
					t.Errorf("%d arrivals, fate %v, %d items left", len(w.arrivals(want)), w.fate("one"), w.left())
				}
			})
		})
	}
}

func TestADiscardedItemGoesNowhereAndLeavesTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one", "two")
		w.refused("out")
		e, s := w.owner(map[string]PortPolicy{"out": {}})
		defer e.Close()
		s.list()
		calm()
		w.order(e, pb.OrderItems_DISCARD, "", "one")
		calm()
		if w.sends["out"] != 2 || w.fate("one") != pb.Fate_SETTLED || w.fate("two") != pb.Fate_SUSPENDED || w.left() != 1 {
			t.Errorf("%d sends, fates %v and %v, %d items left", w.sends["out"], w.fate("one"), w.fate("two"), w.left())
		}
	})
}

// The order may come while nobody owns the item, or its owner be cut off at any step
// of carrying it out.
func TestAnOrderOutlivesTheOwner(t *testing.T) {
	for cut := 1; cut <= 9; cut++ {
		for _, order := range []pb.OrderItems_Order{pb.OrderItems_RESUME, pb.OrderItems_DISCARD} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "one")
				w.refused("out")
				e, s := w.owner(map[string]PortPolicy{"out": {}})
				s.list()
				synctest.Wait()
				s.end()
				e.Close()
				w.fail = nil
				w.order(e, order, "", "one")
				for _, at := range []int{cut, 0} {
					w.steps, w.cutAt = 0, at
					e, s = w.owner(map[string]PortPolicy{"out": {}})
					s.list()
					time.Sleep(2 * housekeeping)
					synctest.Wait()
					s.end()
					e.Close()
				}
				want := 1
				if order == pb.OrderItems_DISCARD {
					want = 0
				}
				if len(w.arrivals("out")) != want || w.left() != 0 {
					t.Errorf("%v, cut at %d: %d arrivals, %d items left", order, cut, len(w.arrivals("out")), w.left())
				}
			})
		}
	}
}

// An order that is committed between the suspension and its being noticed here.
func TestAnOrderThatIsQuickerThanTheOwnerIsNotOverlooked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		w.refused("out")
		e, s := w.owner(map[string]PortPolicy{"out": {}})
		defer e.Close()
		e.committer.propose = func(ctx context.Context, c *pb.Command) error {
			err := w.propose(ctx, c)
			for _, change := range c.GetFates().GetChanges() {
				if change.GetSuspend() != nil && err == nil {
					w.mu.Lock()
					w.fail = nil
					w.mu.Unlock()
					w.order(e, pb.OrderItems_RESUME, "", "one")
				}
			}
			return err
		}
		s.list()
		time.Sleep(2 * housekeeping)
		calm()
		if w.fate("one") != pb.Fate_SETTLED {
			t.Errorf("fate %v", w.fate("one"))
		}
	})
}

func TestAnItemThatCannotBeBroughtBackIsSuspendedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		w.refused("out")
		e, s := w.owner(map[string]PortPolicy{"out": {}})
		defer e.Close()
		e.Handle(s, offerOf("one", 3))
		calm()
		w.mu.Lock()
		delete(w.items, "one") // somebody emptied the dead-letter queue
		w.mu.Unlock()
		w.order(e, pb.OrderItems_RESUME, "", "one")
		calm()
		if w.fate("one") != pb.Fate_SUSPENDED || w.reason("one") != gone {
			t.Errorf("fate %v: %s", w.fate("one"), w.reason("one"))
		}
		w.order(e, pb.OrderItems_DISCARD, "", "one")
		calm()
		if w.fate("one") != pb.Fate_SETTLED {
			t.Errorf("discarded, but its fate is %v", w.fate("one"))
		}
	})
}

// Of an adapter that cannot bring anything back.
func TestAnItemThatNobodyCanBringBackSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		w.refused("out")
		e, s := w.owner(map[string]PortPolicy{"out": {}})
		defer e.Close()
		e.Handle(s, offerOf("one", 3))
		calm()
		w.mu.Lock()
		w.noRecall = true
		w.mu.Unlock()
		w.order(e, pb.OrderItems_RESUME, "", "one")
		calm()
		if w.fate("one") != pb.Fate_SUSPENDED || w.reason("one") != "this adapter cannot" {
			t.Errorf("fate %v: %s", w.fate("one"), w.reason("one"))
		}
		w.order(e, pb.OrderItems_DISCARD, "", "one")
		calm()
		if w.fate("one") != pb.Fate_SETTLED {
			t.Errorf("discarded, but its fate is %v", w.fate("one"))
		}
	})
}

func TestASuspensionSaysWhatPeopleNeedToDecide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		w.fail = func(string, *Message) error { return errBusy }
		e, s := w.owner(map[string]PortPolicy{"out": retrying(2)})
		defer e.Close()
		s.list()
		time.Sleep(time.Minute)
		synctest.Wait()
		f := w.machine.State().GetLocations()["in"].GetFates()["one"]
		if len(f.GetAttempts()) != 3 || f.GetAttempts()[0].GetPort() != "out" || f.GetContext()["lane"] != "o" || f.GetName() != "one" || f.GetSuspendedAtMs() != 0 {
			// Commands of this test carry no time, except those of the committer.
			if f.GetSuspendedAtMs() == 0 || len(f.GetAttempts()) != 3 {
				t.Errorf("got %v", f)
			}
		}
	})
}

func TestKeptContextIsBounded(t *testing.T) {
	got := bounded(map[string]string{"a": strings.Repeat("ü", 1000)}, map[string]string{"b": "x", "c": strings.Repeat("y", 5000)})
	if len(got["a"]) > maxKeptValue+3 || got["b"] != "x" || !strings.HasSuffix(got["c"], "...") {
		t.Errorf("got %v", got)
	}
	many := map[string]string{}
	for i := range 100 {
		many[strings.Repeat("k", i+1)] = strings.Repeat("v", 100)
	}
	if got := bounded(many, nil); len(got) > maxKeptContext/100 {
		t.Errorf("%d properties are kept", len(got))
	}
}

func TestALocationIsPausedOutsideItsWindowAndWhenStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		day := time.Now() // midnight, in a bubble
		w.location = func(l *Location) {
			l.Timetable = Timetable{Open: func(t time.Time) (bool, time.Time) {
				hour := int(t.Sub(day).Hours()) % 24
				next := t.Truncate(time.Hour)
				for {
					next = next.Add(time.Hour)
					if h := int(next.Sub(day).Hours()) % 24; h == 6 || h == 22 {
						return hour >= 6 && hour < 22, next
					}
				}
			}}
		}
		e, _ := w.owner(map[string]PortPolicy{"out": {}})
		defer e.Close()
		synctest.Wait()
		if l, _ := e.States(); l[0].State != "outside-window" {
			t.Errorf("state %s at midnight", l[0].State)
		}
		time.Sleep(24*time.Hour - time.Minute)
		e.SetStopped("in", true) // outside its window: no news for the handler
		time.Sleep(8 * time.Hour)
		e.SetStopped("in", false)
		synctest.Wait()
		if !e.Poll(t.Context(), "in") || e.Poll(t.Context(), "none") {
			t.Error("poll now: says nothing of whether a handler was asked")
		}
		if want := []string{"pause true", "pause false", "pause true", "pause false", "poll"}; !slices.Equal(w.told, want) {
			t.Errorf("told %v, want %v", w.told, want)
		}
	})
}

func TestALocationWithHoursIsPolledThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		w.location = func(l *Location) {
			l.Timetable.Next = func(t time.Time) time.Time { return t.Truncate(time.Hour).Add(time.Hour) }
		}
		e, s := w.owner(map[string]PortPolicy{"out": {}})
		defer e.Close()
		time.Sleep(2*time.Hour + time.Minute)
		synctest.Wait()
		// At once, for midnight is one of its hours, and at the next two.
		if want := []string{"pause true", "poll", "poll", "poll"}; !slices.Equal(w.told, want) {
			t.Errorf("told %v, want %v", w.told, want)
		}
		// What a paused handler lists because it was asked to is taken.
		s.list()
		synctest.Wait()
		if len(w.arrivals("out")) != 1 {
			t.Error("what the poll found was not taken")
		}
		if l, _ := e.States(); l[0].NextPoll.IsZero() {
			t.Error("nobody says when it is polled next")
		}
	})
}

func failedPoll() *adapterpb.FromAdapter {
	return &adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_EndpointState{EndpointState: &adapterpb.EndpointState{
		Endpoint: "in", Receive: true, State: adapterpb.EndpointState_STOPPED, Error: &adapterpb.Error{Text: "connection refused"},
	}}}
}

// A job of once a day must not wait for the next day because the server was away for a
// minute, or because the location was changing hands at its time.
func TestAPollAtItsHourThatFailsOrIsMissedIsMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		day := time.Now()
		w.location = func(l *Location) {
			l.Timetable.Next = func(t time.Time) time.Time { // 06:00
				next := day.Add(6 * time.Hour)
				for !next.After(t) {
					next = next.Add(24 * time.Hour)
				}
				return next
			}
		}
		told := func() string {
			w.mu.Lock()
			defer w.mu.Unlock()
			defer func() { w.told = nil }()
			return strings.Join(w.told, ", ")
		}
		e, s := w.owner(map[string]PortPolicy{"out": {}})
		time.Sleep(6*time.Hour + time.Second)
		if got := told(); got != "pause true, poll" {
			t.Errorf("at its hour: %s", got)
		}
		e.Handle(s, failedPoll())
		time.Sleep(firstPollAgain + time.Second)
		if got := told(); got != "poll" {
			t.Errorf("after it failed: %s", got)
		}
		time.Sleep(time.Hour)
		if got := strings.Count(told(), "poll"); got < 5 || got > 12 {
			t.Errorf("%d more polls in an hour of failures", got)
		}
		s.list()
		time.Sleep(4 * time.Hour)
		if got := told(); got != "" {
			t.Errorf("after it had been listed: %s", got)
		}
		s.end()
		e.Close()
		// Nobody owned it from 05:30 to 06:30 of the next day.
		time.Sleep(time.Until(day.Add(30*time.Hour + 30*time.Minute)))
		e, _ = w.owner(map[string]PortPolicy{"out": {}})
		time.Sleep(time.Minute)
		if got := told(); got != "pause true, poll" {
			t.Errorf("its hour was missed: %s", got)
		}
		e.Close()
		time.Sleep(3 * time.Hour)
		e, _ = w.owner(map[string]PortPolicy{"out": {}})
		defer e.Close()
		time.Sleep(time.Minute)
		if got := told(); got != "pause true" {
			t.Errorf("long after its hour: %s", got)
		}
	})
}
