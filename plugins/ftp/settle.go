package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// settleMax is how many files are settled at once. Between the look at a file and its
// deletion lie the looks at the others: few enough for that to take about as long as
// it takes for one alone.
const settleMax = 64

// settlement is one call of Settle that waits.
type settlement struct {
	file *file
	item sdk.Item
	// done gets the outcome, once.
	done chan error
}

// settleQueue gathers the calls of Settle that wait for a connection, so that the one
// that gets it does the work of all: their commands travel together.
type settleQueue struct {
	// turnCh holds a token while somebody waits for a connection on behalf of all.
	turnCh chan struct{}

	mu      sync.Mutex
	waiting []*settlement
}

func newSettleQueue() *settleQueue { return &settleQueue{turnCh: make(chan struct{}, 1)} }

func (q *settleQueue) add(w *settlement) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, w)
}

// take hands over those that have waited longest, at most n.
func (q *settleQueue) take(n int) []*settlement {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.waiting))
	taken := slices.Clone(q.waiting[:n])
	q.waiting = slices.Delete(q.waiting, 0, n)
	return taken
}

// withdraw takes one back that nobody has taken yet.
func (q *settleQueue) withdraw(w *settlement) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if at := slices.Index(q.waiting, w); at >= 0 {
		q.waiting = slices.Delete(q.waiting, at, at+1)
	}
}

func (q *settleQueue) waits(w *settlement) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Contains(q.waiting, w)
}

// errLeaderEnded is the error of settlements whose work another call had taken over
// when it was ended. Whether they are done shows at the next attempt.
var errLeaderEnded = errors.New("the call that settled this file with others was ended; it is tried again")

// Settle deletes or moves the file if it is still the one that was read. Of the calls
// that wait at the same time one does the work of all.
func (s *source) Settle(ctx context.Context, item sdk.Item) error {
	f, ok := item.Handle.(*file)
	if !ok {
		return fmt.Errorf("settle %s: the item is not one of this location's listing", item.Key)
	}
	err := s.settleAmongOthers(ctx, &settlement{file: f, item: item, done: make(chan error, 1)})
	if sdk.IsGone(err) {
		s.forget(f, err)
	}
	if err == nil {
		s.times.untake(f.name)
		s.claims.Forget(f.name, s.version(f))
	}
	return err
}

func (s *source) settleAmongOthers(ctx context.Context, w *settlement) error {
	s.queue.add(w)
	for s.queue.waits(w) {
		select {
		case err := <-w.done:
			return err
		case s.queue.turnCh <- struct{}{}:
			s.settleWaiting(ctx, w)
		case <-ctx.Done():
			s.queue.withdraw(w)
			return context.Cause(ctx)
		}
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done(): // another call has taken it, and lasts longer than this one
		return context.Cause(ctx)
	}
}

// settleWaiting is called with the turn, which it gives back as soon as it has a
// connection and knows its work. If w is taken already, there is none to do.
func (s *source) settleWaiting(ctx context.Context, w *settlement) {
	giveBack := sync.OnceFunc(func() { <-s.queue.turnCh })
	defer giveBack()
	if !s.queue.waits(w) {
		return
	}
	var work []*settlement
	outcome := errLeaderEnded // if it panics
	defer func() {
		switch {
		case work != nil:
		case ctx.Err() != nil: // our own end; the others go on waiting
			s.queue.withdraw(w)
			work = []*settlement{w}
		default: // there is no connection to be had, for nobody
			work = s.queue.take(settleMax)
		}
		for _, w := range work {
			if outcome != nil {
				w.done <- outcome
			}
		}
	}()
	var results []error
	err := s.pool.with(ctx, func(c *session) error {
		if work == nil {
			work = s.queue.take(settleMax)
			giveBack()
		}
		var err error
		results, err = s.settle(c, work)
		return err
	})
	if err != nil {
		outcome = err
		if ctx.Err() != nil {
			outcome = fmt.Errorf("%w: %w", errLeaderEnded, err)
		}
		return
	}
	outcome = nil
	for i, w := range work {
		w.done <- results[i]
	}
}

// settle returns the outcome of each file, or an error that leaves all of them open.
func (s *source) settle(c *session, work []*settlement) ([]error, error) {
	dir := c.absolute(s.props.Directory)
	facts, err := s.lookAgain(c, dir, work)
	if err != nil {
		return nil, err
	}
	results := make([]error, len(work))
	var unchanged []int
	listed := namesBelow(c, dir)
	for i, w := range work {
		switch {
		case !facts[i].exists:
			if results[i], err = outcomeOf(s.missing(listed, dir, w.file)); err != nil {
				return nil, err
			}
		case w.file.differs(facts[i]):
			results[i] = sdk.Gone(found("%s has changed since it was read: now %d bytes of %s", w.file.name, facts[i].size, facts[i].modified.Format(time.RFC3339)))
		default:
			unchanged = append(unchanged, i)
		}
	}
	return results, s.finish(c, dir, work, unchanged, results)
}

// outcomeOf tells an error of one file from one of the connection.
func outcomeOf(err error) (outcome, broken error) {
	if err == nil || isRefusal(err) {
		return err, nil
	}
	return nil, err
}

// finish deletes or moves the files with the given indexes.
func (s *source) finish(c *session, dir string, work []*settlement, indexes []int, results []error) (err error) {
	if s.props.AfterDelivery == files.AfterKeep {
		return nil
	}
	take := s.deleteAll
	if s.props.AfterDelivery == files.AfterMove {
		take = s.moveAll
	}
	if err := take(c, dir, work, indexes, results); err != nil {
		return err
	}
	for _, i := range indexes {
		if results[i] == nil {
			if err := s.removeDone(c, dir, work[i].file); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *source) moveAll(c *session, dir string, work []*settlement, indexes []int, results []error) (err error) {
	for _, i := range indexes {
		f := work[i].file
		if results[i], err = outcomeOf(s.move(c, join(dir, s.at(f)), f, work[i].item)); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) deleteAll(c *session, dir string, work []*settlement, indexes []int, results []error) (err error) {
	err = c.pipelined(len(indexes), func(at int) exchange {
		i := indexes[at]
		target := join(dir, s.at(work[i].file))
		return exchange{
			lines: []string{"DELE " + target},
			run: func() (err error) {
				results[i], err = outcomeOf(c.ftp.Delete(target))
				return err
			},
		}
	})
	if err != nil {
		return err
	}
	for _, i := range indexes {
		if results[i] != nil {
			results[i] = s.explainDeletion(c, dir, work[i].file, results[i])
		}
	}
	return nil
}

// explainDeletion finds out whether a file that could not be deleted is gone: gone in
// this very moment, or not allowed.
func (s *source) explainDeletion(c *session, dir string, f *file, refusal error) error {
	err := fmt.Errorf("delete %s: %w", join(dir, s.at(f)), refusal)
	if !isMissing(refusal) {
		return err
	}
	if missing := s.missing(namesBelow(c, dir), dir, f); sdk.IsGone(missing) {
		return missing
	}
	return err
}

// lookAgain asks for what tells these versions of the files from others. Where that
// takes two commands, the time is enough if the content was read here, had the
// listed size, and could not have been written to since without a new time.
func (s *source) lookAgain(c *session, dir string, work []*settlement) ([]fact, error) {
	questions := make([]question, len(work))
	for i, w := range work {
		questions[i] = question{name: s.at(w.file), timeOnly: s.times.timeTells(w.file)}
	}
	return c.lookAll(dir, questions)
}
