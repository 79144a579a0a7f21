package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestClientSeesWhatTheBackendSays(t *testing.T) {
	b := sample()
	s, socket := serveOn(t, b, Options{Version: "1.2.3", Commit: "abc"})
	for _, address := range []string{"unix:" + socket, socket, "unix://" + socket, "http://" + s.Addr().String(), s.Addr().String()} {
		t.Run(strings.SplitN(address, "/", 2)[0], func(t *testing.T) {
			c, ctx := dial(t, address), within(t)

			status, err := c.Status(ctx)
			want(t, "status", status, &b.status, err)
			hosts, err := c.Hosts(ctx)
			want(t, "hosts", hosts, b.status.Hosts, err)
			host, err := c.Host(ctx, "intake")
			want(t, "host", host, &b.status.Hosts[0], err)
			messages, err := c.Messages(ctx, MessageFilter{State: "suspended"})
			want(t, "messages", messages, &MessageList{Messages: b.messages[:1]}, err)
			message, err := c.Message(ctx, idA)
			want(t, "message", message, &b.messages[0], err)
			locations, err := c.Locations(ctx)
			want(t, "locations", locations, b.status.ReceiveLocations, err)
			location, err := c.Location(ctx, "supplier")
			want(t, "location", location, &b.status.ReceiveLocations[0], err)
			ports, err := c.Ports(ctx)
			want(t, "ports", ports, b.status.SendPorts, err)
			port, err := c.Port(ctx, "erp")
			want(t, "port", port, &b.status.SendPorts[0], err)
			route, err := c.TestRoute(ctx, RouteRequest{Location: "supplier"})
			want(t, "route", route, &RouteReply{To: []string{}, Reason: "no route matches", Rules: []RouteRule{{When: "false", To: []string{}}}}, err)
			adapters, err := c.Adapters(ctx)
			want(t, "adapters", adapters, b.adapters, err)
			adapter, err := c.Adapter(ctx, "ftp")
			want(t, "adapter", adapter, &b.adapters[0], err)
			events, err := c.Events(ctx, 3)
			want(t, "events", events, b.events[1:], err)
			moved, err := c.MoveHost(ctx, "intake", "node-b")
			want(t, "move", moved, &MoveReply{Group: "intake", From: "node-a", To: "node-b", Epoch: 5}, err)
			deployed, err := c.Deploy(ctx, DeployRequest{Name: "app.yaml", Source: "hosts: {}", DryRun: true})
			want(t, "deploy", deployed, &DeployReply{Version: 8, Changed: true, Warnings: []string{"w"}}, err)
			nodes, err := c.Nodes(ctx)
			want(t, "nodes", nodes, b.status.Nodes, err)
			drained, err := c.SetNode(ctx, "node-a", NodeDrain)
			want(t, "drain", drained, &NodeReply{Node: "node-a", State: "draining", Moved: []string{}}, err)
			stopped, err := c.SetHost(ctx, "intake", HostStop)
			want(t, "stop", stopped, &b.status.Hosts[0], err)
			why, err := c.Explain(ctx, "intake")
			want(t, "explain", why, []string{"node-a: owns it", "node-b: adapter ftp 1.0.0 missing"}, err)
			version, err := c.Version(ctx)
			if err != nil || version.Version != "1.2.3" || version.Commit != "abc" || version.Go == "" {
				t.Errorf("version: got %+v, %v", version, err)
			}
			if err := c.Ready(ctx); err != nil {
				t.Errorf("ready: %v", err)
			}
		})
	}
	if got := b.asked[0].State; got != "suspended" {
		t.Errorf("the backend was asked for messages in state %q, want suspended", got)
	}
	if got, want := b.deployed[0], (DeployRequest{Name: "app.yaml", Source: "hosts: {}", DryRun: true}); got != want {
		t.Errorf("deployed %+v, want %+v", got, want)
	}
}

