package handler

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func startPool(t *testing.T, s Spec, most int) *Pool {
	t.Helper()
	p := NewPool(PoolConfig{RuntimeDir: s.RuntimeDir, Log: s.Log, Most: most, refillAfter: time.Millisecond})
	t.Cleanup(p.Close)
	return p
}

func waitFor(t *testing.T, p *Pool, n int) {
	t.Helper()
	eventually(t, "the pool has what it is to have", func() bool { return p.Len() == n })
}

func TestAPoolKeepsWhatIsWantedAndRefills(t *testing.T) {
	s, _, _ := spec(t, "good")
	p := startPool(t, s, 0)
	if p.Take(s.Binary) != nil {
		t.Error("an empty pool has a process")
	}
	p.Set([]Wanted{{Binary: s.Binary, Count: 2}})
	waitFor(t, p, 2)
	s.Prepared = p.Take(s.Binary)
	if s.Prepared == nil {
		t.Fatal("the pool has nothing to give")
	}
	h := start(t, s)
	if h.PID() != s.Prepared.PID() {
		t.Error("what the pool gave was not used")
	}
	waitFor(t, p, 2)

	other := s.Binary
	other.Version = "9.9.9"
	if q := p.Take(other); q != nil {
		t.Error("a process of another version was given")
	}
	p.mu.Lock()
	pid := p.idle[0].PID()
	p.mu.Unlock()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the dead one is replaced", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.idle) == 2 && p.idle[0].PID() != pid && p.idle[1].PID() != pid
	})
	p.Set(nil)
	waitFor(t, p, 0)
	// They are out of the pool before they have ended; the handler's cleanup looks for
	// what is left.
	p.Close()
}

func TestAPoolIsBoundedAndServesTheFirstWantedFirst(t *testing.T) {
	first, _, _ := spec(t, "good")
	second, _, _ := spec(t, "echo")
	p := startPool(t, first, 3)
	p.Set([]Wanted{{first.Binary, 2}, {second.Binary, 5}})
	waitFor(t, p, 3)
	for i, b := range []Binary{first.Binary, first.Binary, second.Binary} {
		q := p.Take(b)
		if q == nil {
			t.Errorf("process %d is missing", i)
		}
		_ = q.Close()
	}
}

func TestClosingAPoolEndsItsProcesses(t *testing.T) {
	s, _, _ := spec(t, "stubborn")
	p := startPool(t, s, 0)
	p.Set([]Wanted{{s.Binary, 2}})
	waitFor(t, p, 2)
	p.mu.Lock()
	pids := []int{p.idle[0].PID(), p.idle[1].PID()}
	p.mu.Unlock()
	p.Close()
	for _, pid := range pids {
		checkNothingLeft(t, s.RuntimeDir, pid)
	}
	if p.Take(s.Binary) != nil {
		t.Error("a closed pool has a process")
	}
}

func TestAPoolTriesABrokenBinaryWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		tries := 0
		p := NewPool(PoolConfig{prepare: func(context.Context, PrepareSpec) (*Prepared, error) {
			mu.Lock()
			defer mu.Unlock()
			tries++
			return nil, errors.New("exited at start")
		}})
		defer p.Close()
		p.Set([]Wanted{{Binary{Name: "x", Path: "/x", SHA256: "y"}, 1}})
		time.Sleep(24 * time.Hour)
		mu.Lock()
		defer mu.Unlock()
		if most, least := int(24*time.Hour/longestRetry)+10, int(24*time.Hour/longestRetry)-1; tries > most || tries < least {
			t.Errorf("%d tries in a day, want %d to %d", tries, least, most)
		}
	})
}
