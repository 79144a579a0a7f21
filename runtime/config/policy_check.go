package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// leastPolicyTime is the shortest time of restart and failover. Below it policy
// would run in a loop.
const leastPolicyTime = time.Second

// policy checks what a host says about owners, restarts and failovers.
func (c *deploymentCheck) policy(host string) {
	p := keyPath{"hosts", host}
	c.failback(p.with("failback"))
	for _, key := range []keyPath{p.with("restart", "within"), p.with("failover", "within"), p.with("failover", "retry_after")} {
		text, _ := c.lookup(key).(string)
		if d, err := time.ParseDuration(text); err == nil && d < leastPolicyTime && !c.isSuspect(key) {
			c.errorf(key, "write 1s or more", "%s is too short", quoted(text))
		}
	}
	c.antiAffinity(p.with("anti_affinity"), host)
}

// failback checks the window of one.
func (c *deploymentCheck) failback(p keyPath) {
	v, ok := c.lookup(p).(map[string]any)
	if !ok {
		return
	}
	if window, ok := v["window"].(string); ok && !c.isSuspect(p.with("window")) {
		if from, to, err := parseWindow(window); err == nil && from == to {
			c.errorf(p.with("window"), "write 00:00-24:00 for the whole day", "%s is never open: it ends when it begins", quoted(window))
		}
	}
	zone, ok := v["timezone"].(string)
	if !ok || c.isSuspect(p.with("timezone")) {
		return
	}
	const remedy = "write a name of the IANA database, such as Europe/Paris or UTC"
	switch _, err := loadZone(zone); {
	case zone == "":
		c.errorf(p.with("timezone"), remedy, "is empty")
	case errors.Is(err, errLocalZone):
		c.errorf(p.with("timezone"), remedy, "%s %s", quoted(zone), errLocalZone)
	case err != nil:
		c.errorf(p.with("timezone"), remedy, "there is no time zone %s", quoted(zone))
	}
}

// groupOf is the group of a clustered host, empty for others.
func (c *deploymentCheck) groupOf(host string) string {
	if !c.flag("hosts", host, "clustered", false) {
		return ""
	}
	if group := c.text("hosts", host, "group"); group != "" {
		return group
	}
	return host
}

// knownGroups are the groups of the clustered hosts, sorted.
func (c *deploymentCheck) knownGroups() []string {
	if c.groups != nil {
		return c.groups
	}
	groups := []string{}
	for _, host := range c.names("hosts") {
		if group := c.groupOf(host); group != "" {
			groups = append(groups, group)
		}
	}
	slices.Sort(groups)
	c.groups = slices.Compact(groups)
	return c.groups
}

// antiAffinity checks that the groups are there and are others.
func (c *deploymentCheck) antiAffinity(p keyPath, host string) {
	items, _ := c.lookup(p).([]any)
	seen := map[string]bool{}
	for i, item := range items {
		at := p.with(strconv.Itoa(i))
		group, ok := item.(string)
		if section, is := item.(map[string]any); is {
			at = at.with("group")
			group, ok = section["group"].(string)
		}
		if !ok || c.isSuspect(at) {
			continue
		}
		known := c.knownGroups()
		_, there := slices.BinarySearch(known, group)
		switch {
		case group == c.groupOf(host):
			c.errorf(at, "remove it, or put hosts that must be apart into groups of their own",
				"group %s is this host's own: hosts of a group are always together", quoted(group))
		case seen[group]:
			c.errorf(at, "remove one of them", "group %s stands twice", quoted(group))
		case !there:
			c.errorf(at, c.groupRemedy(group, known), "there is no group %s", quoted(group))
		}
		seen[group] = true
	}
}

// groupRemedy says which group was meant.
func (c *deploymentCheck) groupRemedy(name string, known []string) string {
	if c.has("hosts", name) {
		if group := c.groupOf(name); group != "" {
			return fmt.Sprintf("host %s is in group %s; write %s", name, group, group)
		}
		return fmt.Sprintf("host %s is not clustered and runs on every node", name)
	}
	return suggestion(name, known, "groups", "groups are those of clustered hosts")
}

// groupWide are the settings that hold for a group as a whole.
var groupWide = []string{"failback", "failover", "standby"}

