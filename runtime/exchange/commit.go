package exchange

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// Tenure is the right under which fates are committed.
type Tenure struct {
	Group, Incarnation string
	Epoch              uint64
}

// Proposing hands a command to the ledger's leader and returns its outcome.
type Proposing func(ctx context.Context, c *pb.Command) error

const (
	// maxBatch bounds one ledger entry, pipelined how many are under way at once.
	// Batches may overtake each other: an item waits for each of its own changes
	// before it asks for the next.
	maxBatch  = 512
	pipelined = 2
	// linger is how long a change that nobody waits for may wait for others.
	linger = 50 * time.Millisecond
	// Every entry costs syncs of disks, whatever is in it. So a change waits for others
	// while more than siblings items are in motion, until half of those have come, but
	// not longer than company: the rule of PostgreSQL's commit_delay and commit_siblings.
	company  = 8 * time.Millisecond
	siblings = 4
	// proposeTimeout bounds one proposal; it is made again until the tenure ends.
	proposeTimeout = 5 * time.Second
	proposeAgain   = 50 * time.Millisecond
)

// committer gathers the changes of many items into few ledger entries.
type committer struct {
	tenure  Tenure
	propose Proposing
	fenced  func(error) // called when the ledger says that the tenure is over
	log     *slog.Logger
	queue   chan pending
	idle    chan pending  // what nobody waits for
	turn    chan struct{} // held by the worker that gathers: what comes is not divided
	moving  atomic.Int64  // items in motion, each of which commits soon
	workers sync.WaitGroup
}

// pending are changes that go into one entry, and what is to be done then.
type pending struct {
	changes []*pb.FateChange
	then    func(error)
}

// newCommitter starts the committer; it works until ctx ends.
func newCommitter(ctx context.Context, t Tenure, propose Proposing, fenced func(error), log *slog.Logger) *committer {
	c := &committer{
		tenure: t, propose: propose, fenced: fenced, log: log,
		queue: make(chan pending, maxBatch), idle: make(chan pending, maxBatch),
		turn: make(chan struct{}, 1),
	}
	for range pipelined {
		c.workers.Go(func() { c.work(ctx) })
	}
	c.workers.Go(func() { c.sweep(ctx) })
	return c
}

// commit returns nil when the changes are committed, all of them. While the ledger
// cannot be reached it waits; it fails when one is refused or the tenure is over.
func (c *committer) commit(ctx context.Context, changes ...*pb.FateChange) error {
	done := make(chan error, 1)
	select {
	case c.queue <- pending{changes, func(err error) { done <- err }}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// later commits a change with others that are waited for, or soon, and then calls
// then. Nobody may rest on it: with the exchange's end it is dropped.
func (c *committer) later(ctx context.Context, change *pb.FateChange, then func(error)) {
	select {
	case c.idle <- pending{[]*pb.FateChange{change}, then}:
	case <-ctx.Done():
	}
}

// flush returns when what was to be committed later is, or ctx has ended.
func (c *committer) flush(ctx context.Context) {
	for len(c.idle) > 0 && c.commit(ctx) == nil {
	}
}

// sweep sees to it that nothing stays for long.
func (c *committer) sweep(ctx context.Context) {
	tick := time.NewTicker(linger)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.flush(ctx)
		}
	}
}

func (c *committer) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c.turn <- struct{}{}:
		}
		batch := c.gather(ctx)
		<-c.turn
		if len(batch) == 0 {
			return // ctx has ended
		}
		c.settle(ctx, batch)
	}
}

// move counts items that have begun to move, or have come to rest.
func (c *committer) move(by int) { c.moving.Add(int64(by)) }

// gather waits for a change, and a moment for more where more is to be expected.
func (c *committer) gather(ctx context.Context) (batch []pending) {
	size, enough := 0, 0
	var late <-chan time.Time
	for len(batch) == 0 || size < enough {
		select {
		case p := <-c.queue:
			batch = append(batch, p)
			size += len(p.changes)
		case <-late:
			return c.take(batch, size)
		case <-ctx.Done():
			return batch
		}
		if n := int(c.moving.Load()); late == nil && n > siblings {
			late, enough = time.After(company), min(n/2, maxBatch)
		}
	}
	return c.take(batch, size)
}

// take adds what is there already, up to what an entry holds.
func (c *committer) take(batch []pending, size int) []pending {
	for _, from := range []chan pending{c.queue, c.idle} {
		for size < maxBatch && len(from) > 0 {
			select {
			case p := <-from:
				batch = append(batch, p)
				size += len(p.changes)
			default: // another has been quicker
			}
		}
	}
	return batch
}

// settle commits a batch and answers everyone in it. One illegal change refuses
// the whole entry, so it is then split to find out which.
func (c *committer) settle(ctx context.Context, batch []pending) {
	err := c.insist(ctx, batch)
	switch {
	case err != nil && len(batch) > 1 && !errors.Is(err, ledger.ErrFenced) && ctx.Err() == nil:
		for _, p := range batch {
			p.then(c.insist(ctx, []pending{p}))
		}
		return
	case errors.Is(err, ledger.ErrFenced):
		c.fenced(err)
	}
	for _, p := range batch {
		p.then(err)
	}
}

// insist proposes until the ledger has answered. Every change may be proposed
// twice, so an unclear outcome is simply tried again.
func (c *committer) insist(ctx context.Context, batch []pending) error {
	b := &pb.FateBatch{Group: c.tenure.Group, Incarnation: c.tenure.Incarnation, Epoch: c.tenure.Epoch}
	for _, p := range batch {
		b.Changes = append(b.Changes, p.changes...)
	}
	if len(b.Changes) == 0 {
		return nil
	}
	for warned := false; ; {
		attempt, cancel := context.WithTimeout(ctx, proposeTimeout)
		err := c.propose(attempt, &pb.Command{Kind: &pb.Command_Fates{Fates: b}, AtMs: time.Now().UnixMilli()})
		cancel()
		if err == nil || refused(err) {
			return err
		}
		if !warned && ctx.Err() == nil {
			warned = true
			c.log.Warn("fates not committed yet", "error", err, "changes", len(b.Changes))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(proposeAgain):
		}
	}
}

func refused(err error) bool {
	return errors.Is(err, ledger.ErrFenced) || errors.Is(err, ledger.ErrIllegal) || errors.Is(err, ledger.ErrUnknown)
}
