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
	{keyPath{"hosts", "*", "limits"}, nil, "remove it; limit the service as a whole, for example with MemoryMax= in its systemd unit"},
}

// refuseUnserved adds an error for every key that is not served.
func (d *document) refuseUnserved() {
	for _, u := range unserved {
		d.eachMatch(d.root, nil, u.path, func(p keyPath, t *tree) {
			if u.served != nil && t.kind == scalarKind && t.value == u.served {
				return
			}
			if _, ok := t.value.(bool); u.served != nil && t.kind == scalarKind && !ok {
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
