package exchange

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

var errBusy = &AdapterError{adapterpb.Error_RETRYABLE, "busy"}

func TestWhatAPortGivesUpGoesToItsBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		w.location = func(l *Location) { l.Ports = []string{"main"} }
		w.fail = func(port string, _ *Message) error {
			if port != "last" {
				return errBusy
			}
			return nil
		}
		main, second := retrying(2), retrying(1)
		main.Backup, second.Backup = "second", "last"
		e, s := w.owner(map[string]PortPolicy{"main": main, "second": second, "last": retrying(0)})
		defer e.Close()
		s.list()
		time.Sleep(time.Minute)
		calm()
		if w.sends["main"] != 3 || w.sends["second"] != 2 || len(w.arrivals("last")) != 1 || w.fate("one") != pb.Fate_SETTLED {
			t.Errorf("sends %v, fate %v", w.sends, w.fate("one"))
		}
	})
}

// An attempt that seemed to fail may have arrived: then the backup must not get it.
func TestTheBackupDoesNotGetWhatHasArrived(t *testing.T) {
	for name, c := range map[string]struct {
		arrival adapterpb.Arrival
		suspend bool
		want    string // state, arrivals at the backup
	}{
		"it is there":              {adapterpb.Arrival_ARRIVAL_ARRIVED, false, "SETTLED 0"},
		"it is not":                {adapterpb.Arrival_ARRIVAL_ABSENT, true, "SETTLED 1"},
		"nobody knows":             {adapterpb.Arrival_ARRIVAL_UNKNOWN, false, "SETTLED 1"},
		"nobody knows: to suspend": {adapterpb.Arrival_ARRIVAL_UNKNOWN, true, "SUSPENDED 0"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "one")
				w.location = func(l *Location) { l.Ports = []string{"main"} }
				w.lose = func(port string, _ *Message) error {
					if port == "main" {
						return &AdapterError{adapterpb.Error_RETRYABLE, errBroken.Error()}
					}
					return nil
				}
				w.probe = func(string, *Message) adapterpb.Arrival { return c.arrival }
				e, s := w.owner(map[string]PortPolicy{"main": {Backup: "spare", SuspendInDoubt: c.suspend}, "spare": {}})
				defer e.Close()
				s.list()
				time.Sleep(20 * time.Second)
				calm()
				got := w.fate("one").String() + " " + string(rune('0'+len(w.arrivals("spare"))))
				if got != c.want {
					t.Errorf("got %s, want %s: %s", got, c.want, w.reason("one"))
				}
			})
		})
	}
}

func TestAnOwnerCutOffOnTheWayToTheBackupLosesAndDoublesNothing(t *testing.T) {
	for cut := 1; cut <= 10; cut++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "one")
			w.location = func(l *Location) { l.Ports = []string{"main"} }
			w.fail = func(port string, _ *Message) error {
				if port == "main" {
					return &AdapterError{adapterpb.Error_PERMANENT, "no such mailbox"}
				}
				return nil
			}
			ports := map[string]PortPolicy{"main": {Backup: "spare"}, "spare": {}}
			for _, at := range []int{cut, 0} {
				w.steps, w.cutAt = 0, at
				e, s := w.owner(ports)
				s.list()
				synctest.Wait()
				s.end()
				e.Close()
			}
			if len(w.arrivals("spare")) != 1 || w.left() != 0 {
				t.Errorf("cut at %d: %d arrivals, %d items left", cut, len(w.arrivals("spare")), w.left())
			}
		})
	}
}

// A port that fails for every message is down, whatever its adapter calls it: the
// messages keep their attempts.
func TestAPortThatFailsForEverybodyBurnsNobodysAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []string
		for i := range 40 {
			names = append(names, string(rune('A'+i)))
		}
		w := newWorld(t, names...)
		w.location = func(l *Location) { l.MaxInFlight = 40 }
		broken := true
		w.fail = func(string, *Message) error {
			if broken {
				return errBusy
			}
			return nil
		}
		e, s := w.owner(map[string]PortPolicy{"out": {Attempts: 4, Interval: time.Millisecond, Backoff: 1}})
		defer e.Close()
		s.list()
		time.Sleep(10 * time.Minute)
		w.mu.Lock()
		tried := w.sends["out"]
		broken = false
		w.mu.Unlock()
		_, ports := e.States()
		if tried > 100 || !ports[0].Down || ports[0].Retrying == 0 {
			t.Errorf("%d sends in ten minutes, port %+v", tried, ports[0])
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		suspended := 0
		for _, n := range names {
			if w.fate(n) == pb.Fate_SUSPENDED {
				suspended++
			}
		}
		// What is let through to try uses up its own attempts: a handful.
		if got := len(w.arrivals("out")); got+suspended != 40 || suspended > 8 {
			t.Errorf("%d arrived, %d suspended of 40", got, suspended)
		}
		if _, ports := e.States(); ports[0].Down || ports[0].Retrying != 0 {
			t.Errorf("the port is up again, and its state is %+v", ports[0])
		}
	})
}

