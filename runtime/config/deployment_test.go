package config

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

func mustParse(t *testing.T, text string) *Deployment {
	t.Helper()
	d, err := ParseDeployment("app.yaml", file(text), testFacts())
	if err != nil {
		t.Fatalf("parse:\n%v", err)
	}
	return d
}

func TestDeploymentDefaults(t *testing.T) {
	d := mustParse(t, goodDeployment)
	wantLines(t, d.Warnings)
	l, p, h := d.ReceiveLocations["orders"], d.SendPorts["erp"], d.Hosts["outbound"]
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"schedule.every", l.Schedule.Every.D(), 30 * time.Second},
		{"location max_in_flight", l.MaxInFlight, 16},
		{"enabled", l.Enabled, true},
		{"location ordered", l.Ordered, false},
		{"retry.attempts", p.Retry.Attempts, 3},
		{"retry.interval", p.Retry.Interval.D(), 5 * time.Minute},
		{"retry.backoff", p.Retry.Backoff, 1.0},
		{"in_doubt", p.InDoubt, "resend"},
		{"port max_in_flight", p.MaxInFlight, 16},
		{"clustered", h.Clustered, false},
		{"group", h.Group, "outbound"},
		{"failback", h.Failback, Failback{Mode: "never"}},
		{"restart", h.Restart, Restart{Max: 1, Within: sdk.Duration(15 * time.Minute)}},
		{"failover", h.Failover, Failover{Max: MembersLessOne, Within: sdk.Duration(6 * time.Hour), RetryAfter: sdk.Duration(time.Hour)}},
		{"standby", h.Standby, "cold"},
		{"drain_timeout", h.DrainTimeout.D(), 30 * time.Second},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
}

func TestDeploymentKeepsWhatIsWritten(t *testing.T) {
	d := mustParse(t, `
hosts:
  intake: {clustered: true, group: edi, possible_owners: [node-a, node-b], preferred_owners: [node-b], failback: never, drain_timeout: 90s}
receive_locations:
  orders:
    host: intake
    adapter: ftp
    endpoint:
      address: ftp.example
      connections: 7
      headers: {x.y: "1", "": z}
      names: [a, b]
    schedule: {every: 1m30s}
    to: [erp, archive]
    max_in_flight: 3
    enabled: false
send_ports:
  erp:
    host: intake
    adapter: queue
    endpoint: {broker: b, size: 9007199254740993, weight: 1.5}
    retry: {attempts: 0, interval: 1s, backoff: 2.5}
    in_doubt: suspend
    max_in_flight: 1
  archive: {host: intake, adapter: file, endpoint: {}}
`)
	got := asJSON(t, d)
	want := `{"hosts":{"intake":{"clustered":true,"group":"edi","possible_owners":["node-a","node-b"],"preferred_owners":["node-b"],"failback":"never",` +
		`"restart":{"max":1,"within":"15m0s"},"failover":{"max":-1,"within":"6h0m0s","retry_after":"1h0m0s"},"standby":"cold","drain_timeout":"1m30s"}},` +
		`"receive_locations":{"orders":{"host":"intake","adapter":"ftp","endpoint":{"address":"ftp.example","connections":7,"headers":{"":"z","x.y":"1"},"names":["a","b"]},` +
		`"schedule":{"every":"1m30s"},"to":["erp","archive"],"max_in_flight":3,"enabled":false,"ordered":false,"on_failure":"suspend","delivery":"exactly-once","track":"headers"}},` +
		`"send_ports":{"archive":{"host":"intake","adapter":"file","endpoint":{},"retry":{"attempts":3,"interval":"5m0s","backoff":1,"jitter":0.1},"in_doubt":"resend","max_in_flight":16,"ordered":false},` +
		`"erp":{"host":"intake","adapter":"queue","endpoint":{"broker":"b","size":9007199254740993,"weight":1.5},"retry":{"attempts":0,"interval":"1s","backoff":2.5,"jitter":0.1},"in_doubt":"suspend","max_in_flight":1,"ordered":false}}}`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestDeploymentSurvivesTheLedger(t *testing.T) {
	d := mustParse(t, goodDeployment)
	d.SendPorts["erp"].Endpoint["size"] = int64(9007199254740993)
	first, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeDeployment(first)
	if err != nil {
		t.Fatal(err)
	}
	second, err := back.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Errorf("encoded again it differs:\n%s\n%s", first, second)
	}
	if _, err := DecodeDeployment([]byte(`{"hosts":{},"maps":[]}`)); err == nil {
		t.Error("a key of a later version was accepted")
	}
}

