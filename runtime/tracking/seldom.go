package tracking

import (
	"log/slog"
	"sync"
	"time"
)

// seldom logs each message at most once in complainEvery, so that a full disk does not
// fill the log as well.
type seldom struct {
	log *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	last map[string]time.Time // by message; those are few and fixed
}

const complainEvery = time.Minute

// warn logs, unless the same message was logged a moment ago, and says whether it did.
func (s *seldom) warn(msg string, args ...any) bool {
	now := s.now()
	s.mu.Lock()
	last, before := s.last[msg]
	due := !before || now.Sub(last) >= complainEvery || now.Before(last)
	if due {
		if s.last == nil {
			s.last = make(map[string]time.Time)
		}
		s.last[msg] = now
	}
	s.mu.Unlock()
	if due {
		s.log.Warn(msg, args...)
	}
	return due
}
