package main

import (
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk/files"
)

func TestDefaultsOfProperties(t *testing.T) {
	r, err := decode[receiveProperties](t, map[string]any{"directory": "/in"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Pattern != "*" || r.StableFor.D() != 2*time.Second || r.AfterDelivery != files.AfterDelete {
		t.Errorf("receive defaults: %+v", r)
	}
	s, err := decode[sendProperties](t, map[string]any{"directory": "/out"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Name.String() != "{{fairlead.id}}" || s.IfExists != files.ExistsReplace {
		t.Errorf("send defaults: %+v", s)
	}
}

func TestWrongPropertiesAreExplained(t *testing.T) {
	for name, c := range map[string]struct {
		send       bool
		properties map[string]any
		want       string
	}{
		"relative directory":     {false, map[string]any{"directory": "in"}, "not an absolute path"},
		"relative, sending":      {true, map[string]any{"directory": "./out"}, "not an absolute path"},
		"bad pattern":            {false, map[string]any{"directory": "/in", "pattern": "[a"}, "is not a pattern"},
		"pattern with directory": {false, map[string]any{"directory": "/in", "pattern": "a/*"}, "contains a slash"},
		"empty pattern":          {false, map[string]any{"directory": "/in", "pattern": ""}, "matches nothing"},
		"no move_to":             {false, map[string]any{"directory": "/in", "after_delivery": "move"}, "move_to: is missing"},
		"idle move_to":           {false, map[string]any{"directory": "/in", "move_to": "x"}, "has no effect"},
		"move_to itself":         {false, map[string]any{"directory": "/in", "after_delivery": "move", "move_to": "../in/."}, "taken again"},
		"marker elsewhere":       {false, map[string]any{"directory": "/in", "marker": "../x"}, "not the name of a file"},
		"name with directory":    {true, map[string]any{"directory": "/out", "name": "a/{{fairlead.id}}"}, "name the directory under directory"},
		"name of a temp":         {true, map[string]any{"directory": "/out", "name": ".fairlead-{{fairlead.id}}"}, "being written"},
		"unknown in the name":    {true, map[string]any{"directory": "/out", "name": "{{ftp.nam}}"}, "unknown property"},
		"unknown property":       {true, map[string]any{"directory": "/out", "nme": "x"}, "nme"},
	} {
		var err error
		if c.send {
			_, err = decode[sendProperties](t, c.properties)
		} else {
			_, err = decode[receiveProperties](t, c.properties)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}
