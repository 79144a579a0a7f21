package adaptertest

import (
	"fmt"
	"slices"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/wire"
)

// The checks of Source, in the order in which they run.

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
