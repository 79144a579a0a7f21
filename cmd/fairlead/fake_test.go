package main

import (
	"context"
	"encoding/json"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead-io/fairlead/runtime/api"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	time.Local = time.UTC // golden files show times
	goleak.VerifyTestMain(m)
}

// fakeNode answers with what a test put in; err, if set, is every answer.
type fakeNode struct {
	status   api.Status
	host     api.HostStatus
	messages []api.Message
	adapters []api.Adapter
	events   []api.Event
	reply    api.DeployReply
	err      error

	explain  []string
	nodeDone api.NodeReply
	// drained, if not nil, is waited for by a drain, within its context.
	drained <-chan struct{}

	mu       sync.Mutex
	orders   []string
	deployed []api.DeployRequest
	moved    []string
	asked    api.MessageFilter
	messaged []string
	tested   []api.RouteRequest
	route    api.RouteReply
	done     api.OrderReply
	// truncated says that there are more messages.
	truncated bool
	live      chan api.Event
}

var (
	_ api.Backend  = (*fakeNode)(nil)
	_ api.Exchange = (*fakeNode)(nil)
)

func (f *fakeNode) Status(context.Context) (*api.Status, error) { return &f.status, f.err }

func (f *fakeNode) Host(_ context.Context, name string) (*api.HostStatus, error) {
	if name != f.host.Name {
		return nil, api.NotFound("no host %q; there are intake, outbound", name)
	}
	return &f.host, f.err
}

func (f *fakeNode) MoveHost(_ context.Context, name, to string) (*api.MoveReply, error) {
	f.moved = append(f.moved, name+" to "+to)
	return &api.MoveReply{Group: "edi", From: "node-a", To: "node-b", Epoch: 5}, f.err
}

func (f *fakeNode) SetNode(ctx context.Context, name, order string) (*api.NodeReply, error) {
	f.ordered("node " + name + " " + order)
	if f.err != nil {
		return nil, f.err
	}
	if f.drained != nil {
		select {
		case <-f.drained:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &f.nodeDone, nil
}

func (f *fakeNode) SetHost(ctx context.Context, name, order string) (*api.HostStatus, error) {
	f.ordered("host " + name + " " + order)
	return f.Host(ctx, name)
}

func (f *fakeNode) ordered(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.orders = append(f.orders, what)
}

func (f *fakeNode) given() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.orders)
}

func (f *fakeNode) Explain(context.Context, string) ([]string, error) { return f.explain, f.err }

func (f *fakeNode) Messages(_ context.Context, filter api.MessageFilter) (*api.MessageList, error) {
	f.asked = filter
	found := &api.MessageList{Truncated: f.truncated}
	m, err := filter.Matcher()
	if err != nil {
		return nil, err
	}
	for i := range f.messages {
		if matches, err := m.Matches(&f.messages[i]); err != nil {
			return nil, err
		} else if matches {
			found.Messages = append(found.Messages, f.messages[i])
		}
	}
	return found, f.err
}

func (f *fakeNode) Message(_ context.Context, id string) (*api.Message, error) {
	for i := range f.messages {
		if f.messages[i].ID == id {
			return &f.messages[i], f.err
		}
	}
	return nil, api.NotFound("no message %s", id)
}

func (f *fakeNode) ResumeMessages(_ context.Context, o api.MessageOrder) (*api.OrderReply, error) {
	return f.carryOut("resume", o)
}

func (f *fakeNode) DiscardMessages(_ context.Context, o api.MessageOrder) (*api.OrderReply, error) {
	return f.carryOut("discard", o)
}

func (f *fakeNode) carryOut(verb string, o api.MessageOrder) (*api.OrderReply, error) {
	text := verb + " " + strings.Join(o.IDs, ",")
	if o.Filter != nil {
		text += "all of " + o.Filter.Location + " " + o.Filter.Port + " " + o.Filter.Where
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.messaged = append(f.messaged, strings.TrimSpace(text+" to "+o.Port))
	return &f.done, f.err
}

// messagesGiven are the orders about messages.
func (f *fakeNode) messagesGiven() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.messaged)
}

