package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/fairlead-io/fairlead/sdk"
)

// Deployment is one version of the application: what runs where and goes where.
// All defaults are set. Written as JSON it is the same for the same content.
type Deployment struct {
	Hosts            map[string]Host            `json:"hosts,omitempty" jsonschema_description:"Containers of handlers, by name: what is owned, moved and isolated together."`
	ReceiveLocations map[string]ReceiveLocation `json:"receive_locations,omitempty" jsonschema_description:"Where items come from, by name."`
	SendPorts        map[string]SendPort        `json:"send_ports,omitempty" jsonschema_description:"Where messages go to, by name."`
	Routes           []Route                    `json:"routes,omitempty" jsonschema_description:"Where messages of locations without to go: every route that matches applies, in this order, and each port gets a message once. What none matches is suspended."`
	Adapters         map[string]AdapterPin      `json:"adapters,omitempty" jsonschema_description:"Which binaries of adapters may be used, by the adapter's name. A node with another one cannot own a host that needs it. Adapters that are not named here are not bound."`

	// Warnings are findings that do not keep the deployment from being used.
	Warnings Findings `json:"-"`
}

// Host is a container of handlers.
type Host struct {
	Clustered       bool         `json:"clustered" jsonschema:"default=false" jsonschema_description:"true: exactly one node at a time runs the host. false: every node does. Receive locations need true."`
	Group           string       `json:"group,omitempty" jsonschema_description:"Hosts of the same group always move together. Default: the host's own name."`
	PossibleOwners  []string     `json:"possible_owners,omitempty" jsonschema_description:"Nodes that may own the host. Empty: every member."`
	PreferredOwners []string     `json:"preferred_owners,omitempty" jsonschema_description:"Nodes that should own the host, the best first. Used when an owner is chosen; see failback."`
	Failback        Failback     `json:"failback" jsonschema_description:"Whether the host moves by itself to a preferred owner that is back, or to a node with less to do: never, immediate, or in a window of the day. Holds for the group."`
	Restart         Restart      `json:"restart" jsonschema_description:"How often a host that fails is started again on the same node before its group goes to another one."`
	Failover        Failover     `json:"failover" jsonschema_description:"How often a group that fails goes to another node before it is failed. Holds for the group."`
	AntiAffinity    []Affinity   `json:"anti_affinity,omitempty" jsonschema_description:"Groups that this host's group should not share a node with, by name, or as {group: NAME, hard: true} if it must not. Holds both ways."`
	Standby         string       `json:"standby" jsonschema:"enum=cold,enum=warm,default=cold" jsonschema_description:"What the next owner has ready. warm: the handlers' processes, started and configured and not active; takes their memory twice and saves the time of their start. cold: nothing. Holds for the group."`
	DrainTimeout    sdk.Duration `json:"drain_timeout" jsonschema:"default=30s" jsonschema_description:"How long items under way may take to end when the host is moved or stopped; then the handlers are ended."`
}

