package exchange

import (
	"testing"
	"testing/synctest"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

func TestOnePollTakesUpNoMoreThanItMay(t *testing.T) {
	names := numbered("a", 10)
	for what, c := range map[string]struct {
		limit func(*Location)
		polls []int // what has arrived after each
	}{
		"items":                  {func(l *Location) { l.PollItems = 4 }, []int{4, 8, 10}},
		"bytes":                  {func(l *Location) { l.PollBytes = int64(3 * len("content of a00")) }, []int{3, 6, 9, 10}},
		"the first is too large": {func(l *Location) { l.PollBytes = 1 }, []int{1, 2, 3}},
		"both":                   {func(l *Location) { l.PollItems, l.PollBytes = 2, 1<<20 }, []int{2, 4}},
		"in order":               {func(l *Location) { l.Ordered, l.PollItems = true, 3 }, []int{3, 6}},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, names...)
				w.location = c.limit
				e, s := w.owner(map[string]PortPolicy{"out": {}})
				defer e.Close()
				for poll, want := range c.polls {
					s.list()
					calm()
					if got := w.arrivals("out"); len(got) != want {
						t.Fatalf("after poll %d: %q, want %d", poll+1, got, want)
					}
				}
			})
		})
	}
}

// Ten that cannot be read must not keep the others out for ever.
func TestItemsThatCannotBeReadDoNotUseUpThePoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, numbered("ab", 3)...)
		w.location = func(l *Location) { l.PollItems = 3 }
		w.readFail = func(key string) *adapterpb.Error {
			if key[0] == 'a' {
				return &adapterpb.Error{Text: "550 permission denied"}
			}
			return nil
		}
		e, s := w.owner(map[string]PortPolicy{"out": {}})
		defer e.Close()
		for range 3 {
			s.list()
			calm()
			time.Sleep(time.Second)
		}
		if got := w.arrivals("out"); len(got) != 3 {
			t.Errorf("arrived %q, want those that can be read", got)
		}
	})
}

// What an earlier owner had begun goes on, whatever else there is.
func TestWhatWasBegunNeedsNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, numbered("ab", 4)...)
		w.location = func(l *Location) { l.PollItems = 4 }
		sent := 0
		w.fail = func(string, *Message) error {
			if sent++; sent == 4 {
				w.cut()
			}
			return errBroken
		}
		first, s := w.owner(map[string]PortPolicy{"out": retrying(9)})
		s.list()
		synctest.Wait()
		first.Close()
		w.fail = nil
		w.location = func(l *Location) { l.PollItems, l.MaxInFlight = 1, 16 }
		next, s := w.owner(map[string]PortPolicy{"out": {}})
		defer next.Close()
		s.list()
		calm()
		if left := w.left(); left != 8-4-1 {
			t.Errorf("%d of 8 are left; 4 had been begun, and one more may be", left)
		}
	})
}
