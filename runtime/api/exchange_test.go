package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMessagesAreAskedForAsTheAddressSays(t *testing.T) {
	b := sample()
	s, _ := serveOn(t, b, Options{})
	resp := do(t, s, "GET", "/v1/messages?state=settled&location=mail&since=2026-03-29T01:30:00%2B01:00&limit=3", "", nil)
	if resp.status != http.StatusOK {
		t.Fatalf("got %d %s", resp.status, resp.body)
	}
	want := MessageFilter{State: MessageSettled, Location: "mail", Limit: 3, History: true}
	got := b.asked[0]
	if !got.Since.Equal(time.Date(2026, 3, 29, 0, 30, 0, 0, time.UTC)) {
		t.Errorf("since is %s", got.Since)
	}
	if got.Since = (time.Time{}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestMoreMessagesThanTheLimitAreSaidToBeThere(t *testing.T) {
	b := sample()
	_, socket := serveOn(t, b, Options{})
	c := dial(t, socket)
	for limit, truncated := range map[int]bool{1: true, 2: false, 0: false} {
		got, err := c.Messages(within(t), MessageFilter{Limit: limit})
		if err != nil || got.Truncated != truncated {
			t.Errorf("limit %d: got %+v, %v; want truncated %v", limit, got, err, truncated)
		}
	}
	if got := b.asked[len(b.asked)-1].Limit; got < 1 {
		t.Errorf("the backend got limit %d, want one", got)
	}
}

func TestListOfMessagesLeavesContextAndHistoryOut(t *testing.T) {
	b := sample()
	b.messages[0].Context = map[string]string{"ftp.name": "a.edi"}
	b.messages[0].History = []Step{{Kind: StepReceived}}
	_, socket := serveOn(t, b, Options{})
	c, ctx := dial(t, socket), within(t)
	list, err := c.Messages(ctx, MessageFilter{Where: `context["ftp.name"] == "a.edi"`})
	if err != nil || len(list.Messages) != 1 || list.Messages[0].Context != nil || list.Messages[0].History != nil {
		t.Errorf("list: got %+v, %v; want one message without context and history", list, err)
	}
	m, err := c.Message(ctx, idA)
	want(t, "message", m, &b.messages[0], err)
}

func TestShortIDsAreMadeWhole(t *testing.T) {
	b := sample()
	_, socket := serveOn(t, b, Options{})
	c, ctx := dial(t, socket), within(t)
	for short, want := range map[string]string{
		idA[:8] + "-0000-7000-8000-00000000000a": idA, // whole
		idC[:8]:                                  idC, // of the history
		strings.ToUpper(idC[:9]):                 idC,
	} {
		if m, err := c.Message(ctx, short); err != nil || m.ID != want {
			t.Errorf("%s: got %+v, %v; want %s", short, m, err, want)
		}
	}
	for short, want := range map[string]Problem{
		"0199a0b":            {Status: 400, Detail: "first 8 characters"},
		"supplier":           {Status: 400, Detail: "want an ID"},
		idA + "0":            {Status: 400, Detail: "want an ID"},
		idA[:8]:              {Status: 409, Detail: idA + ", " + idB},
		"0199ffff":           {Status: 404, Detail: "no message begins with 0199ffff"},
		"ffffffff" + idA[8:]: {Status: 404, Detail: "no message"},
	} {
		_, err := c.Message(ctx, short)
		var p *Problem
		if !errors.As(err, &p) || p.Status != want.Status || !strings.Contains(p.Detail, want.Detail) {
			t.Errorf("%s: got %v, want %d %q", short, err, want.Status, want.Detail)
		}
	}
}

func TestOrdersAboutMessagesReachTheBackendWhole(t *testing.T) {
	b := sample()
	b.messages = append(b.messages, Message{ID: "0199a0b2-0000-7000-8000-00000000000d", State: MessageSuspended})
	_, socket := serveOn(t, b, Options{})
	c, ctx := dial(t, socket), within(t)

	reply, err := c.ResumeMessages(ctx, MessageOrder{IDs: []string{idA, "0199a0b2", idA}, Port: "archive"})
	want(t, "resumed", reply, &OrderReply{Done: 2, Skipped: []SkippedMessage{}}, err)
	if got, want := b.resumed[0], (MessageOrder{IDs: []string{idA, b.messages[3].ID}, Port: "archive"}); !reflect.DeepEqual(got, want) {
		t.Errorf("resumed %+v, want %+v", got, want)
	}

	filter := &MessageFilter{Location: "supplier", Port: "erp", Where: "attempts > 0", Limit: 5}
	reply, err = c.DiscardMessages(ctx, MessageOrder{Filter: filter})
	want(t, "discarded", reply, &OrderReply{Done: 1, Skipped: []SkippedMessage{{ID: idB, Reason: "it is in flight"}}}, err)
	// All that match, and suspended ones only.
	wanted := MessageFilter{Location: "supplier", Port: "erp", Where: "attempts > 0", State: MessageSuspended}
	if got := b.given[0]; len(got.IDs) != 0 || got.Filter == nil || *got.Filter != wanted {
		t.Errorf("discarded %+v, want %+v", got, wanted)
	}
	if _, err := c.ResumeMessages(ctx, MessageOrder{Filter: &MessageFilter{}}); err != nil || b.resumed[1].Filter == nil || b.resumed[1].Filter.State != MessageSuspended {
		t.Errorf("an empty filter: %v, %+v; want all suspended messages", err, b.resumed)
	}
}

func TestOrdersAboutMessagesThatAreWrongChangeNothing(t *testing.T) {
	b := sample()
	s, _ := serveOn(t, b, Options{})
	asJSON := map[string]string{"Content-Type": "application/json"}
	many := `{"ids":["` + strings.Repeat(idA+`","`, MaxMessageIDs) + idA + `"]}`
	for name, tt := range map[string]struct {
		method, path, body string
		status             int
	}{
		"nothing chosen":          {"POST", "/v1/messages/discard", `{}`, 400},
		"no IDs":                  {"POST", "/v1/messages/resume", `{"ids":[]}`, 400},
		"null":                    {"POST", "/v1/messages/discard", `null`, 400},
		"IDs and filter":          {"POST", "/v1/messages/discard", `{"ids":["` + idA + `"],"filter":{}}`, 400},
		"misspelt filter":         {"POST", "/v1/messages/discard", `{"filter":{"locaton":"supplier"}}`, 400},
		"wrong condition":         {"POST", "/v1/messages/discard", `{"filter":{"where":"x"}}`, 400},
		"those in flight":         {"POST", "/v1/messages/discard", `{"filter":{"state":"in-flight"}}`, 400},
		"those of the history":    {"POST", "/v1/messages/resume", `{"filter":{"history":true}}`, 400},
		"discard to a port":       {"POST", "/v1/messages/discard", `{"ids":["` + idA + `"],"port":"erp"}`, 400},
		"ID too short":            {"POST", "/v1/messages/discard", `{"ids":["` + idA + `","0199"]}`, 400},
		"ID of several":           {"POST", "/v1/messages/discard", `{"ids":["0199a0b0"]}`, 409},
		"ID of none":              {"POST", "/v1/messages/discard", `{"ids":["0199ffff"]}`, 404},
		"settled, by a short ID":  {"POST", "/v1/messages/discard", `{"ids":["0199a0b1"]}`, 404},
		"too many":                {"POST", "/v1/messages/discard", many, 400},
		"too large":               {"POST", "/v1/messages/discard", `{"ids":["` + strings.Repeat("0", maxOrderBody) + `"]}`, 413},
		"order by GET":            {"GET", "/v1/messages/discard", "", 405},
		"message by POST":         {"POST", "/v1/messages/" + idA, "{}", 405},
		"list by POST":            {"POST", "/v1/messages", "{}", 405},
		"unknown location order":  {"POST", "/v1/locations/supplier/explode", "{}", 404},
		"unknown port order":      {"POST", "/v1/ports/erp/poll", "{}", 404},
		"settings for a location": {"POST", "/v1/locations/supplier/stop", `{"for":"1h"}`, 400},
		"location order by GET":   {"GET", "/v1/locations/supplier/stop", "", 405},
		"route of no location":    {"POST", "/v1/routes/test", `{"context":{}}`, 400},
		"route of blank source":   {"POST", "/v1/routes/test", `{"location":"x","source":" "}`, 400},
		"route of large source":   {"POST", "/v1/routes/test", `{"location":"x","source":"` + strings.Repeat("x", MaxDeployment+1) + `"}`, 413},
		"route by GET":            {"GET", "/v1/routes/test", "", 405},
		"misspelt parameter":      {"GET", "/v1/messages?locaton=supplier", "", 400},
		"time that is none":       {"GET", "/v1/messages?since=2h", "", 400},
		"limit that is none":      {"GET", "/v1/messages?limit=all", "", 400},
		"limit of none":           {"GET", "/v1/messages?limit=0", "", 400},
		"history that is none":    {"GET", "/v1/messages?history=some", "", 400},
		"condition that is none":  {"GET", "/v1/messages?where=1", "", 400},
	} {
		t.Run(name, func(t *testing.T) {
			header := asJSON
			if tt.method == http.MethodGet {
				header = nil
			}
			resp := do(t, s, tt.method, tt.path, tt.body, header)
			if resp.status != tt.status || resp.contentType != "application/problem+json" {
				t.Errorf("got %d %s %.200s, want the problem %d", resp.status, resp.contentType, resp.body, tt.status)
			}
		})
	}
	if len(b.resumed)+len(b.given)+len(b.orders)+len(b.tested) != 0 {
		t.Errorf("refused requests reached the backend: %v %v %v %v", b.resumed, b.given, b.orders, b.tested)
	}
}

func TestOrdersAboutEndpointsReachTheBackend(t *testing.T) {
	b := sample()
	_, socket := serveOn(t, b, Options{})
	c, ctx := dial(t, socket), within(t)
	var all []string
	for _, order := range LocationOrders {
		st, err := c.SetLocation(ctx, "supplier", order)
		want(t, order, st, &b.status.ReceiveLocations[0], err)
		all = append(all, "location supplier "+order)
	}
	for _, order := range PortOrders {
		st, err := c.SetPort(ctx, "erp", order)
		want(t, order, st, &b.status.SendPorts[0], err)
		all = append(all, "port erp "+order)
	}
	if !slices.Equal(b.orders, all) {
		t.Errorf("got orders %q, want %q", b.orders, all)
	}
	patient, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if _, err := c.SetPort(patient, "erp", PortStop); err != nil || b.patience < 9*time.Minute {
		t.Errorf("the node waits %s (%v), want as long as its caller", b.patience, err)
	}
}

func TestRouteTestReachesTheBackend(t *testing.T) {
	b := sample()
	_, socket := serveOn(t, b, Options{})
	c, ctx := dial(t, socket), within(t)
	for _, tt := range []struct{ sent, got RouteRequest }{
		{RouteRequest{Location: "supplier", Adapter: "ftp", Context: map[string]string{"ftp.name": "a=b"}},
			RouteRequest{Location: "supplier", Adapter: "ftp", Context: map[string]string{"ftp.name": "a=b"}}},
		{RouteRequest{Location: "supplier", Source: "hosts: {}"}, RouteRequest{Location: "supplier", Source: "hosts: {}", Name: "deployment.yaml"}},
		{RouteRequest{Location: "supplier", Source: "{}", Name: "a.json"}, RouteRequest{Location: "supplier", Source: "{}", Name: "a.json"}},
	} {
		if _, err := c.TestRoute(ctx, tt.sent); err != nil {
			t.Errorf("%+v: %v", tt.sent, err)
		}
		if got := b.tested[len(b.tested)-1]; !reflect.DeepEqual(got, tt.got) {
			t.Errorf("got %+v, want %+v", got, tt.got)
		}
	}
}

func TestExchangeOrdersFromOtherMachinesAreRefused(t *testing.T) {
	b := sample()
	s := NewServer(b, Options{})
	for _, path := range []string{"/v1/messages/resume", "/v1/messages/discard", "/v1/locations/supplier/stop", "/v1/ports/erp/start"} {
		r := httptest.NewRequest("POST", path, strings.NewReader(`{"ids":["`+idA+`"]}`))
		r.Header.Set("Content-Type", "application/json")
		r.RemoteAddr = "10.0.0.7:4711"
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != http.StatusForbidden {
			t.Errorf("%s: got %d, want 403", path, w.Code)
		}
	}
	if len(b.resumed)+len(b.given)+len(b.orders) != 0 {
		t.Errorf("orders from another machine were carried out: %v %v %v", b.resumed, b.given, b.orders)
	}
}

func TestErrorsOfTheExchangeArriveAsItMeantThem(t *testing.T) {
	b := sample()
	b.err = Unavailable("no leader")
	_, socket := serveOn(t, b, Options{})
	c, ctx := dial(t, socket), within(t)
	calls := map[string]error{}
	_, calls["messages"] = c.Messages(ctx, MessageFilter{})
	_, calls["message"] = c.Message(ctx, idA)
	_, calls["short ID"] = c.Message(ctx, idC[:8])
	_, calls["resume"] = c.ResumeMessages(ctx, MessageOrder{IDs: []string{idA}})
	_, calls["discard"] = c.DiscardMessages(ctx, MessageOrder{IDs: []string{idA}})
	_, calls["locations"] = c.Locations(ctx)
	_, calls["location"] = c.Location(ctx, "supplier")
	_, calls["location order"] = c.SetLocation(ctx, "supplier", LocationPoll)
	_, calls["ports"] = c.Ports(ctx)
	_, calls["port"] = c.Port(ctx, "erp")
	_, calls["port order"] = c.SetPort(ctx, "erp", PortStop)
	_, calls["route"] = c.TestRoute(ctx, RouteRequest{Location: "supplier"})
	for name, err := range calls {
		var p *Problem
		if !errors.As(err, &p) || p.Type != TypeNoQuorum || p.Detail != "no leader" {
			t.Errorf("%s: got %v, want the backend's problem", name, err)
		}
	}
	b.err = nil
	for name, ask := range map[string]func() error{
		"location": func() error { _, err := c.SetLocation(ctx, "x/y", LocationStop); return err },
		"port":     func() error { _, err := c.Port(ctx, "x/y"); return err },
	} {
		var p *Problem
		if err := ask(); !errors.As(err, &p) || p.Status != http.StatusNotFound || !strings.Contains(p.Detail, fmt.Sprintf("%q", "x/y")) {
			t.Errorf("%s: got %v, want 404", name, err)
		}
	}
}
