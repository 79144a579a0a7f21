package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

type testProperties struct {
	Address  string   `json:"address" jsonschema:"required" jsonschema_description:"Server, as host:port."`
	Password Secret   `json:"password,omitempty" jsonschema_description:"Password."`
	Timeout  Duration `json:"timeout" jsonschema:"default=30s" jsonschema_description:"Timeout."`
	Port     int      `json:"port" jsonschema:"default=21" jsonschema_description:"Port."`
	Passive  bool     `json:"passive" jsonschema:"default=true" jsonschema_description:"Passive mode."`
	Pattern  string   `json:"pattern" jsonschema:"default=*" jsonschema_description:"Pattern."`
	Name     Template `json:"name" jsonschema_description:"Name."`
	List     []string `json:"list,omitempty" jsonschema_description:"List."`
}

func (p testProperties) Validate() error {
	var errs []error
	if p.Port == 23 {
		errs = append(errs, &PropertyError{"port", "is telnet's; write 21"})
	}
	if p.Pattern == "" {
		errs = append(errs, &PropertyError{"pattern", "is empty; write *"})
	}
	return errors.Join(errs...)
}

func TestDefaultsAreWhatTheSchemaSays(t *testing.T) {
	p, err := DecodeProperties[testProperties]([]byte(`{"address": "a:21"}`))
	if err != nil {
		t.Fatal(err)
	}
	if p.Timeout.D() != 30*time.Second || p.Port != 21 || !p.Passive || p.Pattern != "*" {
		t.Errorf("defaults %+v", p)
	}
	p, err = DecodeProperties[testProperties]([]byte(`{"address": "a:21", "passive": false, "port": 0, "timeout": "0"}`))
	if err != nil || p.Passive || p.Port != 0 || p.Timeout != 0 {
		t.Errorf("given values did not override the defaults: %+v, %v", p, err)
	}
}

func TestAllFindingsComeAtOnce(t *testing.T) {
	for _, c := range []struct{ name, properties, want string }{
		{"missing", `{}`, "address: is required"},
		{"nothing at all", ``, "address: is required"},
		{"no object", `[1]`, "properties: want a JSON object"},
		{"near miss", `{"address": "a", "patern": "x"}`, "patern: is unknown; did you mean pattern?"},
		{"far miss", `{"address": "a", "colour": "x"}`, "colour: is unknown; known are address, password, timeout"},
		{"other case", `{"Address": "a"}`, "Address: is unknown; did you mean address?"},
		{"wrong type", `{"address": "a", "port": "x"}`, "port: is a string, want a whole number in range"},
		{"wrong type of secret", `{"address": "a", "password": 987654}`, "password: is a number, want a string"},
		{"bad duration", `{"address": "a", "timeout": "30"}`, `timeout: "30" is not a duration; write it as 30s, 5m or 1h30m`},
		{"negative duration", `{"address": "a", "timeout": "-1s"}`, `timeout: "-1s" is negative`},
		{"bad template", `{"address": "a", "name": "{{ftp.nam}}"}`, "did you mean {{ftp.name}}?"},
		{"validate", `{"address": "a", "port": 23, "pattern": ""}`, "port: is telnet's; write 21\npattern: is empty; write *"},
		{"several", `{"port": true, "x": 1, "timeout": 5}`, "port: is a bool, want a whole number in range\n" +
			"timeout: is a number, want a duration such as 30s\nx: is unknown; known are " +
			"address, password, timeout, port, passive, pattern, name, list\naddress: is required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := DecodeProperties[testProperties]([]byte(c.properties))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "987654") {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

func TestCheckNamesPropertiesAndSparesReferences(t *testing.T) {
	properties := []byte(`{"port": "${env:PORT}", "x": 1, "timeout": "5"}`)
	_, err := DecodeProperties[testProperties](properties)
	var got []string
	for _, p := range problems(properties, err) {
		got = append(got, p.GetProperty())
	}
	if fmt.Sprint(got) != "[timeout x address]" {
		t.Errorf("problems of %v, want timeout, x and address", got)
	}
	if got := problems(nil, nil); got != nil {
		t.Errorf("problems %v of nothing", got)
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	const secret = "hunter2"
	p := testProperties{Password: secret}
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10s", "%T"} {
		fmt.Fprintf(&b, verb+"\n", p.Password)
		fmt.Fprintf(&b, verb+"\n", p)
		fmt.Fprintf(&b, verb+"\n", &p)
		fmt.Fprintf(&b, verb+"\n", map[string]Secret{"x": p.Password})
	}
	slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "p", p, "s", p.Password)
	slog.New(slog.NewTextHandler(&b, nil)).Info("m", "p", p, "s", p.Password)
	if err := json.NewEncoder(&b).Encode(p); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&b, errors.New(fmt.Sprint("login with ", p.Password)))
	for _, shown := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret)} {
		if strings.Contains(b.String(), shown) {
			t.Errorf("%s is shown in:\n%s", shown, &b)
		}
	}
	if p.Password.Reveal() != secret {
		t.Error("Reveal does not give it back")
	}
	if got := fmt.Sprintf("%v|%s", Secret(""), Secret("")); got != "|" {
		t.Errorf("an empty secret prints as %q, want nothing", got)
	}
}

func TestSchemaSaysWhatIsSecretRequiredAndDefault(t *testing.T) {
	data, err := Schema[testProperties]()
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Properties map[string]map[string]any
		Required   []string
		Extra      *bool `json:"additionalProperties"`
	}
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(s.Required) != "[address]" || s.Extra == nil || *s.Extra {
		t.Errorf("required %v, additional properties %v", s.Required, s.Extra)
	}
	for _, c := range []struct{ property, key, want string }{
		{"password", "writeOnly", "true"},
		{"timeout", "default", "30s"},
		{"timeout", "description", "Timeout."},
		{"port", "default", "21"},
		{"passive", "default", "true"},
		{"name", "type", "string"},
	} {
		if got := fmt.Sprint(s.Properties[c.property][c.key]); got != c.want {
			t.Errorf("%s of %s is %s, want %s", c.key, c.property, got, c.want)
		}
	}
	if _, err := Schema[string](); err == nil {
		t.Error("a string has a schema of properties, want an error")
	}
}

func TestWrongDeclarationsAreFound(t *testing.T) {
	type wrongDefault struct {
		Timeout Duration `json:"timeout" jsonschema:"default=soon"`
	}
	if _, err := DecodeProperties[wrongDefault](nil); err == nil || !strings.Contains(err.Error(), "default in the tags") {
		t.Errorf("a default that is no duration: %v", err)
	}
	for _, a := range []Adapter{
		{Name: "x", Version: "1.0.0", Summary: "s"},
		{Name: "X", Version: "1.0.0", Summary: "s", Send: (&fakeSink{}).adapter().Send},
		{Name: "x", Version: "1", Summary: "s", Send: (&fakeSink{}).adapter().Send},
		{Name: "x", Version: "1.0.0", Send: (&fakeSink{}).adapter().Send},
	} {
		if validate(a) == nil {
			t.Errorf("adapter %+v is valid, want an error", a)
		}
	}
	if err := validate(processAdapter()); err != nil {
		t.Error(err)
	}
}
