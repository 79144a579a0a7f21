package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/demo/cluster"
)

// duplicateWindow is the stream's. It is short, so that the broker's own
// deduplication covers no more than a takeover.
const duplicateWindow = time.Minute

// collector reads everything that reaches the stream.
type collector struct {
	nc      *nats.Conn
	stream  jetstream.Stream
	reading jetstream.ConsumeContext

	mu     sync.Mutex
	hashes []string
	more   chan struct{} // closed and replaced at every message
}

func newCollector(url string) (*collector, error) {
	nc, err := nats.Connect(url, nats.Timeout(5*time.Second))
	if err != nil {
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	c := &collector{nc: nc, more: make(chan struct{})}
	if err := c.start(); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *collector) start() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	js, err := jetstream.New(c.nc)
	if err != nil {
		return err
	}
	c.stream, err = js.CreateStream(ctx, jetstream.StreamConfig{
		Name: stream, Subjects: []string{"demo.in"}, Storage: jetstream.FileStorage, Duplicates: duplicateWindow,
	})
	if err != nil {
		return fmt.Errorf("create the stream: %w", err)
	}
	consumer, err := c.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return fmt.Errorf("read the stream: %w", err)
	}
	c.reading, err = consumer.Consume(func(m jetstream.Msg) {
		hash := cluster.Hash(m.Data())
		c.mu.Lock()
		defer c.mu.Unlock()
		c.hashes = append(c.hashes, hash)
		close(c.more)
		c.more = make(chan struct{})
	})
	return err
}

func (c *collector) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.hashes)
}

// waitFor waits until n messages are there.
func (c *collector) waitFor(ctx context.Context, n int, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		c.mu.Lock()
		have, more := len(c.hashes), c.more
		c.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages came out: %w", have, n, ctx.Err())
		}
	}
}

// drain returns the hashes of all that the stream holds by its own count.
func (c *collector) drain(ctx context.Context) ([]string, error) {
	info, err := c.stream.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("count the stream: %w", err)
	}
	if err := c.waitFor(ctx, int(info.State.Msgs), 30*time.Second); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.hashes...), nil
}

func (c *collector) close() {
	if c.reading != nil {
		c.reading.Stop()
	}
	c.nc.Close()
}
