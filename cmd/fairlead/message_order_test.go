package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/runtime/api"
)

func TestOrdersAboutMessagesAreSentAsTheCommandLineSays(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"by ID":                    {[]string{"resume", suspendedID}, "resume " + suspendedID + " to"},
		"to another port":          {[]string{"resume", suspendedID, "--to", "archive"}, "resume " + suspendedID + " to archive"},
		"all":                      {[]string{"resume", "--all"}, "resume all of    to"},
		"all of a location":        {[]string{"resume", "--all", "--location", "supplier-orders", "--to", "archive"}, "resume all of supplier-orders   to archive"},
		"all of a port":            {[]string{"discard", "--all", "--port", "erp", "--yes"}, "discard all of  erp  to"},
		"all that fit":             {[]string{"discard", "--all", "--where", "attempts > 0", "-y"}, "discard all of   attempts > 0 to"},
		"discard without keyboard": {[]string{"discard", suspendedID, "--yes"}, "discard " + suspendedID + " to"},
	} {
		t.Run(name, func(t *testing.T) {
			node := quietNode()
			r := fairlead(t, append(append([]string{"message"}, tt.args...), "--address", serve(t, node))...)
			if got := node.messagesGiven(); r.code != exitDone || !slices.Equal(got, []string{tt.want}) {
				t.Errorf("exit status %d (%s), orders %q, want %q", r.code, r.err, got, tt.want)
			}
		})
	}
}

func TestWhatMightHitTooMuchIsRefused(t *testing.T) {
	node := quietNode()
	address := serve(t, node)
	for name, tt := range map[string]struct {
		args []string
		says string
	}{
		"nothing chosen":         {[]string{"resume"}, "their IDs, or --all"},
		"narrowed without --all": {[]string{"discard", "--location", "supplier-orders", "--yes"}, "add --all"},
		"IDs and --all":          {[]string{"resume", suspendedID, "--all"}, "the one or the other"},
		"IDs and a location":     {[]string{"resume", suspendedID, "--location", "x"}, "the one or the other"},
		"wrong condition":        {[]string{"resume", "--all", "--where", "attempts"}, "want true or false"},
		"discard, nobody to ask": {[]string{"discard", suspendedID}, "add --yes"},
		"discard to a port":      {[]string{"discard", suspendedID, "--yes", "--to", "x"}, "unknown flag: --to"},
		"too many":               {append([]string{"resume"}, slices.Repeat([]string{suspendedID}, api.MaxMessageIDs+1)...), "at most 1000"},
	} {
		t.Run(name, func(t *testing.T) {
			r := fairlead(t, append(append([]string{"message"}, tt.args...), "--address", address)...)
			if r.code != exitWrong || !strings.Contains(r.err, tt.says) {
				t.Errorf("exit status %d, stderr %q; want %d and %q", r.code, r.err, exitWrong, tt.says)
			}
		})
	}
	if got := node.messagesGiven(); len(got) != 0 {
		t.Errorf("refused orders were sent: %q", got)
	}
}

func TestDryRunSendsNoOrder(t *testing.T) {
	node := quietNode()
	address := serve(t, node)
	for _, args := range [][]string{
		{"discard", suspendedID, "--dry-run"}, {"discard", "--all", "--dry-run", "--yes"}, {"resume", "--all", "--dry-run"},
	} {
		r := fairlead(t, append(append([]string{"message"}, args...), "--address", address)...)
		if r.code != exitDone || !strings.Contains(r.out, "order-7.edi") || strings.Contains(r.out, "order-6.edi") {
			t.Errorf("%q: exit status %d, %q; want the suspended message", args, r.code, r.out)
		}
	}
	if got := node.messagesGiven(); len(got) != 0 {
		t.Errorf("orders were sent: %q", got)
	}
}

func TestDiscardAsksAPersonAndTakesWhatWasShown(t *testing.T) {
	for name, tt := range map[string]struct {
		typed string
		want  []string
		says  string
	}{
		"yes":          {"y\n", []string{"discard " + suspendedID + " to"}, "discard 1 message?"},
		"Yes, written": {"Yes\n", []string{"discard " + suspendedID + " to"}, "order-7.edi"},
		"no":           {"n\n", nil, "nothing was discarded"},
		"only return":  {"\n", nil, "nothing was discarded"},
		"end of input": {"", nil, "nothing was discarded"},
		"something":    {"yesterday\n", nil, "nothing was discarded"},
	} {
		t.Run(name, func(t *testing.T) {
			node := quietNode()
			env := environment{in: strings.NewReader(tt.typed), terminal: true, keyboard: true}
			r := fairleadIn(t, env, "message", "discard", "--all", "--address", serve(t, node))
			if got := node.messagesGiven(); r.code != exitDone || !slices.Equal(got, tt.want) {
				t.Errorf("exit status %d, orders %q, want %q", r.code, got, tt.want)
			}
			if !strings.Contains(r.err, tt.says) {
				t.Errorf("stderr %q does not say %q", r.err, tt.says)
			}
		})
	}
}

