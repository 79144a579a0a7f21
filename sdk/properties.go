package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/invopop/jsonschema"
)

// Properties are what a deployment says under an endpoint's `endpoint:` key. An
// adapter declares them as a struct, one field per property:
//
//	type receiveProperties struct {
//		Address  string       `json:"address" jsonschema:"required" jsonschema_description:"Server, as host:port."`
//		Password sdk.Secret   `json:"password,omitempty" jsonschema_description:"..."`
//		Timeout  sdk.Duration `json:"timeout" jsonschema:"default=30s" jsonschema_description:"..."`
//		TLS      string       `json:"tls" jsonschema:"enum=none,enum=explicit,enum=implicit,default=none"`
//	}
//
// The json tag gives the name (snake_case); the jsonschema tag gives what is
// required, the default, the allowed values and ranges, in the words of
// github.com/invopop/jsonschema; the jsonschema_description tag says what the
// property means, with its unit. Unknown properties are errors.
//
// The reach tag marks the property that says where the endpoint's server is, as
// host, host:port or a URL, or several of them separated by commas. Its value is the
// port for addresses without one, and may depend on another property: "21", or
// "21,tls=implicit:990". An embedded struct takes the tag for one of its properties
// as "address:110,tls=implicit:995". With it, other nodes can tell whether they
// would reach a server that this node does not; leave it out where the endpoint is
// on no network. "1080,instead" marks a proxy: where the property is set, its address is
// the one that has to be reached, and the others need not be.
//
// What a schema cannot say goes into a method of the struct:
//
//	func (p receiveProperties) Validate() error
//
// which returns [PropertyError] values, several of them through errors.Join.
type Properties interface {
	Validate() error
}

// PropertyError is one finding of Validate.
type PropertyError struct {
	// Property is the name as it stands in the deployment.
	Property string
	// Problem says what is wrong and what would be right.
	Problem string
}

func (e *PropertyError) Error() string {
	if e.Property == "" {
		return e.Problem
	}
	return fmt.Sprintf("%s: %s", e.Property, e.Problem)
}

// Schema returns the JSON Schema of the properties P.
func Schema[P any]() ([]byte, error) {
	s, err := reflectSchema(reflect.TypeFor[P]())
	if err != nil {
		return nil, err
	}
	return json.Marshal(s)
}

func reflectSchema(t reflect.Type) (*jsonschema.Schema, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("properties %s: want a struct", t)
	}
	r := &jsonschema.Reflector{
		Anonymous:                  true,
		ExpandedStruct:             true,
		DoNotReference:             true,
		RequiredFromJSONSchemaTags: true,
	}
	s := r.ReflectFromType(t)
	return s, markReach(s, t)
}

// DecodeProperties decodes the JSON of an endpoint's properties over the defaults
// of P and validates the result: names, types, what is required, and what P's
// Validate says. All findings come at once, as [PropertyError] values joined by
// errors.Join. Ranges, patterns and enumerations are left to the schema, which the
// runtime has applied before.
func DecodeProperties[P any](data []byte) (P, error) {
	var p P
	if err := decodeInto(&p, data); err != nil {
		return p, err
	}
	if v, ok := any(p).(Properties); ok {
		return p, v.Validate()
	}
	if v, ok := any(&p).(Properties); ok {
		return p, v.Validate()
	}
	return p, nil
}

func decodeInto(p any, data []byte) error {
	schema, err := reflectSchema(reflect.TypeOf(p).Elem())
	if err != nil {
		return err
	}
	if err := decodeDefaults(p, schema); err != nil {
		return err
	}
	given := map[string]json.RawMessage{}
	if len(bytes.TrimSpace(data)) > 0 {
		if err := json.Unmarshal(data, &given); err != nil {
			return fmt.Errorf("properties: want a JSON object: %w", err)
		}
	}
	known := propertyNames(schema)
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(known, name) {
			problems = append(problems, unknownProperty(name, known))
			continue
		}
		if err := decodeOne(p, name, given[name]); err != nil {
			problems = append(problems, err)
		}
	}
	for _, name := range schema.Required {
		if _, ok := given[name]; !ok {
			problems = append(problems, &PropertyError{name, "is required"})
		}
	}
	return errors.Join(problems...)
}