// ReceiveLocation is one source endpoint.
type ReceiveLocation struct {
	Host        string         `json:"host" jsonschema:"required,minLength=1" jsonschema_description:"Host that the location runs in."`
	Adapter     string         `json:"adapter" jsonschema:"required,minLength=1" jsonschema_description:"Adapter that reads the source, such as ftp."`
	Endpoint    map[string]any `json:"endpoint" jsonschema:"required" jsonschema_description:"The adapter's own properties, see fairlead adapter describe. Texts may hold ${env:NAME} and ${file:/path}, read on the node that runs the location."`
	Schedule    Schedule       `json:"schedule" jsonschema_description:"When the source is asked what it has."`
	To          []string       `json:"to,omitempty" jsonschema_description:"Names of send ports; every item goes to each of them. Without it the routes decide."`
	MaxInFlight int            `json:"max_in_flight" jsonschema:"minimum=1,maximum=4096,default=16" jsonschema_description:"Most items under way at once."`
	Enabled     bool           `json:"enabled" jsonschema:"default=true" jsonschema_description:"false: the location is there and takes nothing."`
	Ordered     bool           `json:"ordered" jsonschema:"default=false" jsonschema_description:"true: items go strictly one after the other, in the order of the source; with order_by, those that it gives the same text."`
	OrderBy     string         `json:"order_by,omitempty" jsonschema_description:"Expression in CEL over what is known of an item before it is read, such as context[\"ftp.directory\"]. Items for which it gives different texts may overtake each other."`
	OnFailure   string         `json:"on_failure" jsonschema:"enum=suspend,enum=hold,default=suspend" jsonschema_description:"What becomes of those behind an item that is suspended, where order is kept. hold: they wait until somebody has decided about it. suspend: they go on."`
	Delivery    string         `json:"delivery" jsonschema:"enum=exactly-once,enum=at-least-once,default=exactly-once" jsonschema_description:"at-least-once: nothing is recorded of an item that arrives, which is quicker. After a crash items that were under way may arrive twice."`
	Track       string         `json:"track" jsonschema:"enum=none,enum=headers,enum=content,default=headers" jsonschema_description:"What is kept of each message for people to look at, on the nodes and for a bounded time. headers: what happened to it, and its properties. content: its content, too."`
}

// Schedule says when a source is looked at.
type Schedule struct {
	Every    sdk.Duration `json:"every" jsonschema:"default=30s" jsonschema_description:"Time between two polls of the source, 100ms or more. Sources that deliver by themselves, such as queues, ignore it."`
	Cron     string       `json:"cron,omitempty" jsonschema_description:"When the source is polled, instead of every: five fields as in crontab, such as 30 6 * * 1-5, or @hourly, @daily, @weekly, @monthly."`
	Window   string       `json:"window,omitempty" jsonschema_description:"When items may be taken up, such as 06:00-22:00 or Mon-Fri 06:00-22:00, Sat 08:00-12:00. What is under way at its end goes on."`
	MaxItems int          `json:"max_items,omitempty" jsonschema:"minimum=1" jsonschema_description:"Most items that are taken up after one poll; the rest is looked at again at the next. Those that were taken up before, and those that could not be read, do not count. Default: all. Sources that deliver by themselves ignore it."`
	MaxBytes int64        `json:"max_bytes,omitempty" jsonschema:"minimum=1" jsonschema_description:"Most bytes that are taken up after one poll, by the sizes that the source tells, and always one item. Default: all."`
	Timezone string       `json:"timezone,omitempty" jsonschema_description:"Time zone of cron and window, by its name in the IANA database, such as Europe/Paris. Default: UTC."`
}

// Route sends messages to ports.
type Route struct {
	Name string   `json:"name,omitempty" jsonschema_description:"For people."`
	When string   `json:"when,omitempty" jsonschema_description:"Condition in CEL over location, adapter and context, such as location == \"orders\" && context[\"ftp.name\"].endsWith(\".edi\"). Empty: every message."`
	To   []string `json:"to" jsonschema:"required,minItems=1" jsonschema_description:"Names of send ports."`
}

