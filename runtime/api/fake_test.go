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
	asked    []string
	// orders are those given, as "node NAME ORDER"; patience is how long the context
	// of the last one lasts.
	orders   []string
	patience time.Duration
	// live is what followers get after the events; closing it ends the stream.
	live chan Event
	// following counts the streams under way.
	following int
}

var _ Backend = (*fakeBackend)(nil)

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

func (f *fakeBackend) Messages(_ context.Context, state string) ([]Message, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, state)
	return f.messages, f.err
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
		messages: []Message{{ID: "m1", Location: "supplier", Key: "k", State: "suspended", Pending: []string{"erp"}, Delivered: []string{}}},
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