// contradictions refuses hosts of a group that say different things about it. What
// a host leaves out it takes from the others.
func (c *deploymentCheck) contradictions() {
	first := map[string]string{} // host that says it, by key and group
	for _, host := range c.inFileOrder("hosts") {
		group := c.groupOf(host)
		for _, key := range groupWide {
			p := keyPath{"hosts", host, key}
			v, written := c.written(host, key)
			if group == "" || !written || c.isSuspect(p) {
				continue
			}
			other, ok := first[key+" "+group]
			if !ok {
				first[key+" "+group] = host
				continue
			}
			if q := (keyPath{"hosts", other, key}); c.setting(key, v) != c.setting(key, c.lookup(q)) {
				c.add(Error, p, true, fmt.Sprintf("is not the same as %s, and both hosts are in group %s", c.spot(q), group),
					"write it in one of them, or the same in both")
			}
		}
	}
}

// written returns what a host says. An empty section says nothing.
func (c *deploymentCheck) written(host, key string) (any, bool) {
	v, ok := c.section("hosts", host)[key]
	if m, is := v.(map[string]any); is && len(m) == 0 {
		return nil, false
	}
	return v, ok
}

// setting writes a value so that equal ones are equal: with defaults, and without
// the ways to write a duration.
func (c *deploymentCheck) setting(key string, v any) string {
	written, ok := v.(map[string]any)
	if !ok {
		return fmt.Sprint(v)
	}
	full := map[string]any{}
	for k, v := range written {
		full[k] = v
	}
	full = withDefaults(c.schema.raw, subschema(c.schema.raw, "hosts", "*", key), full)
	for k, v := range full {
		if text, ok := v.(string); ok {
			if d, err := time.ParseDuration(text); err == nil {
				full[k] = d.String()
			}
		}
	}
	data, err := json.Marshal(full)
	if err != nil {
		return fmt.Sprint(full)
	}
	return string(data)
}

var checksum = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// pins checks which binaries of adapters may be used.
func (c *deploymentCheck) pins() {
	for _, name := range c.names("adapters") {
		p := keyPath{"adapters", name}
		if _, ok := c.facts.Adapters[name]; !ok && c.facts.Adapters != nil && validName.MatchString(name) {
			known := sortedKeys(c.facts.Adapters)
			c.keyErrorf(p, suggestion(name, known, "adapters", "remove it"), "there is no adapter %s", quoted(name))
		}
		sums := c.list("adapters", name, "sha256")
		for i, sum := range sums {
			at := p.with("sha256", strconv.Itoa(i))
			switch {
			case c.isSuspect(at):
			case !checksum.MatchString(sum):
				c.errorf(at, "write what sha256sum says of the adapter's binary: 64 hexadecimal digits", "%s is not a SHA-256 checksum", quoted(sum))
			case slices.IndexFunc(sums, func(s string) bool { return strings.EqualFold(s, sum) }) < i:
				c.errorf(at, "remove one of them", "the checksum stands twice")
			}
		}
	}
}

// normalise gives what may be written in two ways the form of the Go type, and
// hosts what others say for their group.
func (c *deploymentCheck) normalise() {
	said := map[string]any{}
	for _, host := range c.names("hosts") {
		for _, key := range groupWide {
			if v, ok := c.written(host, key); ok {
				said[key+" "+c.groupOf(host)] = v
			}
		}
	}
	for _, host := range c.names("hosts") {
		h := c.section("hosts", host)
		for _, key := range groupWide {
			v, ok := said[key+" "+c.groupOf(host)]
			if _, written := c.written(host, key); ok && !written && c.groupOf(host) != "" {
				h[key] = copied(v)
			}
		}
		items, _ := h["anti_affinity"].([]any)
		for i, item := range items {
			if group, ok := item.(string); ok {
				items[i] = map[string]any{"group": group}
			}
		}
	}
	for _, name := range c.names("adapters") {
		sums, _ := c.section("adapters", name)["sha256"].([]any)
		for i, sum := range sums {
			text, _ := sum.(string)
			sums[i] = strings.ToLower(text)
		}
	}
}

// complete sets, over the schema's defaults, what no schema can say.
func (c *deploymentCheck) complete(values map[string]any) {
	hosts, _ := values["hosts"].(map[string]any)
	for _, v := range hosts {
		h, _ := v.(map[string]any)
		if failover := object(h, "failover"); failover != nil && failover["max"] == nil {
			failover["max"] = MembersLessOne
		}
		switch failback := h["failback"].(type) {
		case string:
			h["failback"] = map[string]any{"mode": failback}
		case map[string]any:
			failback["mode"] = FailbackWindow
		}
	}
}

func copied(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}
