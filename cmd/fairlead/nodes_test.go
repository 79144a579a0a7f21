package main

import (
	"context"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
)

func TestOrdersReachTheNode(t *testing.T) {
	node := quietNode()
	address := serve(t, node)
	var want []string
	for _, order := range api.NodeOrders {
		want = append(want, "node node-a "+order)
		fairlead(t, "node", order, "node-a", "--address", address)
	}
	for _, order := range api.HostOrders {
		want = append(want, "host intake "+order)
		fairlead(t, "host", order, "intake", "--address", address)
	}
	if got := node.given(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDrainThatRunsOutOfTimeNamesWhatIsLeft(t *testing.T) {
	node := quietNode()
	node.drained = make(chan struct{})
	node.status.Nodes[0].Owns = []string{"edi", "mail"}
	r := fairlead(t, "node", "drain", "node-a", "--timeout", "200ms", "--address", serve(t, node))
	if r.code != exitFailed || !strings.Contains(r.err, "node-a still owns 2 groups: edi, mail") || r.out != "" {
		t.Errorf("exit status %d, stdout %q, stderr %q", r.code, r.out, r.err)
	}
}

func TestDrainShowsWhatIsLeftOnATerminalOnly(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		node := quietNode()
		node.status.Nodes[0].Owns = []string{"edi", "mail\x1b[2J"}
		drained := make(chan struct{})
		node.drained = drained
		shown, out := &lines{}, &lines{}
		ended := make(chan error, 1)
		args := []string{"node", "drain", "node-a", "--address", serve(t, node)}
		go func() {
			ended <- run(t.Context(), args, environment{in: strings.NewReader(""), out: out, err: shown, terminal: terminal,
				getenv: func(string) string { return "" }})
		}()
		if terminal {
			shown.awaitText(t, "draining node-a: 2 groups left: edi, mail\uFFFD[2J")
		}
		close(drained)
		if err := <-ended; err != nil {
			t.Errorf("terminal %v: %v", terminal, err)
		}
		progress := strings.Join(shown.all(), "")
		if terminal && !strings.HasSuffix(progress, eraseLine) {
			t.Errorf("the line of progress is left on the terminal: %q", progress)
		}
		if !terminal && progress != "" {
			t.Errorf("progress without a terminal: %q", progress)
		}
		if got := out.all()[0]; got != "node node-a is draining, has given away 2 groups: edi, mail" {
			t.Errorf("terminal %v: got %q", terminal, got)
		}
	}
}

func TestInterruptedDrainSaysThatItGoesOn(t *testing.T) {
	node := quietNode()
	node.drained = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	args := []string{"node", "drain", "node-a", "--address", serve(t, node)}
	go func() {
		ended <- run(ctx, args, environment{in: strings.NewReader(""), out: io.Discard, err: io.Discard, getenv: func(string) string { return "" }})
	}()
	for len(node.given()) == 0 {
		select {
		case err := <-ended:
			t.Fatalf("ended before the order was given: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "the drain of node-a goes on") {
		t.Errorf("got %v", err)
	}
}

func TestRefusalForWantOfAQuorumSaysWhoIsMissing(t *testing.T) {
	node := isolatedNode()
	address := serve(t, &orderless{fakeNode: node, refusal: api.Unavailable("order not committed: no leader")})
	for _, args := range [][]string{{"host", "stop", "intake"}, {"node", "pause", "node-a"}, {"node", "drain", "node-a"}} {
		r := fairlead(t, append(args, "--address", address)...)
		if r.code != exitUnreachable || !strings.Contains(r.err, "order not committed: no leader: 1 of 3 voters is here") {
			t.Errorf("%v: exit status %d, stderr %q", args, r.code, r.err)
		}
	}
}

// orderless refuses orders, and tells its status.
type orderless struct {
	*fakeNode
	refusal error
}

func (o *orderless) SetNode(context.Context, string, string) (*api.NodeReply, error) {
	return nil, o.refusal
}

func (o *orderless) SetHost(context.Context, string, string) (*api.HostStatus, error) {
	return nil, o.refusal
}

func TestEventsOfTheLastTimeOnly(t *testing.T) {
	node := &fakeNode{events: []api.Event{
		{Index: 1, At: time.Now().Add(-3 * time.Hour), Kind: "deployed", Text: "long ago"},
		{Index: 2, At: time.Now().Add(-time.Hour), Kind: "deployed", Text: "of late"},
	}}
	r := fairlead(t, "events", "--since", "2h", "--address", serve(t, node))
	if strings.Contains(r.out, "long ago") || !strings.Contains(r.out, "of late") {
		t.Errorf("got %q, want the later event only", r.out)
	}
}

// A stream may break between two events of the same ledger entry.
func TestNoEventIsLostOrShownTwiceWhenAStreamBreaks(t *testing.T) {
	all := []api.Event{{Index: 40, Text: "a"}, {Index: 40, Text: "b"}, {Index: 40, Text: "c"}, {Index: 41, Text: "d"}, {Index: 43, Text: "e"}, {Index: 43, Text: "f"}}
	// After each number of events received the stream breaks once, or twice.
	for first := range len(all) + 1 {
		for second := range len(all) + 1 {
			p := newPlace(12)
			var got string
			read := func(limit int) {
				after := p.resume()
				for _, e := range all {
					if e.Index <= after {
						continue
					}
					if limit--; limit < 0 {
						return
					}
					if p.isNew(e) {
						got += e.Text
					}
				}
			}
			read(first)
			read(second)
			read(len(all))
			if got != "abcdef" {
				t.Errorf("broken after %d and %d events: got %q", first, second, got)
			}
		}
	}
}

func TestFollowedEventsAreFiltered(t *testing.T) {
	node := quietNode()
	out := &lines{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	args := []string{"events", "--follow", "--group", "edi", "--address", serve(t, node)}
	go func() {
		ended <- run(ctx, args, environment{in: strings.NewReader(""), out: out, err: io.Discard, getenv: func(string) string { return "" }})
	}()
	node.live <- api.Event{Index: 41, Kind: "group-owned", Group: "mail"}
	node.live <- api.Event{Index: 42, Kind: "group-reset", Group: "edi"}
	out.await(t, 2)
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := strings.Join(out.all(), "\n"); strings.Contains(got, "mail") || !strings.Contains(got, "group-reset") {
		t.Errorf("got %q, want events of edi only", got)
	}
}

func TestCompletionOffersNames(t *testing.T) {
	address := serve(t, quietNode())
	for _, tt := range []struct{ args, want []string }{
		{[]string{"node", "drain", ""}, []string{"node-a", "node-b", "node-c"}},
		{[]string{"node", "drain", "node-a", ""}, nil},
		{[]string{"host", "stop", ""}, []string{"intake", "outbound"}},
		{[]string{"host", "show", ""}, []string{"intake", "outbound"}},
		{[]string{"host", "move", "intake", ""}, []string{"node-a", "node-b", "node-c"}},
		{[]string{"events", "--group", ""}, []string{"edi"}},
		{[]string{"events", "--node", ""}, []string{"node-a", "node-b", "node-c"}},
	} {
		env := environment{getenv: func(name string) string {
			if name == addressEnv {
				return address
			}
			return ""
		}}
		r := fairleadIn(t, env, append([]string{"__complete"}, tt.args...)...)
		offered := strings.Split(r.out, "\n:")[0]
		if got := strings.Fields(strings.TrimPrefix(offered, ":4")); !slices.Equal(got, tt.want) && len(got)+len(tt.want) > 0 {
			t.Errorf("%q: offered %q, want %q", tt.args, got, tt.want)
		}
	}
	// Nobody there: nothing is offered, and nothing disturbs the command line.
	r := fairlead(t, "__complete", "node", "drain", "", "--address", "unix:/nonexistent/s")
	if r.code != exitDone {
		t.Errorf("no node: exit status %d: %s", r.code, r.err)
	}
}

func TestEveryCommandOfNodesHostsAndEventsHasAnExample(t *testing.T) {
	placeholder := regexp.MustCompile(`[A-Z]{3,}`)
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		if !strings.HasPrefix(strings.TrimSpace(cmd.Example), cmd.CommandPath()) && !cmd.HasSubCommands() || placeholder.MatchString(cmd.Example) {
			t.Errorf("%s: example %q is none of it", cmd.CommandPath(), cmd.Example)
		}
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	root := newRootCommand(&cli{env: environment{out: io.Discard, err: io.Discard}})
	for _, name := range []string{"node", "host", "events"} {
		cmd, _, err := root.Find([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		look(cmd)
	}
}
