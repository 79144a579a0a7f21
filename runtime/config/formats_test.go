package config

import (
	"strings"
	"testing"
)

func TestPlacesInTOML(t *testing.T) {
	_, err := ParseDeployment("app.toml", file(`
[hosts.intake]
clustered = true
drain = "5s"

[receive_locations.orders]
host = "intake"
adapter = "ftp"
to = ["erp", "epr"]
endpoint = {address = "a", "tls" = "nne", names = ["x", 2]}
[receive_locations.orders.schedule]
  window = "06:00-22:00"

[send_ports]
erp.host = "intake"
erp.adapter = "queue"
erp.endpoint.brokr = "b"

[[routes]]
when = "x"
`), testFacts())
	wantFindings(t, err,
		`app.toml:3:1: hosts.intake.drain: unknown key; did you mean drain_timeout?`,
		`app.toml:8:1: receive_locations.orders.to[1]: there is no send port "epr"; did you mean erp?`,
		`app.toml:9:28: receive_locations.orders.endpoint.tls: is "nne", want one of none, explicit, implicit; did you mean none?`,
		`app.toml:9:43: receive_locations.orders.endpoint.names[1]: is the number 2, want text; write it in quotes: "2"`,
		`app.toml:16:14: send_ports.erp.endpoint.brokr: unknown key; did you mean broker?`,
		`app.toml:18:3: routes[0].to: is missing; write it here (Names of send ports)`,
		`app.toml:19:1: routes[0].when: is not a right expression: column 1: there is no "x"; known are location, adapter, context; a property is written as context["ftp.name"]; see https://cel.dev for the language; fairlead route test shows what a route does`,
	)
}

func TestPlacesInJSON(t *testing.T) {
	_, err := ParseDeployment("app.json", file(`
{
  "hosts": {"intake": {"clustered": true, "größe": 1, "drain_timeout" : 30}},
	"receive_locations": {"orders": {
		"host": "intake", "adapter": "ftp", "endpoint": {"address": ""},
		"to": ["erp",
			"epr"]}},
  "send_ports": {"erp": {"host": "intake", "adapter": "queue", "endpoint": {"broker": "\ud83d\ude00", "size": 1.5}}}
}
`), testFacts())
	wantFindings(t, err,
		`app.json:2:43: hosts.intake."größe": unknown key; known keys: anti_affinity, clustered, drain_timeout, failback, failover, group, possible_owners, preferred_owners, restart, standby`,
		`app.json:2:73: hosts.intake.drain_timeout: is the number 30, want a duration such as 30s or 5m; add the unit, as in 30s`,
		`app.json:4:63: receive_locations.orders.endpoint.address: is empty; write a value (Server, as host or host:port)`,
		`app.json:6:4: receive_locations.orders.to[1]: there is no send port "epr"; did you mean erp?`,
		`app.json:7:111: send_ports.erp.endpoint.size: is the number 1.5, want a whole number`,
	)
}

func TestFilesThatDoNotParse(t *testing.T) {
	for _, c := range []struct{ name, file, text, want string }{
		{"tab", "a.yaml", "hosts:\n  x:\n\tclustered: true\n", `a.yaml:3:1: the indentation contains a tab; indent with spaces`},
		{"bare reference", "a.yaml", "hosts: {}\nsend_ports:\n  x:\n    endpoint: {a: ${env:X}}\n", `a.yaml:4:19: is not YAML: a reference between brackets without quotes; inside { } and [ ] write it as "${...}"`},
		{"colon", "a.yaml", "hosts:\n  x: a: b\n", `a.yaml:2:3: is not YAML: mapping values are not allowed in this context; look for a missing line break or wrong indentation near here; text that contains ": " needs quotes`},
		{"asterisk", "a.yaml", "pattern: *.edi\n", `a.yaml:1:1: is not YAML: did not find expected alphabetic or numeric character; text that begins with * needs quotes, as in pattern: "*.edi"`},
		{"key twice", "a.yaml", "hosts: {}\nsend_ports: {}\nhosts: {}\n", `a.yaml:3:1: key "hosts" stands twice; the first is at line 1; remove one of them`},
		{"two documents", "a.yaml", "hosts: {}\n---\nhosts: {}\n", `a.yaml:2:1: a second document begins here (after ---); one file holds one document; put it into a file of its own`},
		{"list", "a.yaml", "- a\n", `a.yaml:1:1: holds a list, want keys and values; write at least hosts, receive_locations and send_ports; to run nothing at all, write hosts: {}`},
		{"alias to itself", "a.yaml", "hosts: &a {x: *a}\n", `a.yaml:1:15: alias *a contains itself; write the values out`},
		{"not a number", "a.yaml", "hosts: .nan\n", `a.yaml:1:8: is not a finite number; write a number such as 1.5`},
		{"tag", "a.yaml", "hosts: !!binary aGk=\n", `a.yaml:1:8: the tag "!!binary" is not known here; write the value without a tag`},
		{"not UTF-8", "a.yaml", "hosts: {}\n# caf\xe9\n", `a.yaml:2:6: holds a byte that is not readable text; save the file as UTF-8 without control characters`},
		{"JSON, comma", "a.json", "{\n  \"hosts\": {},\n}\n", `a.json:3:1: is not JSON: invalid character '}' looking for beginning of object key string; look for a missing or superfluous comma, quote or brace, here or just before`},
		{"JSON, cut off", "a.json", "{\n  \"hosts\": {", `a.json:2:13: is not JSON: it ends too early; look for a missing or superfluous comma, quote or brace, here or just before`},
		{"JSON, twice", "a.json", "{\"hosts\": {}, \"hosts\": {}}", `a.json:1:15: key "hosts" stands twice; the first is at line 1; remove one of them`},
		{"TOML, quote", "a.toml", "[hosts.x]\ngroup = \"edi\n", `a.toml:2:13: is not TOML: basic strings cannot have new lines; look for a missing quote, a missing bracket or a key that stands twice`},
		{"TOML, twice", "a.toml", "[hosts.x]\n[hosts.x]\n", `a.toml:2:2: key "hosts.x" stands twice; the first is at line 1; remove one of them`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseDeployment(c.file, []byte(c.text), testFacts())
			if err == nil || !strings.Contains("\n"+err.Error()+"\n", "\n"+c.want+"\n") {
				t.Errorf("got\n%v\nwant\n%s", err, c.want)
			}
		})
	}
}

func TestFilesThatUnfoldToTooMuchAreRefused(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [*" + p + strings.Repeat(",*"+p, 8) + "]\n"
	}
	for name, text := range map[string]string{
		"bomb.yaml": bomb,
		"deep.yaml": "a: " + strings.Repeat("[", 2000) + strings.Repeat("]", 2000),
		"deep.json": strings.Repeat("[", 500_000),
		"deep.toml": "a = " + strings.Repeat("[", 500_000),
	} {
		if _, err := ParseDeployment(name, []byte(text), Facts{}); err == nil || !strings.Contains(err.Error(), "too ") {
			t.Errorf("%s: got %.200v, want it refused as too much", name, err)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	known := []string{"directory", "pattern", "stable_for", "max_in_flight", "to", "tls"}
	for word, want := range map[string]string{
		"directroy": "directory", "dir": "directory", "Pattern": "pattern", "stableFor": "stable_for", "stable-for": "stable_for",
		"maxinflight": "max_in_flight", "tsl": "tls", "zebra": "", "x": "", "": "",
	} {
		if got := didYouMean(word, known); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}
