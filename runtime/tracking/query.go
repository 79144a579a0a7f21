package tracking

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// The limits of an answer.
const (
	// DefaultLimit and MaxLimit are of records.
	DefaultLimit = 100
	MaxLimit     = 10_000
	// maxSteps is how many steps a record gives.
	maxSteps = 1000
	// maxAnswer bounds the bytes of an answer's steps, as they are on the disk.
	maxAnswer = 16 << 20
	// wholeFrom is from how many steps on a segment is read as a whole.
	wholeFrom = 512
	// firstRead is how much is read of a step at once: most are smaller.
	firstRead = 512
)

// Query says which messages are wanted. The zero value wants the newest ones.
type Query struct {
	// Location is a receive location's name; empty: all.
	Location string
	// Message is a message's ID; empty: all.
	Message string
	// Since and Until select messages of which a step was taken in that time, Since
	// included, Until not. Zero: without that bound.
	Since, Until time.Time
	// Limit is the greatest number of records; 0 stands for [DefaultLimit], and more
	// than [MaxLimit] for that.
	Limit int
	// Match selects further, nil: all. It is called in the goroutine of the query, for
	// one record after the other, and must not keep or change them. The record is what
	// this node knows: properties that were noted on another node are not there.
	Match func(*Record) bool
}

// Query returns the messages that are wanted, those that had a step noted last first,
// with all steps of each that this node has, in or outside the time. All steps that
// were noted before the call are taken into account.
//
// truncated says that there are more: of those beyond the limit, or because the answer
// would have taken more than 16 MiB. When ctx ends, what was found until then is
// returned together with its error. A step that is damaged on the disk is left out,
// counted and logged. At most four queries run at once; others wait for their turn.
func (s *Store) Query(ctx context.Context, q Query) (records []Record, truncated bool, err error) {
	if err := s.begin(); err != nil {
		return nil, false, err
	}
	defer s.end()
	select {
	case s.queries <- struct{}{}:
		defer func() { <-s.queries }()
	case <-ctx.Done():
		return nil, true, fmt.Errorf("query the history: waiting for other queries: %w", ctx.Err())
	}
	if err := s.flush(ctx); err != nil {
		return nil, true, fmt.Errorf("query the history: %w", err)
	}
	v := s.view()
	defer s.release(v)
	f := newFinder(s, q, v)
	if q.Message != "" {
		err = f.one()
	} else {
		err = f.list(ctx)
	}
	newestFirst(f.found)
	if err != nil {
		return f.found, true, fmt.Errorf("query the history: %w", err)
	}
	return f.found, f.truncated, nil
}

// flush waits until the writer has written what was noted before.
func (s *Store) flush(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case s.flushes <- done:
	case <-s.ended:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("waiting for the disk of %s: %w", s.cfg.Dir, ctx.Err())
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the disk of %s: %w", s.cfg.Dir, ctx.Err())
	}
}

// part is a segment as one query sees it: what is written later is not in it.
type part struct {
	*segment            // only what does not change is used of it
	end                 int64
	messages, locations table
	sorted              bool
	filter              bloom
	oldest, newest      int64
	all                 []byte // its frames, while it is read as a whole
}

// view returns the segments that have steps, the oldest first. Their files stay until
// release is called.
func (s *Store) view() []part {
	s.mu.Lock()
	var parts []part
	for _, g := range s.segments {
		if g.n == 0 {
			continue
		}
		g.refs++
		p := part{segment: g, end: g.size, sorted: g.closed, oldest: g.oldest, newest: g.newest}
		if g.closed {
			p.messages, p.locations, p.filter = g.messageTable, g.locationTable, g.filter
		} else {
			p.messages.all, p.locations.all = slices.Clone(g.messages), slices.Clone(g.locations)
		}
		parts = append(parts, p)
	}
	s.mu.Unlock()
	// Sorting takes some milliseconds: not under the lock.
	for i := range parts {
		if p := &parts[i]; !p.sorted {
			p.messages, p.locations = memoryTable(p.messages.all), memoryTable(p.locations.all)
		}
	}
	return parts
}

func (s *Store) release(parts []part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range parts {
		g := parts[i].segment
		g.refs--
		if g.refs == 0 && g.dropped {
			s.removeLocked(g)
		}
	}
}
