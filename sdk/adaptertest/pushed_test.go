package adaptertest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/adaptertest"
)

// broker is a queue in memory. A message that is neither acknowledged nor given
// back is offered again when its consumer is gone.
type broker struct {
	mu        sync.Mutex
	down      bool
	changedCh chan struct{}
	sequence  int
	messages  map[int]queued
	dead      map[int]queued // put aside
}

type queued struct {
	name    string
	content []byte
	out     bool // with a consumer
}

func newBroker(t testing.TB) *broker {
	b := &broker{changedCh: make(chan struct{}), messages: map[int]queued{}, dead: map[int]queued{}}
	stores.Store(t.Name(), b)
	t.Cleanup(func() { stores.Delete(t.Name()) })
	return b
}

func (b *broker) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changedCh)
	b.changedCh = make(chan struct{})
}

type queueProperties struct {
	Address string `json:"address" jsonschema:"required" jsonschema_description:"Name of the broker."`
	Broken  string `json:"broken,omitempty" jsonschema_description:"What to do wrong."`
}

var memoryQueue = sdk.Adapter{
	Name: "memory-queue", Version: "1.0.0", Summary: "A queue in memory, for tests.",
	Receive: sdk.Pushed(func(_ context.Context, p queueProperties, env sdk.Env) (sdk.PushedSource, error) {
		b, ok := stores.Load(p.Address)
		if !ok {
			return nil, &sdk.PropertyError{Property: "address", Problem: "no such broker"}
		}
		c := &consumer{b: b.(*broker), broken: p.Broken, ordered: env.Ordered}
		if p.Broken == "no recaller" {
			return struct{ sdk.PushedSource }{c}, nil
		}
		return c, nil
	}),
}

type consumer struct {
	b       *broker
	broken  string // what it does wrong, see TestKitFindsBrokenAdapters
	ordered bool
}

var _ sdk.Recaller = (*consumer)(nil)

func (c *consumer) Close() error { return nil }

// Run hands out everything that is there, each message from a goroutine, or if they
// are ordered one after the other.
func (c *consumer) Run(ctx context.Context, deliver sdk.Deliver) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c.b.mu.Lock()
		if c.b.down {
			c.b.mu.Unlock()
			return errDown
		}
		changed := c.b.changedCh
		for _, n := range c.due() {
			m := c.b.messages[n]
			m.out = true
			c.b.messages[n] = m
			wg.Go(func() {
				if _, err := deliver(context.WithoutCancel(ctx), c.delivery(n, m)); err != nil {
					c.back(n)
				}
			})
		}
		c.b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			if c.broken == "deaf" && !errors.Is(context.Cause(ctx), context.Canceled) {
				ctx = context.WithoutCancel(ctx) // it goes on, with a context that ended
				continue
			}
			return ctx.Err()
		}
	}
}

// due are the messages to hand out now. It is called with the broker's lock held.
func (c *consumer) due() []int {
	var out []int
	for n, m := range c.b.messages {
		if !m.out {
			out = append(out, n)
		} else if c.ordered {
			return nil
		}
	}
	slices.Sort(out)
	if c.broken == "backwards" {
		slices.Reverse(out)
	}
	if c.ordered {
		return out[:min(1, len(out))]
	}
	return out
}

