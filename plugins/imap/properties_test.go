package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
)

func TestReadmeDocumentsEveryProperty(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	data, err := sdk.Schema[receiveProperties]()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct{ Properties map[string]any }
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	for name := range schema.Properties {
		if !strings.Contains(string(page), "| `"+name+"` |") {
			t.Errorf("README.md has no row for %s", name)
		}
	}
}
