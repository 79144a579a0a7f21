package adaptertest

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/wire"
)

// location is the receive location's name in all checks.
const location = "conformance-location"

// Source checks the receiving side of an adapter in subtests, each with a fixture
// of its own.
func Source(t *testing.T, c SourceCase) {
	t.Helper()
	if c.Adapter.Receive == nil || c.New == nil {
		t.Fatal("adaptertest: SourceCase needs an Adapter with Receive, and New")
	}
	if c.Sizes == nil {
		c.Sizes = defaultSizes
	}
	if c.Names == nil {
		c.Names = []string{"with space.txt", `quo"te'.txt`, "grün-日本.txt", "-dash.txt", "semi;colon&.txt", "50%.txt"}
	}
	checks := []struct {
		name  string
		check func(*sourceCheck)
	}{
		{"describes itself", (*sourceCheck).describes},
		{"delivers every size whole", (*sourceCheck).deliversSizes},
		{"delivers odd names", (*sourceCheck).deliversNames},
		{"delivers many at once", (*sourceCheck).deliversMany},
		{"keys outlive a restart", (*sourceCheck).keysStable},
		{"offers again what died before its settle", (*sourceCheck).redelivers},
		{"settles what an earlier owner delivered", (*sourceCheck).settlesForPredecessor},
		{"settle takes only what was delivered", (*sourceCheck).settleIsExact},
		{"settle spares an item that changed", (*sourceCheck).sparesChanged},
		{"does nothing without a lease", (*sourceCheck).idleWithoutLease},
		{"stops when the lease ends", (*sourceCheck).stopsAtLeaseEnd},
		{"drain takes up nothing new", (*sourceCheck).drains},
		{"backs off while unreachable", (*sourceCheck).backsOff},
		{"leaves no goroutines", (*sourceCheck).leavesNothing},
	}
	for _, check := range checks {
		t.Run(check.name, func(t *testing.T) {
			// The fixture's clean-up must come after the handler's: it is made first.
			check.check(&sourceCheck{SourceCase: c, t: t, f: c.New(t), put: map[string][]byte{}})
		})
	}
}

// sourceCheck is one subtest.
type sourceCheck struct {
	SourceCase
	t   *testing.T
	f   SourceFixture
	put map[string][]byte // what the source should have, by name
}

func (c *sourceCheck) endpoint() Endpoint {
	return Endpoint{
		Name: location, Receive: true, Properties: c.f.Properties,
		PollEvery: orDefault(c.PollEvery, 50*time.Millisecond), MaxInFlight: orDefault(c.MaxInFlight, 16),
	}
}

func (c *sourceCheck) start() *Handler {
	c.t.Helper()
	h := c.startWithoutLease()
	h.Lease(time.Hour)
	return h
}

func (c *sourceCheck) startWithoutLease() *Handler {
	c.t.Helper()
	h := StartWithoutLease(c.t, c.Adapter, c.endpoint())
	h.timeout = orDefault(c.Timeout, defaultTimeout)
	return h
}

// add puts an item of this size, different from all others.
func (c *sourceCheck) add(name string, size int) {
	c.t.Helper()
	c.put[name] = randomBytes(size)
	c.f.Put(c.t, name, c.put[name])
}

// take waits until n items are offered, reads them all, and checks that they are
// the ones that were put. It returns them by the name they were put under.
func (c *sourceCheck) take(h *Handler, n int) map[string]Item {
	c.t.Helper()
	taken := map[string]Item{}
	done := map[string]bool{}
	deadline := time.Now().Add(h.timeout)
	for len(taken) < n {
		if time.Now().After(deadline) {
			c.t.Fatalf("got %d of %d items in %s: %v", len(taken), n, h.timeout, names(taken))
		}
		h.wait("an item not taken yet", func() bool {
			for key := range h.items[location] {
				if !done[key] {
					return true
				}
			}
			return false
		})
		for _, it := range h.Items(location) {
			if done[it.Key] {
				continue
			}
			content, err := h.Take(location, it.Key)
			if sdk.IsDisconnected(err) || sdk.IsGone(err) {
				continue // a broker took it back: it will be offered again
			}
			if err != nil {
				c.t.Fatalf("take %s: %v", it.Key, err)
			}
			done[it.Key] = true
			name := c.identify(content)
			if _, twice := taken[name]; twice {
				c.t.Fatalf("%s was offered under two keys: %s and %s", name, taken[name].Key, it.Key)
			}
			c.checkItem(it, content, name)
			taken[name] = it
		}
	}
	return taken
}

// identify finds which of the items put this is.
func (c *sourceCheck) identify(content *Content) string {
	c.t.Helper()
	var got []byte
	if c.Content != nil {
		got = c.Content(c.t, content.Parts)
	} else {
		got = content.Parts[0].Content
	}
	for name, want := range c.put {
		if bytes.Equal(got, want) {
			return name
		}
	}
	c.t.Fatalf("delivered %d bytes (%s...) that nobody put there", len(got), head(got))
	return ""
}

