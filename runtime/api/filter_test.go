package api

import (
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// message is what the filters of these tests are tried on.
func message() Message {
	received := time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC)
	return Message{
		ID: idA, Location: "supplier", Key: "/out/a.edi|120", Name: "a.edi", State: MessageSuspended, Node: "node-a", Size: 120,
		Pending: []string{"erp"}, Delivered: []string{"archive"}, Reason: "550 no such stream",
		Since: received.Add(time.Hour), Received: &received,
		Attempts: []Attempt{{Port: "backup", Error: "refused"}},
		Context:  map[string]string{"ftp.name": "a.edi"},
		History:  []Step{{Kind: StepRouted, Port: "old"}},
	}
}

func TestWhatAFilterChooses(t *testing.T) {
	at := *message().Received
	for name, tt := range map[string]struct {
		filter MessageFilter
		want   bool
	}{
		"nothing asked":                 {MessageFilter{}, true},
		"its state":                     {MessageFilter{State: MessageSuspended}, true},
		"another state":                 {MessageFilter{State: MessageInDoubt}, false},
		"its location":                  {MessageFilter{Location: "supplier"}, true},
		"another location":              {MessageFilter{Location: "supp"}, false},
		"port that lacks it":            {MessageFilter{Port: "erp"}, true},
		"port that has it":              {MessageFilter{Port: "archive"}, true},
		"port that was tried":           {MessageFilter{Port: "backup"}, true},
		"port of its history":           {MessageFilter{Port: "old"}, true},
		"another port":                  {MessageFilter{Port: "other"}, false},
		"beginning of its ID":           {MessageFilter{ID: "0199A0B0"}, true},
		"beginning of another ID":       {MessageFilter{ID: "0199a0b1"}, false},
		"since it was received":         {MessageFilter{Since: at}, true},
		"since later":                   {MessageFilter{Since: at.Add(time.Nanosecond)}, false},
		"until it was received":         {MessageFilter{Until: at}, false},
		"until later":                   {MessageFilter{Until: at.Add(time.Nanosecond)}, true},
		"context that it has":           {MessageFilter{Where: `context["ftp.name"].endsWith(".edi")`}, true},
		"context that it has not":       {MessageFilter{Where: `context["mail.from"] == ""`}, false},
		"not a context that it has not": {MessageFilter{Where: `context["mail.from"] != "x"`}, false},
		"every variable": {MessageFilter{Where: `id.startsWith("0199") && location == "supplier" && key != "" && name == "a.edi" &&
			state == "suspended" && reason.contains("550") && node == "node-a" && size == 120 && attempts == 1 &&
			since > timestamp("2026-03-29T02:00:00Z") && "erp" in pending && "archive" in delivered && size(context) == 1`}, true},
		"all but the last": {MessageFilter{State: MessageSuspended, Location: "supplier", Where: "false"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := tt.filter.Matcher()
			if err != nil {
				t.Fatal(err)
			}
			msg := message()
			if got, err := m.Matches(&msg); got != tt.want || err != nil {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestSettledMessagesAreFoundInTheHistoryOnly(t *testing.T) {
	msg := message()
	msg.State = MessageSettled
	for _, tt := range []struct {
		filter MessageFilter
		want   bool
	}{{MessageFilter{}, false}, {MessageFilter{History: true}, true}, {MessageFilter{State: MessageSettled}, true}} {
		m, err := tt.filter.Matcher()
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := m.Matches(&msg); got != tt.want {
			t.Errorf("%+v: got %v, want %v", tt.filter, got, tt.want)
		}
	}
}

func TestMessageOfUnknownReceiptCountsFromItsState(t *testing.T) {
	msg := message()
	msg.Received = nil
	m, err := MessageFilter{Since: msg.Since}.Matcher()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Matches(&msg); !got || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestWrongFiltersSayWhatWouldBeRight(t *testing.T) {
	now := time.Now()
	for name, tt := range map[string]struct {
		filter MessageFilter
		says   string
	}{
		"unknown state":      {MessageFilter{State: "lost"}, "known are suspended, in-doubt"},
		"limit too high":     {MessageFilter{Limit: MaxMessages + 1}, "want 1 to 10000"},
		"limit below 0":      {MessageFilter{Limit: -1}, "want 1 to 10000"},
		"turned round":       {MessageFilter{Since: now, Until: now}, "is not before"},
		"no CEL":             {MessageFilter{Where: "location = 1"}, "where: column 10: "},
		"unknown variable":   {MessageFilter{Where: `port == "erp"`}, "known are id, location"},
		"wrong type":         {MessageFilter{Where: `size == "1"`}, "where: column 6: "},
		"no condition":       {MessageFilter{Where: "size + 1"}, "gives int, want true or false"},
		"too long":           {MessageFilter{Where: strings.Repeat(" ", maxWhere) + "true"}, "at most 4096"},
		"nested too deeply":  {MessageFilter{Where: strings.Repeat("(", 2000) + "true" + strings.Repeat(")", 2000)}, "where: "},
		"unknown everywhere": {MessageFilter{Where: "a && b && c"}, "column 1: undeclared reference to 'a'"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tt.filter.Matcher()
			var p *Problem
			if !errors.As(err, &p) || p.Status != http.StatusBadRequest || !strings.Contains(p.Detail, tt.says) {
				t.Fatalf("got %v, want a problem that says %q", err, tt.says)
			}
			if strings.Contains(p.Detail, "\n") {
				t.Errorf("more than one line: %q", p.Detail)
			}
		})
	}
}

func TestConditionThatTakesTooMuchWorkIsAnErrorAndNoAnswer(t *testing.T) {
	m, err := MessageFilter{Where: `pending.all(a, pending.all(b, pending.all(c, a != b + c)))`}.Matcher()
	if err != nil {
		t.Fatal(err)
	}
	msg := message()
	for range 200 {
		msg.Pending = append(msg.Pending, "port")
	}
	if got, err := m.Matches(&msg); got || err == nil || !strings.Contains(err.Error(), "too much work") {
		t.Errorf("got %v, %v; want a refusal", got, err)
	}
}

func TestFilterSurvivesItsWayThroughTheAddress(t *testing.T) {
	f := MessageFilter{
		State: MessageHeld, Location: "a&b", Port: "erp=1", ID: "0199a0b0", Where: `context["x"] == "+ %"`,
		Since: time.Date(2026, 3, 29, 1, 30, 0, 5, time.UTC), Until: time.Date(2026, 10, 25, 1, 30, 0, 0, time.UTC), Limit: 7, History: true,
	}
	// A field that is added later and forgotten here is found by this.
	for v, i := reflect.ValueOf(f), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("this test leaves %s out", v.Type().Field(i).Name)
		}
	}
	got, err := filterOf(f.query())
	if err != nil || !reflect.DeepEqual(got, f) {
		t.Errorf("got %+v, %v; want %+v", got, err, f)
	}
	if len((MessageFilter{}).query()) != 0 {
		t.Error("the empty filter asks for something")
	}
}
