package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/sdk/adaptertest"
)

// oddNames besides those that the conformance kit tries anyway.
var oddNames = []string{
	"plain.edi", "-dash.edi", " leading space.edi", "two  spaces.edi", "quote\"s'.edi", "new\nline.edi", "tab\t.edi",
	"größe 中文.edi", "100%.edi", "semi;colon=.edi", "back\\slash.edi", "[brackets].edi", "star*.edi",
}

func TestSourceConformance(t *testing.T) {
	for name, c := range map[string]struct {
		properties []any
		kept       bool
	}{
		"delete": {[]any{"stable_for", "0s"}, false},
		"stable": {[]any{"stable_for", "150ms"}, false},
		"move":   {[]any{"stable_for", "0s", "after_delivery", "move", "move_to", "done"}, false},
		"keep":   {[]any{"stable_for", "0s", "after_delivery", "keep"}, true},
		"claim":  {[]any{"stable_for", "0s", "claim", true}, false},
		"claim and move": {[]any{
			"stable_for", "0s", "claim", true, "max_depth", 2,
			"after_delivery", "move", "move_to", "done/{{now:2006}}", "move_name", "{{sftp.name}}.{{sftp.size}}",
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			adaptertest.Source(t, adaptertest.SourceCase{
				Adapter: adapter(),
				New: func(t testing.TB) adaptertest.SourceFixture {
					s := startServer(t)
					return adaptertest.SourceFixture{
						Properties: with(s.props, c.properties...),
						Put:        s.write,
						Replace:    s.write,
						Remaining: func(t testing.TB) []string {
							all := slices.DeleteFunc(s.names(t), func(name string) bool { return name == "done" })
							for i, name := range all {
								if strings.HasPrefix(name, "fairlead-claim-") {
									all[i] = strings.TrimSuffix(strings.SplitN(name, "-", 6)[5], ".claim") // it is there, under another name
								}
							}
							return all
						},
						Down: s.down,
						Up:   s.up,
					}
				},
				NameProperty: "sftp.name",
				Names:        oddNames,
				Kept:         c.kept,
			})
		})
	}
}

func TestSinkConformance(t *testing.T) {
	for name, properties := range map[string][]any{
		"name of its own":    {"name", "{{fairlead.id}}.bin"},
		"name is never free": {"name", "{{fairlead.id}}", "if_exists", "fail"},
		"taken names marked": {"name", "{{fairlead.id}}", "if_exists", "rename", "create_directories", true},
	} {
		t.Run(name, func(t *testing.T) {
			adaptertest.Sink(t, adaptertest.SinkCase{
				Adapter: adapter(),
				New: func(t testing.TB) adaptertest.SinkFixture {
					s := startServer(t)
					return adaptertest.SinkFixture{
						Properties: with(s.props, properties...),
						Received:   s.received,
						Down:       s.down,
						Up:         s.up,
					}
				},
				Deduplicates: true,
				Probes:       true,
			})
		})
	}
}

// received is what a consumer takes that knows nothing of Fairlead but hidden files.
func (s *testServer) received(t testing.TB) []adaptertest.Received {
	t.Helper()
	var all []adaptertest.Received
	for _, name := range s.names(t) {
		if strings.HasPrefix(name, ".") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(s.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, adaptertest.Received{Name: name, Content: data})
	}
	return all
}
