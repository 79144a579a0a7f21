package placement

import (
	"fmt"
	"time"
)

// Modes of failback. The empty mode is never.
const (
	FailbackNever     = "never"
	FailbackImmediate = "immediate"
	FailbackWindow    = "window"
)

// Failback says when a group may leave an owner that is good for a better one.
type Failback struct {
	Mode string
	// From and To bound the window, as time on the clock since midnight; From is in
	// it and To is not. With From after To it goes over midnight; if they are the
	// same it is never open. It follows the clock on the wall: an hour that is left
	// out in spring is not there to be in the window, and one that comes twice in
	// autumn is in it twice.
	From, To time.Duration
	// Location is the time zone. nil: UTC.
	Location *time.Location
}

// Open reports whether a group may fail back at that time.
func (f Failback) Open(now time.Time) bool {
	switch f.Mode {
	case FailbackImmediate:
		return true
	case FailbackWindow:
		t := sinceMidnight(now.In(f.location()))
		if f.From <= f.To {
			return f.From <= t && t < f.To
		}
		return t >= f.From || t < f.To
	}
	return false
}

func (f Failback) location() *time.Location {
	if f.Location == nil {
		return time.UTC
	}
	return f.Location
}

// sinceMidnight is what the clock shows, which is not the time that has passed
// since midnight on days when clocks are changed.
func sinceMidnight(t time.Time) time.Duration {
	hour, minute, second := t.Clock()
	return time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second
}

// when says why the group may move now.
func (f Failback) when() string {
	if f.Mode == FailbackWindow {
		return "the failback window " + f.window() + " is open"
	}
	return "failback is immediate"
}

func (f Failback) window() string {
	return fmt.Sprintf("%s-%s %s", clock(f.From), clock(f.To), f.location())
}

func clock(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(d/time.Hour), int(d%time.Hour/time.Minute))
}
