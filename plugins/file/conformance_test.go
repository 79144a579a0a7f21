package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/sdk/adaptertest"
)

// place is a directory that can go out of reach.
type place struct{ dir string }

func newPlace(t testing.TB) *place {
	t.Helper()
	p := &place{filepath.Join(t.TempDir(), "place")}
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) rename(from, to string) func(testing.TB) {
	return func(t testing.TB) {
		t.Helper()
		if err := os.Rename(p.dir+from, p.dir+to); err != nil {
			t.Fatal(err)
		}
	}
}

// put makes a file appear whole, as a well-behaved writer does.
func (p *place) put(t testing.TB, name string, content []byte) {
	t.Helper()
	temp := write(t, p.dir, ".writing", string(content))
	if err := os.Rename(temp, filepath.Join(p.dir, name)); err != nil {
		t.Fatal(err)
	}
}

func (p *place) source(properties map[string]any) adaptertest.SourceFixture {
	properties["directory"] = p.dir
	return adaptertest.SourceFixture{
		Properties: properties,
		Put:        p.put,
		Replace:    p.put,
		Remaining: func(t testing.TB) []string {
			t.Helper()
			all := []string{}
			for _, name := range names(t, p.dir) {
				if claimed := strings.SplitN(name, "-", 6); strings.HasPrefix(name, "fairlead-claim-") {
					name = strings.TrimSuffix(claimed[5], ".claim") // it is there, under another name
				}
				if name != "done" && !strings.HasSuffix(name, ".ok") {
					all = append(all, name)
				}
			}
			return all
		},
		Down: p.rename("", ".away"),
		Up:   p.rename(".away", ""),
	}
}

func TestSourceConformance(t *testing.T) {
	for name, c := range map[string]struct {
		properties map[string]any
		kept       bool
	}{
		"delete": {map[string]any{"stable_for": "0s"}, false},
		"stable": {map[string]any{"stable_for": "150ms"}, false},
		"move":   {map[string]any{"stable_for": "0s", "after_delivery": "move", "move_to": "done"}, false},
		"keep":   {map[string]any{"stable_for": "0s", "after_delivery": "keep"}, true},
		"claim":  {map[string]any{"stable_for": "0s", "claim": true}, false},
		"claim and move": {map[string]any{
			"stable_for": "0s", "claim": true,
			"after_delivery": "move", "move_to": "done/{{now:2006}}", "move_name": "{{file.name}}.{{file.size}}",
		}, false},
		"subdirectories": {map[string]any{"stable_for": "0s", "max_depth": 3, "exclude_directories": []string{"done"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			adaptertest.Source(t, adaptertest.SourceCase{
				Adapter:      adapter(),
				New:          func(t testing.TB) adaptertest.SourceFixture { return newPlace(t).source(c.properties) },
				NameProperty: "file.name",
				Kept:         c.kept,
			})
		})
	}
}

func TestSinkConformance(t *testing.T) {
	for name, properties := range map[string]map[string]any{
		"name of its own":    {"name": "{{fairlead.id}}.bin"},
		"name is never free": {"name": "{{fairlead.id}}", "if_exists": "fail"},
		"taken names marked": {"name": "{{fairlead.id}}", "if_exists": "rename"},
	} {
		t.Run(name, func(t *testing.T) {
			adaptertest.Sink(t, adaptertest.SinkCase{
				Adapter: adapter(),
				New: func(t testing.TB) adaptertest.SinkFixture {
					p := newPlace(t)
					properties["directory"] = p.dir
					return adaptertest.SinkFixture{
						Properties: properties,
						Received:   p.received,
						Down:       p.rename("", ".away"),
						Up:         p.rename(".away", ""),
					}
				},
				Deduplicates: true,
				Probes:       true,
			})
		})
	}
}

// received is what a consumer takes that knows nothing of Fairlead but hidden
// files.
func (p *place) received(t testing.TB) []adaptertest.Received {
	t.Helper()
	var all []adaptertest.Received
	for _, name := range names(t, p.dir) {
		if !strings.HasPrefix(name, ".") {
			all = append(all, adaptertest.Received{Name: name, Content: []byte(read(t, filepath.Join(p.dir, name)))})
		}
	}
	return all
}