func TestMessagesThatWaitForTheirNextAttemptLetOthersPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := []string{"bad-1", "bad-2", "bad-3", "bad-4"}
		for i := range 20 {
			names = append(names, "fine--"+string(rune('a'+i)))
		}
		w := newWorld(t, names...)
		w.fail = func(_ string, m *Message) error {
			if strings.Contains(string(m.GetParts()[0].GetInline()), "bad") {
				return errBusy
			}
			return nil
		}
		e, s := w.owner(map[string]PortPolicy{"out": {Attempts: 3, Interval: time.Hour, Backoff: 1}})
		defer e.Close()
		s.list()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := len(w.arrivals("out")); got != 20 {
			t.Errorf("%d of 20 arrived while four wait for an hour", got)
		}
	})
}

func TestRetriesGrowAndVary(t *testing.T) {
	p := PortPolicy{Attempts: 5, Interval: time.Minute, Backoff: 2, Jitter: 0.5}
	seen := map[time.Duration]bool{}
	for failed, around := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
		for range 50 {
			next := p.afterFailure(errBusy, false, failed)
			if next.wait < around/2 || next.wait > around*3/2 || !next.counted {
				t.Fatalf("after %d failures: %+v", failed, next)
			}
			seen[next.wait] = true
		}
	}
	if len(seen) < 100 {
		t.Errorf("%d different waits of 150", len(seen))
	}
}

func TestAPortThatIsShutGetsNothingUntilItOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		opens := time.Now().Add(3 * time.Hour)
		shut := func(now time.Time) (string, time.Time) {
			if now.Before(opens) {
				return "outside its window", opens
			}
			return "", time.Time{}
		}
		e, s := w.owner(map[string]PortPolicy{"out": {Shut: shut}})
		defer e.Close()
		s.list()
		time.Sleep(3*time.Hour - time.Second)
		if _, ports := e.States(); len(w.arrivals("out")) != 0 || ports[0].Shut == "" || ports[0].Retrying != 1 {
			t.Errorf("before the window: %d arrivals, port %+v", len(w.arrivals("out")), ports[0])
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(w.arrivals("out")) != 1 {
			t.Error("nothing was sent when the window had opened")
		}
	})
}

func TestAStoppedPortGoesOnAsSoonAsItIsStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		stopped := true
		shut := func(time.Time) (string, time.Time) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if stopped {
				return "stopped by order", time.Time{}
			}
			return "", time.Time{}
		}
		e, s := w.owner(map[string]PortPolicy{"out": {Shut: shut}})
		defer e.Close()
		s.list()
		time.Sleep(time.Second)
		w.mu.Lock()
		stopped = false
		w.mu.Unlock()
		e.Refresh()
		synctest.Wait()
		if len(w.arrivals("out")) != 1 {
			t.Error("nothing was sent when the port was started")
		}
	})
}

func TestRoutesDecideAfterTheItemWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b", "c", "d")
		w.location = func(l *Location) {
			l.Route = func(p map[string]string) ([]string, error) {
				switch {
				case p["fairlead.id"] == "" || p["fairlead.location"] != "in":
					return nil, errors.New("properties are missing")
				case p["lane"] == "a":
					return []string{"x", "y"}, nil
				case p["lane"] == "b":
					return []string{"y"}, nil
				case p["lane"] == "c":
					return nil, errors.New("division by zero in route 3")
				}
				return nil, nil
			}
		}
		e, s := w.owner(map[string]PortPolicy{"x": {}, "y": {}})
		defer e.Close()
		s.list()
		calm()
		if x, y := w.contents("x"), w.contents("y"); !slices.Equal(x, []string{"a"}) || len(y) != 2 {
			t.Errorf("x got %v, y %v", x, y)
		}
		if w.fate("c") != pb.Fate_SUSPENDED || !strings.Contains(w.reason("c"), "route 3") {
			t.Errorf("c is %v: %s", w.fate("c"), w.reason("c"))
		}
		if w.fate("d") != pb.Fate_SUSPENDED || w.reason("d") != "no route matches it" {
			t.Errorf("d is %v: %s", w.fate("d"), w.reason("d"))
		}
		// When the routes are mended, it is routed again.
		e.receivers["in"].loc.Route = func(map[string]string) ([]string, error) { return []string{"x"}, nil }
		w.order(e, pb.OrderItems_RESUME, "", "d")
		calm()
		if w.fate("d") != pb.Fate_SETTLED || !slices.Contains(w.contents("x"), "d") {
			t.Errorf("d resumed is %v, x got %v", w.fate("d"), w.contents("x"))
		}
	})
}

func TestTheHistoryTellsOfEachStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		failures := 0
		w.fail = func(string, *Message) error {
			if failures++; failures == 1 {
				return errBusy
			}
			return nil
		}
		e, s := w.owner(map[string]PortPolicy{"out": retrying(3)})
		defer e.Close()
		s.list()
		time.Sleep(10 * time.Second)
		calm()
		if got := strings.Join(w.kinds(), " "); got != "received routed failed sent settled" {
			t.Errorf("history: %s", got)
		}
		for _, h := range w.happened {
			if h.Message == "" || h.Key != "one" || h.Location != "in" || (h.Context != nil) != (h.Kind == "received") {
				t.Errorf("%+v", h)
			}
		}
	})
}
