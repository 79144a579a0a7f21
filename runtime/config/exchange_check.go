package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/fairlead-io/fairlead/runtime/route"
	"github.com/fairlead-io/fairlead/runtime/schedule"
)

// routing checks the routes, and that every location and port has a way.
func (c *deploymentCheck) routing() {
	for i, r := range c.routes() {
		p := keyPath{"routes", strconv.Itoa(i)}
		c.portNames(p.with("to"), r.to)
		if when, ok := c.lookup(p.with("when")).(string); ok && when != "" && !c.isSuspect(p.with("when")) {
			c.condition(p.with("when"), when)
		}
	}
	for _, name := range c.names("receive_locations") {
		p := keyPath{"receive_locations", name}
		if len(c.list("receive_locations", name, "to")) == 0 && len(c.routes()) == 0 && !c.isSuspect(p.with("to")) && !c.isSuspect(keyPath{"routes"}) {
			c.add(Error, p.with("to"), true, "names no send port, and there are no routes: nothing would go anywhere", "name the send ports that get every item, or write routes")
		}
	}
}

// writtenRoute is a route as far as it has the right types.
type writtenRoute struct {
	when string
	to   []string
}

func (c *deploymentCheck) routes() (routes []writtenRoute) {
	items, _ := c.value["routes"].([]any)
	for _, item := range items {
		section, _ := item.(map[string]any)
		var r writtenRoute
		r.when, _ = section["when"].(string)
		ports, _ := section["to"].([]any)
		for _, port := range ports {
			name, _ := port.(string)
			r.to = append(r.to, name)
		}
		routes = append(routes, r)
	}
	return routes
}

func (c *deploymentCheck) condition(p keyPath, when string) {
	if err := route.CompileWhen(when); err != nil {
		c.errorf(p, "see https://cel.dev for the language; fairlead route test shows what a route does", "%s", wrongExpression(err))
		return
	}
	if only := onlyFor(when); only != "" && !c.has("receive_locations", only) {
		c.warnf(p, suggestion(only, c.names("receive_locations"), "receive locations", "add it under receive_locations"),
			"there is no receive location %s: the route matches nothing", quoted(only))
	}
}

func wrongExpression(err error) string {
	var e *route.Error
	if errors.As(err, &e) && e.Line > 0 {
		return fmt.Sprintf("is not a right expression: %v", e)
	}
	return err.Error()
}

// portNames checks a list of send ports.
func (c *deploymentCheck) portNames(p keyPath, to []string) {
	ports := c.names("send_ports")
	for i, port := range to {
		at := p.with(strconv.Itoa(i))
		switch {
		case port == "":
			if c.lookup(at) == "" {
				c.errorf(at, suggestion("", ports, "send ports", "add one under send_ports"), "is empty, want the name of a send port")
			}
		case slices.Index(to, port) < i:
			c.errorf(at, "remove one of them", "send port %s stands twice", quoted(port))
		case !c.has("send_ports", port) && !c.isSuspect(at) && !c.isSuspect(keyPath{"send_ports"}):
			c.errorf(at, suggestion(port, ports, "send ports", "add it under send_ports"), "there is no send port %s", quoted(port))
		}
	}
}