func TestDiscardOfNothingAsksNobody(t *testing.T) {
	node := quietNode()
	env := environment{in: strings.NewReader("y\n"), terminal: true, keyboard: true}
	r := fairleadIn(t, env, "message", "discard", "--all", "--location", "other", "--address", serve(t, node))
	if r.code != exitDone || len(node.messagesGiven()) != 0 || !strings.Contains(r.err, "no suspended message matches") {
		t.Errorf("exit status %d, %q, orders %q", r.code, r.err, node.messagesGiven())
	}
}

func TestQuestionEndsWithItsCommand(t *testing.T) {
	node := quietNode()
	typed, keyboard := io.Pipe()
	defer func() { _ = keyboard.Close() }() // ends the reading left behind
	asked := &lines{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	args := []string{"message", "discard", "--all", "--address", serve(t, node)}
	go func() {
		ended <- run(ctx, args, environment{in: typed, out: io.Discard, err: asked, terminal: true, keyboard: true,
			getenv: func(string) string { return "" }})
	}()
	asked.awaitText(t, "[y/N]")
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "nothing was discarded") {
		t.Errorf("got %v", err)
	}
	if got := node.messagesGiven(); len(got) != 0 {
		t.Errorf("orders were sent: %q", got)
	}
}

func TestWhatIsPassedOverIsNamedAndFails(t *testing.T) {
	node := quietNode()
	node.done = api.OrderReply{Done: 3, Skipped: []api.SkippedMessage{{ID: suspendedID, Reason: "it is in flight"}}}
	r := fairlead(t, "message", "resume", "--all", "--address", serve(t, node))
	if r.code != exitFailed || !strings.Contains(r.err, "1 message not resumed") {
		t.Errorf("exit status %d, stderr %q", r.code, r.err)
	}
	golden(t, "message-skipped", r.out)
}

func TestMoreMessagesThanAreShownIsSaid(t *testing.T) {
	node := quietNode()
	node.truncated = true
	r := fairlead(t, "message", "list", "-o", "json", "--address", serve(t, node))
	var list []api.Message
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || len(list) != 1 {
		t.Errorf("got %q: %v; want a list of 1", r.out, err)
	}
	if !strings.Contains(r.err, "more messages match than the 1 shown") {
		t.Errorf("stderr %q does not say that there are more", r.err)
	}
}

func TestFlagsOfTheListReachTheNode(t *testing.T) {
	node := quietNode()
	r := fairlead(t, "message", "list", "--location", "l", "--port", "p", "--state", "held", "--where", "true", "--history", "--limit", "7",
		"--since", "2026-03-29T01:30:00+01:00", "--until", "2026-03-29 02:00:00", "--address", serve(t, node))
	if r.code != exitDone {
		t.Fatal(r.err)
	}
	want := api.MessageFilter{Location: "l", Port: "p", State: "held", Where: "true", History: true, Limit: 7,
		Since: time.Date(2026, 3, 29, 0, 30, 0, 0, time.UTC), Until: time.Date(2026, 3, 29, 2, 0, 0, 0, time.UTC)}
	got := node.asked
	if !got.Since.Equal(want.Since) || !got.Until.Equal(want.Until) {
		t.Errorf("from %s until %s, want from %s until %s", got.Since, got.Until, want.Since, want.Until)
	}
	if got.Since, got.Until = want.Since, want.Until; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestTimesOfAFlag(t *testing.T) {
	for text, want := range map[string]time.Time{
		"2026-03-29T01:30:00Z": time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC),
		"2026-03-29 01:30:00":  time.Date(2026, 3, 29, 1, 30, 0, 0, time.Local),
		"2026-03-29":           time.Date(2026, 3, 29, 0, 0, 0, 0, time.Local),
	} {
		var m moment
		if err := m.Set(text); err != nil || !time.Time(m).Equal(want) {
			t.Errorf("%s: got %s, %v; want %s", text, &m, err, want)
		}
	}
	var m moment
	before := time.Now().Add(-2 * time.Hour)
	if err := m.Set("2h"); err != nil || time.Time(m).Before(before) || time.Time(m).After(time.Now().Add(-2*time.Hour)) {
		t.Errorf("2h: got %s, %v; want two hours ago", &m, err)
	}
	for _, text := range []string{"", "-2h", "2", "29.03.2026", "2026-13-01"} {
		if err := m.Set(text); err == nil {
			t.Errorf("%q was taken as %s", text, &m)
		}
	}
}
