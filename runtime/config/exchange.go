package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-io/fairlead/runtime/route"
	"github.com/fairlead-io/fairlead/runtime/schedule"
)

// Values of ReceiveLocation's OnFailure, Delivery and Track. What an earlier version
// wrote has none of them, which stands for the first.
const (
	FailureSuspends = "suspend"
	FailureHolds    = "hold"

	ExactlyOnce = "exactly-once"
	AtLeastOnce = "at-least-once"

	TrackHeaders = "headers"
	TrackContent = "content"
	TrackNone    = "none"
)

// RouteTable returns the routes, compiled. They were checked.
func (d *Deployment) RouteTable() (*route.Table, error) {
	rules := make([]route.Rule, len(d.Routes))
	for i, r := range d.Routes {
		rules[i] = route.Rule{Name: r.Name, When: r.When, To: r.To}
	}
	return route.Compile(rules)
}

// PortsOf returns the ports that items of a location may go to, backups among them,
// each once, in the order in which they are named.
func (d *Deployment) PortsOf(location string) (ports []string) {
	next := d.ReceiveLocations[location].To
	if len(next) == 0 {
		for _, r := range d.Routes {
			if mayMatch(r.When, location) {
				next = append(next, r.To...)
			}
		}
	}
	for ; len(next) > 0; next = next[1:] {
		if slices.Contains(ports, next[0]) {
			continue
		}
		ports = append(ports, next[0])
		if backup := d.SendPorts[next[0]].Backup; backup != "" {
			next = append(slices.Clone(next), backup)
		}
	}
	return ports
}

// onlyOne finds the location that a condition begins with.
var onlyOne = regexp.MustCompile(`^\s*location\s*==\s*["']([^"'\\]*)["']\s*(&&|$)`)

// onlyFor is the one location that a condition can hold for, as far as its beginning
// tells: empty for any.
func onlyFor(when string) string {
	if strings.Contains(when, "||") || strings.Contains(when, "?") {
		return ""
	}
	if found := onlyOne.FindStringSubmatch(when); found != nil {
		return found[1]
	}
	return ""
}

func mayMatch(when, location string) bool {
	only := onlyFor(when)
	return only == "" || only == location
}

// Times returns the schedule's window and cron, understood; nil where there is none.
// They were checked.
func (s Schedule) Times() (w *schedule.Window, c *schedule.Cron, err error) {
	if s.Window != "" {
		if w, err = schedule.ParseWindow(s.Window, s.Timezone); err != nil {
			return nil, nil, err
		}
	}
	if s.Cron != "" {
		c, err = schedule.ParseCron(s.Cron, s.Timezone)
	}
	return w, c, err
}

// Hours returns the port's window, understood; nil for none. It was checked.
func (p SendPort) Hours() (*schedule.Window, error) {
	if p.Window == "" {
		return nil, nil
	}
	return schedule.ParseWindow(p.Window, p.Timezone)
}

// PerSecond returns the port's rate in messages per second; 0: there is no limit. It
// was checked.
func (p SendPort) PerSecond() (float64, error) {
	if p.Rate == "" {
		return 0, nil
	}
	return parseRate(p.Rate)
}

var rateUnits = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}

func parseRate(text string) (perSecond float64, err error) {
	number, unit, _ := strings.Cut(text, "/")
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	per, ok := rateUnits[strings.TrimSpace(unit)]
	if err != nil || !ok || n <= 0 || n > 1e6 {
		return 0, fmt.Errorf("%q is not a rate", text)
	}
	return n / per.Seconds(), nil
}
