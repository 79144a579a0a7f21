package config

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests need time zones on any machine

	"github.com/fairlead-io/fairlead/sdk"
)

const policyDeployment = `
hosts:
  intake: {clustered: true, group: edi, failback: {window: "22:00-04:00", timezone: Europe/Paris}, restart: {max: 2}, anti_affinity: [alone, {group: other, hard: true}]}
  second: {clustered: true, group: edi, failover: {max: 2, retry_after: 10m}, standby: warm, restart: {max: 0, within: 1h}, anti_affinity: [{group: alone, hard: true}, other]}
  alone: {clustered: true, failback: immediate}
  other: {clustered: true}
  loose: {}
receive_locations:
  a: {host: intake, adapter: ftp, endpoint: {address: a}, to: [p, q, r]}
  b: {host: second, adapter: ftp, endpoint: {address: b}, to: [p]}
  c: {host: alone, adapter: ftp, endpoint: {address: c}, to: [p], enabled: false}
send_ports:
  p: {host: second, adapter: queue, endpoint: {broker: b}}
  q: {host: loose, adapter: file, endpoint: {}}
  r: {host: other, adapter: file, endpoint: {}}
adapters:
  ftp: {sha256: [` + sumA + `, ` + sumB + `]}
  file:
    sha256: ["` + sumA + `"]
`

const (
	sumA = "ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
	sumB = "bbcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
)

func groupNamed(t *testing.T, d *Deployment, name string) Group {
	t.Helper()
	for _, g := range d.Groups() {
		if g.Name == name {
			return g
		}
	}
	t.Fatalf("there is no group %s", name)
	return Group{}
}

func TestAGroupHasThePolicyOfItsHosts(t *testing.T) {
	d := mustParse(t, policyDeployment)
	wantLines(t, d.Warnings)
	got := asJSON(t, d.Groups())
	a, b := strings.ToLower(sumA), sumB
	want := `[{"Name":"alone","Hosts":["alone"],"PossibleOwners":null,"PreferredOwners":null,"Adapters":["ftp"],"Pins":{"ftp":["` + a + `","` + b + `"]},` +
		`"Failback":"immediate","Failover":{"max":-1,"within":"6h0m0s","retry_after":"1h0m0s"},"Standby":"cold","Restart":{"max":1,"within":"15m0s"},"AntiAffinity":null},` +
		`{"Name":"edi","Hosts":["intake","second"],"PossibleOwners":null,"PreferredOwners":null,"Adapters":["ftp","queue"],"Pins":{"ftp":["` + a + `","` + b + `"]},` +
		`"Failback":{"window":"22:00-04:00","timezone":"Europe/Paris"},"Failover":{"max":2,"within":"6h0m0s","retry_after":"10m0s"},"Standby":"warm","Restart":{"max":0,"within":"1h0m0s"},` +
		`"AntiAffinity":[{"group":"alone","hard":true},{"group":"other","hard":true}]},` +
		`{"Name":"other","Hosts":["other"],"PossibleOwners":null,"PreferredOwners":null,"Adapters":["file"],"Pins":{"file":["` + a + `"]},` +
		`"Failback":"never","Failover":{"max":-1,"within":"6h0m0s","retry_after":"1h0m0s"},"Standby":"cold","Restart":{"max":1,"within":"15m0s"},"AntiAffinity":null}]`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	// What one host says for the group the other one has as well; restart is its own.
	if h := d.Hosts["second"]; h.Failback.Mode != FailbackWindow || h.Restart.Max != 0 || d.Hosts["intake"].Standby != StandbyWarm || d.Hosts["intake"].Restart.Max != 2 {
		t.Errorf("got hosts %+v and %+v", d.Hosts["intake"], h)
	}
	if groups := asJSON(t, d.LocationGroups()); groups != `{"a":"edi","b":"edi","c":"alone"}` {
		t.Errorf("locations: got %s", groups)
	}
}

