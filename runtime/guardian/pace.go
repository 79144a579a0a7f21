package guardian

import "time"

const (
	// The first restart comes after firstDelay: what the runtime owned belongs to
	// others by then, who are just starting it and may share the machine; a node that
	// is alone has lost little. The next comes after twice that, and so on, up to
	// longestDelay unless a test wants less.
	firstDelay   = 250 * time.Millisecond
	longestDelay = 30 * time.Second
	// steadyAfter is how long a runtime has to live for its end to be a new one.
	steadyAfter = time.Minute
)

// pace decides how long to wait before the next start.
type pace struct{ next, longest time.Duration }

// after returns the delay after a runtime that lived for uptime.
func (p *pace) after(uptime time.Duration) time.Duration {
	if uptime >= steadyAfter {
		p.next = 0
	}
	delay := min(max(p.next, firstDelay), p.longest)
	p.next = min(2*delay, p.longest)
	return delay
}

// ticksToHang is how many times the guardian has to look in vain.
const ticksToHang = 20

// silence counts looks at a runtime since it last gave a sign of life. Counting looks
// and not time excuses the runtime from whatever keeps the guardian from running, too:
// a machine that is suspended, stopped, or has no time for either.
type silence struct{ looks int }

func (s *silence) heard() { s.looks = 0 }

// looked returns whether the runtime hangs.
func (s *silence) looked() bool {
	s.looks++
	return s.looks > ticksToHang
}
