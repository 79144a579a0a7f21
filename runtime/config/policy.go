package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/fairlead-io/fairlead/sdk"
)

// Failback modes.
const (
	FailbackNever     = "never"
	FailbackImmediate = "immediate"
	FailbackWindow    = "window"
)

// Failback says whether a group moves by itself to an owner that is better than
// one that is good: to a preferred owner that is back, or to a node with less to do.
type Failback struct {
	Mode string `json:"mode"`
	// Window and Timezone are as the file has them, and empty in other modes. The
	// time zone's default is UTC.
	Window   string `json:"window"`
	Timezone string `json:"timezone"`

	// From, To and Location are Window and Timezone, understood: times on the clock
	// since midnight, To at most 24 h. With From after To it goes over midnight.
	From     time.Duration  `json:"-"`
	To       time.Duration  `json:"-"`
	Location *time.Location `json:"-"`
}

// Restart says how often a host is started again on the same node. When that is
// used up, its group goes to another node.
type Restart struct {
	Max    int          `json:"max" jsonschema:"minimum=0,maximum=1000,default=1" jsonschema_description:"Most restarts on the same node. 0: it goes to another node at once."`
	Within sdk.Duration `json:"within" jsonschema:"default=15m" jsonschema_description:"Time in which they are counted."`
}

// Failover says how often a group goes to another node because it fails. When that
// is used up, it is failed, and nobody owns it for some time.
type Failover struct {
	// Max is -1 where it is not written: one less than there are members.
	Max        int          `json:"max" jsonschema:"minimum=0,maximum=60" jsonschema_description:"Most failovers because the group failed. Default: one less than the cluster has members."`
	Within     sdk.Duration `json:"within" jsonschema:"default=6h" jsonschema_description:"Time in which they are counted."`
	RetryAfter sdk.Duration `json:"retry_after" jsonschema:"default=1h" jsonschema_description:"How long the group stays failed before it is tried again. At once by fairlead host reset."`
}

// MembersLessOne as Failover.Max stands for one less than there are members.
const MembersLessOne = -1

// Affinity names a group to be apart from. In files a name alone is a soft one.
type Affinity struct {
	Group string `json:"group"`
	// Hard: never on the same node, even if one of them has no owner then.
	Hard bool `json:"hard,omitempty"`
}

// AdapterPin says which binaries of an adapter may be used.
type AdapterPin struct {
	SHA256 []string `json:"sha256" jsonschema:"required,minItems=1" jsonschema_description:"SHA-256 checksums of the binaries that may be used, as 64 hexadecimal digits. More than one while nodes are being updated."`
}

// Values of Host.Standby.
const (
	StandbyCold = "cold"
	StandbyWarm = "warm"
)

// defaultHost is what a host is where nothing is written.
func defaultHost() Host {
	return Host{
		Failback:     Failback{Mode: FailbackNever},
		Restart:      Restart{Max: 1, Within: sdk.Duration(15 * time.Minute)},
		Failover:     Failover{Max: MembersLessOne, Within: sdk.Duration(6 * time.Hour), RetryAfter: sdk.Duration(time.Hour)},
		Standby:      StandbyCold,
		DrainTimeout: sdk.Duration(30 * time.Second),
	}
}

// UnmarshalJSON reads a host of the ledger. What is missing there, as the version
// that wrote it did not know it, has its default.
func (h *Host) UnmarshalJSON(data []byte) error {
	type plain Host
	v := plain(defaultHost())
	if err := decodeStrictly(data, &v); err != nil {
		return err
	}
	*h = Host(v)
	return nil
}

// MarshalJSON writes it as files have it: one word, or a window.
func (f Failback) MarshalJSON() ([]byte, error) {
	if f.Mode != FailbackWindow {
		return json.Marshal(f.Mode)
	}
	return json.Marshal(struct {
		Window   string `json:"window"`
		Timezone string `json:"timezone"`
	}{f.Window, f.Timezone})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (f *Failback) UnmarshalJSON(data []byte) error {
	var mode string
	if json.Unmarshal(data, &mode) == nil {
		if mode != FailbackNever && mode != FailbackImmediate {
			return fmt.Errorf("failback %q is not known", mode)
		}
		*f = Failback{Mode: mode}
		return nil
	}
	var v struct {
		Window   string `json:"window"`
		Timezone string `json:"timezone"`
	}
	if err := decodeStrictly(data, &v); err != nil {
		return err
	}
	*f = Failback{Mode: FailbackWindow, Window: v.Window, Timezone: v.Timezone}
	return f.understand()
}

// understand fills From, To and Location.
func (f *Failback) understand() (err error) {
	if f.Mode != FailbackWindow {
		return nil
	}
	if f.From, f.To, err = parseWindow(f.Window); err != nil {
		return err
	}
	f.Location, err = loadZone(f.Timezone)
	return err
}

// windowPattern is how a window of the day is written.
const windowPattern = `^([01][0-9]|2[0-3]):[0-5][0-9]-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$`

// parseWindow reads what satisfies windowPattern.
func parseWindow(text string) (from, to time.Duration, err error) {
	var h1, m1, h2, m2 int
	if n, err := fmt.Sscanf(text, "%02d:%02d-%02d:%02d", &h1, &m1, &h2, &m2); err != nil || n != 4 {
		return 0, 0, fmt.Errorf("%s is not a window such as 22:00-04:00", quoted(text))
	}
	at := func(h, m int) time.Duration { return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute }
	return at(h1, m1), at(h2, m2), nil
}

var errLocalZone = errors.New("means another time zone on every node")

// loadZone returns a time zone of the IANA database; UTC for none.
func loadZone(name string) (*time.Location, error) {
	if name == "Local" {
		return nil, errLocalZone
	}
	location, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("time zone %s is not known on this node", quoted(name))
	}
	return location, nil
}

// decodeStrictly decodes JSON without passing over unknown keys.
func decodeStrictly(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	dec.UseNumber()
	return dec.Decode(into)
}

// JSONSchema says how a failback is written. The keywords for text hold for the
// word only, and those for objects for the window only.
func (Failback) JSONSchema() *jsonschema.Schema {
	window := jsonschema.NewProperties()
	window.Set("window", &jsonschema.Schema{
		Type: "string", Pattern: windowPattern, Examples: []any{"22:00-04:00"},
		Description: "Time of the day in which the group may move, by the clock of the time zone. It may go over midnight.",
	})
	window.Set("timezone", &jsonschema.Schema{
		Type: "string", Default: "UTC", Examples: []any{"Europe/Paris"},
		Description: "Time zone of the window, by its name in the IANA database.",
	})
	return &jsonschema.Schema{
		Extras: map[string]any{"type": []string{"string", "object"}},
		If:     &jsonschema.Schema{Type: "string"}, Then: &jsonschema.Schema{Enum: []any{FailbackNever, FailbackImmediate}},
		Properties: window, Required: []string{"window"}, AdditionalProperties: jsonschema.FalseSchema,
		Default: FailbackNever,
	}
}

// JSONSchema says how an anti-affinity is written.
func (Affinity) JSONSchema() *jsonschema.Schema {
	keys := jsonschema.NewProperties()
	keys.Set("group", &jsonschema.Schema{Type: "string", Description: "Group to be apart from."})
	keys.Set("hard", &jsonschema.Schema{
		Type: "boolean", Default: false,
		Description: "true: never on the same node, even if one of the two cannot run then. false: only if there is no other node.",
	})
	return &jsonschema.Schema{
		Extras:     map[string]any{"type": []string{"string", "object"}},
		Properties: keys, Required: []string{"group"}, AdditionalProperties: jsonschema.FalseSchema,
	}
}
