package config

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/invopop/jsonschema"
)

// generate makes the JSON Schema of a file from the Go type it is read into. The
// same schema checks the files, holds the defaults and serves editors.
func generate[T any](title, about string) ([]byte, error) {
	r := &jsonschema.Reflector{
		Anonymous:                  true,
		ExpandedStruct:             true,
		DoNotReference:             true,
		RequiredFromJSONSchemaTags: true,
	}
	s := r.ReflectFromType(reflect.TypeFor[T]())
	s.Title, s.Description = title, about
	for at := s.Properties.Oldest(); at != nil; at = at.Next() {
		// Maps of the top level have names as keys.
		if at.Value.AdditionalProperties != nil && at.Value.Properties.Len() == 0 {
			at.Value.PropertyNames = &jsonschema.Schema{Pattern: namePattern}
		}
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the schema of %s: %w", reflect.TypeFor[T](), err)
	}
	return append(data, '\n'), nil
}