func TestTheWindowOfAFailbackIsUnderstood(t *testing.T) {
	for _, c := range []struct {
		text, zone string
		from, to   time.Duration
	}{
		{`{window: "22:00-04:00", timezone: Europe/Paris}`, "Europe/Paris", 22 * time.Hour, 4 * time.Hour},
		{`{window: "00:00-24:00"}`, "UTC", 0, 24 * time.Hour},
		{`{window: "09:05-23:59", timezone: Asia/Kathmandu}`, "Asia/Kathmandu", 9*time.Hour + 5*time.Minute, 23*time.Hour + 59*time.Minute},
	} {
		parsed := mustParse(t, strings.Replace(goodDeployment, "clustered: true", "clustered: true, failback: "+c.text, 1))
		data, err := parsed.Encode()
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := DecodeDeployment(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range []*Deployment{parsed, decoded} {
			got := groupNamed(t, d, "intake").Failback
			if got.Mode != FailbackWindow || got.From != c.from || got.To != c.to || got.Location.String() != c.zone || got.Timezone != c.zone {
				t.Errorf("%s: got %+v", c.text, got)
			}
		}
	}
}

func TestPolicySurvivesTheLedger(t *testing.T) {
	first, err := mustParse(t, policyDeployment).Encode()
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
	if string(first) != string(second) {
		t.Errorf("encoded again it differs:\n%s\n%s", first, second)
	}
}

func TestADeploymentOfAnEarlierVersionHasTheDefaults(t *testing.T) {
	d, err := DecodeDeployment([]byte(`{"hosts":{"intake":{"clustered":true,"group":"edi","failback":"never","drain_timeout":"1m30s"}, "old":{"clustered":false,"restart":{"max":0}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := Host{
		Clustered: true, Group: "edi", DrainTimeout: sdk.Duration(90 * time.Second), Failback: Failback{Mode: FailbackNever}, Standby: StandbyCold,
		Restart:  Restart{Max: 1, Within: sdk.Duration(15 * time.Minute)},
		Failover: Failover{Max: MembersLessOne, Within: sdk.Duration(6 * time.Hour), RetryAfter: sdk.Duration(time.Hour)},
	}
	if got, want := asJSON(t, d.Hosts["intake"]), asJSON(t, want); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := d.Hosts["old"].Restart; got.Max != 0 || got.Within != want.Restart.Within {
		t.Errorf("restart: got %+v, want 0 within the default", got)
	}
	for _, later := range []string{
		`{"hosts":{"x":{"quorum":1}}}`, `{"hosts":{"x":{"failback":"later"}}}`, `{"hosts":{"x":{"failback":{"window":"22:00-04:00","days":"mo"}}}}`,
		`{"hosts":{"x":{"failback":{"window":"22:00-04:00","timezone":"Moon/Base"}}}}`, `{"hosts":{"x":{"failover":{"min":1}}}}`, `{"adapters":{"x":{"md5":"1"}}}`,
	} {
		if _, err := DecodeDeployment([]byte(later)); err == nil {
			t.Errorf("%s was accepted", later)
		}
	}
}

// The defaults stand in the schema and in Go.
func TestTheDefaultsOfTheSchemaAreThoseOfTheLedger(t *testing.T) {
	parsed := mustParse(t, strings.Replace(goodDeployment, "{clustered: true}", "{clustered: true, group: g}", 1)).Hosts["intake"]
	decoded, err := DecodeDeployment([]byte(`{"hosts":{"intake":{"clustered":true,"group":"g"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := asJSON(t, decoded.Hosts["intake"]), asJSON(t, parsed); got != want {
		t.Errorf("decoded %s\nparsed  %s", got, want)
	}
}

func TestPolicyInTOMLAndJSON(t *testing.T) {
	want := asJSON(t, mustParse(t, strings.Replace(goodDeployment, "clustered: true",
		`clustered: true, failback: {window: "22:00-04:00"}, failover: {max: 0}, anti_affinity: [x, {group: y, hard: true}]}
  x: {clustered: true}
  y: {clustered: true`, 1)).Hosts)
	for name, text := range map[string]string{
		"app.toml": `
[hosts.intake]
clustered = true
failback = {window = "22:00-04:00"}
failover.max = 0
anti_affinity = ["x", {group = "y", hard = true}]
[hosts.x]
clustered = true
[hosts.y]
clustered = true
[hosts.outbound]
`,
		"app.json": `{"hosts": {"intake": {"clustered": true, "failback": {"window": "22:00-04:00"}, "failover": {"max": 0},
"anti_affinity": ["x", {"group": "y", "hard": true}]}, "x": {"clustered": true}, "y": {"clustered": true}, "outbound": {}}}`,
	} {
		d, err := ParseDeployment(name, file(text), testFacts())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := asJSON(t, d.Hosts); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
		}
	}
}

// Each row changes the first host of goodDeployment, on line 2.
func TestWrongPolicies(t *testing.T) {
	for _, c := range []struct {
		name, add string
		want      []string
	}{
		{"misspelt failback", "failback: imediate", []string{
			`app.yaml:2:39: hosts.intake.failback: is "imediate", want one of never, immediate; did you mean immediate?`}},
		{"failback of another type", "failback: true", []string{
			`app.yaml:2:39: hosts.intake.failback: is the truth value true, want text or a section of keys; write its keys below it, indented`}},
		{"failback without a window", "failback: {timezone: UTC}", []string{
			`app.yaml:2:29: hosts.intake.failback.window: is missing; write it here (Time of the day in which the group may move, by the clock of the time zone)`}},
		{"misspelt key of a failback", `failback: {windw: "22:00-04:00"}`, []string{
			`app.yaml:2:40: hosts.intake.failback.windw: unknown key; did you mean window?`}},
		{"not a window", "failback: {window: 22-4}", []string{
			`app.yaml:2:48: hosts.intake.failback.window: is "22-4", want a window of the day; write it as 22:00-04:00`}},
		{"hour that does not exist", `failback: {window: "24:00-04:00"}`, []string{
			`app.yaml:2:48: hosts.intake.failback.window: is "24:00-04:00", want a window of the day; write it as 22:00-04:00`}},
		{"window that never opens", `failback: {window: "04:00-04:00"}`, []string{
			`app.yaml:2:48: hosts.intake.failback.window: "04:00-04:00" is never open: it ends when it begins; write 00:00-24:00 for the whole day`}},
		{"unknown time zone", `failback: {window: "22:00-04:00", timezone: Europe/Pari}`, []string{
			`app.yaml:2:73: hosts.intake.failback.timezone: there is no time zone "Europe/Pari"; write a name of the IANA database, such as Europe/Paris or UTC`}},
		{"each node's own time zone", `failback: {window: "22:00-04:00", timezone: Local}`, []string{
			`app.yaml:2:73: hosts.intake.failback.timezone: "Local" means another time zone on every node; write a name of the IANA database, such as Europe/Paris or UTC`}},
		{"empty time zone", `failback: {window: "22:00-04:00", timezone: ""}`, []string{
			`app.yaml:2:73: hosts.intake.failback.timezone: is empty; write a name of the IANA database, such as Europe/Paris or UTC`}},
		{"numbers out of range", "restart: {max: -1, within: 15}, failover: {max: -1, within: 0, retry_after: 0s}", []string{
			`app.yaml:2:44: hosts.intake.restart.max: is -1, want 0 or more`,
			`app.yaml:2:56: hosts.intake.restart.within: is the number 15, want a duration such as 30s or 5m; add the unit, as in 15s`,
			`app.yaml:2:77: hosts.intake.failover.max: is -1, want 0 or more`,
			`app.yaml:2:89: hosts.intake.failover.within: is the number 0, want a duration such as 30s or 5m; add the unit, as in 0s`,
			`app.yaml:2:105: hosts.intake.failover.retry_after: "0s" is too short; write 1s or more`}},
		{"more failovers than are remembered", "failover: {max: 61}", []string{
			`app.yaml:2:45: hosts.intake.failover.max: is 61, want 60 or less`}},
		{"key of failover at restart", "restart: {retry_after: 1h}", []string{
			`app.yaml:2:39: hosts.intake.restart.retry_after: unknown key; known keys: max, within`}},
		{"standby", "standby: hot", []string{
			`app.yaml:2:38: hosts.intake.standby: is "hot", want one of cold, warm`}},
		{"apart from itself", "anti_affinity: [intake]", []string{
			`app.yaml:2:45: hosts.intake.anti_affinity[0]: group "intake" is this host's own: hosts of a group are always together; remove it, or put hosts that must be apart into groups of their own`}},
		{"apart from nobody", "anti_affinity: [eid, {group: outbound}, {group: nowhere, hard: true}]}\n  y: {clustered: true, group: edi", []string{
			`app.yaml:2:45: hosts.intake.anti_affinity[0]: there is no group "eid"; did you mean edi?`,
			`app.yaml:2:58: hosts.intake.anti_affinity[1].group: there is no group "outbound"; host outbound is not clustered and runs on every node`,
			`app.yaml:2:77: hosts.intake.anti_affinity[2].group: there is no group "nowhere"; groups: edi, intake`}},
		{"apart from a host", "anti_affinity: [y]}\n  y: {clustered: true, group: edi", []string{
			`app.yaml:2:45: hosts.intake.anti_affinity[0]: there is no group "y"; host y is in group edi; write edi`}},
		{"apart twice", "anti_affinity: [y, {group: y, hard: true}]}\n  y: {clustered: true", []string{
			`app.yaml:2:56: hosts.intake.anti_affinity[1].group: group "y" stands twice; remove one of them`}},
		{"wrong forms of an anti-affinity", "anti_affinity: [7, {hard: true}, {group: y, soft: true}]}\n  y: {clustered: true", []string{
			`app.yaml:2:45: hosts.intake.anti_affinity[0]: is the number 7, want text or a section of keys; write its keys below it, indented`,
			`app.yaml:2:48: hosts.intake.anti_affinity[1].group: is missing; write it here (Group to be apart from)`,
			`app.yaml:2:73: hosts.intake.anti_affinity[2].soft: unknown key; known keys: group, hard`}},
		{"hosts of a group that contradict each other", "failback: immediate, failover: {within: 6h}, standby: warm}\n" +
			"  b: {clustered: true, group: intake, failback: {window: \"22:00-04:00\"}, failover: {within: 360m}, standby: cold}\n" +
			"  c: {clustered: true, group: intake, failover: {max: 3}", []string{
			`app.yaml:3:39: hosts.b.failback: is not the same as hosts.intake.failback (app.yaml:2:29), and both hosts are in group intake; write it in one of them, or the same in both`,
			`app.yaml:3:100: hosts.b.standby: is not the same as hosts.intake.standby (app.yaml:2:74), and both hosts are in group intake; write it in one of them, or the same in both`,
			`app.yaml:4:39: hosts.c.failover: is not the same as hosts.intake.failover (app.yaml:2:50), and both hosts are in group intake; write it in one of them, or the same in both`}},
		{"reference", "standby: '${env:X}'", []string{
			`app.yaml:2:38: hosts.intake.standby: is "${env:X}", want one of cold, warm`,
			`app.yaml:2:38: hosts.intake.standby: references are followed in the properties of endpoints only; write the value itself`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseDeployment("app.yaml", file(strings.Replace(goodDeployment, "clustered: true", "clustered: true, "+c.add, 1)), testFacts())
			wantFindings(t, err, c.want...)
		})
	}
}

func TestWrongPinsOfAdapters(t *testing.T) {
	_, err := ParseDeployment("app.yaml", file(goodDeployment+`
adapters:
  fpt: {sha256: [`+sumA+`]}
  ftp: {sha256: [abc, `+sumB+`, "`+strings.ToUpper(sumB)+`", 7]}
  queue: {sha256: []}
  file: {}
  Queue: {sha256: [`+sumA+`], version: 1.0}
`), testFacts())
	wantFindings(t, err,
		`app.yaml:17:3: adapters.fpt: there is no adapter "fpt"; did you mean ftp?`,
		`app.yaml:18:18: adapters.ftp.sha256[0]: "abc" is not a SHA-256 checksum; write what sha256sum says of the adapter's binary: 64 hexadecimal digits`,
		`app.yaml:18:89: adapters.ftp.sha256[2]: the checksum stands twice; remove one of them`,
		`app.yaml:18:157: adapters.ftp.sha256[3]: is the number 7, want text; write it in quotes: "7"`,
		`app.yaml:19:11: adapters.queue.sha256: is empty; write at least 1 (SHA-256 checksums of the binaries that may be used, as 64 hexadecimal digits)`,
		`app.yaml:20:3: adapters.file.sha256: is missing; write it here (SHA-256 checksums of the binaries that may be used, as 64 hexadecimal digits)`,
		`app.yaml:21:3: adapters.Queue: "Queue" cannot be a name here; names have up to 63 small letters, digits and dashes and begin with a letter or digit, such as queue`,
		`app.yaml:21:87: adapters.Queue.version: unknown key; known keys: sha256`,
	)
}

func TestPolicyOfHostsThatAreNotClusteredHasNoEffect(t *testing.T) {
	d := mustParse(t, strings.Replace(goodDeployment, "outbound: {}", "outbound: {failback: immediate, restart: {max: 3}, failover: {max: 1}, anti_affinity: [intake], standby: warm}", 1))
	var keys []string
	for _, w := range d.Warnings {
		keys = append(keys, strings.TrimPrefix(w.Path, "hosts.outbound."))
	}
	if got := strings.Join(keys, " "); got != "failback failover anti_affinity standby" {
		t.Errorf("warnings for %q:\n%v", got, d.Warnings)
	}
	if got := d.Hosts["outbound"].Restart.Max; got != 3 {
		t.Errorf("restart.max: got %d, want 3", got)
	}
}
