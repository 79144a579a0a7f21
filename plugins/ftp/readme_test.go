package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
)

var update = flag.Bool("update", false, "write the property tables into README.md")

// The tables of the page are those of the schema.
func TestPageListsTheProperties(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for side, schema := range map[string]func() ([]byte, error){"receive": sdk.Schema[receiveProperties], "send": sdk.Schema[sendProperties]} {
		data, err := schema()
		if err != nil {
			t.Fatal(err)
		}
		place := regexp.MustCompile(`(?s)<!-- ` + side + ` -->\n.*?<!-- end -->`)
		want := "<!-- " + side + " -->\n" + table(t, data) + "<!-- end -->"
		if !*update && place.FindString(text) != want {
			t.Errorf("the properties of %s are not those of the schema; run the test with -update", side)
		}
		text = place.ReplaceAllLiteralString(text, want)
	}
	if *update {
		if err := os.WriteFile("README.md", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func table(t *testing.T, schema []byte) string {
	t.Helper()
	var s struct {
		Required   []string
		Properties map[string]struct {
			Description string
			Default     any
			Enum        []string
		}
	}
	if err := json.Unmarshal(schema, &s); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| property | default | meaning |\n|---|---|---|\n")
	// The order of the schema is that of the fields.
	for _, m := range regexp.MustCompile(`"([a-z0-9_]+)":\{`).FindAllSubmatch(schema, -1) {
		name := string(m[1])
		p, ok := s.Properties[name]
		if !ok {
			continue
		}
		initial := ""
		switch {
		case slices.Contains(s.Required, name):
			initial = "required"
		case p.Default != nil:
			initial = fmt.Sprintf("`%v`", p.Default)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, initial, p.Description)
	}
	return b.String()
}
