package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

const (
	envPrefix = "FAIRLEAD_"
	// envLevel separates the levels of a key in a variable's name, so that keys
	// may contain the underscore: FAIRLEAD_NODE__DATA_DIR is node.data_dir.
	envLevel = "__"
)

// Option adds a layer over the node file, or changes how it is read.
type Option func(*nodeOptions)

type nodeOptions struct {
	environ   func() []string
	flags     *pflag.FlagSet
	overrides map[string]any
	offline   bool
	hostname  func() (string, error)
}

// WithEnvironment lets variables such as FAIRLEAD_NODE__DATA_DIR override the
// file; environ is os.Environ except in tests. Lists are written with commas,
// labels as a=b,c=d. Empty variables count as not set, and variables without a
// double underscore belong to others, except FAIRLEAD_DEPLOY.
func WithEnvironment(environ func() []string) Option {
	return func(o *nodeOptions) { o.environ = environ }
}

// WithFlags lets the flags of fs that were given on the command line override the
// file and the environment. Flags other than those of [AddFlags] are left alone.
func WithFlags(fs *pflag.FlagSet) Option {
	return func(o *nodeOptions) { o.flags = fs }
}

// WithOverrides lays values over everything else, by key path: {"node.name":
// "node-a", "cluster.join": []string{...}}. It is for programs that embed a node.
func WithOverrides(values map[string]any) Option {
	return func(o *nodeOptions) { o.overrides = values }
}

// Offline leaves references such as ${file:/etc/fairlead/gossip.key} as they are,
// for checking the file of another machine.
func Offline() Option { return func(o *nodeOptions) { o.offline = true } }

// LoadNode reads a node file. The layers are, the strongest last: defaults, the
// file, the environment, flags, overrides. With an empty path there is no file.
// The error is of type [Findings] if the file, or what was laid over it, is wrong.
func LoadNode(path string, opts ...Option) (*Node, error) {
	if path == "" {
		return parseNode("", nil, opts)
	}
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return ParseNode(path, data, opts...)
}

// ParseNode is LoadNode for a file that has been read; its name gives the format
// and the directory that relative paths start from.
func ParseNode(name string, data []byte, opts ...Option) (*Node, error) {
	if data == nil {
		data = []byte{}
	}
	return parseNode(name, data, opts)
}

