package config

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// leastPollInterval keeps a deployment from polling in a loop.
const leastPollInterval = 100 * time.Millisecond

// deploymentCheck applies the rules between the parts of a deployment. It works on
// the file's plain values, so that one mistake does not hide the others: what has
// not the right type was reported by the schema and counts as left out here.
type deploymentCheck struct {
	*document
	facts  Facts
	schema *schema
	// sorted are the names in each section, and groups those of the clustered hosts,
	// once they have been asked for: large files ask often.
	sorted map[string][]string
	groups []string
}

// shape checks keys, types and ranges.
func (c *deploymentCheck) shape() error {
	c.refuseUnserved()
	for _, section := range sortedKeys(c.value) {
		for _, name := range c.names(section) {
			for key, v := range c.section(section, name) {
				if p := (keyPath{section, name, key}); key != "endpoint" && !c.isHandled(p) {
					c.refuseReferences(v, p, "write the value itself", "references are followed in the properties of endpoints only")
				}
			}
		}
	}
	_, err := c.check(c.schema, nil, c.value)
	return err
}

// names returns the names in a top-level section, sorted. They are the caller's to
// read only.
func (c *deploymentCheck) names(section string) []string {
	names, ok := c.sorted[section]
	if !ok {
		m, _ := c.value[section].(map[string]any)
		names = sortedKeys(m)
		if c.sorted == nil {
			c.sorted = map[string][]string{}
		}
		c.sorted[section] = names
	}
	return names
}

// has reports whether a top-level section has the name.
func (c *deploymentCheck) has(section, name string) bool {
	_, ok := slices.BinarySearch(c.names(section), name)
	return ok
}

// section returns what stands under a name, nil if that is no section.
func (c *deploymentCheck) section(section, name string) map[string]any {
	m, _ := c.value[section].(map[string]any)
	v, _ := m[name].(map[string]any)
	return v
}

func (c *deploymentCheck) text(section, name, key string) string {
	s, _ := c.section(section, name)[key].(string)
	return s
}

func (c *deploymentCheck) flag(section, name, key string, otherwise bool) bool {
	if b, ok := c.section(section, name)[key].(bool); ok {
		return b
	}
	return otherwise
}

func (c *deploymentCheck) list(section, name, key string) []string {
	items, _ := c.section(section, name)[key].([]any)
	out := make([]string, len(items))
	for i, item := range items {
		out[i], _ = item.(string)
	}
	return out
}

// spot names another place in a message.
func (c *deploymentCheck) spot(p keyPath) string {
	at := c.clamp(c.place(p, true))
	return fmt.Sprintf("%s (%s:%d:%d)", c.render(p), c.file, at.line, at.column)
}

func (c *deploymentCheck) rules() {
	for _, section := range []string{"hosts", "receive_locations", "send_ports", "adapters"} {
		for _, name := range c.names(section) {
			if !validName.MatchString(name) {
				c.keyErrorf(keyPath{section, name}, nameRemedy(name), "%s cannot be a name here", quoted(name))
			}
		}
	}
	for _, name := range c.names("hosts") {
		c.host(name)
		c.policy(name)
	}
	c.ownable()
	c.contradictions()
	c.pins()
	for _, name := range c.names("receive_locations") {
		c.knownHost("receive_locations", name)
		c.location(name)
	}
	for _, name := range c.names("send_ports") {
		c.knownHost("send_ports", name)
		c.port(name)
	}
	c.routing()
	c.sameSources()
	// After a misspelt name something else would seem to be unused.
	if !c.failed() {
		c.unused()
	}
}

func (c *deploymentCheck) host(name string) {
	p := keyPath{"hosts", name}
	clustered := c.flag("hosts", name, "clustered", false)
	group := c.text("hosts", name, "group")
	if group != "" && !validName.MatchString(group) && !c.isSuspect(p.with("group")) {
		c.errorf(p.with("group"), nameRemedy(group), "%s cannot be a name here", quoted(group))
	}
	possible := c.list("hosts", name, "possible_owners")
	preferred := c.list("hosts", name, "preferred_owners")
	c.owners(p.with("possible_owners"), possible)
	c.owners(p.with("preferred_owners"), preferred)
	for i, n := range preferred {
		if n != "" && len(possible) > 0 && !slices.Contains(possible, n) && !c.isSuspect(p.with("preferred_owners", strconv.Itoa(i))) {
			c.errorf(p.with("preferred_owners", strconv.Itoa(i)), "add it there, or remove it here",
				"node %s is preferred and is not in possible_owners, so it could never own the host", n)
		}
	}
	if clustered || c.isSuspect(p.with("clustered")) {
		return
	}
	for _, key := range []string{"group", "preferred_owners", "failback", "failover", "anti_affinity", "standby"} {
		if _, ok := c.section("hosts", name)[key]; ok && !c.isSuspect(p.with(key)) {
			c.warnf(p.with(key), "remove it, or set clustered: true", "has no effect: host %s is not clustered", name)
		}
	}
}

