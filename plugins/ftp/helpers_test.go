package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk"
)

const (
	testUser     = "tester"
	testPassword = "s3cret-Passw0rd"
	// testWait bounds every wait of a test.
	testWait = 20 * time.Second
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testServer is an FTP server whose files are in Dir.
type testServer struct {
	*ftpd.Server
	Dir   string
	props map[string]any
}

func startServer(t testing.TB, cfg ftpd.Config) *testServer {
	t.Helper()
	dir := t.TempDir()
	cfg.Root, cfg.User, cfg.Password = dir, testUser, testPassword
	server, err := ftpd.Start(cfg)
	if err != nil {
		t.Fatalf("start ftpd: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stop ftpd: %v", err)
		}
	})
	s := &testServer{Server: server, Dir: dir, props: map[string]any{
		"address": server.Addr(), "user": testUser, "password": testPassword, "directory": "/", "timeout": "10s",
	}}
	if cfg.TLS != ftpd.Plain {
		ca := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(ca, server.CertificatePEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		s.props["tls"], s.props["ca_file"] = string(cfg.TLS), ca
	}
	return s
}

func (s *testServer) write(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.Dir, name), content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (s *testServer) names(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// commands counts the journal's events of a command.
func (s *testServer) commands(name string) int {
	n := 0
	for _, e := range s.Events() {
		if e.Command == name {
			n++
		}
	}
	return n
}

// with returns a copy of the properties with some changed.
func with(base map[string]any, pairs ...any) map[string]any {
	out := map[string]any{}
	for k, v := range base {
		out[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i].(string)] = pairs[i+1]
	}
	return out
}

func testEnv(t testing.TB) sdk.Env {
	return sdk.Env{Endpoint: "test", Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

func decode[P any](t testing.TB, props map[string]any) P {
	t.Helper()
	data, err := json.Marshal(props)
	if err != nil {
		t.Fatal(err)
	}
	p, err := sdk.DecodeProperties[P](data)
	if err != nil {
		t.Fatalf("properties %s: %v", data, err)
	}
	return p
}

func newSource(t testing.TB, props map[string]any) *source {
	t.Helper()
	s, err := openSource(t.Context(), decode[receiveProperties](t, props), testEnv(t))
	if err != nil {
		t.Fatalf("open source: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s.(*source)
}

func newSink(t testing.TB, props map[string]any) *sink {
	t.Helper()
	k, err := openSink(t.Context(), decode[sendProperties](t, props), testEnv(t))
	if err != nil {
		t.Fatalf("open sink: %v", err)
	}
	t.Cleanup(func() { k.Close() })
	return k.(*sink)
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	t.Cleanup(cancel)
	return ctx
}

// list returns the items by name.
func list(t testing.TB, s *source) map[string]sdk.Item {
	t.Helper()
	items, err := s.List(testContext(t))
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	out := map[string]sdk.Item{}
	for _, item := range items {
		out[item.Context["ftp.name"]] = item
	}
	return out
}

func itemNames(items map[string]sdk.Item) []string {
	names := []string{}
	for name := range items {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// read returns the content of an item, as the SDK reads it.
func read(t testing.TB, s *source, item sdk.Item) ([]byte, error) {
	t.Helper()
	return readContext(testContext(t), s, item)
}

func readContext(ctx context.Context, s *source, item sdk.Item) ([]byte, error) {
	content, err := s.Open(ctx, item)
	if err != nil {
		return nil, err
	}
	var data []byte
	for part, err := range content.Parts {
		if err != nil {
			content.Close()
			return nil, err
		}
		if data, err = io.ReadAll(part.Reader); err != nil {
			content.Close()
			return nil, err
		}
	}
	return data, content.Close()
}

func newMessage(t testing.TB, content []byte, pairs ...string) *sdk.Message {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	m := &sdk.Message{ID: id.String(), Context: map[string]string{}, Parts: []sdk.MessagePart{sdk.InlinePart("body", "", content)}}
	for i := 0; i < len(pairs); i += 2 {
		m.Context[pairs[i]] = pairs[i+1]
	}
	return m
}

func wantProbe(t testing.TB, k *sink, m *sdk.Message, want sdk.Arrival) {
	t.Helper()
	got, err := k.Probe(testContext(t), m)
	if err != nil {
		t.Fatalf("probe: %v", err)
	}
	if got != want {
		t.Fatalf("probe says %v, want %v", arrivalName(got), arrivalName(want))
	}
}

func arrivalName(a sdk.Arrival) string {
	return map[sdk.Arrival]string{sdk.Arrived: "arrived", sdk.Absent: "absent", sdk.Unknown: "unknown"}[a]
}

// waitFor waits for a condition that another goroutine brings about.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(testWait)
	defer limit.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("waited %s for %s", testWait, what)
		}
	}
}

// noise returns content that is the same for the same seed and not compressible.
func noise(seed byte, n int) []byte {
	out := make([]byte, n)
	x := uint32(seed) + 1
	for i := range out {
		x = x*1664525 + 1013904223
		out[i] = byte(x >> 24)
	}
	return out
}

func mustContain(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

func mustJSON(t testing.TB, value any) []byte {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
