package main

import (
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"github.com/fairlead-io/fairlead/sdk"
)

func contextMessage(context map[string]string) *sdk.Message {
	m := message("01890000-0000-7000-8000-000000000000", "x")
	m.Context = context
	return m
}

// carried takes headers through the wire format's rules.
func carried(t interface{ Fatalf(string, ...any) }, h nats.Header) nats.Header {
	lines := "NATS/1.0\r\n"
	for k, vs := range h {
		for _, v := range vs {
			if strings.ContainsAny(k+v, "\r\n") {
				t.Fatalf("header %q: %q breaks the line", k, v)
			}
			lines += k + ": " + strings.TrimSpace(v) + "\r\n"
		}
	}
	got, err := nats.DecodeHeadersMsg([]byte(lines + "\r\n"))
	if err != nil {
		t.Fatalf("decode %q: %v", lines, err)
	}
	return got
}

func TestAnyContextSurvivesTheHeaders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		context := rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "context")
		maps.DeleteFunc(context, func(k, _ string) bool {
			return strings.HasPrefix(k, "queue.") || strings.HasPrefix(k, "fairlead.")
		})
		got := decodeHeaders(carried(t, encodeHeaders(contextMessage(context))))
		maps.DeleteFunc(got, func(k, _ string) bool { return strings.HasPrefix(k, "queue.") })
		if !maps.Equal(got, context) {
			t.Fatalf("got %q, want %q", got, context)
		}
	})
}

func TestContextWithLineBreaksAndUTF8IsOneSafeHeader(t *testing.T) {
	h := encodeHeaders(contextMessage(map[string]string{
		"ftp.name":                         "Zoë\r\nNats-Msg-Id: evil\r\n\r\n.txt",
		"mail.header.X: a\r\nNats-Rollup:": "all",
	}))
	for k, vs := range h {
		for i := range len(k) {
			if k[i] <= ' ' || k[i] >= 0x7f || k[i] == ':' {
				t.Errorf("header name %q", k)
			}
		}
		for _, v := range vs {
			for i := range len(v) {
				if v[i] < ' ' || v[i] >= 0x7f {
					t.Errorf("header %s has the value %q", k, v)
				}
			}
		}
	}
	if v := h.Get("Nats-Msg-Id") + h.Get("Nats-Rollup"); v != "" {
		t.Errorf("a property became an order to the broker: %q", v)
	}
	if got, want := h.Get("Fairlead-Context-ftp.name"), "Zo%C3%AB%0D%0ANats-Msg-Id: evil%0D%0A%0D%0A.txt"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestForeignHeadersAreKeptAsTheyCame(t *testing.T) {
	got := decodeHeaders(nats.Header{
		"correlation-id":                     {"50%25"},
		"X-Two":                              {"a", "b"},
		"X-Latin":                            {"Zo\xeb"},
		"Fairlead-Context-fairlead.id":       {"forged"},
		"Fairlead-Context-queue.destination": {"forged"},
		"Fairlead-Context-custom.x":          {"%zz%4"},
	})
	want := map[string]string{
		"queue.correlation_id":        "50%25",
		"queue.header.correlation-id": "50%25",
		"queue.header.X-Two":          "a, b",
		"queue.header.X-Latin":        "Zo\uFFFD",
		"custom.x":                    "%zz%4",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzDecodeHeaders(f *testing.F) {
	f.Add("Fairlead-Context-a%", "%E4%B8")
	f.Add("Fairlead-Context-%00", "\xff%ff")
	f.Add("Correlation-Id", "%0D%0A")
	f.Fuzz(func(t *testing.T, key, value string) {
		for k, v := range decodeHeaders(nats.Header{key: {value}, headerID: {"x"}}) {
			if !utf8.ValidString(k) || !utf8.ValidString(v) {
				t.Errorf("%q: %q is not UTF-8", k, v)
			}
		}
	})
}