func TestTheSameDeploymentInThreeFormatsIsTheSame(t *testing.T) {
	toml := `
[hosts.intake]
clustered = true
[hosts.outbound]
[receive_locations.orders]
host = "intake"
adapter = "ftp"
to = ["erp"]
endpoint = {address = "ftp.example:21"}
[send_ports.erp]
host = "outbound"
adapter = "queue"
endpoint.broker = "nats://queue.example:4222"
`
	jsonText := `{"hosts": {"intake": {"clustered": true}, "outbound": {}},
"receive_locations": {"orders": {"host": "intake", "adapter": "ftp", "to": ["erp"], "endpoint": {"address": "ftp.example:21"}}},
"send_ports": {"erp": {"host": "outbound", "adapter": "queue", "endpoint": {"broker": "nats://queue.example:4222"}}}}`
	want := asJSON(t, mustParse(t, goodDeployment))
	for name, text := range map[string]string{"app.toml": toml, "app.json": jsonText, "APP.JSON": jsonText} {
		d, err := ParseDeployment(name, file(text), testFacts())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := asJSON(t, d); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
		}
	}
}

func TestAnchorsAndMergeKeysAreFollowed(t *testing.T) {
	d := mustParse(t, `
hosts: {intake: {clustered: true}}
receive_locations:
  first: &usual
    host: intake
    adapter: ftp
    endpoint: {address: a}
    to: &ports [erp]
    max_in_flight: 5
  second:
    <<: *usual
    endpoint: {address: b}
    to: *ports
send_ports:
  erp: {host: intake, adapter: queue, endpoint: {broker: b}}
`)
	got := d.ReceiveLocations["second"]
	if got.Endpoint["address"] != "b" || got.MaxInFlight != 5 || !slices.Equal(got.To, []string{"erp"}) {
		t.Errorf("got %+v, want the merged location with its own endpoint", got)
	}
}

func TestGroups(t *testing.T) {
	d := mustParse(t, `
hosts:
  zeta: {clustered: true, group: edi, possible_owners: [node-c, node-b, node-a], preferred_owners: [node-a]}
  alpha: {clustered: true, group: edi, possible_owners: [node-b, node-a], preferred_owners: [node-b, node-a]}
  alone: {clustered: true}
  loose: {}
receive_locations:
  a: {host: zeta, adapter: ftp, endpoint: {address: a}, to: [p, q, r]}
  b: {host: alpha, adapter: ftp, endpoint: {address: b}, to: [p]}
  c: {host: alone, adapter: ftp, endpoint: {address: c}, to: [p]}
send_ports:
  p: {host: alpha, adapter: queue, endpoint: {broker: b}}
  q: {host: loose, adapter: file, endpoint: {}}
  r: {host: loose, adapter: file, endpoint: {}}
`)
	got := asJSON(t, d.Groups())
	policy := `"Pins":null,"Failback":"never","Failover":{"max":-1,"within":"6h0m0s","retry_after":"1h0m0s"},"Standby":"cold","Restart":{"max":1,"within":"15m0s"},"AntiAffinity":null}`
	want := `[{"Name":"alone","Hosts":["alone"],"PossibleOwners":null,"PreferredOwners":null,"Adapters":["ftp"],` + policy + `,` +
		`{"Name":"edi","Hosts":["alpha","zeta"],"PossibleOwners":["node-b","node-a"],"PreferredOwners":["node-b","node-a"],"Adapters":["ftp","queue"],` + policy + `]`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestTheAdaptersOwnCheckIsMappedOntoTheFile(t *testing.T) {
	var asked []string
	facts := withCheck(testFacts(), func(ctx context.Context, receive bool, properties []byte) ([]Problem, error) {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("the check has no deadline")
		}
		if !receive {
			t.Error("got a send endpoint, want a receive endpoint")
		}
		asked = append(asked, string(properties))
		return []Problem{
			{Property: "pattern", Problem: `"[" is not a pattern, nor is s3cret`},
			{Property: "directory", Problem: "must exist"},
			{Problem: "cannot work like this"},
		}, nil
	})
	text := strings.Replace(goodDeployment, `{address: "ftp.example:21"}`, `
      address: ftp.example
      password: s3cret
      directory: ${env:DIR}
      timeout: ${env:TIMEOUT}
      pattern: "["`, 1)
	_, err := ParseDeployment("app.yaml", file(text), facts)
	wantFindings(t, err,
		`app.yaml:8:5: receive_locations.orders.endpoint: cannot work like this`,
		`app.yaml:10:17: warning: receive_locations.orders.endpoint.password: is a secret and stands in the file, where everybody can read it who reads the file; write ${file:/path} or ${env:NAME}`,
		`app.yaml:13:16: receive_locations.orders.endpoint.pattern: "[" is not a pattern, nor is ***`,
	)
	// A duration cannot be checked before the reference is followed.
	if len(asked) != 1 || strings.Contains(asked[0], "TIMEOUT") || !strings.Contains(asked[0], "${env:DIR}") {
		t.Errorf("the adapter was asked %q, want once, with the reference to DIR and without that to TIMEOUT", asked)
	}
}