func (f *fakeNode) Location(_ context.Context, name string) (*api.LocationStatus, error) {
	for i := range f.status.ReceiveLocations {
		if f.status.ReceiveLocations[i].Name == name {
			return &f.status.ReceiveLocations[i], f.err
		}
	}
	return nil, api.NotFound("no receive location %q; there is supplier-orders", name)
}

func (f *fakeNode) SetLocation(ctx context.Context, name, order string) (*api.LocationStatus, error) {
	f.ordered("location " + name + " " + order)
	return f.Location(ctx, name)
}

func (f *fakeNode) Port(_ context.Context, name string) (*api.PortStatus, error) {
	for i := range f.status.SendPorts {
		if f.status.SendPorts[i].Name == name {
			return &f.status.SendPorts[i], f.err
		}
	}
	return nil, api.NotFound("no send port %q; there is erp", name)
}

func (f *fakeNode) SetPort(ctx context.Context, name, order string) (*api.PortStatus, error) {
	f.ordered("port " + name + " " + order)
	return f.Port(ctx, name)
}

func (f *fakeNode) TestRoute(_ context.Context, r api.RouteRequest) (*api.RouteReply, error) {
	f.tested = append(f.tested, r)
	return &f.route, f.err
}

func (f *fakeNode) Adapters(context.Context) ([]api.Adapter, error) { return f.adapters, f.err }

func (f *fakeNode) Adapter(_ context.Context, name string) (*api.Adapter, error) {
	for i := range f.adapters {
		if f.adapters[i].Name == name {
			return &f.adapters[i], f.err
		}
	}
	return nil, api.NotFound("no adapter %q", name)
}

func (f *fakeNode) Deploy(_ context.Context, r api.DeployRequest) (*api.DeployReply, error) {
	f.deployed = append(f.deployed, r)
	return &f.reply, f.err
}

func (f *fakeNode) Events(_ context.Context, after uint64) ([]api.Event, error) {
	var later []api.Event
	for _, e := range f.events {
		if e.Index > after {
			later = append(later, e)
		}
	}
	return later, f.err
}

