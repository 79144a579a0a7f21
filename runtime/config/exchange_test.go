package config

import (
	"slices"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/runtime/route"
)

const routedDeployment = `
hosts:
  intake: {clustered: true}
receive_locations:
  orders:
    host: intake
    adapter: ftp
    endpoint: {address: "ftp.example:21"}
    schedule: {cron: "30 6 * * 1-5", window: "Mon-Fri 06:00-22:00, Sat 08:00-12:00", timezone: Europe/Paris}
    ordered: true
    order_by: 'context["ftp.directory"]'
    on_failure: hold
    track: content
  mails:
    host: intake
    adapter: ftp
    endpoint: {address: "other.example:21"}
    delivery: at-least-once
    to: [archive]
send_ports:
  erp: {host: intake, adapter: queue, endpoint: {broker: b}, rate: 600/m, window: "22:00-04:00", timezone: Europe/Paris}
  strict: {host: intake, adapter: queue, endpoint: {broker: c}, ordered: true}
  archive: {host: intake, adapter: file, endpoint: {}, backup: spare, retry: {jitter: 0.5}}
  spare: {host: intake, adapter: file, endpoint: {}}
routes:
  - {name: edi, when: 'location == "orders" && context["ftp.name"].endsWith(".edi")', to: [erp, strict]}
  - {when: 'location == "orders"', to: [strict]}
`

func TestRoutesTimesAndOrderAreRead(t *testing.T) {
	d := mustParse(t, routedDeployment)
	wantLines(t, d.Warnings)
	data, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if d, err = DecodeDeployment(data); err != nil {
		t.Fatal(err)
	}
	table, err := d.RouteTable()
	if err != nil {
		t.Fatal(err)
	}
	to, err := table.Route(route.Message{Location: "orders", Context: map[string]string{"ftp.name": "x.edi"}})
	if err != nil || !slices.Equal(to, []string{"erp", "strict"}) {
		t.Errorf("routed to %v, %v", to, err)
	}
	if got := d.PortsOf("orders"); !slices.Equal(got, []string{"erp", "strict"}) {
		t.Errorf("ports of orders: %v", got)
	}
	if got := d.PortsOf("mails"); !slices.Equal(got, []string{"archive", "spare"}) {
		t.Errorf("ports of mails: %v", got)
	}
	l := d.ReceiveLocations["orders"]
	w, c, err := l.Schedule.Times()
	if err != nil || w == nil || c == nil {
		t.Fatal(w, c, err)
	}
	friday := time.Date(2026, 11, 27, 12, 0, 0, 0, w.Zone())
	if open, change := w.At(friday); !open || change.In(w.Zone()).Hour() != 22 {
		t.Errorf("open %v until %v", open, change)
	}
	if next := c.Next(friday); next.Weekday() != time.Monday || next.Hour() != 6 {
		t.Errorf("next poll %v", next)
	}
	if n, err := d.SendPorts["erp"].PerSecond(); n != 10 || err != nil {
		t.Errorf("rate %v, %v", n, err)
	}
	if hours, err := d.SendPorts["erp"].Hours(); hours == nil || err != nil {
		t.Errorf("hours %v, %v", hours, err)
	}
	if !l.Ordered || l.OnFailure != FailureHolds || l.Track != TrackContent || d.ReceiveLocations["mails"].Delivery != AtLeastOnce || d.SendPorts["archive"].Retry.Jitter != 0.5 {
		t.Errorf("got %+v", l)
	}
}