func TestAnAdapterThatCannotBeAskedIsAFinding(t *testing.T) {
	calls := 0
	facts := withCheck(testFacts(), func(context.Context, bool, []byte) ([]Problem, error) {
		calls++
		return nil, errors.New("exit status 1")
	})
	text := strings.Replace(goodDeployment, "send_ports:", `  more: {host: intake, adapter: ftp, endpoint: {address: x}, to: [erp]}
send_ports:`, 1)
	_, err := ParseDeployment("app.yaml", file(text), facts)
	wantFindings(t, err, `app.yaml:10:33: receive_locations.more.adapter: adapter ftp could not check its properties: exit status 1; look whether the adapter starts: fairlead adapter describe ftp`)
	if calls != 1 {
		t.Errorf("the broken adapter was asked %d times, want once", calls)
	}
}

func TestWithoutAdaptersTheRestIsCheckedAndAWarningSaysSo(t *testing.T) {
	d, err := ParseDeployment("app.yaml", file(strings.Replace(goodDeployment, "adapter: ftp", "adapter: anything", 1)), Facts{})
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, d.Warnings, `app.yaml:4:1: warning: receive_locations: adapters and their properties are not checked: none are known here; validate it on a node, or name the adapters' directory`)
}

func TestDoubtfulDeploymentsAreAcceptedWithWarnings(t *testing.T) {
	d := mustParse(t, `
hosts:
  intake: {clustered: true}
  idle: {group: edi, preferred_owners: [node-a]}
receive_locations:
  orders: {host: intake, adapter: ftp, endpoint: {address: a, password: s3cret}, to: [erp]}
  spare: {host: intake, adapter: ftp, endpoint: {address: a, directory: .}, to: [erp], enabled: false}
send_ports:
  erp: {host: intake, adapter: queue, endpoint: {broker: b}}
  unused: {host: intake, adapter: queue, endpoint: {broker: b}}
`)
	wantLines(t, d.Warnings,
		`app.yaml:3:3: warning: hosts.idle: nothing runs in this host; name it as host of a location or port, or remove it`,
		`app.yaml:3:17: warning: hosts.idle.group: has no effect: host idle is not clustered; remove it, or set clustered: true`,
		`app.yaml:3:22: warning: hosts.idle.preferred_owners: has no effect: host idle is not clustered; remove it, or set clustered: true`,
		`app.yaml:5:73: warning: receive_locations.orders.endpoint.password: is a secret and stands in the file, where everybody can read it who reads the file; write ${file:/path} or ${env:NAME}`,
		`app.yaml:6:39: warning: receive_locations.spare.endpoint: is the same source as receive_locations.orders.endpoint (app.yaml:5:40): they would take each other's items; remove one of the two, or make what they take differ`,
		`app.yaml:9:3: warning: send_ports.unused: nothing is sent to this port; name it in a location's to or in a route, or remove it`,
	)
}

func TestNothingToRunMustBeSaid(t *testing.T) {
	if _, err := ParseDeployment("app.yaml", []byte("hosts: {}\n"), testFacts()); err != nil {
		t.Errorf("hosts: {}: got %v, want an empty deployment", err)
	}
	for _, text := range []string{"", "  \n\n", "# nothing\n", "---\n"} {
		if _, err := ParseDeployment("app.yaml", []byte(text), testFacts()); err == nil {
			t.Errorf("%q was accepted: a truncated file would stop everything", text)
		}
	}
}

func TestTheDeploymentSchemaIsValid(t *testing.T) {
	data, err := DeploymentSchema()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := compileSchema(data); err != nil {
		t.Fatal(err)
	}
	var s map[string]any
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
}

func TestAnAdapterSchemaMayNotReachOut(t *testing.T) {
	facts := testFacts()
	facts.Adapters["ftp"] = AdapterFacts{Version: "0.1.0", ReceiveSchema: []byte(`{"$ref": "file:///etc/hostname"}`)}
	_, err := ParseDeployment("app.yaml", file(goodDeployment), facts)
	if err == nil || !strings.Contains(err.Error(), "app.yaml:7:14: receive_locations.orders.adapter: adapter ftp 0.1.0 has a schema that cannot be used") {
		t.Errorf("got %v, want a finding at the adapter", err)
	}
}
