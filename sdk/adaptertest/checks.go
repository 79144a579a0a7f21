package adaptertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.uber.org/goleak"

	"github.com/fairlead-io/fairlead/sdk"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// defaultSizes lie around the limit between inline and spooled.
var defaultSizes = []int{0, 1, inlineMax - 1, inlineMax, inlineMax + 1, 3 << 20}

// describes checks what Describe and Check say of one side.
func describes(t *testing.T, a sdk.Adapter, receive bool, properties any) *adapterpb.Description {
	t.Helper()
	h := connect(t, a)
	ctx, cancel := context.WithTimeout(t.Context(), defaultTimeout)
	defer cancel()
	d, err := h.client.Describe(ctx, &adapterpb.DescribeRequest{})
	if err != nil {
		t.Fatalf("describe: %v", err)
	}
	side := d.GetSend()
	if receive {
		side = d.GetReceive()
	}
	given := propertiesJSON(t, properties)
	checkSchema(t, side.GetSchema(), given)

	if p := checkProperties(t, h, receive, given); len(p) > 0 {
		t.Errorf("check of the case's properties: %v", p)
	}
	const unknown = "no_such_property"
	with := map[string]any{}
	if err := json.Unmarshal(given, &with); err != nil {
		t.Fatalf("properties: %v", err)
	}
	with[unknown] = 1
	found := slices.ContainsFunc(checkProperties(t, h, receive, propertiesJSON(t, with)),
		func(p *adapterpb.CheckResponse_Problem) bool { return p.GetProperty() == unknown })
	if !found {
		t.Error("check does not find an unknown property")
	}
	return d
}

func checkProperties(t *testing.T, h *Handler, receive bool, properties []byte) []*adapterpb.CheckResponse_Problem {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), defaultTimeout)
	defer cancel()
	r, err := h.client.Check(ctx, &adapterpb.CheckRequest{Receive: receive, Properties: properties})
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	return r.GetProblems()
}

// checkSchema checks that the schema is one, documents each property, and accepts
// the properties of the case.
func checkSchema(t *testing.T, schema, properties []byte) {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		t.Fatalf("schema: %v", err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("adapter.json", doc); err != nil {
		t.Fatalf("schema: %v", err)
	}
	compiled, err := c.Compile("adapter.json")
	if err != nil {
		t.Fatalf("schema: %v", err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(properties))
	if err != nil {
		t.Fatalf("properties: %v", err)
	}
	if err := compiled.Validate(value); err != nil {
		t.Errorf("the case's properties do not fit the schema: %v", err)
	}
	var s struct {
		Properties map[string]struct {
			Description string `json:"description"`
			Default     any    `json:"default"`
		} `json:"properties"`
		Required []string `json:"required"`
	}
	if err := json.Unmarshal(schema, &s); err != nil {
		t.Fatalf("schema: %v", err)
	}
	for name, p := range s.Properties {
		if strings.TrimSpace(p.Description) == "" {
			t.Errorf("property %s has no description: give it a jsonschema_description tag", name)
		}
		if p.Default != nil && slices.Contains(s.Required, name) {
			t.Errorf("property %s is required and has a default: it can have one of them", name)
		}
	}
}

// noLeaks runs f and checks that no goroutine is left that was not there before.
func noLeaks(t *testing.T, timeout time.Duration, allowed []string, f func()) {
	t.Helper()
	opts := []goleak.Option{goleak.IgnoreCurrent()}
	for _, name := range allowed {
		opts = append(opts, goleak.IgnoreAnyFunction(name))
	}
	f()
	// Servers in this process may need a while to notice that a connection ended;
	// Find itself waits for half a second or so.
	deadline := time.Now().Add(orDefault(timeout, defaultTimeout))
	err := goleak.Find(opts...)
	for err != nil && time.Now().Before(deadline) {
		err = goleak.Find(opts...)
	}
	if err != nil {
		t.Errorf("after the handler's end: %v", err)
	}
}

func settleMessage(key string) *adapterpb.ToAdapter {
	return &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Settle{Settle: &adapterpb.Settle{
		Location: location, Key: key, Verdict: adapterpb.Verdict_VERDICT_DELIVERED}}}
}

func sendMessage(call uint64, m *adapterpb.Message) *adapterpb.ToAdapter {
	return &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Send{Send: &adapterpb.Send{
		Call: call, Port: port, Message: m}}}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func names[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func values[V any](m map[string]V) []V { return slices.Collect(maps.Values(m)) }

// head shows the beginning of some content.
func head(b []byte) string { return fmt.Sprintf("%q", b[:min(len(b), 16)]) }