func want[T any](t *testing.T, what string, got, want T, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

func TestErrorsArriveAsTheBackendMeantThem(t *testing.T) {
	b := sample()
	_, socket := serveOn(t, b, Options{})
	c := dial(t, socket)
	for name, tt := range map[string]struct {
		err  error
		want Problem
	}{
		"nothing of that name": {NotFound("no host %q", "x"), Problem{Type: TypeNotFound, Status: 404, Detail: `no host "x"`}},
		"no quorum":            {Unavailable("no leader"), Problem{Type: TypeNoQuorum, Status: 503, Detail: "no leader"}},
		"findings":             {Invalid("a.yaml:1:2: x", "a.yaml:3:4: y"), Problem{Type: TypeInvalid, Status: 422, Detail: "the input has 2 problems", Findings: []string{"a.yaml:1:2: x", "a.yaml:3:4: y"}}},
		"conflict":             {Conflict("not now"), Problem{Type: TypeConflict, Status: 409, Detail: "not now"}},
		"time is up":           {context.DeadlineExceeded, Problem{Type: TypeTimeout, Status: 504, Detail: "the node did not finish in time; what was asked for may still happen: look at the status"}},
		"inner error":          {errors.New("password=hunter2"), Problem{Type: TypeInternal, Status: 500, Detail: "the node could not do it; its log says why"}},
	} {
		t.Run(name, func(t *testing.T) {
			b.err = tt.err
			_, err := c.Status(within(t))
			var p *Problem
			if !errors.As(err, &p) {
				t.Fatalf("got %v, want a problem", err)
			}
			if p.Title == "" {
				t.Error("the problem has no title")
			}
			p.Title = ""
			if !reflect.DeepEqual(*p, tt.want) {
				t.Errorf("got %+v, want %+v", *p, tt.want)
			}
		})
	}
}

func TestNotReadyIsUnavailable(t *testing.T) {
	b := sample()
	b.ready = errors.New("no lease")
	_, socket := serveOn(t, b, Options{})
	c := dial(t, socket)
	var p *Problem
	if err := c.Ready(within(t)); !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable || !strings.Contains(p.Detail, "no lease") {
		t.Errorf("got %v, want 503 with the reason", err)
	}
}

func TestListsAreNeverNull(t *testing.T) {
	s, _ := serveOn(t, &fakeBackend{}, Options{})
	for _, path := range []string{"/v1/nodes", "/v1/hosts", "/v1/locations", "/v1/ports", "/v1/adapters", "/v1/events"} {
		resp := do(t, s, "GET", path, "", nil)
		if got := strings.TrimSpace(resp.body); got != "[]" {
			t.Errorf("%s: got %s, want []", path, got)
		}
	}
	if got := strings.TrimSpace(do(t, s, "GET", "/v1/messages", "", nil).body); got != `{"messages":[],"truncated":false}` {
		t.Errorf("messages: got %s, want an empty list", got)
	}
	b := &fakeBackend{status: Status{Nodes: []NodeStatus{{}}}, messages: []Message{{}}}
	s, _ = serveOn(t, b, Options{})
	for _, path := range []string{"/v1/status", "/v1/nodes", "/v1/messages"} {
		if resp := do(t, s, "GET", path, "", nil); resp.status != 200 || strings.Contains(resp.body, "null") {
			t.Errorf("%s: got %d %s, want no null", path, resp.status, resp.body)
		}
	}
}

func TestWrongRequestsAreRefused(t *testing.T) {
	b := sample()
	s, _ := serveOn(t, b, Options{})
	asJSON := map[string]string{"Content-Type": "application/json"}
	for name, tt := range map[string]struct {
		method, path, body string
		header             map[string]string
		status             int
	}{
		"unknown path":             {"GET", "/v1/nothing", "", nil, 404},
		"unknown message state":    {"GET", "/v1/messages?state=lost", "", nil, 400},
		"event index that is none": {"GET", "/v1/events?after=x", "", nil, 400},
		"wrong method":             {"DELETE", "/v1/status", "", nil, 405},
		"reading by post":          {"POST", "/v1/status", "{}", asJSON, 405},
		"changing by get":          {"GET", "/v1/deployments", "", nil, 405},
		"a form":                   {"POST", "/v1/deployments", "source=x", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 415},
		"no content type":          {"POST", "/v1/hosts/intake/move", `{"to":"b"}`, nil, 415},
		"another origin":           {"POST", "/v1/hosts/intake/move", `{"to":"b"}`, map[string]string{"Content-Type": "application/json", "Origin": "http://evil.example"}, 403},
		"a cross-site fetch":       {"POST", "/v1/hosts/intake/move", `{"to":"b"}`, map[string]string{"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"}, 403},
		"a rebound name":           {"GET", "/v1/status", "", map[string]string{"Host": "evil.example:80"}, 403},
		"broken JSON":              {"POST", "/v1/hosts/intake/move", `{"to":`, asJSON, 400},
		"misspelt field":           {"POST", "/v1/hosts/intake/move", `{"too":"b"}`, asJSON, 400},
		"two values":               {"POST", "/v1/hosts/intake/move", `{"to":"b"} {}`, asJSON, 400},
		"too large":                {"POST", "/v1/hosts/intake/move", `{"to":"` + strings.Repeat("x", maxSmallBody) + `"}`, asJSON, 413},
		"deployment too large":     {"POST", "/v1/deployments", `{"source":"` + strings.Repeat("x", MaxDeployment+1) + `"}`, asJSON, 413},
		"empty deployment":         {"POST", "/v1/deployments", `{"source":" "}`, asJSON, 400},
	} {
		t.Run(name, func(t *testing.T) {
			resp := do(t, s, tt.method, tt.path, tt.body, tt.header)
			if resp.status != tt.status {
				t.Errorf("got %d %s, want %d", resp.status, resp.body, tt.status)
			}
			if resp.contentType != "application/problem+json" {
				t.Errorf("got content type %q, want a problem", resp.contentType)
			}
		})
	}
	if len(b.moved)+len(b.deployed) != 0 {
		t.Errorf("refused requests reached the backend: %v %v", b.moved, b.deployed)
	}
}

func TestNamesOfThisMachineAreNotRefused(t *testing.T) {
	s, _ := serveOn(t, sample(), Options{})
	for _, host := range []string{"localhost:7948", "LocalHost", "127.0.0.1:1", "[::1]:7948", "[::1]"} {
		if resp := do(t, s, "GET", "/v1/status", "", map[string]string{"Host": host}); resp.status != 200 {
			t.Errorf("host %s: got %d %s, want 200", host, resp.status, resp.body)
		}
	}
}

func TestOtherMachinesReadAndChangeOnlyIfAllowed(t *testing.T) {
	for _, tt := range []struct {
		remote  string
		allowed bool
		want    int
	}{
		{"10.0.0.7:4711", false, http.StatusForbidden},
		{"10.0.0.7:4711", true, http.StatusOK},
		{"127.0.0.1:4711", false, http.StatusOK},
		{"[::1]:4711", false, http.StatusOK},
		{"[::ffff:127.0.0.1]:4711", false, http.StatusOK},
	} {
		s := NewServer(sample(), Options{RemoteChanges: tt.allowed})
		r := httptest.NewRequest("POST", "/v1/hosts/intake/move", strings.NewReader(`{"to":"b"}`))
		r.Header.Set("Content-Type", "application/json")
		r.RemoteAddr = tt.remote
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("change from %s, allowed=%v: got %d, want %d", tt.remote, tt.allowed, w.Code, tt.want)
		}
		r = httptest.NewRequest("GET", "/v1/status", nil)
		r.RemoteAddr = tt.remote
		w = httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Errorf("reading from %s: got %d, want 200", tt.remote, w.Code)
		}
	}
}

