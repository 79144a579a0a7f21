package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeBackend answers with what a test put in; err, if set, is every answer.
type fakeBackend struct {
	status   Status
	messages []Message
	adapters []Adapter
	events   []Event
	err      error
	ready    error
	// hold, if set, makes Status wait for it or for the end of its context.
	hold    <-chan struct{}
	waiting atomic.Int32

	mu       sync.Mutex
	deployed []DeployRequest
	moved    []MoveRequest
	asked    []MessageFilter
	resumed  []MessageOrder
	given    []MessageOrder // to discard
	tested   []RouteRequest
	// orders are those given, as "node NAME ORDER"; patience is how long the context
	// of the last one lasts.
	orders   []string
	patience time.Duration
	// live is what followers get after the events; closing it ends the stream.
	live chan Event
	// following counts the streams under way.
	following int
}

var (
	_ Backend  = (*fakeBackend)(nil)
	_ Exchange = (*fakeBackend)(nil)
)

func (f *fakeBackend) Status(ctx context.Context) (*Status, error) {
	if f.hold != nil {
		f.waiting.Add(1)
		select {
		case <-f.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &f.status, f.err
}

func (f *fakeBackend) Host(_ context.Context, name string) (*HostStatus, error) {
	for i := range f.status.Hosts {
		if f.status.Hosts[i].Name == name {
			return &f.status.Hosts[i], f.err
		}
	}
	return nil, NotFound("no host %q", name)
}

func (f *fakeBackend) MoveHost(_ context.Context, name, to string) (*MoveReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.moved = append(f.moved, MoveRequest{To: to})
	return &MoveReply{Group: name, From: "node-a", To: to, Epoch: 5}, f.err
}

func (f *fakeBackend) SetNode(ctx context.Context, name, order string) (*NodeReply, error) {
	f.ordered(ctx, "node "+name+" "+order)
	if f.err != nil {
		return nil, f.err
	}
	return &NodeReply{Node: name, State: "draining"}, nil
}

func (f *fakeBackend) SetHost(ctx context.Context, name, order string) (*HostStatus, error) {
	f.ordered(ctx, "host "+name+" "+order)
	if f.err != nil {
		return nil, f.err
	}
	return f.Host(ctx, name)
}

func (f *fakeBackend) ordered(ctx context.Context, what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.orders = append(f.orders, what)
	end, _ := ctx.Deadline()
	f.patience = time.Until(end)
}

func (f *fakeBackend) Explain(_ context.Context, host string) ([]string, error) {
	if host != "intake" {
		return nil, NotFound("no host %q", host)
	}
	return []string{"node-a: owns it", "node-b: adapter ftp 1.0.0 missing"}, f.err
}

func (f *fakeBackend) Messages(_ context.Context, filter MessageFilter) (*MessageList, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, filter)
	if f.err != nil {
		return nil, f.err
	}
	matcher, err := filter.Matcher()
	if err != nil {
		return nil, err
	}
	found := &MessageList{}
	for i := range f.messages {
		matches, err := matcher.Matches(&f.messages[i])
		if err != nil {
			return nil, err
		}
		if matches && len(found.Messages) == matcher.Filter.Limit {
			found.Truncated = true
		} else if matches {
			found.Messages = append(found.Messages, f.messages[i])
		}
	}
	return found, nil
}

func (f *fakeBackend) Message(_ context.Context, id string) (*Message, error) {
	for i := range f.messages {
		if f.messages[i].ID == id {
			return &f.messages[i], f.err
		}
	}
	return nil, NotFound("no message %s", id)
}

func (f *fakeBackend) ResumeMessages(_ context.Context, o MessageOrder) (*OrderReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resumed = append(f.resumed, o)
	return &OrderReply{Done: 2}, f.err
}

func (f *fakeBackend) DiscardMessages(_ context.Context, o MessageOrder) (*OrderReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.given = append(f.given, o)
	return &OrderReply{Done: 1, Skipped: []SkippedMessage{{ID: idB, Reason: "it is in flight"}}}, f.err
}

func (f *fakeBackend) Location(_ context.Context, name string) (*LocationStatus, error) {
	for i := range f.status.ReceiveLocations {
		if f.status.ReceiveLocations[i].Name == name {
			return &f.status.ReceiveLocations[i], f.err
		}
	}
	return nil, NotFound("no receive location %q", name)
}

func (f *fakeBackend) SetLocation(ctx context.Context, name, order string) (*LocationStatus, error) {
	f.ordered(ctx, "location "+name+" "+order)
	return f.Location(ctx, name)
}

func (f *fakeBackend) Port(_ context.Context, name string) (*PortStatus, error) {
	for i := range f.status.SendPorts {
		if f.status.SendPorts[i].Name == name {
			return &f.status.SendPorts[i], f.err
		}
	}
	return nil, NotFound("no send port %q", name)
}

func (f *fakeBackend) SetPort(ctx context.Context, name, order string) (*PortStatus, error) {
	f.ordered(ctx, "port "+name+" "+order)
	return f.Port(ctx, name)
}

func (f *fakeBackend) TestRoute(_ context.Context, r RouteRequest) (*RouteReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tested = append(f.tested, r)
	return &RouteReply{Rules: []RouteRule{{Index: 0, When: "false"}}, Reason: "no route matches"}, f.err
}

func (f *fakeBackend) Adapters(context.Context) ([]Adapter, error) { return f.adapters, f.err }

func (f *fakeBackend) Adapter(_ context.Context, name string) (*Adapter, error) {
	for i := range f.adapters {
		if f.adapters[i].Name == name {
			return &f.adapters[i], f.err
		}
	}
	return nil, NotFound("no adapter %q", name)
}

func (f *fakeBackend) Deploy(_ context.Context, r DeployRequest) (*DeployReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deployed = append(f.deployed, r)
	return &DeployReply{Version: 8, Changed: true, Warnings: []string{"w"}}, f.err
}

func (f *fakeBackend) Events(_ context.Context, after uint64) ([]Event, error) {
	var later []Event
	for _, e := range f.events {
		if e.Index > after {
			later = append(later, e)
		}
	}
	return later, f.err
}

func (f *fakeBackend) FollowEvents(ctx context.Context, after uint64, each func(Event) error) error {
	f.count(+1)
	defer f.count(-1)
	past, _ := f.Events(ctx, after)
	for _, e := range past {
		if err := each(e); err != nil {
			return err
		}
	}
	for {
		select {
		case e, ok := <-f.live:
			if !ok {
				return f.err
			}
			if err := each(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *fakeBackend) count(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.following += n
}

func (f *fakeBackend) followers() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.following
}

func (f *fakeBackend) Ready(context.Context) error { return f.ready }

// The first eight characters of idA and idB are the same.
const (
	idA = "0199a0b0-0000-7000-8000-00000000000a"
	idB = "0199a0b0-0000-7000-8000-00000000000b"
	idC = "0199a0b1-0000-7000-8000-00000000000c"
)

// sample is a backend with one of everything.
func sample() *fakeBackend {
	return &fakeBackend{
		status: Status{
			Cluster:          ClusterStatus{Name: "edi", ID: "c1", Leader: "node-b", Quorum: true, Deployment: 7, Voters: []string{"node-a"}},
			Nodes:            []NodeStatus{{Name: "node-a", Role: "member", State: "alive", LeaseMS: 1400, Adapters: []AdapterStatus{{"ftp", "1.0.0"}}, Voter: true, Owns: []string{"edi"}}},
			ReceiveLocations: []LocationStatus{{Name: "supplier", Suspended: 1}},
			SendPorts:        []PortStatus{{Name: "erp", Sent: 3}},
			Hosts:            []HostStatus{{Name: "intake", Group: "edi", Clustered: true, Owner: "node-a", Epoch: 4, State: "running"}},
		},
		messages: []Message{
			{ID: idA, Location: "supplier", Key: "k", State: MessageSuspended, Pending: []string{"erp"}, Delivered: []string{},
				Attempts: []Attempt{{At: time.Unix(1763812900, 0).UTC(), Port: "erp", Error: "refused"}}},
			{ID: idB, Location: "supplier", Key: "l", State: MessageInFlight, Pending: []string{"erp"}, Delivered: []string{}, Attempts: []Attempt{}},
			{ID: idC, Location: "mail", Key: "m", State: MessageSettled, Pending: []string{}, Delivered: []string{"archive"}, Attempts: []Attempt{}},
		},
		adapters: []Adapter{{Name: "ftp", Version: "1.0.0", Receive: &AdapterSide{Schema: json.RawMessage(`{"z":1,"a":2}`)}}},
		events:   []Event{{Index: 3, Kind: "deployed"}, {Index: 9, Kind: "group-owned", Group: "edi", From: "node-b", To: "node-a", Epoch: 4, Cause: "lease", GapMS: new(int64)}},
		live:     make(chan Event),
	}
}

// serveOn starts a server on a socket of its own and on a TCP port.
func serveOn(t *testing.T, b Backend, o Options) (s *Server, socket string) {
	t.Helper()
	socket = filepath.Join(shortDir(t), "api.sock")
	o.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	s = NewServer(b, o)
	if err := s.Start(socket, "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s, socket
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func dial(t *testing.T, address string) *Client {
	t.Helper()
	c, err := Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// shortDir is a temporary directory whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// within ends with the test, or after ten seconds.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}
