package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/fairlead-io/fairlead/runtime/api"
)

func TestOutputOfEachCommand(t *testing.T) {
	app := filepath.Join(t.TempDir(), "app.yaml")
	if err := os.WriteFile(app, []byte("hosts: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		node *fakeNode
		args []string
	}{
		"status":             {quietNode(), []string{"status"}},
		"status-trouble":     {troubledNode(), []string{"status"}},
		"status-empty":       {&fakeNode{}, []string{"status"}},
		"status-no-quorum":   {isolatedNode(), []string{"status"}},
		"node-list":          {troubledNode(), []string{"node", "list"}},
		"node-list-json":     {quietNode(), []string{"node", "list", "-o", "json"}},
		"node-drain":         {quietNode(), []string{"node", "drain", "node-a"}},
		"node-drain-json":    {quietNode(), []string{"node", "drain", "node-a", "-o", "json"}},
		"node-resume":        {&fakeNode{nodeDone: api.NodeReply{Node: "node-a", State: "alive"}}, []string{"node", "resume", "node-a"}},
		"host-show-json":     {quietNode(), []string{"host", "show", "intake", "-o", "json"}},
		"host-stop":          {&fakeNode{host: api.HostStatus{Name: "intake", State: "stopped", Reason: "by order"}}, []string{"host", "stop", "intake"}},
		"host-resume":        {quietNode(), []string{"host", "resume", "intake"}},
		"events-of-a-node":   {quietNode(), []string{"events", "--node", "node-a"}},
		"events-of-a-group":  {quietNode(), []string{"events", "--group", "edi", "-o", "json"}},
		"status-json":        {quietNode(), []string{"status", "-o", "json"}},
		"status-yaml":        {quietNode(), []string{"status", "-o", "yaml"}},
		"host-list":          {quietNode(), []string{"host", "list"}},
		"host-show":          {quietNode(), []string{"host", "show", "intake"}},
		"host-move":          {quietNode(), []string{"host", "move", "intake", "node-b"}},
		"host-move-json":     {quietNode(), []string{"host", "move", "intake", "-o", "json"}},
		"message-list":       {quietNode(), []string{"message", "list", "--state", "suspended"}},
		"message-list-empty": {&fakeNode{}, []string{"message", "list"}},
		"message-list-none":  {&fakeNode{}, []string{"message", "list", "-o", "json"}},
		"message-history":    {quietNode(), []string{"message", "list", "--history"}},
		"message-list-json":  {quietNode(), []string{"message", "list", "-o", "json"}},
		"message-show":       {quietNode(), []string{"message", "show", suspendedID}},
		"message-show-short": {quietNode(), []string{"message", "show", settledID[:8]}},
		"message-show-json":  {quietNode(), []string{"message", "show", suspendedID, "-o", "json"}},
		"message-resume":     {quietNode(), []string{"message", "resume", suspendedID}},
		"message-dry-run":    {quietNode(), []string{"message", "discard", "--all", "--location", "supplier-orders", "--dry-run"}},
		"message-discard":    {quietNode(), []string{"message", "discard", "--all", "--yes", "-o", "json"}},
		"location-list":      {troubledNode(), []string{"location", "list"}},
		"location-list-json": {troubledNode(), []string{"location", "list", "-o", "json"}},
		"location-show":      {troubledNode(), []string{"location", "show", "supplier-orders"}},
		"location-quiet":     {quietNode(), []string{"location", "show", "supplier-orders"}},
		"location-stop":      {haltedNode(), []string{"location", "stop", "supplier-orders"}},
		"location-poll":      {troubledNode(), []string{"location", "poll", "supplier-orders"}},
		"port-list":          {troubledNode(), []string{"port", "list"}},
		"port-list-json":     {troubledNode(), []string{"port", "list", "-o", "json"}},
		"port-show":          {troubledNode(), []string{"port", "show", "erp"}},
		"port-stop":          {haltedNode(), []string{"port", "stop", "erp"}},
		"port-start":         {quietNode(), []string{"port", "start", "erp"}},
		"status-stopped":     {haltedNode(), []string{"status"}},
		"route-test":         {quietNode(), []string{"route", "test", "--location", "supplier-orders"}},
		"route-test-json":    {quietNode(), []string{"route", "test", "--location", "supplier-orders", "-o", "json"}},
		"route-nowhere":      {&fakeNode{route: api.RouteReply{Reason: "there are no routes"}}, []string{"route", "test", "--location", "x"}},
		"events-of-a-kind":   {quietNode(), []string{"events", "--kind", "deployed"}},
		"adapter-list":       {quietNode(), []string{"adapter", "list"}},
		"adapter-describe":   {quietNode(), []string{"adapter", "describe", "ftp"}},
		"adapter-broken":     {quietNode(), []string{"adapter", "describe", "broken"}},
		"events":             {quietNode(), []string{"events"}},
		"events-after":       {quietNode(), []string{"events", "--after", "12", "-o", "json"}},
		"deploy":             {quietNode(), []string{"deploy", app}},
		"deploy-dry-run":     {quietNode(), []string{"deploy", app, "--dry-run"}},
		"deploy-unchanged":   {&fakeNode{reply: api.DeployReply{Version: 7}}, []string{"deploy", app}},
	} {
		t.Run(name, func(t *testing.T) {
			r := fairlead(t, append(tt.args, "--address", serve(t, tt.node))...)
			if r.code != exitDone {
				t.Fatalf("exit status %d: %s", r.code, r.err)
			}
			golden(t, name, r.out)
		})
	}
}

func TestYAMLAndJSONSayTheSame(t *testing.T) {
	node := troubledNode()
	node.status.Cluster.Name = "true" // must stay a string
	node.status.Hosts[0].Epoch = 1<<63 + 1
	address := serve(t, node)
	var asJSON, asYAML any
	if err := json.Unmarshal([]byte(fairlead(t, "status", "-o", "json", "--address", address).out), &asJSON); err != nil {
		t.Fatal(err)
	}
	out := fairlead(t, "status", "-o", "yaml", "--address", address).out
	if err := yaml.Unmarshal([]byte(out), &asYAML); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(asYAML)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(asJSON)
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(again, &got); err != nil {
		t.Fatal(err)
	}
	if again, _ = json.Marshal(got); string(again) != string(want) {
		t.Errorf("got\n%s\nwant\n%s", again, want)
	}
	if !strings.Contains(out, "9223372036854775809") {
		t.Error("a large number lost digits")
	}
}

func TestWhatIsSentToTheNode(t *testing.T) {
	node := quietNode()
	address := serve(t, node)
	fairlead(t, "host", "move", "intake", "node-b", "--address", address)
	fairlead(t, "host", "move", "intake", "--address", address)
	if got := strings.Join(node.moved, ", "); got != "intake to node-b, intake to " {
		t.Errorf("moved %q", got)
	}
	fairlead(t, "message", "list", "--state", "in-doubt", "--address", address)
	if node.asked.State != "in-doubt" {
		t.Errorf("asked for messages in state %q", node.asked.State)
	}
	r := fairleadIn(t, environment{in: strings.NewReader("hosts: {}")}, "deploy", "-", "--dry-run", "--address", address)
	want := api.DeployRequest{Name: "stdin.yaml", Source: "hosts: {}", DryRun: true}
	if len(node.deployed) != 1 || node.deployed[0] != want {
		t.Errorf("deployed %+v, want %+v", node.deployed, want)
	}
	if !strings.Contains(r.err, "warning: send port archive is used by no route") {
		t.Errorf("the warning is not on stderr: %q", r.err)
	}
}

func TestExitStatus(t *testing.T) {
	good := serve(t, quietNode())
	failing := func(err error) string { return serve(t, &fakeNode{err: err}) }
	outside := quietNode()
	outside.err = api.Conflict("location supplier-orders is outside its window until 06:00")
	closed := serve(t, outside)
	nobody := "unix:" + filepath.Join(t.TempDir(), "none")
	for name, tt := range map[string]struct {
		args []string
		code int
		says string
	}{
		"done":                 {[]string{"status", "--address", good}, 0, ""},
		"inner error":          {[]string{"status", "--address", failing(errors.New("boom"))}, 1, "its log says why"},
		"not possible now":     {[]string{"host", "move", "x", "--address", failing(api.Conflict("host x is not clustered"))}, 1, "not clustered"},
		"time is up":           {[]string{"status", "--address", failing(context.DeadlineExceeded)}, 1, "look at the status"},
		"no command":           {[]string{}, 2, "say which command"},
		"unknown command":      {[]string{"statsu"}, 2, "did you mean status?"},
		"group alone":          {[]string{"host"}, 2, "say which command"},
		"unknown in group":     {[]string{"host", "mvoe"}, 2, "did you mean move?"},
		"unknown flag":         {[]string{"status", "--adress", "x"}, 2, "usage: fairlead status"},
		"missing argument":     {[]string{"host", "show"}, 2, "usage: fairlead host show HOST"},
		"surplus argument":     {[]string{"status", "x"}, 2, "unknown command"},
		"unknown output":       {[]string{"status", "-o", "xml"}, 2, "table, json, yaml"},
		"negative timeout":     {[]string{"status", "--timeout", "-1s"}, 2, "timeout"},
		"address that is none": {[]string{"status", "--address", "ftp://x"}, 2, "unix:/path"},
		"unknown state":        {[]string{"message", "list", "--state", "lost"}, 2, "suspended, in-doubt"},
		"no such location":     {[]string{"location", "show", "x", "--address", good}, 4, `no receive location "x"; there is supplier-orders`},
		"stop no location":     {[]string{"location", "stop", "x", "--address", good}, 4, "no receive location"},
		"poll in vain":         {[]string{"location", "poll", "supplier-orders", "--address", closed}, 1, "outside its window"},
		"no such port":         {[]string{"port", "show", "x", "--address", good}, 4, `no send port "x"; there is erp`},
		"start no port":        {[]string{"port", "start", "x", "--address", good}, 4, "no send port"},
		"group location alone": {[]string{"location"}, 2, "say which command"},
		"group port alone":     {[]string{"port"}, 2, "say which command"},
		"group route alone":    {[]string{"route"}, 2, "say which command"},
		"poll a port":          {[]string{"port", "poll", "erp"}, 2, "unknown command"},
		"no such message":      {[]string{"message", "show", "0199ffff", "--address", good}, 4, "no message begins with 0199ffff"},
		"ID too short":         {[]string{"message", "show", "0199", "--address", good}, 2, "first 8 characters"},
		"wrong condition":      {[]string{"message", "list", "--where", "port == 1"}, 2, "known are id, location"},
		"unknown kind":         {[]string{"events", "--kind", "item-lost"}, 2, "item-suspended"},
		"since tomorrow":       {[]string{"message", "list", "--since", "tomorrow"}, 2, "want how long ago"},
		"limit too high":       {[]string{"message", "list", "--limit", "20000"}, 2, "want 1 to 10000"},
		"route of nothing":     {[]string{"route", "test"}, 2, "--location with --context, or --message"},
		"context of no value":  {[]string{"route", "test", "--location", "x", "--context", "ftp.name"}, 2, "want NAME=VALUE"},
		"context given twice":  {[]string{"route", "test", "--location", "x", "--context", "a=1", "--context", "a=2"}, 2, "each name once"},
		"route of no file":     {[]string{"route", "test", "--location", "x", "-f", "/nonexistent.yaml"}, 2, "no such file"},
		"route of empty file":  {[]string{"route", "test", "--location", "x", "-f", "-"}, 2, "is empty"},
		"route of no context":  {[]string{"route", "test", "--message", settledID, "--address", good}, 1, "is not kept"},
		"route of wrong file":  {[]string{"route", "test", "--location", "x", "--address", failing(api.Invalid("app.yaml:1:1: unknown key"))}, 2, "app.yaml:1:1: unknown key"},
		"file that is missing": {[]string{"deploy", "/nonexistent.yaml"}, 2, "no such file"},
		"wrong deployment":     {[]string{"deploy", "-", "--address", good}, 2, "source is empty"},
		"fast watch":           {[]string{"status", "--watch", "--interval", "1ms", "--address", good}, 2, "at least 100ms"},
		"nobody there":         {[]string{"status", "--address", nobody}, 3, "is `fairlead run` running there?"},
		"no event stream":      {[]string{"events", "--follow", "--address", nobody}, 3, "is `fairlead run` running there?"},
		"no quorum":            {[]string{"status", "--address", failing(api.Unavailable("no leader: 1 of 3 nodes is here"))}, 3, "1 of 3"},
		"no such host":         {[]string{"host", "show", "x", "--address", good}, 4, `no host "x"`},
		"group node alone":     {[]string{"node"}, 2, "say which command"},
		"no node named":        {[]string{"node", "drain"}, 2, "usage: fairlead node drain NODE"},
		"events of tomorrow":   {[]string{"events", "--since", "-1h", "--address", good}, 2, "how long ago"},
		"order without quorum": {[]string{"node", "pause", "node-a", "--address", failing(api.Unavailable("no leader: 1 of 3"))}, 3, "1 of 3"},
		"order to no node":     {[]string{"node", "resume", "x", "--address", failing(api.NotFound("no node x"))}, 4, "no node x"},
		"order to no host":     {[]string{"host", "stop", "x", "--address", good}, 4, `no host "x"`},
		"remove a live node":   {[]string{"node", "remove", "node-a", "--address", failing(api.Conflict("node-a is alive: stop it first"))}, 1, "stop it first"},
		"no such adapter":      {[]string{"adapter", "describe", "x", "--address", good}, 4, `no adapter "x"`},
	} {
		t.Run(name, func(t *testing.T) {
			r := fairlead(t, tt.args...)
			if r.code != tt.code {
				t.Errorf("exit status %d, want %d", r.code, tt.code)
			}
			if !strings.Contains(r.err, tt.says) {
				t.Errorf("stderr %q does not say %q", r.err, tt.says)
			}
			if tt.code != 0 && r.out != "" {
				t.Errorf("an error wrote to stdout: %q", r.out)
			}
		})
	}
}

func TestFindingsOfTheClusterArePrintedWithTheirPlace(t *testing.T) {
	address := serve(t, &fakeNode{err: api.Invalid("app.yaml:3:5: hosts.x: unknown key", "app.yaml:9:1: wrong\x1b[2J")})
	r := fairleadIn(t, environment{in: strings.NewReader("x: 1")}, "deploy", "-", "--address", address)
	want := "app.yaml:3:5: hosts.x: unknown key\napp.yaml:9:1: wrong\uFFFD[2J\nfairlead: the input has 2 problems; nothing was changed\n"
	if r.code != exitWrong || r.err != want {
		t.Errorf("exit status %d, stderr %q, want %q", r.code, r.err, want)
	}
}

func TestAddressComesFromFlagThenEnvironment(t *testing.T) {
	address := serve(t, quietNode())
	env := environment{getenv: func(name string) string {
		if name == addressEnv {
			return address
		}
		return ""
	}}
	if r := fairleadIn(t, env, "status"); r.code != exitDone {
		t.Errorf("by environment: exit status %d: %s", r.code, r.err)
	}
	if r := fairleadIn(t, env, "status", "--address", "unix:/nonexistent/s"); r.code != exitUnreachable {
		t.Errorf("the flag does not win: exit status %d", r.code)
	}
	if r := fairlead(t, "status", "--timeout", "5s"); r.code != exitUnreachable || !strings.Contains(r.err, "/run/fairlead/fairlead.sock") {
		t.Errorf("default address: exit status %d: %s", r.code, r.err)
	}
}

func TestColourOnlyOnATerminalThatWantsIt(t *testing.T) {
	address := serve(t, troubledNode())
	no := func(name string) func(string) string {
		return func(asked string) string {
			if asked == name {
				return map[string]string{"NO_COLOR": "1", "TERM": "dumb"}[name]
			}
			return ""
		}
	}
	for name, tt := range map[string]struct {
		env    environment
		colour bool
	}{
		"terminal":      {environment{terminal: true}, true},
		"pipe":          {environment{}, false},
		"NO_COLOR":      {environment{terminal: true, getenv: no("NO_COLOR")}, false},
		"dumb terminal": {environment{terminal: true, getenv: no("TERM")}, false},
	} {
		r := fairleadIn(t, tt.env, "status", "--address", address)
		if got := strings.Contains(r.out, "\x1b["); got != tt.colour {
			t.Errorf("%s: colour is %v, want %v", name, got, tt.colour)
		}
		if strings.Contains(r.out, "incorrect\x1b[31m") {
			t.Errorf("%s: an escape sequence of a foreign server came through", name)
		}
	}
}

func TestFollowedEventsComeAsTheyHappen(t *testing.T) {
	node := quietNode()
	out := &lines{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	args := []string{"events", "--follow", "-o", "json", "--address", serve(t, node)}
	go func() {
		ended <- run(ctx, args, environment{in: strings.NewReader(""), out: out, err: io.Discard, getenv: func(string) string { return "" }})
	}()
	node.live <- api.Event{Index: 41, Kind: "node-expired", Node: "node-a", Text: "node-a expired"}
	out.await(t, 4)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("interrupted follow ended with %v", err)
	}
	for i, want := range []uint64{12, 40, 40, 41} {
		var e api.Event
		if err := json.Unmarshal([]byte(out.all()[i]), &e); err != nil || e.Index != want {
			t.Errorf("line %d is %q (%v), want event %d", i, out.all()[i], err, want)
		}
	}
}

func TestWatchShowsAnUnreachableNodeAndGoesOn(t *testing.T) {
	out := &lines{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	args := []string{"status", "--watch", "--interval", "100ms", "--address", "unix:" + filepath.Join(t.TempDir(), "s")}
	go func() {
		ended <- run(ctx, args, environment{in: strings.NewReader(""), out: out, err: io.Discard, getenv: func(string) string { return "" }})
	}()
	out.await(t, 4)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("interrupted watch ended with %v", err)
	}
	if got := strings.Count(strings.Join(out.all(), "\n"), "cannot reach the node"); got < 2 {
		t.Errorf("the failure was shown %d times, want at least 2", got)
	}
}

func TestVersionNamesBuildAndPlatform(t *testing.T) {
	r := fairlead(t, "version", "-o", "json")
	var v api.Version
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || v.Version == "" || v.Go == "" || v.Platform == "" {
		t.Errorf("got %q: %v", r.out, err)
	}
	if r := fairlead(t, "--version"); r.code != exitDone || !strings.Contains(r.out, v.Version) {
		t.Errorf("--version: exit status %d, %q", r.code, r.out)
	}
}

func TestCompletionKnowsCommandsAndStates(t *testing.T) {
	if r := fairlead(t, "completion", "bash"); r.code != exitDone || !strings.Contains(r.out, "fairlead") {
		t.Errorf("bash: exit status %d: %s", r.code, r.err)
	}
	if r := fairlead(t, "__complete", "message", "list", "--state", ""); !strings.Contains(r.out, "in-doubt") {
		t.Errorf("states are not completed: %q", r.out)
	}
	if r := fairlead(t, "completion", "csh"); r.code != exitWrong {
		t.Errorf("unknown shell: exit status %d", r.code)
	}
}

// lines collects what is written and can be waited for.
type lines struct {
	mu  sync.Mutex
	got string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got += string(p)
	return len(p), nil
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.got, "\n"), "\n")
}

// awaitText waits until text was written.
func (l *lines) awaitText(t *testing.T, text string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	timeout := time.After(20 * time.Second)
	for !strings.Contains(strings.Join(l.all(), "\n"), text) {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("not written in 20 s: %q; but %q", text, l.all())
		}
	}
}

func (l *lines) await(t *testing.T, n int) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	timeout := time.After(20 * time.Second)
	for len(l.all()) < n {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("%d lines in 20 s, want %d: %q", len(l.all()), n, l.all())
		}
	}
}
