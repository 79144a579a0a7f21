package exchange

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// Spool is the directory where large content waits on its way, with a budget in
// bytes. It belongs to this node's process alone and is emptied at start: what
// was in it is still at its source. Safe for concurrent use.
type Spool struct {
	dir    string
	budget int64

	mu    sync.Mutex
	used  int64
	freed chan struct{} // closed and replaced whenever room is given back
	next  uint64
}

// OpenSpool empties the directory and returns the spool.
func OpenSpool(dir string, budget int64) (*Spool, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("empty the spool: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the spool: %w", err)
	}
	return &Spool{dir: dir, budget: budget, freed: make(chan struct{})}, nil
}

// slot is room in the spool for one message, with a directory of its own.
type slot struct {
	s    *Spool
	dir  string
	size int64
	once sync.Once
}

// reserve waits until there is room for size bytes. What is larger than the whole
// budget gets it all, alone. waiting is called once if there is no room at once.
func (s *Spool) reserve(ctx context.Context, size int64, waiting func()) (*slot, error) {
	size = min(max(size, 0), s.budget)
	for waited := false; ; waited = true {
		s.mu.Lock()
		if s.used+size <= s.budget {
			s.used += size
			s.next++
			dir := filepath.Join(s.dir, fmt.Sprintf("%d", s.next))
			s.mu.Unlock()
			return &slot{s: s, dir: dir, size: size}, nil
		}
		freed := s.freed
		s.mu.Unlock()
		if !waited {
			waiting()
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// path makes the slot's directory and returns it.
func (l *slot) path() (string, error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	return l.dir, nil
}

// free removes what the slot holds and gives its room back. It does nothing to nil.
func (l *slot) free() {
	if l == nil {
		return
	}
	l.once.Do(func() {
		// What cannot be removed now goes when the spool is emptied at the next start.
		_ = os.RemoveAll(l.dir)
		l.s.mu.Lock()
		defer l.s.mu.Unlock()
		l.s.used -= l.size
		close(l.s.freed)
		l.s.freed = make(chan struct{})
	})
}
