package exchange

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// entries is a ledger that remembers how many changes were in each entry.
type entries struct {
	mu    sync.Mutex
	sizes []int
}

func (e *entries) propose(_ context.Context, c *pb.Command) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sizes = append(e.sizes, len(c.GetFates().GetChanges()))
	return nil
}

// committing has changes committed, one after the other at the given distance, while
// so many items are in motion. It returns how long the slowest waited.
func committing(t *testing.T, moving, changes int, apart time.Duration) (e *entries, longest time.Duration) {
	ctx, cancel := context.WithCancel(t.Context())
	e = &entries{}
	c := newCommitter(ctx, Tenure{}, e.propose, func(error) {}, slog.New(slog.DiscardHandler))
	c.move(moving)
	var mu sync.Mutex
	var all sync.WaitGroup
	for range changes {
		all.Go(func() {
			began := time.Now()
			if err := c.commit(ctx, &pb.FateChange{}); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			longest = max(longest, time.Since(began))
		})
		time.Sleep(apart)
	}
	all.Wait()
	cancel()
	c.workers.Wait()
	return e, longest
}

func TestChangesOfManyItemsShareAnEntry(t *testing.T) {
	for _, c := range []struct {
		what            string
		moving, changes int
		apart           time.Duration
		entries         int
		longest         time.Duration
	}{
		{"one item waits for nobody", 1, 20, time.Millisecond, 20, 0},
		{"few items wait for nobody", siblings, 20, time.Millisecond, 20, 0},
		{"of many, half share an entry", 20, 40, time.Millisecond / 2, 4, 9 * time.Millisecond / 2},
		{"of many, nobody waits for long", 64, 20, 3 * time.Millisecond, 7, company},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, longest := committing(t, c.moving, c.changes, c.apart)
				if len(e.sizes) != c.entries || longest > c.longest {
					t.Errorf("entries of %v changes, the slowest after %v; want %d entries and at most %v", e.sizes, longest, c.entries, c.longest)
				}
			})
		})
	}
}