func parseNode(name string, data []byte, opts []Option) (*Node, error) {
	o := nodeOptions{hostname: os.Hostname}
	for _, opt := range opts {
		opt(&o)
	}
	s, err := nodeSchema()
	if err != nil {
		return nil, err
	}
	d := &document{file: name, least: "at least node: {name: node-a}", origins: map[string]string{}}
	if data != nil {
		d.parse(data)
	}
	if d.failed() {
		return nil, d.findings.sorted()
	}
	k, err := d.layers(s, o)
	if err != nil {
		return nil, err
	}
	d.value = k.Raw()
	wrong, err := d.check(s, nil, d.value)
	if err != nil {
		return nil, err
	}
	n, err := typedNode(s, k.Raw(), wrong)
	if err != nil {
		if d.failed() {
			return nil, d.findings.sorted()
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c := nodeCheck{document: d, node: n, options: o}
	c.run()
	if n.Warnings, err = d.result(); err != nil {
		return nil, err
	}
	return n, nil
}

// typedNode decodes the values, those that are wrong replaced by defaults, so that
// the other rules can still be checked.
func typedNode(s *schema, values map[string]any, wrong []keyPath) (*Node, error) {
	for _, p := range wrong {
		remove(values, p)
	}
	k := koanf.New(".")
	if err := k.Load(confmap.Provider(withDefaults(s.raw, s.raw, values), ""), nil); err != nil {
		return nil, err
	}
	var n Node
	return &n, decode(k, &n)
}

// remove deletes the value at the path; of a list, the whole list.
func remove(values map[string]any, p keyPath) {
	for len(p) > 1 {
		section, ok := values[p[0]].(map[string]any)
		if !ok {
			break
		}
		values, p = section, p[1:]
	}
	if len(p) > 0 {
		delete(values, p[0])
	}
}

// layers puts defaults, file, environment, flags and overrides over each other.
func (d *document) layers(s *schema, o nodeOptions) (*koanf.Koanf, error) {
	k := koanf.New(".")
	var errs []error
	load := func(p koanf.Provider) { errs = append(errs, k.Load(p, nil)) }
	// Without a delimiter the keys of the map are taken as they are, dots and all.
	load(confmap.Provider(withDefaults(s.raw, s.raw, map[string]any{}), ""))
	if d.root != nil {
		d.root.fill(s.raw)
		load(confmap.Provider(d.root.plain().(map[string]any), ""))
	}
	if o.environ != nil {
		load(env.Provider(".", env.Opt{Prefix: envPrefix, EnvironFunc: o.environ, TransformFunc: func(name, value string) (string, any) {
			key := strings.ToLower(strings.TrimPrefix(name, envPrefix))
			if value == "" || !strings.Contains(key, envLevel) && key != "deploy" {
				return "", nil
			}
			return d.outside(s, "environment "+name, strings.Split(key, envLevel), value)
		}}))
	}
	if o.flags != nil {
		load(posflag.ProviderWithFlag(o.flags, ".", nil, func(f *pflag.Flag) (string, any) {
			p := strings.Split(strings.ReplaceAll(f.Name, "-", "_"), ".")
			if !f.Changed || len(f.Annotations[flagAnnotation]) == 0 {
				return "", nil
			}
			value := f.Value.String()
			if l, ok := f.Value.(pflag.SliceValue); ok {
				value = strings.Join(l.GetSlice(), ",")
			}
			return d.outside(s, "flag --"+f.Name, p, value)
		}))
	}
	if len(o.overrides) > 0 {
		values, err := plainOverrides(o.overrides)
		errs = append(errs, err)
		for key := range values {
			d.origins[joined(strings.Split(key, "."))] = "override " + key
		}
		load(confmap.Provider(values, "."))
	}
	return k, errors.Join(errs...)
}

// outside takes a value from outside of the file: it notes where it is from and
// makes of the text what the schema wants there. What does not fit stays text, and
// the schema says what is wrong.
func (d *document) outside(s *schema, origin string, p []string, text string) (string, any) {
	d.origins[joined(p)] = origin
	key := strings.Join(p, ".")
	if slices.Contains(p, "") {
		d.findings = append(d.findings, Finding{Severity: Error, File: origin, Problem: "does not name a key", Remedy: "write it like FAIRLEAD_NODE__DATA_DIR, with two underscores between the levels"})
		return "", nil
	}
	switch sub := subschema(s.raw, p...); sub["type"] {
	case "integer":
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return key, i
		}
	case "boolean":
		if b, err := strconv.ParseBool(text); err == nil {
			return key, b
		}
	case "array":
		items := []any{}
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
		return key, items
	case "object":
		if object(sub, "additionalProperties") == nil {
			break
		}
		section := map[string]any{}
		for pair := range strings.SplitSeq(text, ",") {
			name, value, ok := strings.Cut(pair, "=")
			if !ok {
				return key, text
			}
			section[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
		return key, section
	}
	return key, text
}

// plainOverrides gives Go values the types of a file's.
func plainOverrides(values map[string]any) (map[string]any, error) {
	data, err := json.Marshal(values)
	if err != nil {
		return nil, fmt.Errorf("overrides: %w", err)
	}
	var plain map[string]any
	return plain, json.Unmarshal(data, &plain)
}

// decode writes what has been checked into the typed value. It is strict, so that
// nothing is lost even if schema and type should ever differ.
func decode(k *koanf.Koanf, into any) error {
	return k.UnmarshalWithConf("", into, koanf.UnmarshalConf{
		DecoderConfig: &mapstructure.DecoderConfig{
			TagName:     "json",
			ErrorUnused: true,
			DecodeHook:  mapstructure.TextUnmarshallerHookFunc(),
		},
	})
}

// flagAnnotation marks the flags of AddFlags, with the key they set.
const flagAnnotation = "fairlead_node_key"

// AddFlags declares a flag for every key of the node file, --node.data-dir for
// node.data_dir, except for secrets, which other users of the machine could read
// from the command line.
func AddFlags(fs *pflag.FlagSet) error {
	s, err := nodeSchema()
	if err != nil {
		return err
	}
	addFlags(fs, s.raw, nil)
	return nil
}

func addFlags(fs *pflag.FlagSet, section map[string]any, p keyPath) {
	for _, name := range properties(section) {
		sub, p := object(object(section, "properties"), name), p.with(name)
		if sub["properties"] != nil {
			addFlags(fs, sub, p)
			continue
		}
		if sub["writeOnly"] == true {
			continue
		}
		flag := strings.ReplaceAll(strings.Join(p, "."), "_", "-")
		about, _ := sub["description"].(string)
		switch sub["type"] {
		case "array":
			fs.StringSlice(flag, nil, about)
		case "boolean":
			fs.Bool(flag, false, about)
		default:
			fs.String(flag, "", about)
		}
		f := fs.Lookup(flag)
		f.Annotations = map[string][]string{flagAnnotation: {strings.Join(p, ".")}}
	}
}

// readFile reads a configuration file. What keeps it from being read is a finding,
// too.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, Findings{{Severity: Error, File: path, Problem: "is not a regular file", Remedy: "name the file itself"}}
	}
	if err == nil && info.Size() > maxFileBytes {
		return nil, Findings{{Severity: Error, File: path, Problem: "is larger than 1 MiB", Remedy: "look whether it is the right file"}}
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err == nil {
		return data, nil
	}
	f := Finding{Severity: Error, File: path, Problem: "cannot be read: " + plainError(err)}
	switch {
	case errors.Is(err, os.ErrNotExist):
		f.Problem, f.Remedy = "there is no such file", "look at the path"
		if abs, err := filepath.Abs(path); err == nil && abs != path {
			f.Remedy = "it was looked for at " + abs
		}
	case errors.Is(err, os.ErrPermission):
		f.Problem, f.Remedy = "this user may not read it", "change its owner or mode"
	}
	return nil, Findings{f}
}

// plainError is the reason alone, without operation and path.
func plainError(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
