package config

import (
	"strings"
	"testing"
)

// Each row changes one place of goodDeployment, whose first line is line 1.
func TestWrongDeployments(t *testing.T) {
	for _, c := range []struct {
		name, old, new string
		want           []string
	}{
		{"misspelt key", "clustered: true", "clusterd: true", []string{
			`app.yaml:2:12: hosts.intake.clusterd: unknown key; did you mean clustered?`}},
		{"misspelt section", "send_ports:", "sendports:", []string{
			`app.yaml:10:1: sendports: unknown key; did you mean send_ports?`}},
		{"key of the schedule beside it", "to: [erp]", "to: [erp]\n    every: 5s", []string{
			`app.yaml:10:5: receive_locations.orders.every: unknown key; it belongs under schedule`}},
		{"property of the adapter beside endpoint", "to: [erp]", "to: [erp]\n    directory: /out", []string{
			`app.yaml:10:5: receive_locations.orders.directory: unknown key; known keys: adapter, delivery, enabled, endpoint, host, max_in_flight, on_failure, order_by, ordered, schedule, to, track; the adapter's own properties belong under endpoint`}},
		{"wrong types", "clustered: true", `clustered: yes, drain_timeout: 30, group: 7`, []string{
			`app.yaml:2:23: hosts.intake.clustered: is the text "yes", want true or false; write true without quotes`,
			`app.yaml:2:43: hosts.intake.drain_timeout: is the number 30, want a duration such as 30s or 5m; add the unit, as in 30s`,
			`app.yaml:2:54: hosts.intake.group: is the number 7, want text; write it in quotes: "7"`}},
		{"unit that does not exist", "to: [erp]", "to: [erp]\n    schedule: {every: 5min}", []string{
			`app.yaml:10:23: receive_locations.orders.schedule.every: is "5min", want a duration; write it as 30s or 5m`}},
		{"a word where a list belongs", "to: [erp]", "to: erp", []string{
			`app.yaml:9:9: receive_locations.orders.to: is the text "erp", want a list; write [erp]`}},
		{"no send ports", "to: [erp]", "to: []", []string{
			`app.yaml:9:5: receive_locations.orders.to: names no send port, and there are no routes: nothing would go anywhere; name the send ports that get every item, or write routes`}},
		{"to left out", "    to: [erp]\n", "", []string{
			`app.yaml:5:3: receive_locations.orders.to: names no send port, and there are no routes: nothing would go anywhere; name the send ports that get every item, or write routes`}},
		{"the same port twice", "to: [erp]", "to: [erp, erp]", []string{
			`app.yaml:9:15: receive_locations.orders.to[1]: send port "erp" stands twice; remove one of them`}},
		{"unknown port", "to: [erp]", "to: [erp, epr]", []string{
			`app.yaml:9:15: receive_locations.orders.to[1]: there is no send port "epr"; did you mean erp?`}},
		{"unknown host", "host: outbound", "host: outbond", []string{
			`app.yaml:12:11: send_ports.erp.host: there is no host "outbond"; did you mean outbound?`}},
		{"unknown adapter", "adapter: ftp", "adapter: sftp", []string{
			`app.yaml:7:14: receive_locations.orders.adapter: there is no adapter "sftp"; did you mean ftp?`}},
		{"adapter that cannot receive", "adapter: ftp", "adapter: file", []string{
			`app.yaml:7:14: receive_locations.orders.adapter: adapter file cannot receive; use another adapter, or put it under send_ports`}},
		{"adapter that cannot send", "adapter: queue", "adapter: ftp", []string{
			`app.yaml:13:14: send_ports.erp.adapter: adapter ftp cannot send; use another adapter, or put it under receive_locations`}},
		{"unknown owner", "clustered: true", "clustered: true, possible_owners: [node-a, node-x]", []string{
			`app.yaml:2:55: hosts.intake.possible_owners[1]: there is no node "node-x"; nodes of the cluster: node-a, node-b, node-c`}},
		{"owner twice", "clustered: true", "clustered: true, possible_owners: [node-a, node-a]", []string{
			`app.yaml:2:55: hosts.intake.possible_owners[1]: node "node-a" stands twice; remove one of them`}},
		{"preferred owner that is not possible", "clustered: true", "clustered: true, possible_owners: [node-a], preferred_owners: [node-b]", []string{
			`app.yaml:2:75: hosts.intake.preferred_owners[0]: node node-b is preferred and is not in possible_owners, so it could never own the host; add it there, or remove it here`}},
		{"group that no node may own", "  outbound: {}", "  intake2: {clustered: true, group: intake, possible_owners: [node-b]}\n  intake3: {clustered: true, group: intake, possible_owners: [node-a]}\n  outbound: {}", []string{
			`app.yaml:4:45: hosts.intake3.possible_owners: no node may own all hosts of group intake: shares none with hosts.intake2.possible_owners (app.yaml:3:45); name a node that both allow, or separate the groups`}},
		{"names", "  outbound: {}", "  outbound: {}\n  Big_Host: {clustered: true, group: -x}", []string{
			`app.yaml:4:3: hosts.Big_Host: "Big_Host" cannot be a name here; names have up to 63 small letters, digits and dashes and begin with a letter or digit, such as big-host`,
			`app.yaml:4:38: hosts.Big_Host.group: "-x" cannot be a name here; names have up to 63 small letters, digits and dashes and begin with a letter or digit, such as x`}},
		{"exclusive adapter on every node", "clustered: true", "clustered: false", []string{
			`app.yaml:6:11: receive_locations.orders.host: host intake is not clustered, so every node would run this location, and ftp has no lock at the source: each item would be taken more than once; set clustered: true on host intake (line 2)`}},
		{"exclusive adapter, clustered left out", "clustered: true}", "}\n  x: {clustered: true}", []string{
			`app.yaml:7:11: receive_locations.orders.host: host intake is not clustered, so every node would run this location, and ftp has no lock at the source: each item would be taken more than once; set clustered: true on host intake (line 2)`}},
		{"polling too often", "to: [erp]", "to: [erp]\n    schedule: {every: 99ms}", []string{
			`app.yaml:10:23: receive_locations.orders.schedule.every: "99ms" is too short a time between two polls; write 100ms or more, for most sources 30s`}},
		{"out of range", "to: [erp]", "to: [erp]\n    max_in_flight: 0", []string{
			`app.yaml:10:20: receive_locations.orders.max_in_flight: is 0, want 1 or more`}},
		{"retry", `endpoint: {broker: "nats://queue.example:4222"}`, "endpoint: {broker: b}\n    retry: {attempts: -1, interval: -5s, backoff: 0.5}\n    in_doubt: resent", []string{
			`app.yaml:15:23: send_ports.erp.retry.attempts: is -1, want 0 or more`,
			`app.yaml:15:37: send_ports.erp.retry.interval: is "-5s", want a duration; write it as 30s or 5m`,
			`app.yaml:15:51: send_ports.erp.retry.backoff: is 0.5, want 1 or more`,
			`app.yaml:16:15: send_ports.erp.in_doubt: is "resent", want one of resend, suspend; did you mean resend?`}},
		{"the same source twice", "send_ports:", "  again:\n    host: intake\n    adapter: ftp\n    endpoint: {directory: ., address: \"ftp.example:21\", password: \"${env:X}\"}\n    to: [erp]\nsend_ports:", []string{
			`app.yaml:13:5: receive_locations.again.endpoint: is the same source as receive_locations.orders.endpoint (app.yaml:8:5): they would take each other's items; remove one of the two, or make what they take differ`}},
		{"reference outside of an endpoint", "host: outbound", `host: "${env:HOST}"`, []string{
			`app.yaml:12:11: send_ports.erp.host: references are followed in the properties of endpoints only; write the value itself`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(goodDeployment, c.old) {
				t.Fatalf("%q is not in the deployment", c.old)
			}
			_, err := ParseDeployment("app.yaml", file(strings.Replace(goodDeployment, c.old, c.new, 1)), testFacts())
			wantFindings(t, err, c.want...)
		})
	}
}