// SendPort is one destination endpoint.
type SendPort struct {
	Host        string         `json:"host" jsonschema:"required,minLength=1" jsonschema_description:"Host that the port runs in."`
	Adapter     string         `json:"adapter" jsonschema:"required,minLength=1" jsonschema_description:"Adapter that sends, such as queue."`
	Endpoint    map[string]any `json:"endpoint" jsonschema:"required" jsonschema_description:"The adapter's own properties, see fairlead adapter describe. Texts may hold ${env:NAME} and ${file:/path}, read on the node that runs the port."`
	Retry       Retry          `json:"retry" jsonschema_description:"What happens after a send that failed and may be tried again. Outages of the destination do not count: sends wait until they are over."`
	InDoubt     string         `json:"in_doubt" jsonschema:"enum=resend,enum=suspend,default=resend" jsonschema_description:"What happens to a message that may have arrived before a change of owner, when the adapter cannot tell: resend it, marked fairlead.redelivered, or suspend it for somebody to decide."`
	MaxInFlight int            `json:"max_in_flight" jsonschema:"minimum=1,maximum=4096,default=16" jsonschema_description:"Most sends under way at once."`
	Ordered     bool           `json:"ordered" jsonschema:"default=false" jsonschema_description:"true: one message at a time, each after the one before has arrived. Every location that sends here must keep order."`
	Backup      string         `json:"backup,omitempty" jsonschema_description:"Send port that gets what this one gives up. Without it, or if that gives up, too, the message is suspended."`
	Rate        string         `json:"rate,omitempty" jsonschema_description:"Most messages in a time, such as 50/s, 600/m or 10/h. After a rest up to a second's worth may go at once."`
	Window      string         `json:"window,omitempty" jsonschema_description:"When messages may be sent, such as 06:00-22:00 or Mon-Fri 06:00-22:00. Others wait."`
	Timezone    string         `json:"timezone,omitempty" jsonschema_description:"Time zone of window, by its name in the IANA database, such as Europe/Paris. Default: UTC."`
}

// Retry is a send port's policy after failures.
type Retry struct {
	Attempts int          `json:"attempts" jsonschema:"minimum=0,maximum=1000,default=3" jsonschema_description:"How often a failed send is tried again before the item is suspended."`
	Interval sdk.Duration `json:"interval" jsonschema:"default=5m" jsonschema_description:"Time before the first new attempt."`
	Backoff  float64      `json:"backoff" jsonschema:"minimum=1,maximum=10,default=1" jsonschema_description:"Factor that the time grows by with each further attempt; 1 keeps it, 2 doubles it."`
	Jitter   float64      `json:"jitter" jsonschema:"minimum=0,maximum=1,default=0.1" jsonschema_description:"Share of the time by which it varies either way, so that many messages do not try at the same moment."`
}

// Group is a set of clustered hosts that are always owned by the same node.
type Group struct {
	Name string
	// Hosts, sorted by name.
	Hosts []string
	// PossibleOwners are the nodes that every host allows; empty: every member.
	PossibleOwners []string
	// PreferredOwners are those of the hosts in the order of their names, each once.
	PreferredOwners []string
	// Adapters that the hosts' locations and ports need, sorted.
	Adapters []string
	// Pins are, of those adapters, the checksums of the binaries that may be used, in
	// lower-case hex. An adapter that is not here is not bound. nil: none is.
	Pins map[string][]string
	// Failback, Failover and Standby are the same for all hosts.
	Failback Failback
	Failover Failover
	Standby  string
	// Restart is that of the host which allows the fewest restarts; every host has its
	// own, in [Host].
	Restart Restart
	// AntiAffinity are the groups that one of the hosts is to be apart from, each
	// once, sorted by name. They hold both ways.
	AntiAffinity []Affinity
}

// Groups returns the groups of the clustered hosts, sorted by name. Hosts that are
// not clustered belong to none.
func (d *Deployment) Groups() []Group {
	byName, needs := map[string]*Group{}, d.needs()
	for _, name := range sortedKeys(d.Hosts) {
		h := d.Hosts[name]
		if !h.Clustered {
			continue
		}
		group := h.Group
		if group == "" {
			group = name
		}
		g, ok := byName[group]
		if !ok {
			g = &Group{Name: group, Failback: h.Failback, Failover: h.Failover, Standby: h.Standby, Restart: h.Restart}
			byName[group] = g
		}
		g.Hosts = append(g.Hosts, name)
		g.PossibleOwners, _ = commonOwners(g.PossibleOwners, h.PossibleOwners)
		for _, n := range h.PreferredOwners {
			if !slices.Contains(g.PreferredOwners, n) {
				g.PreferredOwners = append(g.PreferredOwners, n)
			}
		}
		g.Adapters = append(g.Adapters, needs[name]...)
		g.AntiAffinity = append(g.AntiAffinity, h.AntiAffinity...)
		if h.Restart.Max < g.Restart.Max || h.Restart.Max == g.Restart.Max && h.Restart.Within > g.Restart.Within {
			g.Restart = h.Restart
		}
	}
	groups := make([]Group, 0, len(byName))
	for _, name := range sortedKeys(byName) {
		g := byName[name]
		slices.Sort(g.Adapters)
		g.Adapters = slices.Compact(g.Adapters)
		g.AntiAffinity = merged(g.AntiAffinity)
		g.Pins = d.pins(g.Adapters)
		groups = append(groups, *g)
	}
	return groups
}

