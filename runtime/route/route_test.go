package route

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestEveryRuleThatHoldsApplies(t *testing.T) {
	table, err := Compile([]Rule{
		{When: `location == "orders" && context["ftp.name"].endsWith(".edi")`, To: []string{"erp", "archive"}},
		{When: `adapter in ["pop3", "imap"]`, To: []string{"mails"}},
		{When: `"urgent" in context && int(context["urgent"]) > 3`, To: []string{"pager", "erp"}},
		{When: `context["ftp.name"].matches("^[0-9]{8}-.*") || location == "orders"`, To: []string{"dated"}},
		{When: `context["mail.subject"].lowerAscii().startsWith("invoice")`, To: []string{"billing"}},
		{To: []string{"all"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		m    Message
		want string
	}{
		{Message{"orders", "ftp", map[string]string{"ftp.name": "a.edi"}}, "erp archive dated all"},
		{Message{"orders", "ftp", map[string]string{"ftp.name": "a.csv", "urgent": "4"}}, "pager erp dated all"},
		{Message{"orders", "ftp", nil}, "dated all"},
		{Message{"x", "imap", map[string]string{"mail.subject": "Invoice 7"}}, "mails billing all"},
		{Message{"x", "ftp", map[string]string{"ftp.name": "20260101-x"}}, "dated all"},
	} {
		to, err := table.Route(c.m)
		if got := strings.Join(to, " "); got != c.want || err != nil {
			t.Errorf("%+v goes to %q, %v; want %q", c.m, got, err, c.want)
		}
	}
}

func TestAnErrorOtherThanAMissingPropertyStopsTheMessage(t *testing.T) {
	table, err := Compile([]Rule{{To: []string{"all"}}, {When: `int(context["n"]) > 3`, To: []string{"x"}}})
	if err != nil {
		t.Fatal(err)
	}
	to, err := table.Route(Message{Context: map[string]string{"n": "three"}})
	var wrong *RuleError
	if !errors.As(err, &wrong) || wrong.Index != 1 || to != nil {
		t.Errorf("got %v, %v", to, err)
	}
	verdicts := table.Explain(Message{})
	if !verdicts[0].Matched || verdicts[1].Matched || !errors.Is(verdicts[1].Err, errMissing) {
		t.Errorf("got %+v", verdicts)
	}
}

func TestWrongConditionsAreExplained(t *testing.T) {
	for text, want := range map[string]string{
		`locaton == "x"`:               `column 1: there is no "locaton"; known are location, adapter, context`,
		`location == `:                 "column",
		"true &&\n context[1] == \"\"": "line 2, column",
		`location`:                     "gives string, want bool",
		`size(location)`:               "gives int, want bool",
		`now > timestamp("2026-01-01T00:00:00Z")`: `there is no "now"`,
		" ":                       "is empty",
		strings.Repeat("x", 5000): "has 5000 bytes",
	} {
		_, err := Compile([]Rule{{}, {When: text}})
		var at *RuleError
		var e *Error
		if !errors.As(err, &at) || at.Index != 1 || !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v; want %s", text, err, want)
		}
	}
}

func TestTheWorkForOneMessageIsBounded(t *testing.T) {
	nested := `[1,2,3,4,5,6,7,8,9,10]`
	text := `context.all(a, context.all(b, context.all(c, ` + nested + `.all(d, a + b + c != string(d)))))`
	table, err := Compile([]Rule{{When: text, To: []string{"x"}}})
	if err != nil {
		return // refused at once is as good
	}
	many := map[string]string{}
	for i := range 200 {
		many[strings.Repeat("k", i+1)] = strings.Repeat("v", 100)
	}
	if _, err := table.Route(Message{Context: many}); err == nil || !strings.Contains(err.Error(), "too much work") {
		t.Errorf("got %v", err)
	}
}

func TestKeys(t *testing.T) {
	k, err := CompileKey(`context["customer"] + "/" + location`)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Of(Message{Location: "in", Context: map[string]string{"customer": "7"}}); got != "7/in" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := k.Of(Message{Location: "in"}); got != "" || err != nil {
		t.Errorf("without the property: %q, %v", got, err)
	}
	if _, err := CompileKey(`location == "x"`); err == nil || !strings.Contains(err.Error(), "want string") {
		t.Errorf("a condition as a key: %v", err)
	}
}

func TestATableDoesNotChangeWithItsRules(t *testing.T) {
	rules := []Rule{{To: []string{"a"}}}
	table, err := Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	rules[0] = Rule{To: []string{"b"}}
	if to, _ := table.Route(Message{}); !slices.Equal(to, []string{"a"}) {
		t.Errorf("goes to %v", to)
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(`location == "x" && context["y"].matches("a+")`)
	f.Add(`[1].map(x, x)[0] == 1`)
	f.Fuzz(func(t *testing.T, text string) {
		table, err := Compile([]Rule{{When: text, To: []string{"x"}}})
		if err != nil {
			return
		}
		// Whatever it says, it says the same again.
		m := Message{"l", "a", map[string]string{"y": "aaa", "": ""}}
		first, err1 := table.Route(m)
		again, err2 := table.Route(m)
		if !slices.Equal(first, again) || (err1 == nil) != (err2 == nil) {
			t.Errorf("%q: %v, %v and then %v, %v", text, first, err1, again, err2)
		}
	})
}

func BenchmarkRoute(b *testing.B) {
	table, err := Compile([]Rule{
		{When: `location == "orders" && context["ftp.name"].endsWith(".edi")`, To: []string{"erp"}},
		{When: `context["ftp.directory"] == "/in"`, To: []string{"archive"}},
	})
	if err != nil {
		b.Fatal(err)
	}
	m := Message{"orders", "ftp", map[string]string{"ftp.name": "a.edi", "ftp.directory": "/out"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := table.Route(m); err != nil {
			b.Fatal(err)
		}
	}
}
