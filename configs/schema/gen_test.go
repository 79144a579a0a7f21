package main

import (
	"bytes"
	"os"
	"testing"
)

func TestTheSchemasAreThoseOfTheGoTypes(t *testing.T) {
	for name, schema := range schemas() {
		want, err := schema()
		if err != nil {
			t.Fatalf("make %s: %v", name, err)
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatalf("read %s: %v", name, err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is out of date; run: cd configs/schema && go generate", name)
		}
	}
}
