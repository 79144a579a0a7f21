package config

import "fmt"

// unserved are the keys of the deployment file that this version knows and does
// not act on. They are refused, each with what to do instead: a setting that is
// read and ignored is worse than one that is missing.
var unserved = []struct {
	path   keyPath // "*" stands for any name
	served any     // a value that changes nothing and is let through; nil: none
	remedy string
}{
	{keyPath{"hosts", "*", "failback"}, "never", "write failback: never, and move hosts back with fairlead host move"},
	{keyPath{"hosts", "*", "restart"}, nil, "remove it; a handler that ends is started again on the same node, with growing pauses"},
	{keyPath{"hosts", "*", "failover"}, nil, "remove it; a host moves when its node dies, is cut off or drained, or by fairlead host move"},
	{keyPath{"hosts", "*", "anti_affinity"}, nil, "remove it; keep groups apart with possible_owners or preferred_owners"},
	{keyPath{"hosts", "*", "limits"}, nil, "remove it; limit the service as a whole, for example with MemoryMax= in its systemd unit"},
	{keyPath{"receive_locations", "*", "schedule", "window"}, nil, "remove it; the location polls around the clock"},
	{keyPath{"receive_locations", "*", "schedule", "timezone"}, nil, "remove it; it belongs to window"},
	{keyPath{"receive_locations", "*", "ordered"}, false, "remove it or write ordered: false; items may overtake each other"},
	{keyPath{"send_ports", "*", "ordered"}, false, "remove it or write ordered: false; messages may overtake each other"},
	{keyPath{"send_ports", "*", "backup"}, nil, "remove it; an item whose retries are used up is suspended and can be resumed"},
	{keyPath{"send_ports", "*", "window"}, nil, "remove it; the port sends around the clock"},
	{keyPath{"routes"}, nil, "remove it and name the send ports in each location's to"},
}

// refuseUnserved adds an error for every key that is not served.
func (d *document) refuseUnserved() {
	for _, u := range unserved {
		d.eachMatch(d.root, nil, u.path, func(p keyPath, t *tree) {
			if u.served != nil && t.kind == scalarKind && t.value == u.served {
				return
			}
			if wrongKind(t, u.served) {
				return // the schema says so
			}
			d.handle(p)
			problem := "is not served yet by this version"
			if t.kind == scalarKind && u.served != nil {
				problem = p[len(p)-1] + ": " + fmt.Sprint(t.value) + " is not served yet by this version"
			}
			d.keyErrorf(p, u.remedy, "%s", problem)
		})
	}
}

// wrongKind reports whether a value is not of the kind of the served one, except
// for sections, which may be the long form of a setting.
func wrongKind(t *tree, served any) bool {
	if served == nil || t.kind == mapKind {
		return false
	}
	switch served.(type) {
	case bool:
		_, ok := t.value.(bool)
		return !ok
	default:
		// A misspelt word is the schema's; those that will be served are known.
		return t.value != "immediate"
	}
}

// eachMatch calls f for the values that a path with stars leads to.
func (d *document) eachMatch(t *tree, at, pattern keyPath, f func(keyPath, *tree)) {
	if len(pattern) == 0 {
		f(at, t)
		return
	}
	if t.kind != mapKind {
		return
	}
	for _, k := range t.keys {
		if pattern[0] == "*" || pattern[0] == k {
			d.eachMatch(t.fields[k], at.with(k), pattern[1:], f)
		}
	}
}
