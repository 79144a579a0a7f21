package crash

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/fairlead-io/fairlead/runtime/config"
	"github.com/fairlead-io/fairlead/runtime/datadir"
	"github.com/fairlead-io/fairlead/runtime/exchange"
	"github.com/fairlead-io/fairlead/runtime/node"
)

// What the node under test says on its standard output, and is told on its input:
// "STEP N PID" arms it to kill the process at the Nth time of the step.
const (
	saysStarted = "started"
	saysArmed   = "armed"
	saysStruck  = "struck"
)

// stopWithin bounds the end of a node under test that nobody needs any more.
const stopWithin = 10 * time.Second

// runNode runs the node of the file as `fairlead run --no-guardian` does, until its
// input ends: that is when the test ends, however it ends.
func runNode(file string) error {
	cfg, err := config.LoadNode(file)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// What is left of the adapters of the run before holds it for some milliseconds.
	lock, err := datadir.Open(ctx, cfg.Node.DataDir, datadir.WithLog(log))
	if err != nil {
		return err
	}
	defer lock.Close()
	s := &striker{}
	n, err := node.New(node.Config{
		File: cfg, Version: "0.1.0", Log: log, Lock: lock.File(), LockID: lock.ID(), Steps: s.at,
	})
	if err != nil {
		return err
	}
	if err := n.Start(ctx); err != nil {
		return err
	}
	fmt.Println(saysStarted)
	err = s.obey()
	if n.Err() != nil {
		err = n.Err()
	}
	ctx, cancel = context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	return errors.Join(err, n.Stop(ctx))
}

// striker kills a process at a step.
type striker struct {
	mu   sync.Mutex
	step exchange.Step // empty: it is not armed
	left int           // times until the one that counts
	pid  int
}

// obey takes orders from the standard input until it ends.
func (s *striker) obey() error {
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		var step exchange.Step
		var times, pid int
		if _, err := fmt.Sscan(orders.Text(), &step, &times, &pid); err != nil {
			return fmt.Errorf("order %q: %w", orders.Text(), err)
		}
		s.mu.Lock()
		s.step, s.left, s.pid = step, times, pid
		s.mu.Unlock()
		fmt.Println(saysArmed)
	}
	return orders.Err()
}

// at is called by the exchange at every step. The other items wait at theirs while it
// strikes, so that nothing goes on beside a process that is being killed.
func (s *striker) at(step exchange.Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if step != s.step {
		return
	}
	if s.left--; s.left > 0 {
		return
	}
	s.step = ""
	if err := s.strike(); err != nil {
		fmt.Println(err) // the test takes it for a wrong answer
		return
	}
	fmt.Println(saysStruck)
}

// strike kills and returns when the process is gone; of its own end it does not
// return.
func (s *striker) strike() error {
	if err := syscall.Kill(s.pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %d: %w", s.pid, err)
	}
	if s.pid == os.Getpid() {
		select {}
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(stopWithin); ; <-tick.C {
		// The node waits for its children, so a dead one is gone soon.
		if errors.Is(syscall.Kill(s.pid, 0), syscall.ESRCH) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("process %d still runs %v after SIGKILL", s.pid, stopWithin)
		}
	}
}
