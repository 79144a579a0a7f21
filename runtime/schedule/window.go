package schedule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // the machine need not have a database of time zones
)

// ErrLocal is returned for the time zone "Local": nodes may have different ones.
var ErrLocal = errors.New("is another one on another machine")

// LoadZone returns a time zone by its name in the IANA database; empty: UTC.
func LoadZone(name string) (*time.Location, error) {
	if name == "Local" {
		return nil, ErrLocal
	}
	return time.LoadLocation(name)
}

// Window are parts of the week. Make it with [ParseWindow]. It does not change.
type Window struct {
	spans []span
	zone  *time.Location
	text  string
}

// span begins at from on each of its days, and ends at to: on the next day if that is
// not later.
type span struct {
	days     [7]bool // Sunday first
	from, to time.Duration
}

// ParseWindow reads parts of the day, such as 06:00-22:00 or, over midnight,
// 22:00-04:00. Before it days may stand, as Mon-Fri or Sat; without them it holds
// every day. Several are separated by commas. 00:00-24:00 is the whole day. The time
// zone is a name of the IANA database; empty: UTC.
func ParseWindow(text, timezone string) (*Window, error) {
	zone, err := LoadZone(timezone)
	if err != nil {
		return nil, fmt.Errorf("time zone %q: %w", timezone, err)
	}
	w := &Window{zone: zone, text: text}
	for part := range strings.SplitSeq(text, ",") {
		s, err := parseSpan(strings.Fields(part))
		if err != nil {
			return nil, err
		}
		w.spans = append(w.spans, s)
	}
	return w, nil
}

func parseSpan(words []string) (s span, err error) {
	switch len(words) {
	case 1:
		s.days = [7]bool{true, true, true, true, true, true, true}
	case 2:
		if s.days, err = parseDays(words[0]); err != nil {
			return s, err
		}
	default:
		return s, fmt.Errorf("%q is not a window, such as 06:00-22:00 or Mon-Fri 06:00-22:00", strings.Join(words, " "))
	}
	times := words[len(words)-1]
	from, to, ok := strings.Cut(times, "-")
	if !ok {
		return s, fmt.Errorf("%q is not a window, such as 06:00-22:00", times)
	}
	if s.from, err = parseClock(from); err != nil {
		return s, err
	}
	if s.to, err = parseClock(to); err != nil {
		return s, err
	}
	if s.from == 24*time.Hour {
		return s, fmt.Errorf("%q begins at the end of the day: write 00:00", times)
	}
	if s.from == s.to {
		return s, fmt.Errorf("%q is never open: it ends when it begins; write 00:00-24:00 for the whole day", times)
	}
	return s, nil
}

func parseClock(text string) (time.Duration, error) {
	var h, m int
	if len(text) != 5 || text[2] != ':' {
		return 0, fmt.Errorf("%q is not a time, such as 06:00", text)
	}
	if _, err := fmt.Sscanf(text, "%02d:%02d", &h, &m); err != nil || h < 0 || m < 0 || m > 59 || h > 24 || h == 24 && m > 0 {
		return 0, fmt.Errorf("%q is not a time from 00:00 to 24:00", text)
	}
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute, nil
}

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func parseDays(text string) (days [7]bool, err error) {
	from, to, several := strings.Cut(strings.ToLower(text), "-")
	first, last := slices.Index(dayNames, from), slices.Index(dayNames, to)
	if !several {
		last = first
	}
	if first < 0 || last < 0 {
		return days, fmt.Errorf("%q are not days, such as Mon-Fri or Sat", text)
	}
	for d := first; ; d = (d + 1) % 7 {
		days[d] = true
		if d == last {
			return days, nil
		}
	}
}

// String is the window as it was written, with its time zone.
func (w *Window) String() string { return fmt.Sprintf("%s (%s)", w.text, w.zone) }

// Zone is the window's time zone.
func (w *Window) Zone() *time.Location { return w.zone }

// horizon is longer than the longest time without a change: a week, and the days that
// clocks are changed by.
const horizon = 9

// At reports whether the window is open at that time, and when that changes next: the
// zero time if it never does.
func (w *Window) At(t time.Time) (open bool, change time.Time) {
	open = w.open(t)
	for day := range horizon {
		for _, at := range w.boundaries(t, day) {
			if at.After(t) && w.open(at) != open {
				return open, at
			}
		}
	}
	return open, time.Time{}
}

func (w *Window) open(t time.Time) bool {
	t = t.In(w.zone)
	clock, day := sinceMidnight(t), int(t.Weekday())
	for _, s := range w.spans {
		switch over := s.to <= s.from; {
		case !over && s.days[day] && s.from <= clock && clock < s.to,
			over && s.days[day] && s.from <= clock,
			over && s.days[(day+6)%7] && clock < s.to:
			return true
		}
	}
	return false
}

// boundaries are the times of one day, counted from that of t, at which the window may
// open or close, sorted: midnight, the ends of its spans, and changes of the clock.
func (w *Window) boundaries(t time.Time, day int) (all []time.Time) {
	y, m, d := t.In(w.zone).Date()
	d += day
	clocks := []time.Duration{0}
	for _, s := range w.spans {
		clocks = append(clocks, s.from, s.to)
	}
	for _, c := range clocks {
		all = append(all, instants(y, m, d, c, w.zone)...)
	}
	const half = 13 * time.Hour // of a day on which the clock is put back
	noon := time.Date(y, m, d, 12, 0, 0, 0, w.zone)
	for _, near := range []time.Time{noon.Add(-half), noon.Add(half)} {
		start, end := near.ZoneBounds()
		for _, jump := range []time.Time{start, end} {
			if away := jump.Sub(noon).Abs(); !jump.IsZero() && away <= half {
				all = append(all, jump)
			}
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	return all
}

// sinceMidnight is what the clock shows, which is not the time that has passed since
// midnight on days when clocks are changed.
func sinceMidnight(t time.Time) time.Duration {
	hour, minute, second := t.Clock()
	return time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second + time.Duration(t.Nanosecond())
}

// instants are when the clock of a zone shows that time: once, twice, or never.
func instants(y int, m time.Month, d int, clock time.Duration, zone *time.Location) (all []time.Time) {
	wall := time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Add(clock)
	seen := map[int]bool{}
	for _, near := range []time.Duration{-26 * time.Hour, 0, 26 * time.Hour} {
		_, offset := wall.Add(near).In(zone).Zone()
		if seen[offset] {
			continue
		}
		seen[offset] = true
		at := wall.Add(-time.Duration(offset) * time.Second)
		if _, is := at.In(zone).Zone(); is == offset {
			all = append(all, at)
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	return all
}
