package sdk

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

func TestSourceIsPolledAtItsIntervalAndWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := listing("a")
		var polls atomic.Int64
		list := f.list
		f.list = func(ctx context.Context) ([]Item, error) { polls.Add(1); return list(ctx) }
		r := newSide(t, f.adapter(), 1, "in")
		r.lease(time.Hour)
		time.Sleep(25 * time.Second)
		synctest.Wait()
		if n := polls.Load(); n != 3 {
			t.Errorf("%d polls in 25 s, want 3: at once, at 10 s, at 20 s", n)
		}
		r.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Poll{Poll: &adapterpb.Poll{Location: "in"}}})
		synctest.Wait()
		if n := polls.Load(); n != 4 {
			t.Errorf("%d polls after being asked, want 4", n)
		}
		r.end()
		if f.closed != 1 {
			t.Errorf("closed %d times, want once", f.closed)
		}
	})
}

func TestListErrorsBackOffAndHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := listing("a")
		var mended shared[bool]
		var polls atomic.Int64
		list := f.list
		f.list = func(ctx context.Context) ([]Item, error) {
			if polls.Add(1); !mended.get() {
				return nil, errTest
			}
			return list(ctx)
		}
		r := newSide(t, f.adapter(), 1, "in")
		r.lease(24 * time.Hour)
		time.Sleep(time.Hour)
		if n := polls.Load(); n < 60 || n > 140 {
			t.Errorf("%d polls in an hour of failures, want about one a minute", n)
		}
		mended.set(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		last := all(r, (*adapterpb.FromAdapter).GetEndpointState)
		if s := last[1]; s.GetState() != adapterpb.EndpointState_BACKING_OFF || s.GetError().GetText() != errTest.Error() {
			t.Errorf("second state %v, want backing off with the error's text", s)
		}
		if s := last[2]; s.GetState() == adapterpb.EndpointState_BACKING_OFF {
			t.Errorf("third state %v: the same state was reported again", s)
		}
		if got := r.lastKeys(); got != "a" {
			t.Errorf("listed %q after the end of the failures, want a", got)
		}
		r.end()
	})
}

func TestLongListingsComeInChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var keys []string
		for i := range 1200 {
			keys = append(keys, fmt.Sprintf("key-%d", i))
		}
		r := newSide(t, listing(keys...).adapter(), 1, "in")
		r.lease(time.Second)
		total, got := 0, all(r, (*adapterpb.FromAdapter).GetListing)
		for i, l := range got {
			total += len(l.GetItems())
			if len(l.GetItems()) > 500 || l.GetFinal() != (i == len(got)-1) {
				t.Errorf("chunk %d of %d has %d items, final %v", i, len(got), len(l.GetItems()), l.GetFinal())
			}
		}
		if total != 1200 {
			t.Errorf("%d items in all, want 1200", total)
		}
		r.end()
	})
}

func TestItemsAreHeldBackUntilStable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var items shared[[]Item]
		f := listing()
		f.list = func(context.Context) ([]Item, error) { return items.get(), nil }
		r := newSide(t, f.adapter(), 1, "in")
		r.lease(time.Hour)
		if got := r.lastKeys(); got != "" {
			t.Fatalf("listed %q, want a complete empty listing", got)
		}
		items.set([]Item{{Key: "x1", StableFor: 3 * time.Second}, {Key: "quick"}})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := r.lastKeys(); got != "quick" {
			t.Errorf("listed %q at first sight, want only what needs no waiting", got)
		}
		// It grows: a new key, and the time starts anew.
		items.set([]Item{{Key: "x2", StableFor: 3 * time.Second}, {Key: "quick"}})
		time.Sleep(3100 * time.Millisecond)
		synctest.Wait()
		if got := r.lastKeys(); got != "quick" {
			t.Errorf("listed %q after the item had changed, want only quick", got)
		}
		// An extra poll comes as soon as it can be stable, not only at the interval.
		time.Sleep(3100 * time.Millisecond)
		synctest.Wait()
		if got := r.lastKeys(); got != "x2 quick" {
			t.Errorf("listed %q after 3 s without a change, want x2 quick", got)
		}
		r.end()
	})
}

// Where one key stands for all versions of an item, the version has to stay the same,
// until the item is let through: then it is listed whatever happens to it.
func TestItemsOfOneKeyAreHeldBackUntilTheirVersionIsStable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var items shared[[]Item]
		f := listing()
		f.list = func(context.Context) ([]Item, error) { return items.get(), nil }
		r := newSide(t, f.adapter(), 1, "in")
		r.lease(time.Hour)
		for _, version := range []string{"1", "2", "3"} {
			items.set([]Item{{Key: "x", Version: version, StableFor: 3 * time.Second}})
			r.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Poll{Poll: &adapterpb.Poll{Location: "in"}}})
			time.Sleep(2900 * time.Millisecond)
			synctest.Wait()
			if got := r.lastKeys(); got != "" {
				t.Errorf("version %s: listed %q while the item grew", version, got)
			}
		}
		time.Sleep(3100 * time.Millisecond)
		synctest.Wait()
		if got := r.lastKeys(); got != "x" {
			t.Errorf("listed %q after 3 s without a change, want x", got)
		}
		items.set([]Item{{Key: "x", Version: "4", StableFor: 3 * time.Second}})
		r.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Poll{Poll: &adapterpb.Poll{Location: "in"}}})
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := r.lastKeys(); got != "x" {
			t.Errorf("listed %q when an item that was let through has changed, want it still", got)
		}
		r.end()
	})
}