// Recall brings back what was put aside.
func (c *consumer) Recall(_ context.Context, key string) (sdk.Delivery, error) {
	var n int
	if _, err := fmt.Sscanf(key, "memory:%d", &n); err != nil {
		return sdk.Delivery{}, sdk.Permanent(err)
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	m, ok := c.b.dead[n]
	if !ok {
		return sdk.Delivery{}, sdk.Gone(errors.New("not among the dead letters"))
	}
	if c.broken == "recalls another" {
		m.content = []byte("another")
	}
	d := c.delivery(n, m)
	d.Settle = func(_ context.Context, v sdk.Verdict) error {
		if v == sdk.Delivered && c.broken != "recalls for ever" || v != sdk.Delivered && c.broken == "recalls once" {
			c.b.change(func() { delete(c.b.dead, n) })
		}
		return nil
	}
	return d, nil
}

func (c *consumer) delivery(n int, m queued) sdk.Delivery {
	return sdk.Delivery{
		Item: sdk.Item{
			Key: fmt.Sprintf("memory:%d", n), Size: int64(len(m.content)),
			Context: map[string]string{"custom.name": m.name},
		},
		Open: func(context.Context) (*sdk.Content, error) {
			return sdk.Body(io.NopCloser(bytes.NewReader(m.content))), nil
		},
		Settle: func(_ context.Context, v sdk.Verdict) error {
			if v == sdk.Retry {
				c.back(n)
				return nil
			}
			c.b.change(func() {
				if v == sdk.Suspended {
					c.b.dead[n] = c.b.messages[n]
				}
				delete(c.b.messages, n)
			})
			return nil
		},
	}
}

func (c *consumer) back(n int) {
	c.b.change(func() {
		if m, ok := c.b.messages[n]; ok {
			m.out = false
			c.b.messages[n] = m
		}
	})
}

func queueFixture(t testing.TB) adaptertest.SourceFixture { return brokenQueue("")(t) }

// brokenQueue makes fixtures of a queue whose adapter does something wrong.
func brokenQueue(what string) func(testing.TB) adaptertest.SourceFixture {
	return func(t testing.TB) adaptertest.SourceFixture { return newQueueFixture(t, what) }
}

func newQueueFixture(t testing.TB, broken string) adaptertest.SourceFixture {
	b := newBroker(t)
	return adaptertest.SourceFixture{
		Properties: map[string]any{"address": t.Name(), "broken": broken},
		Put: func(_ testing.TB, name string, content []byte) {
			b.change(func() {
				b.sequence++
				b.messages[b.sequence] = queued{name: name, content: content}
			})
		},
		Remaining: func(testing.TB) []string {
			b.mu.Lock()
			defer b.mu.Unlock()
			var out []string
			for m := range maps.Values(b.messages) {
				out = append(out, m.name)
			}
			return out
		},
		Down: func(testing.TB) { b.change(func() { b.down = true }) },
		Up:   func(testing.TB) { b.change(func() { b.down = false }) },
	}
}

func TestPushedSource(t *testing.T) {
	adaptertest.Source(t, adaptertest.SourceCase{
		Adapter: memoryQueue, New: queueFixture, NameProperty: "custom.name", Recalls: true, Ordered: true,
	})
}

func TestPushedSourceThatBringsNothingBack(t *testing.T) {
	adaptertest.Source(t, adaptertest.SourceCase{
		Adapter: memoryQueue, New: brokenQueue("no recaller"), NameProperty: "custom.name", Ordered: true,
	})
}

func TestRetryGivesThePushedItemBack(t *testing.T) {
	f := queueFixture(t)
	f.Put(t, "one", []byte("content"))
	h := adaptertest.Start(t, memoryQueue, adaptertest.Endpoint{Name: "in", Receive: true, Properties: f.Properties})
	it := h.WaitItems("in", 1)[0]
	if err := h.Settle("in", it.Key, sdk.Retry); err != nil {
		t.Fatalf("settle with retry: %v", err)
	}
	again := h.WaitItems("in", 1)[0]
	if again.Key != it.Key {
		t.Fatalf("offered again under %q, want %q", again.Key, it.Key)
	}
	c, err := h.Take("in", it.Key)
	if err != nil || string(c.Parts[0].Content) != "content" {
		t.Fatalf("take: %v, %v", c, err)
	}
	if _, err := h.Take("in", it.Key); !sdk.IsDisconnected(err) {
		t.Errorf("second take of one offer: %v, want a refusal as Disconnected", err)
	}
	if err := h.Settle("in", it.Key, sdk.Suspended); err != nil {
		t.Fatalf("settle as suspended: %v", err)
	}
	if left := slices.Collect(slices.Values(f.Remaining(t))); len(left) > 0 {
		t.Errorf("the broker still has %q", left)
	}
	if err := h.Settle("in", it.Key, sdk.Delivered); !sdk.IsDisconnected(err) {
		t.Errorf("settle of an item that is not held: %v, want Disconnected, so that its fate is kept", err)
	}
}
