package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEachOrderReachesTheBackendUnderItsName(t *testing.T) {
	b := sample()
	s, socket := serveOn(t, b, Options{})
	c, ctx := dial(t, socket), within(t)
	var all []string
	for _, order := range NodeOrders {
		if _, err := c.SetNode(ctx, "node-a", order); err != nil {
			t.Errorf("%s: %v", order, err)
		}
		all = append(all, "node node-a "+order)
	}
	for _, order := range HostOrders {
		if _, err := c.SetHost(ctx, "intake", order); err != nil {
			t.Errorf("%s: %v", order, err)
		}
		all = append(all, "host intake "+order)
	}
	// Scripts may leave the body out.
	resp := do(t, s, "POST", "/v1/nodes/node-b/pause", "", map[string]string{"Content-Type": "application/json"})
	if all = append(all, "node node-b pause"); resp.status != http.StatusOK {
		t.Errorf("without a body: %d %s", resp.status, resp.body)
	}
	if !slices.Equal(b.orders, all) {
		t.Errorf("got orders %q, want %q", b.orders, all)
	}
}

func TestOrdersThatAreNoneChangeNothing(t *testing.T) {
	b := sample()
	s, _ := serveOn(t, b, Options{})
	asJSON := map[string]string{"Content-Type": "application/json"}
	for name, tt := range map[string]struct {
		method, path, body string
		header             map[string]string
		status             int
	}{
		"unknown node order":  {"POST", "/v1/nodes/node-a/explode", "{}", asJSON, 404},
		"unknown host order":  {"POST", "/v1/hosts/intake/drain", "{}", asJSON, 404},
		"order by GET":        {"GET", "/v1/nodes/node-a/drain", "", nil, 405},
		"explanation by POST": {"POST", "/v1/hosts/intake/explain", "{}", asJSON, 405},
		"form of a web page":  {"POST", "/v1/hosts/intake/stop", "", map[string]string{"Content-Type": "text/plain"}, 415},
		"other origin":        {"POST", "/v1/hosts/intake/stop", "{}", map[string]string{"Content-Type": "application/json", "Origin": "http://evil.example"}, 403},
		"settings":            {"POST", "/v1/nodes/node-a/drain", `{"timeout":"1m"}`, asJSON, 400},
		"timeout of no unit":  {"POST", "/v1/nodes/node-a/drain?timeout=90", "{}", asJSON, 400},
		"timeout in the past": {"POST", "/v1/nodes/node-a/drain?timeout=-1s", "{}", asJSON, 400},
		"timeout of a week":   {"POST", "/v1/nodes/node-a/drain?timeout=168h", "{}", asJSON, 400},
	} {
		t.Run(name, func(t *testing.T) {
			resp := do(t, s, tt.method, tt.path, tt.body, tt.header)
			if resp.status != tt.status || resp.contentType != "application/problem+json" {
				t.Errorf("got %d %s %s, want the problem %d", resp.status, resp.contentType, resp.body, tt.status)
			}
		})
	}
	if len(b.orders) != 0 {
		t.Errorf("refused orders reached the backend: %q", b.orders)
	}
}

func TestOrdersFromOtherMachinesAreRefused(t *testing.T) {
	b := sample()
	s := NewServer(b, Options{})
	var paths []string
	for _, order := range NodeOrders {
		paths = append(paths, "/v1/nodes/node-a/"+order)
	}
	for _, order := range HostOrders {
		paths = append(paths, "/v1/hosts/intake/"+order)
	}
	for _, path := range paths {
		r := httptest.NewRequest("POST", path, strings.NewReader("{}"))
		r.Header.Set("Content-Type", "application/json")
		r.RemoteAddr = "10.0.0.7:4711"
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != http.StatusForbidden {
			t.Errorf("%s: got %d, want 403", path, w.Code)
		}
	}
	if len(b.orders) != 0 {
		t.Errorf("orders from another machine were carried out: %q", b.orders)
	}
}

func TestNodeWaitsForAnOrderAsLongAsItsCallerDoes(t *testing.T) {
	b := sample()
	_, socket := serveOn(t, b, Options{})
	c := dial(t, socket)
	for _, tt := range []struct{ caller, least, most time.Duration }{
		{10 * time.Second, 5 * time.Second, 10 * time.Second},
		{10 * time.Minute, 9 * time.Minute, 10 * time.Minute},
		{5 * time.Hour, 59 * time.Minute, time.Hour},
		{0, changeTimeout - time.Minute, changeTimeout},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if tt.caller > 0 {
			ctx, cancel = context.WithTimeout(t.Context(), tt.caller)
		}
		_, err := c.SetNode(ctx, "node-a", NodeDrain)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if b.patience < tt.least || b.patience > tt.most {
			t.Errorf("caller waits %s: the node waits %s, want %s to %s", tt.caller, b.patience, tt.least, tt.most)
		}
	}
}

func TestOrderThatRanOutOfTimeSaysWhatIsLeft(t *testing.T) {
	b := sample()
	b.err = TimedOut("node node-a still owns edi")
	_, socket := serveOn(t, b, Options{})
	var p *Problem
	_, err := dial(t, socket).SetNode(within(t), "node-a", NodeDrain)
	if !errors.As(err, &p) || p.Type != TypeTimeout || p.Status != http.StatusGatewayTimeout || p.Detail != "node node-a still owns edi" {
		t.Errorf("got %#v, want the backend's problem", err)
	}
}

func TestMetricsAreServedWhereThereAreAny(t *testing.T) {
	without, _ := serveOn(t, sample(), Options{})
	if resp := do(t, without, "GET", "/metrics", "", nil); resp.status != http.StatusNotFound {
		t.Errorf("without metrics: got %d, want 404", resp.status)
	}
	with, _ := serveOn(t, sample(), Options{Metrics: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, bounded := r.Context().Deadline(); !bounded {
			t.Error("a scrape is not bounded")
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte("fairlead_cluster_quorum 1\n"))
	})})
	if resp := do(t, with, "GET", "/metrics", "", nil); resp.status != http.StatusOK || resp.body != "fairlead_cluster_quorum 1\n" {
		t.Errorf("got %d %q, want the metrics", resp.status, resp.body)
	}
	if resp := do(t, with, "POST", "/metrics", "{}", map[string]string{"Content-Type": "application/json"}); resp.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %d, want 405", resp.status)
	}
}
