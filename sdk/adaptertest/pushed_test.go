package adaptertest_test

import (
	"bytes"
	"context"
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
}

type queued struct {
	name    string
	content []byte
	out     bool // with a consumer
}

func newBroker(t testing.TB) *broker {
	b := &broker{changedCh: make(chan struct{}), messages: map[int]queued{}}
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
}

var memoryQueue = sdk.Adapter{
	Name: "memory-queue", Version: "1.0.0", Summary: "A queue in memory, for tests.",
	Receive: sdk.Pushed(func(_ context.Context, p queueProperties, _ sdk.Env) (sdk.PushedSource, error) {
		b, ok := stores.Load(p.Address)
		if !ok {
			return nil, &sdk.PropertyError{Property: "address", Problem: "no such broker"}
		}
		return &consumer{b.(*broker)}, nil
	}),
}

type consumer struct{ b *broker }

func (c *consumer) Close() error { return nil }

// Run hands out everything that is there, each message from a goroutine.
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
		for n, m := range c.b.messages {
			if m.out {
				continue
			}
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
			return ctx.Err()
		}
	}
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
			c.b.change(func() { delete(c.b.messages, n) })
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

func queueFixture(t testing.TB) adaptertest.SourceFixture {
	b := newBroker(t)
	return adaptertest.SourceFixture{
		Properties: map[string]any{"address": t.Name()},
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
		Adapter: memoryQueue, New: queueFixture, NameProperty: "custom.name",
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
