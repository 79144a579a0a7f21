package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/fairlead-io/fairlead/runtime/exchange"
	"github.com/fairlead-io/fairlead/runtime/handler"
)

func TestEndsAreCountedInASlidingWindow(t *testing.T) {
	minutes := func(m ...float64) (ends []time.Duration) {
		for _, x := range m {
			ends = append(ends, time.Duration(x*float64(time.Minute)))
		}
		return ends
	}
	for _, c := range []struct {
		name   string
		policy RestartPolicy
		ends   []time.Duration
		first  int // index of the first end that is one too many, -1: none
	}{
		{"one end", defaultRestart, minutes(0), -1},
		{"two at once", defaultRestart, minutes(0, 0), 1},
		{"two within the window", defaultRestart, minutes(0, 14.9), 1},
		{"two just outside of it", defaultRestart, minutes(0, 15), -1},
		{"one every quarter of an hour", defaultRestart, minutes(0, 15, 30, 45, 60), -1},
		{"the window slides", defaultRestart, minutes(0, 16, 20), 2},
		{"no restart allowed", RestartPolicy{Max: 0, Within: time.Minute}, minutes(3), 0},
		{"three allowed", RestartPolicy{Max: 3, Within: 10 * time.Minute}, minutes(0, 1, 2, 10.5, 10.6), 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			th, begin, first := thresholds{policy: c.policy}, time.Now(), -1
			for i, at := range c.ends {
				if th.ended(begin.Add(at)) > c.policy.Max && first < 0 {
					first = i
				}
			}
			if first != c.first {
				t.Errorf("end %d is the first one too many, want %d", first, c.first)
			}
		})
	}
}

// The window's answer is what a plain count over all ends says, in bounded memory.
func TestThresholdsAgreeWithAPlainCount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := RestartPolicy{
			Max:    rapid.IntRange(0, 5).Draw(t, "max"),
			Within: time.Duration(rapid.IntRange(1, 60).Draw(t, "within")) * time.Second,
		}
		th, now := thresholds{policy: policy}, time.Now()
		var all []time.Time
		for _, gap := range rapid.SliceOf(rapid.IntRange(0, 70)).Draw(t, "gaps") {
			now = now.Add(time.Duration(gap) * time.Second)
			all = append(all, now)
			plain := 0
			for _, e := range all {
				if now.Sub(e) < policy.Within {
					plain++
				}
			}
			if got := th.ended(now) > policy.Max; got != (plain > policy.Max) {
				t.Fatalf("too many: %v, but there were %d ends, %d allowed", got, plain, policy.Max)
			}
			if len(th.ends) > policy.Max+1 {
				t.Fatalf("%d ends are kept, %d decide", len(th.ends), policy.Max+1)
			}
		}
	})
}

// failures collects what Failed is told.
type failures struct {
	mu   sync.Mutex
	told []string
	at   []time.Time
}

func (f *failures) failed(reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told, f.at = append(f.told, reason), append(f.at, time.Now())
}

func (f *failures) reasons() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.told)
}

// startWith starts a host whose failures are collected.
func startWith(l *launcher, change func(*Config)) (*Host, *failures) {
	f := &failures{}
	cfg := Config{
		Name: "h", Ports: exchange.NewPorts(), Failed: f.failed,
		Lease:    &fakeLease{deadline: 1, extended: make(chan struct{})},
		Log:      slog.New(slog.NewTextHandler(io.Discard, nil)),
		Handlers: []Handler{{Adapter: "ftp", Locations: []string{"in", "in2"}, Launch: l.launch}},
	}
	if change != nil {
		change(&cfg)
	}
	return Start(cfg), f
}

func TestASecondEndWithinTheWindowFailsTheHostOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &launcher{}
		h, f := startWith(l, nil)
		defer h.Kill()
		synctest.Wait()
		l.last().end(errors.New("exit status 2"))
		time.Sleep(firstBackoff)
		synctest.Wait()
		if n, told := len(l.times()), f.reasons(); n != 2 || len(told) != 0 {
			t.Fatalf("after one end: %d launches, failures %q; want it started again at once, and no failure", n, told)
		}
		time.Sleep(10 * time.Minute)
		l.last().end(errors.New("exit status 3"))
		synctest.Wait()
		told := f.reasons()
		if len(told) != 1 || !strings.Contains(told[0], "handler ftp ended 2 times within 15m0s, where 1 is allowed; at last: exit status 3") {
			t.Fatalf("failures %q", told)
		}
		time.Sleep(releaseWithin - time.Millisecond)
		if n := len(l.times()); n != 2 {
			t.Errorf("%d launches, want it kept down for its owner to take the host elsewhere", n)
		}
		// Nobody took it: it goes on, and says nothing more.
		for range 5 {
			time.Sleep(time.Minute)
			l.last().end(errors.New("exit status 4"))
		}
		time.Sleep(time.Minute)
		if s := h.States()[0]; s.State != "running" || len(f.reasons()) != 1 {
			t.Errorf("state %+v, failures %q; want it running again, and one failure", s, f.reasons())
		}
	})
}

func TestASteadyRunForgetsEarlierEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &launcher{}
		h, f := startWith(l, nil)
		defer h.Kill()
		for range 4 {
			time.Sleep(defaultRestart.Within)
			l.last().end(errors.New("exit status 2"))
		}
		synctest.Wait()
		if told := f.reasons(); len(told) != 0 {
			t.Errorf("failures %q of a handler that ends once in 15 minutes", told)
		}
	})
}

func TestFailedLaunchesCountAsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &launcher{fail: func(int) error { return handler.ErrChecksum }}
		h, f := startWith(l, func(c *Config) { c.Restart = RestartPolicy{Max: 2, Within: time.Hour} })
		defer h.Kill()
		time.Sleep(time.Second)
		if told := f.reasons(); len(told) != 1 || !strings.Contains(told[0], handler.ErrChecksum.Error()) {
			t.Errorf("failures %q, want one that names the checksum", told)
		}
	})
}

func TestTheEndOfTheLeaseIsNotTheHandlersFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &launcher{fail: func(int) error { return fmt.Errorf("not started: %w", handler.ErrLeaseEnded) }}
		h, f := startWith(l, nil)
		defer h.Kill()
		time.Sleep(time.Minute)
		if told := f.reasons(); len(told) != 0 {
			t.Errorf("failures %q", told)
		}
	})
}

// vippsas/manifold#555: a crash at the start was answered with a fork at once, for
// ever. hashicorp/vault#3126: a crashed plugin was not started again at all.
func TestRegressionManifold555Vault3126RestartsAreBoundedAndGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &launcher{fail: func(int) error { return errors.New("exited at start") }}
		h, _ := startWith(l, func(c *Config) { c.Failed = nil })
		time.Sleep(time.Hour)
		n := len(l.times())
		if most := int(time.Hour/longestBackoff) + 10; n > most {
			t.Errorf("%d launches in an hour, want at most %d", n, most)
		}
		if least := int(time.Hour / longestBackoff); n < least {
			t.Errorf("%d launches in an hour, want at least %d: it was given up", n, least)
		}
		if err := h.Kill(); err != nil {
			t.Errorf("kill: %v", err)
		}
	})
}

func TestAProcessThatCannotBeKilledIsReportedAndNoneIsStartedBesideIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &launcher{prepare: func(p *fakeProcess) { p.unkillable.Store(true) }}
		h, f := startWith(l, nil)
		synctest.Wait()
		p := l.last()
		// As a handler ends that was killed because it hung, and does not end.
		p.end(fmt.Errorf("stopped answering: %w", ErrSurvives))
		time.Sleep(2 * longestBackoff)
		if n, told := len(l.times()), f.reasons(); n != 1 || len(told) != 1 || !strings.Contains(told[0], "uninterruptible sleep") {
			t.Errorf("%d launches, failures %q; want one failure with the process's state, and nothing beside it", n, told)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := h.Stop(ctx)
		if !errors.Is(err, ErrSurvives) || !strings.Contains(err.Error(), fmt.Sprint(p.pid)) {
			t.Errorf("stop: %v, want ErrSurvives with the number", err)
		}
		if took := time.Since(began); took > endWithin {
			t.Errorf("stop took %v", took)
		}
		if s := h.States()[0]; s.State != "failed" || s.Error == "" {
			t.Errorf("state %+v", s)
		}
		p.unkillable.Store(false)
		if err := h.Kill(); err != nil {
			t.Errorf("kill, now that it is gone: %v", err)
		}
	})
}

func TestTheEndOfOneThatCouldNotBeKilledLetsTheNextStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &launcher{prepare: func(p *fakeProcess) { p.unkillable.Store(p.pid == 1001) }}
		h, _ := startWith(l, nil)
		defer h.Kill()
		synctest.Wait()
		first := l.last()
		first.end(ErrSurvives)
		time.Sleep(time.Minute)
		first.unkillable.Store(false)
		time.Sleep(2 * longestBackoff)
		if s := h.States()[0]; len(l.times()) != 2 || s.State != "running" {
			t.Errorf("%d launches, state %+v; want another one, running", len(l.times()), s)
		}
	})
}

func TestKillOfAProcessThatCannotBeKilledIsBounded(t *testing.T) {
	for name, end := range map[string]func(*Host) error{
		"kill": (*Host).Kill,
		"stop": func(h *Host) error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			return h.Stop(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &launcher{prepare: func(p *fakeProcess) { p.stuck = true; p.unkillable.Store(true) }}
				h, _ := startWith(l, nil)
				synctest.Wait()
				began := time.Now()
				if err := end(h); !errors.Is(err, ErrSurvives) {
					t.Errorf("got %v, want ErrSurvives", err)
				}
				if took := time.Since(began); took > endWithin {
					t.Errorf("took %v", took)
				}
				l.last().unkillable.Store(false)
				if err := h.Kill(); err != nil {
					t.Errorf("kill, now that it is gone: %v", err)
				}
			})
		})
	}
}