func (c *sourceCheck) checkItem(it Item, content *Content, name string) {
	c.t.Helper()
	if c.NameProperty != "" && content.Context[c.NameProperty] != name {
		c.t.Errorf("context property %s is %q, want %q", c.NameProperty, content.Context[c.NameProperty], name)
	}
	if it.Kept != c.Kept {
		c.t.Errorf("item %s: Kept is %v, want %v", it.Key, it.Kept, c.Kept)
	}
	if c.Content == nil && len(content.Parts) == 1 && it.Size >= 0 && it.Size != int64(len(c.put[name])) {
		c.t.Errorf("item %s says it has %d bytes, want %d", it.Key, it.Size, len(c.put[name]))
	}
	for _, p := range content.Parts {
		if p.Spooled != (len(p.Content) > inlineMax) && len(content.Parts) == 1 {
			c.t.Errorf("part of %d bytes: spooled is %v", len(p.Content), p.Spooled)
		}
	}
}

// settle tells that the items are delivered; kept ones are not settled.
func (c *sourceCheck) settle(h *Handler, items map[string]Item) {
	c.t.Helper()
	if c.Kept {
		return
	}
	for name, it := range items {
		if err := h.Settle(location, it.Key, sdk.Delivered); err != nil {
			c.t.Fatalf("settle %s: %v", name, err)
		}
	}
}

// remains checks which items the source has, after a settle of the others.
func (c *sourceCheck) remains(want ...string) {
	c.t.Helper()
	got := slices.Sorted(slices.Values(c.f.Remaining(c.t)))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		c.t.Errorf("the source has %q, want %q", got, want)
	}
}

// remainsAfterSettle is remains, where a source that keeps items has them all.
func (c *sourceCheck) remainsAfterSettle(want ...string) {
	c.t.Helper()
	if c.Kept {
		want = names(c.put)
	}
	c.remains(want...)
}

func (c *sourceCheck) describes() {
	describes(c.t, c.Adapter, true, c.f.Properties)
}

func (c *sourceCheck) deliversSizes() {
	for i, size := range c.Sizes {
		c.add(fmt.Sprintf("size-%d-%d.bin", i, size), size)
	}
	c.roundTrip()
}

func (c *sourceCheck) deliversNames() {
	if len(c.Names) == 0 {
		c.t.Skip("SourceCase.Names is empty")
	}
	for i, name := range c.Names {
		c.add(name, 20+i)
	}
	c.roundTrip()
}

func (c *sourceCheck) roundTrip() {
	c.t.Helper()
	h := c.start()
	items := c.take(h, len(c.put))
	c.settle(h, items)
	c.remainsAfterSettle()
}

// deliversMany has as many readings and settles under way as may be.
func (c *sourceCheck) deliversMany() {
	const n = 30
	for i := range n {
		c.add(fmt.Sprintf("many-%02d.txt", i), 1000+i)
	}
	h := c.start()
	found := make(chan string, n)
	started := map[string]bool{}
	for len(started) < n {
		h.wait(fmt.Sprintf("%d items, %d so far", n, len(started)), func() bool {
			for key := range h.items[location] {
				if !started[key] {
					return true
				}
			}
			return false
		})
		for _, it := range h.Items(location) {
			if started[it.Key] {
				continue
			}
			started[it.Key] = true
			go func() {
				name := ""
				defer func() { found <- name }() // also when the test was failed
				name = h.handle(c, it)
			}()
		}
	}
	seen := map[string]bool{}
	for range n {
		name := <-found // every wait in handle is bounded
		if name != "" && seen[name] {
			c.t.Errorf("item %q was delivered twice", name)
		}
		seen[name] = true
	}
	c.remainsAfterSettle()
}

// handle takes and settles one item and returns its name. It runs beside the test.
func (h *Handler) handle(c *sourceCheck, it Item) (name string) {
	defer func() {
		if name == "" {
			h.t.Errorf("item %s could not be handled", it.Key)
		}
	}()
	content, err := h.Take(location, it.Key)
	if err != nil {
		h.t.Errorf("take %s: %v", it.Key, err)
		return ""
	}
	name = c.identify(content)
	if c.Kept {
		return name
	}
	if err := h.Settle(location, it.Key, sdk.Delivered); err != nil {
		h.t.Errorf("settle %s: %v", it.Key, err)
	}
	return name
}

func (c *sourceCheck) keysStable() {
	c.addSome()
	h := c.start()
	before := c.take(h, len(c.put))
	h.Kill()
	after := c.take(c.start(), len(c.put))
	for name, it := range before {
		if after[name].Key != it.Key {
			c.t.Errorf("key of %s is %q, and after a restart %q", name, it.Key, after[name].Key)
		}
	}
}