// What an earlier version wrote into the ledger has none of the newer keys.
func TestADeploymentOfAnEarlierVersionIsRead(t *testing.T) {
	d, err := DecodeDeployment([]byte(`{"hosts":{"x":{"clustered":true}},"receive_locations":{"in":{"host":"x","adapter":"ftp","endpoint":{},` +
		`"schedule":{"every":"30s"},"to":["out"],"max_in_flight":16,"enabled":true,"ordered":false}},` +
		`"send_ports":{"out":{"host":"x","adapter":"file","endpoint":{},"retry":{"attempts":3,"interval":"5m0s","backoff":1},"in_doubt":"resend","max_in_flight":16,"ordered":false}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := d.PortsOf("in"); !slices.Equal(got, []string{"out"}) || d.SendPorts["out"].Retry.Jitter != 0 {
		t.Errorf("got %v, %+v", got, d)
	}
}

func TestWrongRoutesTimesAndOrders(t *testing.T) {
	for _, c := range []struct {
		name, location, ports, routes string
		want                          []string
	}{
		{"condition", "", "", `- {when: 'locaton == "x"', to: [erp]}`, []string{
			`app.yaml:11:12: routes[0].when: is not a right expression: column 1: there is no "locaton"; known are location, adapter, context; a property is written as context["ftp.name"]; see https://cel.dev for the language; fairlead route test shows what a route does`}},
		{"no condition", "", "", `- {when: 'size(location)', to: [erp]}`, []string{
			`app.yaml:11:12: routes[0].when: gives int, want bool, such as location == "orders"; see https://cel.dev for the language; fairlead route test shows what a route does`}},
		{"port of a route", "", "", `- {to: [erq]}`, []string{
			`app.yaml:11:11: routes[0].to[0]: there is no send port "erq"; did you mean erp?`}},
		{"key of a route", "", "", `- {if: 'true', to: [erp]}`, []string{
			`app.yaml:11:6: routes[0].if: unknown key; known keys: name, to, when`}},
		{"location of a route", "", "", `- {when: 'location == "ordrs"', to: [erp]}`, []string{
			`app.yaml:8:3: warning: send_ports.two: nothing is sent to this port; name it in a location's to or in a route, or remove it`,
			`app.yaml:11:12: warning: routes[0].when: there is no receive location "ordrs": the route matches nothing; did you mean orders?`}},
		{"key without order", `order_by: 'location'`, "", "", []string{
			`app.yaml:5:92: receive_locations.orders.order_by: has no effect: the location keeps no order; write ordered: true, or remove it`}},
		{"key that is no text", `ordered: true, order_by: 'size(location)'`, "", "", []string{
			`app.yaml:5:107: receive_locations.orders.order_by: gives int, want string, such as context["ftp.directory"]; write an expression that gives a text, such as context["ftp.directory"]`}},
		{"order in parallel", `ordered: true, max_in_flight: 4`, "", "", []string{
			`app.yaml:5:112: receive_locations.orders.max_in_flight: is 4, but ordered items go one after the other; remove it, or write order_by`}},
		{"order and a backup", `ordered: true`, `  erp: {host: intake, adapter: file, endpoint: {}, backup: two}`, "", []string{
			`app.yaml:5:91: receive_locations.orders.ordered: the order breaks at send_ports.erp.backup (app.yaml:7:52): what that gives up goes another way; remove one of the two`}},
		{"holding without a record", `ordered: true, on_failure: hold, delivery: at-least-once`, "", "", []string{
			`app.yaml:5:125: receive_locations.orders.delivery: what holds the others has to be recorded; write exactly-once, or on_failure: suspend`}},
		{"cron", `schedule: {cron: "61 * * * *"}`, "", "", []string{
			`app.yaml:5:99: receive_locations.orders.schedule.cron: "61 * * * *" is not a cron expression, such as 30 6 * * 1-5: end of range (61) above maximum (59): 61; write it as 30 6 * * 1-5: minute, hour, day, month, day of the week`}},
		{"cron and interval", `schedule: {cron: "@daily", every: 5s}`, "", "", []string{
			`app.yaml:5:116: receive_locations.orders.schedule.every: cron says when the source is polled; remove one of them`}},
		{"window", `schedule: {window: "6-22"}`, "", "", []string{
			`app.yaml:5:101: receive_locations.orders.schedule.window: "6" is not a time, such as 06:00; write it as 06:00-22:00 or Mon-Fri 06:00-22:00, Sat 08:00-12:00`}},
		{"time zone", `schedule: {window: "06:00-22:00", timezone: Europe/Pari}`, "", "", []string{
			`app.yaml:5:126: receive_locations.orders.schedule.timezone: there is no time zone "Europe/Pari"; write a name of the IANA database, such as Europe/Paris or UTC`}},
		{"rate", "", `  erp: {host: intake, adapter: file, endpoint: {}, rate: 50}`, "", []string{
			`app.yaml:7:58: send_ports.erp.rate: is the number 50, want text; write it in quotes: "50"`}},
		{"unit of a rate", "", `  erp: {host: intake, adapter: file, endpoint: {}, rate: 50/d}`, "", []string{
			`app.yaml:7:58: send_ports.erp.rate: "50/d" is not a rate; write it as 50/s, 600/m or 10/h`}},
		{"backup", "", `  erp: {host: intake, adapter: file, endpoint: {}, backup: tow}`, "", []string{
			`app.yaml:7:60: send_ports.erp.backup: there is no send port "tow"; did you mean two?`}},
		{"circle", "", "  erp: {host: intake, adapter: file, endpoint: {}, backup: back}\n  back: {host: intake, adapter: file, endpoint: {}, backup: erp}", "", []string{
			`app.yaml:7:60: send_ports.erp.backup: backups in a circle: erp -> back -> erp; remove one of them`,
			`app.yaml:8:61: send_ports.back.backup: backups in a circle: back -> erp -> back; remove one of them`}},
		{"ordered port of items without order", "", `  erp: {host: intake, adapter: file, endpoint: {}, ordered: true}`, "", []string{
			`app.yaml:7:61: send_ports.erp.ordered: items of receive_locations.orders (app.yaml:5:3) come in no order; write ordered: true there, too`}},
		{"ordered port in parallel", "ordered: true", `  erp: {host: intake, adapter: file, endpoint: {}, ordered: true, max_in_flight: 2}`, "", []string{
			`app.yaml:7:82: send_ports.erp.max_in_flight: is 2, but an ordered port sends one message at a time; remove it`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			location, ports, routes := "", `  erp: {host: intake, adapter: file, endpoint: {}}`, "- {to: [two]}"
			if c.location != "" {
				location = ", " + c.location
			}
			if c.ports != "" {
				ports = c.ports
			}
			if c.routes != "" {
				routes = c.routes
			}
			text := "# \nhosts:\n  intake: {clustered: true}\nreceive_locations:\n  orders: {host: intake, adapter: ftp, endpoint: {address: \"ftp:21\"}, to: [erp]" + location +
				"}\nsend_ports:\n" + ports + "\n  two: {host: intake, adapter: file, endpoint: {}}\n#\nroutes:\n  " + routes + "\n"
			d, err := ParseDeployment("app.yaml", file(text), testFacts())
			if err == nil {
				wantLines(t, d.Warnings, c.want...)
				return
			}
			wantFindings(t, err, c.want...)
		})
	}
}
