package sdk

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// batcher is a fake with Flush.
type batcher struct {
	*fake
	flush func(ctx context.Context) error
}

func (b *batcher) Flush(ctx context.Context) error { return b.flush(ctx) }

func (b *batcher) adapter() Adapter {
	return Adapter{Receive: Polled(func(context.Context, struct{}, Env) (PolledSource, error) { return b, nil })}
}

func TestBatcherSettlesCountOnlyAfterFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batcher{fake: listing("a", "b", "slow")}
		release := make(chan struct{})
		open := b.open
		b.open = func(ctx context.Context, it Item) (*Content, error) { <-release; return open(ctx, it) }
		flushes := 0
		b.flush = func(context.Context) error { flushes++; return nil }
		r := newSide(t, b.adapter(), 4, "in")
		r.lease(time.Hour)
		r.take("slow")
		r.settle("a", "b")
		time.Sleep(flushAfter + time.Second)
		synctest.Wait()
		if flushes != 0 || r.settledText() != "" {
			t.Errorf("%d flushes, settled %q while a reading was under way", flushes, r.settledText())
		}
		close(release)
		synctest.Wait()
		if got := r.settledText(); flushes != 1 || len(strings.Fields(got)) != 2 {
			t.Errorf("%d flushes, settled %q, want both by one flush", flushes, got)
		}
		r.end()
	})
}

func TestFailedFlushSettlesAgainFromAFreshListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batcher{}
		b.fake = listing()
		session, left := 1, []string{"went", "stayed"}
		b.list = func(context.Context) (out []Item, err error) {
			for _, k := range left {
				out = append(out, Item{Key: k, Handle: session})
			}
			return out, nil
		}
		var settled []string
		b.settle = func(_ context.Context, it Item) error {
			if it.Handle != session {
				return errors.New("handle of an old session")
			}
			settled = append(settled, it.Key)
			return nil
		}
		b.flush = func(context.Context) error {
			if session++; session == 2 {
				left = []string{"stayed"} // the connection broke in the middle
				return errTest
			}
			left = nil
			return nil
		}
		r := newSide(t, b.adapter(), 1, "in")
		r.lease(time.Hour)
		r.settle("went", "stayed")
		synctest.Wait()
		got := r.settledText()
		if !strings.Contains(got, "went") || !strings.Contains(got, "stayed") || strings.Contains(got, "=") {
			t.Errorf("settled %q, want both without error", got)
		}
		if n := strings.Count(strings.Join(settled, " "), "stayed"); n != 2 {
			t.Errorf("settled calls %v, want stayed twice", settled)
		}
		r.end()
	})
}
