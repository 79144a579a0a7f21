package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead-io/fairlead/demo/popd"
	"github.com/fairlead-io/fairlead/sdk"
)

const (
	testUser     = "tester"
	testPassword = "s3cret-Passw0rd"
	// testWait bounds every wait of a test.
	testWait = 20 * time.Second
	// longIdle keeps sessions open for tests in which idleness is not the subject.
	longIdle = time.Hour
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type testServer struct {
	*popd.Server
	props map[string]any
}

func startServer(t testing.TB, cfg popd.Config) *testServer {
	t.Helper()
	cfg.User, cfg.Password = testUser, testPassword
	server, err := popd.Start(cfg)
	if err != nil {
		t.Fatalf("start popd: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stop popd: %v", err)
		}
	})
	s := &testServer{Server: server, props: map[string]any{
		"address": server.Addr(), "user": testUser, "password": testPassword, "timeout": "10s",
	}}
	if cfg.TLS != popd.Plain {
		ca := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(ca, server.CertificatePEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		s.props["tls"] = map[popd.TLSMode]string{popd.STLS: "starttls", popd.Implicit: "implicit"}[cfg.TLS]
		s.props["ca_file"] = ca
	}
	return s
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

// faultOnce makes the first such command fail.
func (s *testServer) faultOnce(command string, fault popd.Fault) {
	used := false
	s.SetFault(func(e popd.Event) popd.Fault {
		if e.Command != command || used {
			return popd.None
		}
		used = true
		return fault
	})
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

func decode(t testing.TB, props map[string]any) receiveProperties {
	t.Helper()
	data, err := json.Marshal(props)
	if err != nil {
		t.Fatal(err)
	}
	p, err := sdk.DecodeProperties[receiveProperties](data)
	if err != nil {
		t.Fatalf("properties: %v", err)
	}
	return p
}

func openTestSource(t testing.TB, props map[string]any, idle time.Duration) *source {
	t.Helper()
	p := decode(t, props)
	cfg, err := p.TLSConfig()
	if err != nil {
		t.Fatal(err)
	}
	return newSource(p, cfg, sdk.Env{Log: slog.New(slog.NewTextHandler(io.Discard, nil))}, idle)
}

func newTestSource(t testing.TB, props map[string]any) *source {
	t.Helper()
	s := openTestSource(t, props, longIdle)
	t.Cleanup(func() { s.Close() })
	return s
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	t.Cleanup(cancel)
	return ctx
}

func mustList(t testing.TB, s *source, want int) []sdk.Item {
	t.Helper()
	items, err := s.List(testContext(t))
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	if len(items) != want {
		t.Fatalf("listing has %d items, want %d", len(items), want)
	}
	return items
}

// read returns the parts of an item, as the SDK reads them.
func read(t testing.TB, s *source, item sdk.Item) ([]sdk.Part, [][]byte, *sdk.Content, error) {
	t.Helper()
	content, err := s.Open(testContext(t), item)
	if err != nil {
		return nil, nil, nil, err
	}
	var parts []sdk.Part
	var data [][]byte
	for part, err := range content.Parts {
		if err != nil {
			content.Close()
			return nil, nil, nil, err
		}
		b, err := io.ReadAll(part.Reader)
		if err != nil {
			content.Close()
			return nil, nil, nil, err
		}
		parts, data = append(parts, part), append(data, b)
	}
	return parts, data, content, content.Close()
}

func mustRead(t testing.TB, s *source, item sdk.Item) string {
	t.Helper()
	_, data, _, err := read(t, s, item)
	if err != nil {
		t.Fatalf("read %s: %v", item.Key, err)
	}
	return string(slices.Concat(data...))
}

func mustSettle(t testing.TB, s *source, items ...sdk.Item) {
	t.Helper()
	for _, item := range items {
		if err := s.Settle(testContext(t), item); err != nil {
			t.Fatalf("settle %s: %v", item.Key, err)
		}
	}
}

func mustFlush(t testing.TB, s *source) {
	t.Helper()
	if err := s.Flush(testContext(t)); err != nil {
		t.Fatalf("flush: %v", err)
	}
}

// waitFor waits for a condition that another goroutine brings about.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
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

// plainMail is an ordinary mail.
func plainMail(n int) []byte {
	return fmt.Appendf(nil, "From: Ann <ann@example.org>\r\nTo: edi@example.org\r\nSubject: Order %d\r\nMessage-ID: <%d@example.org>\r\nDate: Mon, 05 Jan 2026 10:00:00 +0100\r\n\r\nbody %d\r\n", n, n, n)
}
