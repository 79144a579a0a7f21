package guardian

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// desk records calls to peers and when they began.
type desk struct {
	mu    sync.Mutex
	begun time.Time
	calls []string
	at    []time.Duration
}

func (d *desk) note(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, address)
	d.at = append(d.at, time.Since(d.begun))
}

func TestLeaderAloneIsAskedIfItAnswersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{begun: time.Now()}
		err := deliver(t.Context(), []string{"leader", "b", "c"}, func(_ context.Context, address string) error {
			d.note(address)
			time.Sleep(stagger / 2)
			return nil
		})
		if err != nil || !slices.Equal(d.calls, []string{"leader"}) {
			t.Errorf("asked %v, %v", d.calls, err)
		}
	})
}

func TestOthersAreAskedWhileTheLeaderIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{begun: time.Now()}
		err := deliver(t.Context(), []string{"leader", "b", "c"}, func(ctx context.Context, address string) error {
			d.note(address)
			if address == "c" {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if took := time.Since(d.begun); err != nil || took != 2*stagger {
			t.Errorf("took %v, %v, want the third peer's answer after %v", took, err, 2*stagger)
		}
	})
}

func TestOthersAreAskedAtOnceWhenThePeersRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{begun: time.Now()}
		err := deliver(t.Context(), []string{"leader", "b", "c"}, func(_ context.Context, address string) error {
			d.note(address)
			if address == "c" {
				return nil
			}
			return errors.New("connection refused")
		})
		if took := time.Since(d.begun); err != nil || took != 0 {
			t.Errorf("took %v, %v, want no wait", took, err)
		}
	})
}

// The dead node was the leader: nobody can take the notice before the election.
func TestNoticeIsRepeatedUntilThereIsALeaderAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{begun: time.Now()}
		err := deliver(t.Context(), []string{"a", "b"}, func(_ context.Context, address string) error {
			d.note(address)
			if time.Since(d.begun) < 700*time.Millisecond {
				return errors.New("no leader")
			}
			return nil
		})
		if took := time.Since(d.begun); err != nil || took > 700*time.Millisecond+longestRetry {
			t.Errorf("took %v, %v", took, err)
		}
		if len(d.calls) > 12 {
			t.Errorf("%d calls in 0.7 s: too many", len(d.calls))
		}
	})
}

func TestDeliveryEndsWithItsContextAndSaysWhatWasWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begun := time.Now()
		err := deliver(ctx, []string{"a", "b"}, func(ctx context.Context, address string) error {
			if address == "a" {
				<-ctx.Done() // a frozen node
				return ctx.Err()
			}
			return errors.New("b knows no leader")
		})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "b knows no leader") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begun); took != 3*time.Second {
			t.Errorf("took %v, want the context's 3 s", took)
		}
	})
}

func TestNoticeWithoutPeersFailsAtOnce(t *testing.T) {
	m := &Messenger{}
	if err := m.Prepare(nil).Deliver(t.Context(), Notice{Node: "node-a"}); !errors.Is(err, errNoPeers) {
		t.Errorf("got %v, want that nobody is known", err)
	}
}