func (f *fakeNode) FollowEvents(ctx context.Context, _ uint64, each func(api.Event) error) error {
	for {
		select {
		case e := <-f.live:
			if err := each(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *fakeNode) Ready(context.Context) error { return f.err }

// quietNode is a cluster in which nothing is wrong.
func quietNode() *fakeNode {
	adapters := []api.AdapterStatus{{Name: "ftp", Version: "1.0.0"}, {Name: "queue", Version: "1.0.0"}}
	return &fakeNode{
		live: make(chan api.Event),
		status: api.Status{
			Cluster: api.ClusterStatus{Name: "edi", ID: "0199a0b0-0000-7000-8000-00000000c1d5", Leader: "node-b", Quorum: true, Deployment: 7,
				Voters: []string{"node-a", "node-b", "node-c"}},
			Nodes: []api.NodeStatus{
				{Name: "node-a", Role: "member", State: "alive", Incarnation: "i1", Version: "0.1.0", LeaseMS: 1400, Adapters: adapters, Voter: true, Owns: []string{"edi"}},
				{Name: "node-b", Role: "member", State: "alive", Incarnation: "i2", Version: "0.1.0", LeaseMS: 1250, Adapters: adapters, Voter: true},
				{Name: "node-c", Role: "witness", State: "alive", Incarnation: "i3", Version: "0.1.0", Adapters: []api.AdapterStatus{}, Voter: true},
			},
			Hosts: []api.HostStatus{
				{Name: "intake", Group: "edi", Clustered: true, Owner: "node-a", Epoch: 4, State: "running", Reason: "preferred owner"},
				{Name: "outbound", Group: "outbound", State: "running"},
			},
			ReceiveLocations: []api.LocationStatus{
				{Name: "supplier-orders", Host: "intake", Adapter: "ftp", Node: "node-a", State: "idle", Received: 812, LastItem: "order-812.edi"},
			},
			SendPorts: []api.PortStatus{{Name: "erp", Host: "outbound", Adapter: "queue", State: "ready", Sent: 812}},
		},
		host: api.HostStatus{Name: "intake", Group: "edi", Clustered: true, Owner: "node-a", Epoch: 4, State: "running", Reason: "preferred owner",
			Pinned: "node-a", Failures: 1, Standby: "node-b (warm)", Since: at(1763812860), LastOwner: "node-b",
			Handlers: []api.HandlerStatus{{Adapter: "ftp", Node: "node-a", PID: 4711, State: "running", Restarts: 1, Error: "exited: signal: killed"}}},
		messages: []api.Message{
			{ID: suspendedID, Location: "supplier-orders", Key: "/out/order-7.edi|120|1763812800", Name: "order-7.edi", Size: 120, Node: "node-a",
				State: api.MessageSuspended, Pending: []string{"erp", "archive"}, Delivered: []string{}, Reason: "550 no such stream",
				Since: time.Unix(1763812860, 0).UTC(), Received: at(1763812800),
				Where:    "at its source, unchanged when it was last looked at",
				Attempts: []api.Attempt{{At: time.Unix(1763812801, 0).UTC(), Port: "erp", Error: "550 no such stream"}},
				Context:  map[string]string{"ftp.name": "order-7.edi", "fairlead.location": "supplier-orders"},
				History: []api.Step{
					{At: time.Unix(1763812800, 0).UTC(), Kind: api.StepReceived, Node: "node-a", Size: 120},
					{At: time.Unix(1763812801, 0).UTC(), Kind: api.StepFailed, Node: "node-a", Port: "erp", Attempt: 1, Text: "550 no such stream"},
					{At: time.Unix(1763812860, 0).UTC(), Kind: api.StepSuspended, Node: "node-a", Text: "550 no such stream"},
				}},
			{ID: settledID, Location: "supplier-orders", Key: "/out/order-6.edi|80|1763812700", Name: "order-6.edi", State: api.MessageSettled,
				Delivered: []string{"erp"}, Since: time.Unix(1763812702, 0).UTC(), Settled: at(1763812702)},
		},
		route: api.RouteReply{To: []string{"archive"}, Reason: "1 of 3 routes matches", Rules: []api.RouteRule{
			{Index: 0, Name: "orders", When: `context["ftp.name"].endsWith(".edi")`, To: []string{"erp", "archive"}},
			{Index: 1, When: `context["mail.from"] == "x"`, To: []string{"erp"}, Error: "the message has no property mail.from"},
			{Index: 2, Name: "rest", To: []string{"archive"}, Matched: true},
		}},
		done: api.OrderReply{Done: 1},
		adapters: []api.Adapter{
			{Name: "broken", Path: "/usr/lib/fairlead/adapters/fairlead-adapter-broken", Error: "adapter broken: not executable"},
			{Name: "ftp", Version: "1.0.0", Summary: "Files on an FTP server.", Path: "/usr/lib/fairlead/adapters/fairlead-adapter-ftp",
				Receive: &api.AdapterSide{Exclusive: true, Schema: json.RawMessage(ftpSchema)},
				Send:    &api.AdapterSide{Probes: true, Schema: json.RawMessage(`{"type":"object","properties":{}}`)}},
		},
		events: []api.Event{
			{Index: 12, At: time.Unix(1763812800, 0), Kind: "deployed", Text: "deployment 7"},
			{Index: 40, At: time.Unix(1763812860, 0), Kind: "node-expired", Node: "node-b", Cause: "lease", Text: "lease ran out"},
			{Index: 40, At: time.Unix(1763812860, 0), Kind: "group-owned", Group: "edi", From: "node-b", To: "node-a", Epoch: 4, Cause: "lease",
				GapMS: milliseconds(1240), Text: "preferred owner"},
		},
		explain:  []string{"node-a: owns it", "node-b: may own it", "node-c: a witness owns nothing"},
		nodeDone: api.NodeReply{Node: "node-a", State: "draining", Moved: []string{"edi", "mail"}},
		reply:    api.DeployReply{Version: 8, Changed: true, Warnings: []string{"send port archive is used by no route"}},
	}
}

const (
	suspendedID = "0199a0b0-0000-7000-8000-000000000001"
	settledID   = "0199a0b1-0000-7000-8000-000000000002"
)

func at(unix int64) *time.Time {
	t := time.Unix(unix, 0).UTC()
	return &t
}

func milliseconds(n int64) *int64 { return &n }

const ftpSchema = `{"type":"object","required":["address"],"properties":{
  "address":{"type":"string","description":"Server, as host:port."},
  "password":{"type":"string","writeOnly":true,"description":"Password of the user."},
  "tls":{"type":"string","enum":["none","explicit","implicit"],"default":"none"},
  "timeout":{"type":"string","default":"30s","description":"Longest silence of the server.","examples":["30s","5m"]},
  "port_range":{"type":"object","description":"Local ports.","required":["from"],"properties":{"from":{"type":"integer","minimum":1024,"maximum":65535}}},
  "patterns":{"type":"array","items":{"type":"string"},"default":["*"]}}}`

// troubledNode is the same cluster in a bad night.
func troubledNode() *fakeNode {
	f := quietNode()
	f.status.Nodes[0].State, f.status.Nodes[0].LeaseMS, f.status.Nodes[0].Owns = "dead", 0, nil
	f.status.Nodes[1].State, f.status.Nodes[1].Reason = "quarantined", "expired 5 times in 10 minutes: fairlead node resume node-b"
	f.status.Hosts[0] = api.HostStatus{Name: "intake", Group: "edi", Clustered: true, Epoch: 5, State: "unowned", Reason: "node-b: adapter ftp 1.0.0 missing"}
	f.status.Hosts = append(f.status.Hosts, api.HostStatus{Name: "mail", Group: "mail", Clustered: true, Epoch: 9, State: "failed",
		Reason: "2 failovers in 6h0m0s", Failures: 2, FailedUntil: at(1763816400), LastOwner: "node-b"})
	l := &f.status.ReceiveLocations[0]
	l.State, l.Node, l.InDoubt, l.Suspended, l.LastError = "backing-off", "", 2, 1, "530 login incorrect\x1b[31m\nsecond line"
	l.Settling, l.Held, l.NextPoll, l.Window = 3, 5, at(1763812890), "closes at 22:00 (Europe/Paris)"
	p := &f.status.SendPorts[0]
	p.State, p.Retrying, p.LastError = "backing-off", 3, "dial tcp 10.0.0.21:4222: connection refused"
	p.Down, p.DownSince, p.RetryAt, p.Rate = true, at(1763812800), at(1763812860), "50/s"
	return f
}

// haltedNode is the quiet cluster with its endpoints stopped by order.
func haltedNode() *fakeNode {
	f := quietNode()
	l, p := &f.status.ReceiveLocations[0], &f.status.SendPorts[0]
	l.State, l.Stopped = "stopped", true
	p.State, p.Stopped = "stopped", true
	return f
}

// isolatedNode is one of three, alone.
func isolatedNode() *fakeNode {
	f := quietNode()
	f.status.Cluster.Quorum, f.status.Cluster.Leader = false, ""
	f.status.Cluster.QuorumText = "1 of 3 voters is here, 2 are needed: node-b and node-c do not answer since 12:01"
	return f
}

// serve makes an API server of the node and returns its address.
func serve(t *testing.T, b api.Backend) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := api.NewServer(b, api.Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	socket := filepath.Join(dir, "s")
	if err := s.Start(socket, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return "unix:" + socket
}

// result is what a command line left behind.
type result struct {
	out, err string
	code     int
}

// fairlead runs one command line as main does, without a terminal.
func fairlead(t *testing.T, args ...string) result {
	t.Helper()
	return fairleadIn(t, environment{}, args...)
}

func fairleadIn(t *testing.T, env environment, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out, errs strings.Builder
	if env.in == nil {
		env.in = strings.NewReader("")
	}
	if env.getenv == nil {
		env.getenv = func(string) string { return "" }
	}
	env.out, env.err = &out, &errs
	code := report(&errs, run(ctx, args, env))
	return result{out.String(), errs.String(), code}
}

// golden compares got with testdata/NAME.golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}