// decodeOne sets one property, so that a wrong one does not hide the others.
func decodeOne(p any, name string, value json.RawMessage) error {
	one, err := json.Marshal(map[string]json.RawMessage{name: value})
	if err != nil {
		return &PropertyError{name, "is not valid JSON"}
	}
	d := json.NewDecoder(bytes.NewReader(one))
	d.DisallowUnknownFields()
	err = d.Decode(p)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong):
		if wrong.Field != "" {
			name = wrong.Field
		}
		return &PropertyError{name, fmt.Sprintf("is a %s, want %s", jsonKind(wrong.Value), wantKind(wrong.Type))}
	default:
		return &PropertyError{name, strings.TrimPrefix(err.Error(), "json: ")}
	}
}

// jsonKind drops the value that some of encoding/json's errors carry.
func jsonKind(value string) string {
	kind, _, _ := strings.Cut(value, " ")
	return kind
}

// wantKind says what to write, in the words of a deployment file.
func wantKind(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return "a duration such as 30s"
	case reflect.TypeFor[Secret]():
		return "a string"
	case reflect.TypeFor[Template]():
		return "a name such as {{fairlead.id}}.xml"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	case reflect.Float32, reflect.Float64:
		return "a number"
	default:
		return "a whole number in range"
	}
}

func propertyNames(s *jsonschema.Schema) []string {
	var names []string
	for at := s.Properties.Oldest(); at != nil; at = at.Next() {
		names = append(names, at.Key)
	}
	return names
}

func unknownProperty(name string, known []string) error {
	problem := "is unknown; known are " + strings.Join(known, ", ")
	if near := nearest(name, known); near != "" {
		problem = fmt.Sprintf("is unknown; did you mean %s?", near)
	}
	return &PropertyError{name, problem}
}

// decodeDefaults sets the fields of *p to the defaults their schema states, so
// that what the reference page says is what happens. It does so for the struct's
// own fields, not for those of structs in it.
func decodeDefaults(p any, s *jsonschema.Schema) error {
	defaults := map[string]any{}
	for at := s.Properties.Oldest(); at != nil; at = at.Next() {
		if at.Value.Default != nil {
			defaults[at.Key] = at.Value.Default
		}
	}
	data, err := json.Marshal(defaults)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, p); err != nil {
		return fmt.Errorf("default in the tags of %T: %w", p, err)
	}
	return nil
}

// Secret is a property that must not be seen: however it is printed, logged or
// marshalled, *** comes out. An unexported field that holds a Secret is out of the
// reach of package fmt's interfaces: do not print structs that have one.
type Secret string

const hidden = "***"

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns *** (or nothing for an empty secret).
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// GoString keeps the secret out of %#v.
func (s Secret) GoString() string { return s.String() }

// Format keeps the secret out of every verb, also of unfit ones such as %d.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue keeps the secret out of log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps the secret out of JSON and of logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the secret as it is.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = Secret(text)
	return nil
}

// JSONSchema marks the property as one that is written but never shown.
func (Secret) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", WriteOnly: true}
}

// Duration is a property such as "30s" or "5m" (see [time.ParseDuration]).
type Duration time.Duration

// D returns it as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes it as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what time.ParseDuration reads, except negative values.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration; write it as 30s, 5m or 1h30m", text)
	}
	if v < 0 {
		return fmt.Errorf("%q is negative", text)
	}
	*d = Duration(v)
	return nil
}

// JSONSchema says how a duration is written.
func (Duration) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Type:     "string",
		Pattern:  `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$|^0$`,
		Examples: []any{"30s", "5m"},
	}
}
