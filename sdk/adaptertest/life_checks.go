package adaptertest

import (
	"fmt"
	"maps"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

// The checks of Source for what a location meets besides its daily work.

// offerInlineMax is the size up to which content may come with its offer, as in the
// runtime.
const offerInlineMax = 64 << 10

// without are the items that are not among those known.
func without(known map[string]Item, all []Item) []Item {
	var out []Item
	for _, it := range all {
		seen := false
		for _, one := range known {
			seen = seen || one.Key == it.Key
		}
		if !seen {
			out = append(out, it)
		}
	}
	return out
}

// quiet checks that nothing new comes for a while.
func (c *sourceCheck) quiet(h *Handler, known map[string]Item, when string) {
	c.t.Helper()
	h.Ping()
	// Runs with the handler's lock held, which Items takes as well.
	if h.within(quietTime, func() bool {
		for key := range h.items[location] {
			if len(without(known, []Item{{Key: key}})) > 0 {
				return true
			}
		}
		return false
	}) {
		c.t.Errorf("an item was listed or offered %s", when)
	}
}

func (c *sourceCheck) pauses() {
	c.addSome()
	h := c.start()
	items := c.take(h, len(c.put))
	h.Pause(location, true)
	h.WaitStopped(location)
	c.add("late.txt", 50)
	c.quiet(h, items, "during the pause")
	c.settle(h, items) // what was taken before ends well
	c.remainsAfterSettle("late.txt")
	if h.polls(location) {
		h.Poll(location) // on demand it is looked at all the same
		h.wait("the late item", func() bool { return len(h.items[location]) > 0 })
	}
	h.Pause(location, false)
	c.takeRest(h, items)
	c.remainsAfterSettle()
}

// takeRest takes and settles what is new since the known ones.
func (c *sourceCheck) takeRest(h *Handler, known map[string]Item) {
	c.t.Helper()
	all := c.put
	defer func() { c.put = all }()
	c.put = maps.Clone(all)
	for name, it := range known {
		delete(c.put, name)
		h.change(func() { delete(h.items[location], it.Key) })
	}
	if c.Kept { // they are listed all the time
		c.put = all
		c.take(h, len(all))
		return
	}
	c.settle(h, c.take(h, len(c.put)))
}

func (c *sourceCheck) startsPaused() {
	c.addSome()
	e := c.endpoint()
	e.Paused = true
	h := c.startEndpoint(e)
	h.Lease(time.Hour)
	h.WaitStopped(location)
	c.quiet(h, nil, "although the location started paused")
	h.Pause(location, false)
	c.settle(h, c.take(h, len(c.put)))
	c.remainsAfterSettle()
}

func (c *sourceCheck) offersContent() {
	for i, size := range []int{0, 1, 1000, offerInlineMax, offerInlineMax + 1} {
		c.add(fmt.Sprintf("offered-%d.bin", i), size)
	}
	e := c.endpoint()
	e.OfferInlineMax = offerInlineMax
	h := c.startEndpoint(e)
	h.Lease(time.Hour)
	items := c.take(h, len(c.put)) // whichever way it came
	for name, it := range items {
		inline := h.cameWithOffer(location, it.Key)
		want := !h.polls(location) && it.Size >= 0 && it.Size <= offerInlineMax
		if inline != want {
			c.t.Errorf("%s says it has %d bytes; its content came with the offer: %v, want %v (do its parts have more than that?)", name, it.Size, inline, want)
		}
	}
	c.settle(h, items)
	c.remainsAfterSettle()
}

func (c *sourceCheck) recalls() {
	if c.Kept {
		c.t.Skip("kept items are not put aside")
	}
	c.addSome()
	h := c.start()
	items := c.take(h, len(c.put))
	const name = "item-1.txt"
	key := items[name].Key
	if !h.polls(location) && !c.Recalls {
		if err := h.Recall(location, key+"-of-another"); !sdk.IsPermanent(err) {
			c.t.Errorf("recall: %v; want Permanent from a source that is no sdk.Recaller, or SourceCase.Recalls set", err)
		}
		return
	}
	if err := h.Settle(location, key, sdk.Suspended); err != nil {
		c.t.Fatalf("settle %s as suspended: %v", name, err)
	}
	delete(items, name)
	c.settle(h, items)
	c.recallOne(h, name, key, sdk.Suspended) // it fails once more, and stays where it lies
	h.Kill()
	h = c.start()
	c.recallOne(h, name, key, sdk.Retry)
	c.recallOne(h, name, key, sdk.Delivered)
	c.remains()
	if h.polls(location) {
		return
	}
	if err := h.Recall(location, key); !sdk.IsGone(err) {
		c.t.Errorf("recall of an item that was delivered: %v, want Gone", err)
	}
}

// recallOne recalls an item, reads it and settles it.
func (c *sourceCheck) recallOne(h *Handler, name, key string, v sdk.Verdict) {
	c.t.Helper()
	if err := h.Recall(location, key); err != nil {
		c.t.Fatalf("recall %s: %v", name, err)
	}
	it := h.WaitItem(location, key)
	content, err := h.Take(location, key)
	if err != nil {
		c.t.Fatalf("take %s after its recall: %v", name, err)
	}
	if got := c.identify(content); got != name {
		c.t.Errorf("the recall of %s brought back %s", name, got)
	}
	c.checkItem(it, content, name)
	if err := h.Settle(location, key, v); err != nil {
		c.t.Fatalf("settle %s after its recall: %v", name, err)
	}
}

// keepsOrder goes through the items one by one, as an ordered location's runtime does.
func (c *sourceCheck) keepsOrder() {
	if !c.Ordered {
		c.t.Skip("SourceCase.Ordered is not set")
	}
	var want []string
	for i := range 8 {
		name := fmt.Sprintf("ordered-%d.txt", 9-i) // not the order of the names
		want = append(want, name)
		c.add(name, 100+i)
	}
	e := c.endpoint()
	e.Ordered = true
	if c.f.MakeOrdered != nil {
		c.f.MakeOrdered(c.t)
	}
	h := c.startEndpoint(e)
	h.Lease(time.Hour)
	for i, name := range want {
		h.wait(fmt.Sprintf("item %d", i+1), func() bool { return len(h.order[location]) > i })
		if n := len(h.Items(location)); n > 1 && !h.polls(location) {
			c.t.Errorf("%d items are offered at a time, want one", n)
		}
		key := h.arrivals(location)[i]
		content, err := h.Take(location, key)
		if err != nil {
			c.t.Fatalf("take item %d: %v", i+1, err)
		}
		if got := c.identify(content); got != name {
			c.t.Fatalf("item %d is %s, want %s", i+1, got, name)
		}
		if c.Kept {
			continue
		}
		if err := h.Settle(location, key, sdk.Delivered); err != nil {
			c.t.Fatalf("settle item %d: %v", i+1, err)
		}
	}
}