func TestAQueueOnAHostThatIsNotClusteredIsNotServedYet(t *testing.T) {
	text := strings.Replace(goodDeployment, "clustered: true", "clustered: false", 1)
	text = strings.Replace(text, "adapter: ftp\n    endpoint: {address: \"ftp.example:21\"}", "adapter: queue\n    endpoint: {broker: b}", 1)
	_, err := ParseDeployment("app.yaml", file(text), testFacts())
	wantFindings(t, err, `app.yaml:6:11: receive_locations.orders.host: host intake is not clustered, and receive locations on such hosts are not served yet by this version; set clustered: true on host intake (line 2)`)
}

func TestWhatIsNotServedYetIsSaidKeyByKey(t *testing.T) {
	_, err := ParseDeployment("app.yaml", file(`
hosts:
  intake:
    clustered: true
    failback: {window: "22:00-04:00", timezone: Europe/Paris}
    restart: {max: 1, within: 15m}
    failover: {max: 2, within: 6h, retry_after: 1h}
    anti_affinity: []
    limits: {memory: 256MiB}
  other: {clustered: true, failback: immediate}
  third: {failback: nevr}
receive_locations:
  orders:
    host: intake
    adapter: ftp
    endpoint: {address: a, password: "${secret:x}"}
    to: [erp]
send_ports:
  erp: {host: other, adapter: queue, endpoint: {broker: b}}
`), testFacts())
	wantFindings(t, err,
		`app.yaml:8:5: hosts.intake.limits: is not served yet by this version; remove it; limit the service as a whole, for example with MemoryMax= in its systemd unit`,
		`app.yaml:10:21: hosts.third.failback: is "nevr", want one of never, immediate; did you mean never?`,
		`app.yaml:15:38: receive_locations.orders.endpoint.password: ${secret:...} is not served yet by this version; write ${file:/path} or ${env:NAME}, with the file or variable on every node that may own the host`,
	)
}

