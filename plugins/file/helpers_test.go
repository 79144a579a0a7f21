package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/fairlead-io/fairlead/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = sdk.Env{Endpoint: "test", Log: slog.New(slog.DiscardHandler)}

func decode[P any](t testing.TB, properties map[string]any) (P, error) {
	t.Helper()
	data, err := json.Marshal(properties)
	if err != nil {
		t.Fatal(err)
	}
	return sdk.DecodeProperties[P](data)
}

func newSource(t testing.TB, dir string, more map[string]any) *source {
	t.Helper()
	properties := map[string]any{"directory": dir}
	for k, v := range more {
		properties[k] = v
	}
	p, err := decode[receiveProperties](t, properties)
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSource(t.Context(), p, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return s.(*source)
}

func newSink(t testing.TB, dir string, more map[string]any) *sink {
	t.Helper()
	properties := map[string]any{"directory": dir}
	for k, v := range more {
		properties[k] = v
	}
	p, err := decode[sendProperties](t, properties)
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSink(t.Context(), p, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return s.(*sink)
}

func newID(t testing.TB) string {
	t.Helper()
	u, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	return u.String()
}

func message(id, name, content string) *sdk.Message {
	return &sdk.Message{
		ID:      id,
		Context: map[string]string{"ftp.name": name},
		Parts:   []sdk.MessagePart{sdk.InlinePart("", "", []byte(content))},
	}
}

func write(t testing.TB, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// touch sets a file's time, so that tests need not wait for the clock.
func touch(t testing.TB, path string, at time.Time) {
	t.Helper()
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// names lists a directory, hidden files too.
func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func list(t testing.TB, s *source) []sdk.Item {
	t.Helper()
	items, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return items
}

// one lists a directory with a single file.
func one(t testing.TB, s *source) sdk.Item {
	t.Helper()
	items := list(t, s)
	if len(items) != 1 {
		t.Fatalf("listed %d items, want 1", len(items))
	}
	return items[0]
}

// consume reads content, running between between the reading and the close.
func consume(t testing.TB, c *sdk.Content, between func()) (string, error) {
	t.Helper()
	var all []byte
	for part, err := range c.Parts {
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(part.Reader)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	if between != nil {
		between()
	}
	return string(all), c.Close()
}
