package simulation

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/ownership"
	"github.com/fairlead-io/fairlead/runtime/placement"
	"github.com/fairlead-io/fairlead/sdk/bootclock"
)

// What schedules have found stays here as scenarios of its own.

// soleLog is the ledger of a leader of one, whose first barrier fails.
type soleLog struct {
	mu       sync.Mutex
	machine  *ledger.Machine
	index    uint64
	barriers int
	leader   chan bool
}

func (l *soleLog) View(look func(*pb.State)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	look(l.machine.State())
}

func (l *soleLog) Changes() (<-chan struct{}, func()) { return make(chan struct{}), func() {} }
func (l *soleLog) LeaderCh() <-chan bool              { return l.leader }

func (l *soleLog) Apply(_ context.Context, c *pb.Command) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index++
	return l.index, l.machine.Apply(l.index, c)
}

func (l *soleLog) Barrier(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.barriers++; l.barriers == 1 {
		return errors.New("leadership transfer in progress")
	}
	return nil
}

// Seed 405: a transfer of the leadership began before the new leader had caught up,
// and failed. The leader stayed, and coordinated nothing for as long as it led.
func TestALeaderThatCannotCatchUpAtOnceTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &soleLog{machine: ledger.NewMachine(), leader: make(chan bool, 1)}
		register := &pb.Register{Session: &pb.Session{Incarnation: "a.1", Node: "a", Machine: ledger.MachineVersion}}
		if _, err := l.Apply(t.Context(), &pb.Command{Kind: &pb.Command_Register{Register: register}}); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		began := time.Now()
		c := ownership.NewCoordinator(ownership.CoordinatorConfig{
			Log: l, TTL: ttl, Plan: func(*pb.State) placement.Cluster { return placement.Cluster{} },
			Now:    func() bootclock.Time { return bootclock.Time(time.Since(began)) },
			Logger: slog.New(slog.DiscardHandler),
		})
		var coordinator sync.WaitGroup
		coordinator.Go(func() { c.Run(ctx) })
		defer func() { stop(); coordinator.Wait() }()
		l.leader <- true
		synctest.Wait()
		attempt, cancel := context.WithTimeout(ctx, ttl)
		defer cancel()
		if err := c.Renew(attempt, "a.1"); err != nil {
			t.Errorf("no lease from a leader whose first barrier failed: %v", err)
		}
	})
}
