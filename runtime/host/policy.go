package host

import (
	"slices"
	"time"
)

// releaseWithin is how long a handler stays down when the host has failed here: time
// for its owner to hand it over. A start of a process in between would be in the way.
const releaseWithin = 2 * time.Second

// backoff is the pause before a handler is started again that has failed so many
// times in a row before: 200 ms, 400 ms, and so on up to half a minute.
func backoff(failures int) time.Duration {
	return min(firstBackoff<<min(failures, 10), longestBackoff)
}

// thresholds counts how often a handler ended, in a window that slides with time: a
// handler that has run steadily for the window's length has its ends forgotten. It
// has no clock of its own and is not safe for concurrent use.
type thresholds struct {
	policy RestartPolicy
	ends   []time.Time
}

// ended notes an end, no earlier than those before, and returns how many there have
// been in the window that ends with it: (now-Within, now]. More than Max is too many.
func (t *thresholds) ended(now time.Time) int {
	from := now.Add(-t.policy.Within)
	t.ends = slices.DeleteFunc(t.ends, func(e time.Time) bool { return !e.After(from) })
	t.ends = append(t.ends, now)
	count := len(t.ends)
	// What is more than that decides nothing any more.
	if keep := t.policy.Max + 1; keep > 0 && count > keep {
		t.ends = slices.Delete(t.ends, 0, count-keep)
	}
	return count
}
