package exchange

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

func ordered(l *Location) { l.Ordered = true }

func byLane(l *Location) {
	l.Ordered = true
	l.Lane = func(p map[string]string) (string, error) { return p["lane"], nil }
}

func numbered(lanes string, n int) (names []string) {
	for _, lane := range lanes {
		for i := range n {
			names = append(names, fmt.Sprintf("%c%02d", lane, i))
		}
	}
	return names
}

// inOrder reports whether what arrived of each lane is in the order of its names.
func inOrder(names []string) bool {
	last := map[string]string{}
	for _, n := range names {
		if n <= last[n[:1]] {
			return false
		}
		last[n[:1]] = n
	}
	return true
}

// Whatever fails on the way, and whoever is cut off: the order stays.
func TestOrderedItemsArriveInTheirOrder(t *testing.T) {
	for name, location := range map[string]func(*Location){"one lane": ordered, "lanes": byLane} {
		for cut := 0; cut <= 12; cut += 3 {
			t.Run(fmt.Sprintf("%s, cut at %d", name, cut), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, numbered("abc", 6)...)
					w.location = location
					tries := map[string]int{}
					w.fail = func(_ string, m *Message) error {
						what := string(m.GetParts()[0].GetInline())
						if tries[what]++; tries[what] < 3 && strings.Contains(what, "3") {
							return errBusy
						}
						return nil
					}
					reads := 0
					w.readFail = func(string) *adapterpb.Error {
						if reads++; reads%4 == 0 {
							return &adapterpb.Error{Kind: adapterpb.Error_DISCONNECTED, Text: "connection lost"}
						}
						return nil
					}
					for _, at := range []int{cut, 0} {
						w.steps, w.cutAt = 0, at
						e, s := w.owner(map[string]PortPolicy{"out": retrying(3)})
						s.list()
						time.Sleep(20 * time.Second)
						s.list() // while some are still under way
						time.Sleep(time.Hour)
						synctest.Wait()
						s.end()
						e.Close()
					}
					got := w.contents("out")
					if len(got) != 18 || !inOrder(got) {
						t.Errorf("arrived: %v", got)
					}
				})
			})
		}
	}
}

func TestWithoutOrderItemsOvertake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, numbered("a", 6)...)
		w.fail = func(_ string, m *Message) error {
			if strings.HasSuffix(string(m.GetParts()[0].GetInline()), "00") && w.sends["out"] < 4 {
				return errBusy
			}
			return nil
		}
		e, s := w.owner(map[string]PortPolicy{"out": retrying(3)})
		defer e.Close()
		s.list()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.contents("out"); len(got) != 6 || inOrder(got) {
			t.Errorf("arrived in order although nothing keeps it: the tests of order prove nothing: %v", got)
		}
	})
}

func TestASuspendedItemHoldsItsLaneIfItIsTo(t *testing.T) {
	for _, hold := range []bool{true, false} {
		t.Run(fmt.Sprint("hold ", hold), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, numbered("ab", 4)...)
				w.location = func(l *Location) { byLane(l); l.Hold = hold }
				w.fail = func(_ string, m *Message) error {
					if strings.HasSuffix(string(m.GetParts()[0].GetInline()), "a01") {
						return &AdapterError{adapterpb.Error_PERMANENT, "malformed"}
					}
					return nil
				}
				e, s := w.owner(map[string]PortPolicy{"out": {}})
				s.list()
				time.Sleep(time.Minute)
				synctest.Wait()
				want := []string{"a00", "b00", "b01", "b02", "b03"}
				if !hold {
					want = []string{"a00", "a02", "a03", "b00", "b01", "b02", "b03"}
				}
				got := w.contents("out")
				if slices.Sort(got); !slices.Equal(got, want) {
					t.Fatalf("arrived %v, want %v", got, want)
				}
				if l, _ := e.States(); hold && (l[0].Held != 2 || l[0].Suspended != 1) {
					t.Errorf("state %+v", l[0])
				}
				// The next owner knows of it before it has seen an item.
				s.end()
				e.Close()
				e, s = w.owner(map[string]PortPolicy{"out": {}})
				defer e.Close()
				s.list()
				synctest.Wait()
				if after := w.contents("out"); hold && len(after) != len(want) {
					t.Fatalf("the next owner overtook it: %v", after)
				}
				w.mu.Lock()
				w.fail = nil
				w.mu.Unlock()
				w.order(e, pb.OrderItems_RESUME, "", "a01")
				s.list()
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := w.contents("out"); len(got) != 8 || hold && !inOrder(got) {
					t.Errorf("after it was resumed: %v", got)
				}
			})
		})
	}
}

func TestADiscardedItemHoldsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, numbered("a", 3)...)
		w.location = func(l *Location) { ordered(l); l.Hold = true }
		w.fail = func(_ string, m *Message) error {
			if strings.HasSuffix(string(m.GetParts()[0].GetInline()), "a00") {
				return &AdapterError{adapterpb.Error_PERMANENT, "malformed"}
			}
			return nil
		}
		e, s := w.owner(map[string]PortPolicy{"out": {}})
		defer e.Close()
		s.list()
		synctest.Wait()
		w.order(e, pb.OrderItems_DISCARD, "", "a00")
		synctest.Wait()
		if got := w.contents("out"); !slices.Equal(got, []string{"a01", "a02"}) {
			t.Errorf("arrived %v", got)
		}
	})
}

// Nothing is committed of what arrives, all of what does not.
func TestAtLeastOnceNeedsNoLedgerUntilSomethingIsSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one", "bad")
		w.location = func(l *Location) { l.AtLeastOnce = true }
		w.fail = func(port string, m *Message) error {
			if port == "b" && strings.HasSuffix(string(m.GetParts()[0].GetInline()), "bad") {
				return &AdapterError{adapterpb.Error_PERMANENT, "malformed"}
			}
			return nil
		}
		e, s := w.owner(map[string]PortPolicy{"a": {}, "b": {}})
		s.list()
		synctest.Wait()
		if w.batches != 1 || w.left() != 1 || w.fate("one") != pb.Fate_UNKNOWN {
			t.Errorf("%d entries, %d items left, fate %v", w.batches, w.left(), w.fate("one"))
		}
		f := w.machine.State().GetLocations()["in"].GetFates()["bad"]
		if f.GetState() != pb.Fate_SUSPENDED || !slices.Equal(f.GetPending(), []string{"b"}) || !slices.Equal(f.GetDelivered(), []string{"a"}) {
			t.Errorf("got %v", f)
		}
		s.list()
		synctest.Wait()
		if got := len(w.arrivals("a")); got != 2 {
			t.Errorf("%d arrivals at a, want one of each item", got)
		}
		w.fail = nil
		w.order(e, pb.OrderItems_RESUME, "", "bad")
		synctest.Wait()
		if len(w.arrivals("a")) != 2 || len(w.arrivals("b")) != 2 || w.left() != 0 {
			t.Errorf("resumed: %d at a, %d at b, %d left", len(w.arrivals("a")), len(w.arrivals("b")), w.left())
		}
		s.end()
		e.Close()
	})
}

// What the source keeps would be sent at every poll.
func TestAtLeastOnceStillKnowsWhatTheSourceKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		w.kept = true
		w.location = func(l *Location) { l.AtLeastOnce = true }
		e, s := w.owner(map[string]PortPolicy{"out": {}})
		defer e.Close()
		for range 3 {
			s.list()
			synctest.Wait()
		}
		if got := len(w.arrivals("out")); got != 1 {
			t.Errorf("sent %d times", got)
		}
	})
}

func TestContentThatComesWithItsOfferIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "one")
		w.readFail = func(string) *adapterpb.Error { return &adapterpb.Error{Text: "it can be read once"} }
		e, s := w.owner(map[string]PortPolicy{"out": {}})
		defer e.Close()
		offer := offerOf("one", 5)
		offer.GetOffer().Content = &adapterpb.Content{Parts: []*adapterpb.Part{{Size: 5, Content: &adapterpb.Part_Inline{Inline: []byte("hello")}}}}
		e.Handle(s, offer)
		calm()
		if got := w.contents("out"); !slices.Equal(got, []string{"hello"}) || w.fate("one") != pb.Fate_SETTLED {
			t.Errorf("arrived %q, fate %v", got, w.fate("one"))
		}
	})
}
