package sdk

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/fairlead-io/fairlead/sdk/wire"
)

// markReach writes the reach tags of t into its schema: see [Properties].
func markReach(s *jsonschema.Schema, t reflect.Type) error {
	for _, f := range reflect.VisibleFields(t) {
		tag, ok := f.Tag.Lookup("reach")
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		first, rest, more := strings.Cut(tag, ",")
		if f.Anonymous && name == "" {
			name, first, _ = strings.Cut(first, ":")
		}
		at, ok := s.Properties.Get(name)
		if !ok {
			return fmt.Errorf("tag reach of %s.%s: there is no property %q", t, f.Name, name)
		}
		ports, instead := map[string]string{"": first}, false
		if more {
			for one := range strings.SplitSeq(rest, ",") {
				if one == "instead" {
					instead = true
					continue
				}
				condition, port, _ := strings.Cut(one, ":")
				if other, value, ok := strings.Cut(condition, "="); !ok || other == "" || value == "" {
					return fmt.Errorf("tag reach of %s.%s: %q is not PROPERTY=VALUE:PORT", t, f.Name, one)
				}
				ports[condition] = port
			}
		}
		for _, port := range ports {
			if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
				return fmt.Errorf("tag reach of %s.%s: %q is not a port", t, f.Name, port)
			}
		}
		if at.Extras == nil {
			at.Extras = map[string]any{}
		}
		at.Extras[wire.ReachKeyword] = true
		at.Extras[wire.ReachPortsKeyword] = ports
		if instead {
			at.Extras[wire.ReachInsteadKeyword] = true
		}
	}
	return nil
}