func (c *sourceCheck) addSome() {
	c.t.Helper()
	for i := range 3 {
		c.add(fmt.Sprintf("item-%d.txt", i), 100+i)
	}
}

func (c *sourceCheck) redelivers() {
	c.addSome()
	h := c.start()
	c.take(h, len(c.put))
	h.Kill()
	c.remains(names(c.put)...)
	h = c.start()
	c.settle(h, c.take(h, len(c.put)))
	c.remainsAfterSettle()
}

func (c *sourceCheck) settlesForPredecessor() {
	if c.Kept {
		c.t.Skip("kept items are not settled")
	}
	c.addSome()
	h := c.start()
	first := c.take(h, len(c.put))
	h.Kill()
	// As it is when the first owner died between delivery and settle: the second
	// knows that all ports have the items, and never reads them.
	h = c.start()
	h.WaitItems(location, len(first))
	c.settle(h, first)
	c.remains()
}

func (c *sourceCheck) settleIsExact() {
	c.addSome()
	h := c.start()
	items := c.take(h, len(c.put))
	if c.Kept {
		c.remains(names(c.put)...)
		return
	}
	c.settle(h, map[string]Item{"item-1.txt": items["item-1.txt"]})
	c.remains("item-0.txt", "item-2.txt")
	h.Kill()
	delete(c.put, "item-1.txt")
	c.take(c.start(), 2) // fails on anything that is not one of the two
}

func (c *sourceCheck) sparesChanged() {
	if c.f.Replace == nil || c.Kept {
		c.t.Skip("SourceFixture.Replace is not set, or items are kept")
	}
	const name = "changing.txt"
	c.add(name, 100)
	h := c.start()
	old := c.take(h, 1)[name]
	c.put[name] = randomBytes(123)
	c.f.Replace(c.t, name, c.put[name])
	if err := h.Settle(location, old.Key, sdk.Delivered); err != nil && !sdk.IsGone(err) {
		c.t.Errorf("settle of the item that was replaced: %v; want no error, or Gone", err)
	}
	c.remains(name)
	h.wait("the new item", func() bool {
		for key := range h.items[location] {
			if key != old.Key {
				return true
			}
		}
		return false
	})
	h.change(func() { delete(h.items[location], old.Key) })
	c.settle(h, c.take(h, 1))
	c.remains()
}

// quietTime is how long something that must not happen is waited for.
const quietTime = 300 * time.Millisecond

func (c *sourceCheck) idleWithoutLease() {
	c.addSome()
	h := c.startWithoutLease()
	h.Poll(location)
	h.Ping()
	if h.within(quietTime, func() bool { return len(h.items[location]) > 0 || h.listings[location] > 0 }) {
		c.t.Error("the source was listed without a lease")
	}
	h.Lease(time.Hour)
	c.take(h, len(c.put))
}

func (c *sourceCheck) stopsAtLeaseEnd() {
	c.addSome()
	h := c.start()
	items := c.take(h, len(c.put))
	h.Lease(20 * time.Millisecond)
	if code := h.WaitExit(); code != wire.ExitLeaseEnded {
		c.t.Errorf("exit status %d, want %d", code, wire.ExitLeaseEnded)
	}
	for _, it := range items {
		// Into the void: nothing may come of it.
		h.tell(settleMessage(it.Key))
	}
	h.Kill()
	c.remains(names(c.put)...)
}

func (c *sourceCheck) drains() {
	c.addSome()
	h := c.start()
	items := c.take(h, len(c.put))
	h.Drain()
	c.add("late.txt", 50)
	h.Poll(location)
	h.Ping()
	late := func() bool {
		for key := range h.items[location] {
			if !slices.ContainsFunc(values(items), func(it Item) bool { return it.Key == key }) {
				return true
			}
		}
		return false
	}
	if h.within(quietTime, late) {
		c.t.Error("an item was listed or offered after the drain")
	}
	c.settle(h, items) // what was taken before still ends well
	c.remainsAfterSettle("late.txt")
}

func (c *sourceCheck) backsOff() {
	if c.f.Down == nil || c.f.Up == nil {
		c.t.Skip("SourceFixture.Down and Up are not set")
	}
	c.addSome()
	c.f.Down(c.t)
	h := c.start()
	if why := h.WaitBackingOff(location); why == "" {
		c.t.Error("the location backs off without saying why")
	}
	c.f.Up(c.t)
	h.Poll(location)
	c.settle(h, c.take(h, len(c.put)))
	h.WaitWorking(location)
	c.remainsAfterSettle()
}

func (c *sourceCheck) leavesNothing() {
	c.addSome()
	noLeaks(c.t, c.Timeout, c.Goroutines, func() {
		h := c.start()
		c.settle(h, c.take(h, len(c.put)))
		h.Kill()
	})
}
