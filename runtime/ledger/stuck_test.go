package ledger

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// disk is a log that can be made to hang.
type disk struct {
	*raft.InmemStore
	hangs atomic.Pointer[chan struct{}]
}

func (d *disk) StoreLogs(logs []*raft.Log) error {
	if hang := d.hangs.Load(); hang != nil {
		<-*hang
	}
	return d.InmemStore.StoreLogs(logs)
}

func (d *disk) hang() (heal func()) {
	ch := make(chan struct{})
	d.hangs.Store(&ch)
	return func() { d.hangs.Store(nil); close(ch) }
}

// inMemory is a leading cluster of one whose disk can hang.
func inMemory(t *testing.T, stuckAfter time.Duration, onStuck func(time.Duration)) (*Ledger, *disk) {
	t.Helper()
	d := &disk{InmemStore: raft.NewInmemStore()}
	addr, net := raft.NewInmemTransport("")
	l, err := Open(Config{
		Node: "a", Timing: calm, Log: discard(), StuckAfter: stuckAfter, OnStuck: onStuck,
		Logs: d, Votes: d, Snapshots: raft.NewInmemSnapshotStore(), Transport: net,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(within(t)); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v", err)
		}
	})
	if err := l.Bootstrap([]Server{{Node: "a", Address: string(addr), Voter: true}}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "leadership", l.Leading)
	return l, d
}

func TestLeaderWhoseDiskHangsIsReported(t *testing.T) {
	stuck := make(chan time.Duration, 100)
	l, d := inMemory(t, 200*time.Millisecond, func(silent time.Duration) {
		select {
		case stuck <- silent:
		default:
		}
	})
	if _, err := l.Apply(within(t), deploy(1, "g")); err != nil {
		t.Fatal(err)
	}
	heal := d.hang()
	defer heal()
	// The caller waits for much less than it takes to call a disk stuck.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.Apply(ctx, deploy(2, "g")); !errors.Is(err, ErrUnclear) {
		t.Errorf("Apply = %v, want ErrUnclear", err)
	}
	select {
	case silent := <-stuck:
		if silent < 100*time.Millisecond {
			t.Errorf("called stuck after %v", silent)
		}
	case <-time.After(longest):
		t.Fatal("nobody was told")
	}
	if !l.Leading() {
		t.Error("the test is pointless: raft itself took the leadership away")
	}
}

func TestWorkingLeaderIsNotReported(t *testing.T) {
	var stuck atomic.Bool
	l, _ := inMemory(t, 100*time.Millisecond, func(time.Duration) { stuck.Store(true) })
	limit := time.After(500 * time.Millisecond)
	for v := uint64(1); ; v++ {
		if _, err := l.Apply(within(t), deploy(v, "g")); err != nil {
			t.Fatal(err)
		}
		select {
		case <-limit:
			if stuck.Load() {
				t.Error("a working leader was called stuck")
			}
			return
		default:
		}
	}
}

func TestCloseIsBoundedWhileTheDiskHangs(t *testing.T) {
	l, d := inMemory(t, time.Minute, nil)
	heal := d.hang()
	go func() { _, _ = l.Apply(context.Background(), deploy(1, "g")) }()
	waitFor(t, "the proposal", func() bool {
		l.pending.mu.Lock()
		defer l.pending.mu.Unlock()
		return len(l.pending.open) > 0
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := l.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close = %v", err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("Close took %v", d)
	}
	heal() // and everything ends, or goleak complains
}

func TestProposalIsStuckOnlyAfterManyLooks(t *testing.T) {
	ps := newPending()
	p, err := ps.begin()
	if err != nil {
		t.Fatal(err)
	}
	p.began = time.Now().Add(-time.Hour) // the process was frozen
	for i := range stuckTicks - 1 {
		if silent := ps.stuck(true); silent != 0 {
			t.Fatalf("stuck at look %d", i+1)
		}
	}
	if ps.stuck(false) != 0 {
		t.Error("stuck on a node that does not lead")
	}
	for range stuckTicks - 1 {
		ps.stuck(true)
	}
	if ps.stuck(true) < time.Hour {
		t.Error("never stuck")
	}
	ps.end(p)
	if ps.stuck(true) != 0 {
		t.Error("stuck after its end")
	}
}
