package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

var (
	// ErrNotLeader: this node does not lead, or cannot take the command now;
	// nothing was proposed.
	ErrNotLeader = errors.New("this node does not lead the ledger")
	// ErrUnclear: the command may or may not be committed, now or later.
	ErrUnclear = errors.New("unclear whether it is committed")

	errClosed = errors.New("the ledger is closed")
	errSilent = errors.New("raft does not answer")
)

// Apply proposes a command on the leader and returns when it is committed and
// applied here, with its index. Commands of concurrent calls share a write to
// disk. Errors are ErrNotLeader, ErrUnclear, or a refusal of the state machine; a
// refusal comes with its index, too. If ctx has ended before, its error is
// returned and nothing was proposed.
func (l *Ledger) Apply(ctx context.Context, c *pb.Command) (uint64, error) {
	data, err := Encode(c)
	if err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("not proposed: %w", err)
	}
	limit := l.cfg.StuckAfter
	if d, ok := ctx.Deadline(); ok {
		// Never 0, which to raft means no limit.
		limit = max(min(limit, time.Until(d)), time.Millisecond)
	}
	var future raft.ApplyFuture
	err = l.propose(ctx, func() raft.Future {
		future = l.raft.Apply(data, limit)
		return future
	})
	switch {
	case err == nil:
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress),
		errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, errClosed):
		return 0, fmt.Errorf("%w: %w", ErrNotLeader, err)
	default:
		return 0, fmt.Errorf("%w: %w", ErrUnclear, err)
	}
	if refused, ok := future.Response().(error); ok {
		return future.Index(), refused
	}
	return future.Index(), nil
}

// Barrier returns when everything that was committed before is applied here. Only
// the leader can tell.
func (l *Ledger) Barrier(ctx context.Context) error {
	err := l.propose(ctx, func() raft.Future { return l.raft.Barrier(l.cfg.StuckAfter) })
	if err != nil {
		return fmt.Errorf("ledger barrier: %w", err)
	}
	return nil
}

// propose starts something with raft and waits for its end, for ctx, or for
// StuckAfter. start runs in a goroutine of its own, because raft may block it.
func (l *Ledger) propose(ctx context.Context, start func() raft.Future) error {
	p, err := l.pending.begin()
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { // ends when raft answers; Close waits for it
		err := start().Error()
		l.pending.end(p)
		ended <- err
	}()
	limit := time.NewTimer(l.cfg.StuckAfter)
	defer limit.Stop()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-limit.C:
		return errSilent
	case <-l.done:
		return errSilent
	}
}

// stuckTicks is how often a proposal is looked at before it is called stuck.
const stuckTicks = 10

// pending are the proposals that raft has not answered. Their callers may be gone,
// for they wait less long than it takes to call a disk stuck.
type pending struct {
	mu      sync.Mutex
	open    map[*proposal]bool
	closed  bool
	settled chan struct{} // closed when closed and nothing is open
}

type proposal struct {
	began time.Time
	// ticks is how often it was found open. Looks are counted rather than time, so
	// that a process that was frozen does not take its own pause for the disk's.
	ticks int
}

func newPending() *pending {
	return &pending{open: map[*proposal]bool{}, settled: make(chan struct{})}
}

func (ps *pending) begin() (*proposal, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.closed {
		return nil, errClosed
	}
	p := &proposal{began: time.Now()}
	ps.open[p] = true
	return p, nil
}

func (ps *pending) end(p *proposal) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.open, p)
	if ps.closed && len(ps.open) == 0 {
		close(ps.settled)
	}
}

// close refuses further proposals. The channel is closed when none is open.
func (ps *pending) close() <-chan struct{} {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if !ps.closed {
		ps.closed = true
		if len(ps.open) == 0 {
			close(ps.settled)
		}
	}
	return ps.settled
}

// stuck is called at regular times. It returns for how long the oldest proposal
// has been open, once it counts as stuck, and 0 before.
func (ps *pending) stuck(leading bool) (silent time.Duration) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for p := range ps.open {
		if !leading { // raft answers when it sees that it does not lead
			p.ticks = 0
			continue
		}
		if p.ticks++; p.ticks >= stuckTicks {
			silent = max(silent, time.Since(p.began))
		}
	}
	return silent
}