// A source may rename an item when it is read. A directory that is listed meanwhile can
// show neither of the names.
func TestAnItemThatIsReadWhileTheSourceIsListedIsNotTakenForGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listing, rounds := listing("a"), 0
		goOn := make(chan struct{})
		whole := listing.list
		listing.list = func(ctx context.Context) ([]Item, error) {
			if rounds++; rounds == 2 {
				<-goOn
				return nil, nil
			}
			return whole(ctx)
		}
		r := newSide(t, listing.adapter(), 1, "in")
		r.lease(time.Hour)
		r.poll()
		r.take("a")
		close(goOn)
		synctest.Wait()
		if got := r.lastKeys(); got != "a" {
			t.Errorf("listed %q, want a: it was there before, and is read", got)
		}
		r.end()
	})
}

// An earlier owner may have left a fate for whatever is there at the start. A
// listing without it would have the fate forgotten, and the item be delivered again.
func TestNothingIsListedWhileWhatWasThereAtTheStartIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := listing()
		f.list = func(context.Context) ([]Item, error) {
			return []Item{{Key: "old", StableFor: 3 * time.Second}, {Key: "quick"}}, nil
		}
		r := newSide(t, f.adapter(), 1, "in")
		r.lease(time.Hour)
		if got := r.lastKeys(); got != "none" {
			t.Errorf("first listing is %q, want none before old is stable", got)
		}
		time.Sleep(3100 * time.Millisecond)
		synctest.Wait()
		if got := r.lastKeys(); got != "old quick" {
			t.Errorf("listing is %q, want a complete one with old and quick", got)
		}
		r.end()
	})
}

func TestWhatWasSettledDuringAListingIsNotListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := listing("a", "b")
		var slow shared[bool]
		list := f.list
		f.list = func(ctx context.Context) ([]Item, error) {
			items, err := list(ctx) // as the server had it before the settle
			if slow.get() {
				time.Sleep(5 * time.Second)
			}
			return items, err
		}
		r := newSide(t, f.adapter(), 2, "in")
		r.lease(time.Hour)
		slow.set(true)
		time.Sleep(11 * time.Second)
		r.settle("a")
		if got := r.settledText(); got != "a" {
			t.Fatalf("settled %q, want a", got)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := r.lastKeys(); got != "b" {
			t.Errorf("listed %q, want b: a was settled while the listing was under way", got)
		}
		r.end()
	})
}

func TestWhatIsUnderWayIsListedAlthoughTheSourceHidesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := listing("a")
		release := make(chan struct{})
		var gone atomic.Bool
		f.settle = func(context.Context, Item) error { gone.Store(true); <-release; return nil }
		list := f.list
		f.list = func(ctx context.Context) ([]Item, error) {
			if gone.Load() {
				return nil, nil
			}
			return list(ctx)
		}
		r := newSide(t, f.adapter(), 1, "in")
		r.lease(time.Hour)
		r.settle("a")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := r.lastKeys(); got != "a" {
			t.Errorf("listed %q while a is being settled, want a", got)
		}
		close(release)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := r.lastKeys(); got != "" {
			t.Errorf("listed %q after the settle, want nothing", got)
		}
		r.end()
	})
}

func TestItemWithoutKeyFailsTheListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSide(t, listing("a", "").adapter(), 1, "in")
		r.lease(time.Hour)
		if got := r.lastKeys(); got != "none" {
			t.Errorf("listed %q, want no listing at all", got)
		}
		if got := r.states(); got != "POLLING BACKING_OFF" {
			t.Errorf("states %q, want POLLING BACKING_OFF", got)
		}
		r.end()
	})
}

func TestPanicOfOneEndpointLeavesTheOthersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad := listing("a"), listing()
		bad.list = func(context.Context) ([]Item, error) { panic("oh no") }
		a := Adapter{Receive: Polled(func(_ context.Context, _ struct{}, env Env) (PolledSource, error) {
			switch env.Endpoint {
			case "in":
				return good, nil
			case "panics":
				panic("at once")
			}
			return bad, nil
		})}
		r := newSide(t, a, 1, "in", "bad", "panics")
		r.lease(time.Hour)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		rejected := all(r, (*adapterpb.FromAdapter).GetReady)[0].GetRejected()
		if len(rejected) != 1 || rejected[0].GetEndpoint() != "panics" {
			t.Errorf("rejected %v, want the endpoint that panics at once", rejected)
		}
		if n := len(all(r, (*adapterpb.FromAdapter).GetListing)); n != 4 {
			t.Errorf("%d listings of the good endpoint in 30 s, want 4", n)
		}
		r.end()
	})
}