// LocationGroups returns, by the name of every receive location, the group of its
// host. Locations on hosts that are not clustered are missing.
func (d *Deployment) LocationGroups() map[string]string {
	groups := make(map[string]string, len(d.ReceiveLocations))
	for name, l := range d.ReceiveLocations {
		h := d.Hosts[l.Host]
		switch {
		case !h.Clustered:
		case h.Group != "":
			groups[name] = h.Group
		default:
			groups[name] = l.Host
		}
	}
	return groups
}

// merged sorts anti-affinities by group, each once; hard if one of them is.
func merged(all []Affinity) []Affinity {
	slices.SortFunc(all, func(a, b Affinity) int {
		if a.Group == b.Group && a.Hard && !b.Hard {
			return -1
		}
		return cmp.Compare(a.Group, b.Group)
	})
	return slices.CompactFunc(all, func(a, b Affinity) bool { return a.Group == b.Group })
}

// pins are the checksums of those adapters that are bound to some.
func (d *Deployment) pins(adapters []string) (pins map[string][]string) {
	for _, a := range adapters {
		pin, ok := d.Adapters[a]
		if !ok {
			continue
		}
		if pins == nil {
			pins = map[string][]string{}
		}
		pins[a] = pin.SHA256
	}
	return pins
}

// needs are the adapters that each host needs, some more than once.
func (d *Deployment) needs() map[string][]string {
	needs := make(map[string][]string, len(d.Hosts))
	for _, l := range d.ReceiveLocations {
		needs[l.Host] = append(needs[l.Host], l.Adapter)
	}
	for _, p := range d.SendPorts {
		needs[p.Host] = append(needs[p.Host], p.Adapter)
	}
	return needs
}

// commonOwners returns the nodes that both lists allow, where an empty list allows
// every node, and whether there are any.
func commonOwners(a, b []string) ([]string, bool) {
	switch {
	case len(a) == 0:
		return slices.Clone(b), true
	case len(b) == 0:
		return a, true
	}
	common := slices.DeleteFunc(slices.Clone(a), func(n string) bool { return !slices.Contains(b, n) })
	return common, len(common) > 0
}

// Encode writes the deployment as JSON: the same bytes for the same content.
func (d *Deployment) Encode() ([]byte, error) {
	data, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode deployment: %w", err)
	}
	return data, nil
}

// DecodeDeployment reads what [Deployment.Encode] wrote. It keeps numbers of
// endpoints exact (as json.Number) and refuses keys that it does not know, as a
// later version may have written them. What an earlier version did not write yet
// has its default.
func DecodeDeployment(data []byte) (*Deployment, error) {
	var d Deployment
	if err := decodeStrictly(data, &d); err != nil {
		return nil, fmt.Errorf("decode deployment: %w", err)
	}
	return &d, nil
}

// DeploymentSchema returns the JSON Schema of deployment files. Endpoints are open
// in it: their schemas are the adapters'.
func DeploymentSchema() ([]byte, error) {
	return generate[Deployment]("Fairlead deployment file", "Hosts, receive locations and send ports: what runs where and goes where.")
}

var deploymentSchema = sync.OnceValues(func() (*schema, error) {
	data, err := DeploymentSchema()
	if err != nil {
		return nil, err
	}
	return compileSchema(data)
})