// reach are the ports that a location's items may go to, without backups.
func (c *deploymentCheck) reach(location string) (ports []string) {
	if to := c.list("receive_locations", location, "to"); len(to) > 0 {
		return to
	}
	for _, r := range c.routes() {
		if mayMatch(r.when, location) {
			ports = append(ports, r.to...)
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// order checks what a location says of order, and refuses what would break it.
func (c *deploymentCheck) order(name string) {
	p := keyPath{"receive_locations", name}
	l := c.section("receive_locations", name)
	ordered := c.flag("receive_locations", name, "ordered", false)
	key, keyed := l["order_by"].(string)
	if keyed && !c.isSuspect(p.with("order_by")) {
		if _, err := route.CompileKey(key); err != nil {
			c.errorf(p.with("order_by"), `write an expression that gives a text, such as context["ftp.directory"]`, "%s", wrongExpression(err))
		}
	}
	if !ordered {
		for _, k := range []string{"order_by", "on_failure"} {
			if _, ok := l[k]; ok && !c.isSuspect(p.with(k)) && !c.isSuspect(p.with("ordered")) {
				c.errorf(p.with(k), "write ordered: true, or remove it", "has no effect: the location keeps no order")
			}
		}
		return
	}
	if n, ok := number64(c.lookup(p.with("max_in_flight"))); ok && n > 1 && !keyed {
		c.errorf(p.with("max_in_flight"), "remove it, or write order_by", "is %d, but ordered items go one after the other", n)
	}
	if l["on_failure"] == FailureHolds && l["delivery"] == AtLeastOnce {
		c.errorf(p.with("delivery"), "write exactly-once, or on_failure: suspend", "what holds the others has to be recorded")
	}
	for _, port := range c.reach(name) {
		if backup := c.text("send_ports", port, "backup"); backup != "" {
			c.errorf(p.with("ordered"), "remove one of the two", "the order breaks at %s: what that gives up goes another way", c.spot(keyPath{"send_ports", port, "backup"}))
		}
	}
}

// number64 is a whole number of a file.
func number64(v any) (int64, bool) {
	text, ok := v.(interface{ Int64() (int64, error) })
	if ok {
		n, err := text.Int64()
		return n, err == nil
	}
	switch n := v.(type) {
	case int64:
		return n, true
	case int:
		return int64(n), true
	}
	return 0, false
}

// times checks a window, a cron expression and their time zone, which stand in the
// same section.
func (c *deploymentCheck) times(p keyPath) {
	section, _ := c.lookup(p).(map[string]any)
	zone, _ := section["timezone"].(string)
	if _, err := schedule.LoadZone(zone); err != nil && !c.isSuspect(p.with("timezone")) {
		const remedy = "write a name of the IANA database, such as Europe/Paris or UTC"
		if errors.Is(err, schedule.ErrLocal) {
			c.errorf(p.with("timezone"), remedy, "%s %s", quoted(zone), err)
		} else {
			c.errorf(p.with("timezone"), remedy, "there is no time zone %s", quoted(zone))
		}
		zone = ""
	}
	window, hours := section["window"].(string)
	if hours && !c.isSuspect(p.with("window")) {
		if _, err := schedule.ParseWindow(window, zone); err != nil {
			c.errorf(p.with("window"), "write it as 06:00-22:00 or Mon-Fri 06:00-22:00, Sat 08:00-12:00", "%v", err)
		}
	}
	cron, jobs := section["cron"].(string)
	if jobs && !c.isSuspect(p.with("cron")) {
		if _, err := schedule.ParseCron(cron, zone); err != nil {
			c.errorf(p.with("cron"), "write it as 30 6 * * 1-5: minute, hour, day, month, day of the week", "%s %v", quoted(cron), err)
		}
		if _, both := section["every"]; both {
			c.errorf(p.with("every"), "remove one of them", "cron says when the source is polled")
		}
	}
	if _, ok := section["timezone"]; ok && !hours && !jobs && !c.isSuspect(p.with("timezone")) {
		c.warnf(p.with("timezone"), "remove it", "has no effect: there is no window and no cron that it belongs to")
	}
}

// port checks a send port's own settings.
func (c *deploymentCheck) port(name string) {
	p := keyPath{"send_ports", name}
	c.times(p)
	if rate, ok := c.section("send_ports", name)["rate"].(string); ok && !c.isSuspect(p.with("rate")) {
		if _, err := parseRate(rate); err != nil {
			c.errorf(p.with("rate"), "write it as 50/s, 600/m or 10/h", "%v", err)
		}
	}
	if n, ok := number64(c.lookup(p.with("max_in_flight"))); ok && n > 1 && c.flag("send_ports", name, "ordered", false) {
		c.errorf(p.with("max_in_flight"), "remove it", "is %d, but an ordered port sends one message at a time", n)
	}
	c.backup(p.with("backup"), name)
	c.fedInOrder(p.with("ordered"), name)
}

// backup refuses one that is not there, or leads back.
func (c *deploymentCheck) backup(p keyPath, name string) {
	backup := c.text("send_ports", name, "backup")
	switch {
	case backup == "" || c.isSuspect(p):
		return
	case !c.has("send_ports", backup):
		c.errorf(p, suggestion(backup, c.names("send_ports"), "send ports", "add it under send_ports"), "there is no send port %s", quoted(backup))
		return
	case c.flag("send_ports", name, "ordered", false):
		c.errorf(p, "remove it, or ordered", "an ordered port has no backup: what that gets would have overtaken the rest")
	}
	seen := []string{name}
	for at := backup; at != ""; at = c.text("send_ports", at, "backup") {
		if at == name {
			c.errorf(p, "remove one of them", "backups in a circle: %s", arrows(append(seen, name)))
			return
		}
		if slices.Contains(seen, at) {
			return // a circle that this port only leads into: it is told where it is
		}
		seen = append(seen, at)
	}
}

func arrows(names []string) (text string) {
	for i, n := range names {
		if i > 0 {
			text += " -> "
		}
		text += n
	}
	return text
}

// fedInOrder refuses an ordered port that gets items without order.
func (c *deploymentCheck) fedInOrder(p keyPath, name string) {
	if !c.flag("send_ports", name, "ordered", false) {
		return
	}
	for _, location := range c.names("receive_locations") {
		at := keyPath{"receive_locations", location, "ordered"}
		if slices.Contains(c.reach(location), name) && !c.flag("receive_locations", location, "ordered", false) && !c.isSuspect(at) {
			c.errorf(p, "write ordered: true there, too", "items of %s come in no order", c.spot(keyPath{"receive_locations", location}))
		}
	}
}
