package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Cron are times of a cron expression on the clock of a time zone. Make it with
// [ParseCron]. It does not change.
type Cron struct {
	spec *cron.SpecSchedule
	zone *time.Location
	text string
}

// everyHour is how the parser marks a field that holds for every value.
const everyHour = 1 << 63

// ParseCron reads an expression of five fields (minute, hour, day of the month, month,
// day of the week), as in crontab(5), or one of @hourly, @daily, @weekly, @monthly and
// @yearly. The time zone is a name of the IANA database; empty: UTC.
func ParseCron(text, timezone string) (*Cron, error) {
	zone, err := LoadZone(timezone)
	if err != nil {
		return nil, fmt.Errorf("time zone %q: %w", timezone, err)
	}
	switch {
	case strings.Contains(text, "TZ="):
		return nil, errors.New("has a time zone in it: write it as timezone")
	case strings.HasPrefix(text, "@every"):
		return nil, errors.New("is an interval: write it as every")
	}
	parsed, err := cron.ParseStandard(text)
	if err != nil {
		return nil, fmt.Errorf("is not a cron expression, such as 30 6 * * 1-5: %w", err)
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, errors.New("is not a cron expression, such as 30 6 * * 1-5")
	}
	c := &Cron{spec: spec, zone: zone, text: text}
	if c.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, errors.New("never comes: there is no such day")
	}
	return c, nil
}

// String is the expression as it was written, with its time zone.
func (c *Cron) String() string { return fmt.Sprintf("%s (%s)", c.text, c.zone) }

// Next is the first time after t, the zero time if there is none within five years.
func (c *Cron) Next(t time.Time) time.Time {
	if c.spec.Hour&everyHour != 0 {
		spec := *c.spec
		spec.Location = c.zone
		return spec.Next(t.In(c.zone))
	}
	// On the wall there are no jumps, so it is asked there; then it is looked when the
	// clock shows that.
	spec := *c.spec
	spec.Location = time.UTC
	y, m, d := t.In(c.zone).Date()
	wall := time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Add(sinceMidnight(t.In(c.zone)))
	wall = wall.Add(-25 * time.Hour) // the clock may have been put back or forward meanwhile
	for {
		if wall = spec.Next(wall); wall.IsZero() {
			return wall
		}
		if at := c.when(wall); at.After(t) {
			return at
		}
	}
}

// when is the first time that the clock shows that, or the moment at which it jumps
// over it.
func (c *Cron) when(wall time.Time) time.Time {
	y, m, d := wall.Date()
	if at := instants(y, m, d, sinceMidnight(wall), c.zone); len(at) > 0 {
		return at[0].In(c.zone)
	}
	// The clock goes by the earlier offset until it jumps.
	_, before := wall.Add(-26 * time.Hour).In(c.zone).Zone()
	at := wall.Add(-time.Duration(before) * time.Second)
	start, _ := at.In(c.zone).ZoneBounds()
	return start.In(c.zone)
}