func TestSocketOfADeadProcessIsReplaced(t *testing.T) {
	path := filepath.Join(shortDir(t), "api.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()

	s := NewServer(sample(), Options{})
	if err := s.Start(path, ""); err != nil {
		t.Fatalf("start on a stale socket: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("socket has mode %v (%v), want 0660", info.Mode().Perm(), err)
	}
	if _, err := dial(t, path).Status(within(t)); err != nil {
		t.Error(err)
	}
	stop(t, s)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket file is still there after stop: %v", err)
	}
}

func TestStartRefusesWhatItWouldBreak(t *testing.T) {
	_, live := serveOn(t, sample(), Options{})
	dir := shortDir(t)
	file := filepath.Join(dir, "precious")
	if err := os.WriteFile(file, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ socket, address, want string }{
		"a socket that answers": {live, "", "another process serves"},
		"a file":                {file, "", "is not a socket"},
		"a path too long":       {filepath.Join(dir, strings.Repeat("x", 120)), "", "at most 107"},
		"an address in use":     {filepath.Join(dir, "new.sock"), "256.0.0.1:1", "listen"},
	} {
		t.Run(name, func(t *testing.T) {
			err := NewServer(sample(), Options{}).Start(tt.socket, tt.address)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(dir, "new.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a failed start left its socket behind")
	}
	if data, _ := os.ReadFile(file); string(data) != "data" {
		t.Error("the file was touched")
	}
	if _, err := dial(t, live).Status(within(t)); err != nil {
		t.Errorf("the running server was disturbed: %v", err)
	}
}

func TestStopBreaksOffWhatDoesNotEnd(t *testing.T) {
	b := sample()
	b.hold = make(chan struct{})
	s, socket := serveOn(t, b, Options{})
	asked := make(chan error, 1)
	c := dial(t, socket)
	ctx := within(t)
	go func() {
		_, err := c.Status(ctx)
		asked <- err
	}()
	await(t, "the request reaches the backend", func() bool { return b.waiting.Load() == 1 })

	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := s.Stop(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stop: got %v, want its context's error", err)
	}
	if err := <-asked; !errors.Is(err, ErrUnreachable) {
		t.Errorf("the request ended with %v, want ErrUnreachable", err)
	}
	if err := s.Stop(ctx); err != nil {
		t.Errorf("second stop: %v", err)
	}
	if err := s.Start(socket, ""); err == nil {
		t.Error("start after stop succeeded")
	}
}

type reply struct {
	status      int
	contentType string
	body        string
}

func do(t *testing.T, s *Server, method, path, body string, header map[string]string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), method, "http://"+s.Addr().String()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
		if k == "Host" {
			req.Host = v
		}
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header.Get("Content-Type"), string(data)}
}