func (c *deploymentCheck) owners(p keyPath, nodes []string) {
	for i, n := range nodes {
		at := p.with(strconv.Itoa(i))
		switch {
		case n == "" || c.isSuspect(at):
			continue
		case slices.Index(nodes, n) < i:
			c.errorf(at, "remove one of them", "node %s stands twice", quoted(n))
		case !validName.MatchString(n):
			c.errorf(at, nameRemedy(n), "%s cannot be a node's name", quoted(n))
		case c.facts.Nodes != nil && !slices.Contains(c.facts.Nodes, n):
			c.errorf(at, "nodes of the cluster: "+list(c.facts.Nodes), "there is no node %s", quoted(n))
		default:
			continue
		}
		c.suspect(at)
	}
}

// ownable refuses groups that no node may own.
func (c *deploymentCheck) ownable() {
	type member struct {
		host   string
		owners []string
	}
	groups := map[string]member{}
	for _, name := range c.names("hosts") {
		owners := c.list("hosts", name, "possible_owners")
		if !c.flag("hosts", name, "clustered", false) || len(owners) == 0 {
			continue
		}
		group := c.text("hosts", name, "group")
		if group == "" {
			group = name
		}
		first, ok := groups[group]
		common, some := commonOwners(first.owners, owners)
		if ok && !some {
			c.errorf(keyPath{"hosts", name, "possible_owners"}, "name a node that both allow, or separate the groups",
				"no node may own all hosts of group %s: shares none with %s", group, c.spot(keyPath{"hosts", first.host, "possible_owners"}))
			continue
		}
		if !ok {
			first.host = name
		}
		groups[group] = member{first.host, common}
	}
}

func (c *deploymentCheck) knownHost(section, name string) {
	host := c.text(section, name, "host")
	if host == "" || c.isSuspect(keyPath{section, name, "host"}) || c.isSuspect(keyPath{"hosts"}) {
		return
	}
	if !c.has("hosts", host) {
		c.errorf(keyPath{section, name, "host"}, suggestion(host, c.names("hosts"), "hosts", "add it under hosts"), "there is no host %s", quoted(host))
	}
}

func (c *deploymentCheck) location(name string) {
	p := keyPath{"receive_locations", name}
	c.portNames(p.with("to"), c.list("receive_locations", name, "to"))
	c.order(name)
	c.times(p.with("schedule"))
	if every, ok := c.lookup(p.with("schedule", "every")).(string); ok {
		if d, err := time.ParseDuration(every); err == nil && d < leastPollInterval && !c.isSuspect(p.with("schedule", "every")) {
			c.errorf(p.with("schedule", "every"), "write 100ms or more, for most sources 30s", "%s is too short a time between two polls", quoted(every))
		}
	}
	c.clusteredHost(p, name)
}

// clusteredHost refuses locations on hosts that run on every node.
func (c *deploymentCheck) clusteredHost(p keyPath, name string) {
	host := c.text("receive_locations", name, "host")
	if !c.has("hosts", host) || c.flag("hosts", host, "clustered", false) || c.isSuspect(keyPath{"hosts", host, "clustered"}) {
		return
	}
	at := c.place(keyPath{"hosts", host}, true)
	remedy := fmt.Sprintf("set clustered: true on host %s (line %d)", host, at.line)
	adapter := c.text("receive_locations", name, "adapter")
	if c.facts.Adapters[adapter].Exclusive {
		c.errorf(p.with("host"), remedy, "host %s is not clustered, so every node would run this location, and %s has no lock at the source: each item would be taken more than once", host, adapter)
		return
	}
	c.errorf(p.with("host"), remedy, "host %s is not clustered, and receive locations on such hosts are not served yet by this version", host)
}

// unused warns of what nothing uses.
func (c *deploymentCheck) unused() {
	hosts, ports := map[string]bool{}, map[string]bool{}
	for _, name := range c.names("receive_locations") {
		hosts[c.text("receive_locations", name, "host")] = true
		for _, port := range c.reach(name) {
			ports[port] = true
		}
	}
	for _, r := range c.routes() { // also one that no location's items can take
		for _, port := range r.to {
			ports[port] = true
		}
	}
	for _, name := range c.names("send_ports") {
		ports[c.text("send_ports", name, "backup")] = true
	}
	for _, name := range c.names("send_ports") {
		hosts[c.text("send_ports", name, "host")] = true
		if !ports[name] {
			c.add(Warning, keyPath{"send_ports", name}, true, "nothing is sent to this port", "name it in a location's to or in a route, or remove it")
		}
	}
	for _, name := range c.names("hosts") {
		if !hosts[name] {
			c.add(Warning, keyPath{"hosts", name}, true, "nothing runs in this host", "name it as host of a location or port, or remove it")
		}
	}
}
