package netns

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/demo/cluster"
)

const (
	// everyItem is the pause between two files.
	everyItem = 40 * time.Millisecond
	// One file of bigEvery has bigSize: more than what stays in a node's memory.
	bigEvery, bigSize = 400, 5 << 20
)

// traffic puts files at the source, one after the other, until it is stopped.
type traffic struct {
	server *ftpServer
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	items []cluster.Item
	err   error
}

func startTraffic(t *testing.T, s *ftpServer, rng *rand.Rand) *traffic {
	ctx, cancel := context.WithCancel(t.Context())
	f := &traffic{server: s, cancel: cancel, done: make(chan struct{})}
	seeds := [2]uint64{rng.Uint64(), rng.Uint64()}
	go f.feed(ctx, rand.New(rand.NewPCG(seeds[0], seeds[1])))
	t.Cleanup(func() { f.stop() })
	return f
}

func (f *traffic) feed(ctx context.Context, rng *rand.Rand) {
	defer close(f.done)
	tick := time.NewTicker(everyItem)
	defer tick.Stop()
	for n := 0; ; n++ {
		item := newItem(n, rng)
		// Known before it is there, so that nothing can arrive that is not known.
		f.mu.Lock()
		f.items = append(f.items, item)
		f.mu.Unlock()
		if err := f.server.put(item); err != nil {
			f.mu.Lock()
			f.err = fmt.Errorf("put %s: %w", item.Name, err)
			f.mu.Unlock()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// newItem makes a file whose content no other file has.
func newItem(n int, rng *rand.Rand) cluster.Item {
	size := rng.IntN(8 << 10)
	if n%bigEvery == bigEvery/2 {
		size = bigSize
	}
	name := fmt.Sprintf("item-%06d.edi", n)
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(rng.Uint32())
	}
	return cluster.Item{Name: name, Content: append([]byte(name+"\n"), content...)}
}

// stop ends the traffic and returns all that went in.
func (f *traffic) stop() ([]cluster.Item, error) {
	f.cancel()
	<-f.done
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.items, f.err
}

// next is the name of a file that is put after this call.
func (f *traffic) next() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("item-%06d.edi", len(f.items))
}
