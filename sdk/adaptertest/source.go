package adaptertest

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
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
		{"pause takes up nothing new and ends well", (*sourceCheck).pauses},
		{"starts paused", (*sourceCheck).startsPaused},
		{"small content may come with the offer", (*sourceCheck).offersContent},
		{"brings suspended items back", (*sourceCheck).recalls},
		{"keeps the order when asked", (*sourceCheck).keepsOrder},
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
	return c.startEndpoint(c.endpoint())
}

// startEndpoint starts a handler with this endpoint, without a lease.
func (c *sourceCheck) startEndpoint(e Endpoint) *Handler {
	c.t.Helper()
	h := StartWithoutLease(c.t, c.Adapter, e)
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