func TestWrongPropertiesOfEndpoints(t *testing.T) {
	_, err := ParseDeployment("app.yaml", file(`
hosts:
  intake: {clustered: true}
receive_locations:
  first:
    host: intake
    adapter: ftp
    endpoint:
      adress: a
      tls: explict
      connections: ${env:CONNECTIONS}
      timeout: 30
      passive: "no"
      directory: [a]
      password: 12345
      headers: {a: 1}
      names: [x, 2]
      pattern:
      cheese: gouda
    to: [erp]
  second:
    host: intake
    adapter: ftp
    endpoint:
      address: ""
      connections: 65
      user: ${HOME}
      directory: ${env:1X}
      pattern: ${file:relative}
      password: ab${cd
      timeout: ${env:TIMEOUT}
      tls: $${x}
    to: [erp]
  third: {host: intake, adapter: ftp, endpoint: {}, to: [erp]}
  fourth: {host: intake, adapter: ftp, to: [erp]}
  fifth: {host: intake, adapter: ftp, endpoint: text, to: [erp]}
send_ports:
  erp: {host: intake, adapter: queue, endpoint: {broker: b, size: "7", weight: 1e3}}
`), testFacts())
	const forms = "; write ${env:NAME} or ${file:/path}, or $${ for the two characters themselves"
	wantFindings(t, err,
		`app.yaml:8:7: receive_locations.first.endpoint.adress: unknown key; did you mean address?`,
		`app.yaml:9:12: receive_locations.first.endpoint.tls: is "explict", want one of none, explicit, implicit; did you mean explicit?`,
		`app.yaml:10:20: receive_locations.first.endpoint.connections: a reference gives text, want a whole number; write the value itself`,
		`app.yaml:11:16: receive_locations.first.endpoint.timeout: is the number 30, want a duration such as 30s or 5m; add the unit, as in 30s`,
		`app.yaml:12:16: receive_locations.first.endpoint.passive: is the text "no", want true or false; write false without quotes`,
		`app.yaml:13:7: receive_locations.first.endpoint.directory: is a list, want text; write one value, without brackets`,
		`app.yaml:14:17: receive_locations.first.endpoint.password: has a value, want text; write it in quotes`,
		`app.yaml:15:20: receive_locations.first.endpoint.headers.a: is the number 1, want text; write it in quotes: "1"`,
		`app.yaml:16:18: receive_locations.first.endpoint.names[1]: is the number 2, want text; write it in quotes: "2"`,
		`app.yaml:17:15: receive_locations.first.endpoint.pattern: has no value; write text, or remove the key`,
		`app.yaml:18:7: receive_locations.first.endpoint.cheese: unknown key; known keys: address, connections, directory, headers, names, passive, password, pattern, timeout, tls, user`,
		`app.yaml:24:16: receive_locations.second.endpoint.address: is empty; write a value (Server, as host or host:port)`,
		`app.yaml:25:20: receive_locations.second.endpoint.connections: is 65, want 64 or less`,
		`app.yaml:26:13: receive_locations.second.endpoint.user: holds a reference of an unknown kind`+forms,
		`app.yaml:27:18: receive_locations.second.endpoint.directory: holds a reference to a variable that cannot exist; write ${env:NAME} with letters, digits and underscores`,
		`app.yaml:28:16: receive_locations.second.endpoint.pattern: holds a reference to a file without its whole path; write ${file:/path}, beginning with a slash`,
		`app.yaml:29:17: receive_locations.second.endpoint.password: holds ${ without }`+forms,
		`app.yaml:31:12: receive_locations.second.endpoint.tls: is "$${x}", want one of none, explicit, implicit`,
		`app.yaml:33:39: receive_locations.third.endpoint.address: is missing; write it here (Server, as host or host:port)`,
		`app.yaml:34:3: receive_locations.fourth.endpoint: is missing; write it here (The adapter's own properties, see fairlead adapter describe)`,
		`app.yaml:35:49: receive_locations.fifth.endpoint: is the text "text", want a section of keys; write its keys below it, indented`,
		`app.yaml:37:67: send_ports.erp.endpoint.size: is the text "7", want a whole number; write 7 without quotes`,
	)
}

func TestFindingsShowNoSecrets(t *testing.T) {
	for _, value := range []string{`hunter2`, `[hunter2]`, `{a: hunter2}`, `"${hunter2}"`, `"${env:hunter2 x}"`, `"${file:hunter2}"`, `"hunter2${"`, `"x${secret:hunter2}"`} {
		text := strings.Replace(goodDeployment, `{address: "ftp.example:21"}`, `{address: a, connections: x, password: `+value+`}`, 1)
		_, err := ParseDeployment("app.yaml", file(text), testFacts())
		if err == nil {
			t.Fatalf("%s was accepted", value)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("password: %s\nis shown: %v", value, err)
		}
	}
	text := strings.Replace(goodDeployment, `endpoint: {broker: "nats://queue.example:4222"}`, `in_doubt: nats://user:hunter2@queue
    endpoint: {broker: b}`, 1)
	_, err := ParseDeployment("app.yaml", file(text), testFacts())
	wantFindings(t, err, `app.yaml:14:15: send_ports.erp.in_doubt: is "nats://***@queue", want one of resend, suspend`)
}
