package handler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"go.uber.org/goleak"

	"github.com/fairlead-io/fairlead/sdk"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
	"github.com/fairlead-io/fairlead/sdk/wire"
)

// TestMain makes this binary play every part: started under an adapter's name it
// is that adapter, under hostRole a runtime that is going to be killed.
func TestMain(m *testing.M) {
	base := filepath.Base(os.Args[0])
	if role, ok := strings.CutPrefix(base, Prefix); ok {
		playAdapter(role)
		os.Exit(0)
	}
	if base == hostRole {
		playHost()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// playAdapter is the main function of all test adapters.
func playAdapter(role string) {
	switch role {
	case "crash":
		fmt.Fprintln(os.Stderr, "cannot find the frobnicator")
		os.Exit(3)
	case "panic":
		panic("no frobnicator at all")
	case "orphan":
		forever := make(chan os.Signal, 1)
		signal.Notify(forever, syscall.SIGUSR1)
		<-forever
		return
	case "brief":
		fmt.Println("1|1|unix|/nowhere/socket|grpc|")
		os.Exit(6)
	case "deaf":
		path := filepath.Join(os.Getenv(plugin.EnvUnixSocketDir), "s")
		if _, err := net.Listen("unix", path); err != nil {
			panic(err)
		}
		fmt.Printf("1|1|unix|%s|grpc|\n", path)
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	case "silent":
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	case "rubbish":
		fmt.Println("Hello, what would you like to do today?")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	case "mutest":
		os.Stdout.Close()
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	case "future":
		fmt.Println("1|2|unix|/nowhere|grpc|")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	case "echo":
		sdk.Serve(echo)
		return
	case "attack":
		attack(os.Stderr)
	case "holder":
		startGrandchild(nil)
	case "deserter":
		startGrandchild(&syscall.SysProcAttr{Setsid: true})
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  wire.Handshake,
		VersionedPlugins: wire.ServerPlugins(&testAdapter{role: role}),
		GRPCServer:       wire.NewServer,
		Logger:           hclog.NewNullLogger(),
	})
	if role == "stubborn" {
		select {} // served, told to end, and stays
	}
}

// attack writes what has brought readers of plugins' output down.
func attack(w io.Writer) {
	fmt.Fprintln(w, `{"@message": 1}`)
	fmt.Fprintln(w, `{"msg": {"a": 1}, "level": [], "time": 7}`)
	fmt.Fprintln(w, `{"@message": "x", "@level": 5, "@timestamp": {}}`)
	fmt.Fprintln(w, strings.Repeat("[", 1<<17))
	fmt.Fprintln(w, "\xff\xfe\x00not text")
	fmt.Fprintln(w, `{"time":"2026-01-02T03:04:05Z","level":"ERROR","msg":"survived","n":7}`)
}

// startGrandchild starts one that keeps our standard output and error open.
func startGrandchild(attr *syscall.SysProcAttr) {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	c := &exec.Cmd{Path: self, Args: []string{Prefix + "orphan"}, Stdout: os.Stdout, Stderr: os.Stderr, SysProcAttr: attr}
	if err := c.Start(); err != nil {
		panic(err)
	}
	fmt.Fprintf(os.Stderr, "{\"level\":\"INFO\",\"msg\":\"grandchild\",\"pid\":%d}\n", c.Process.Pid)
}

// echo is an adapter as an author would write it: its sink reads and confirms.
var echo = sdk.Adapter{
	Name: "echo", Version: "1.2.3", Summary: "Reads what it is sent.",
	Send: sdk.Sends(func(_ context.Context, _ struct{}, env sdk.Env) (sdk.Sink, error) {
		env.Log.Info("sink is open")
		return echoSink{}, nil
	}),
}

type echoSink struct{}

func (echoSink) Send(_ context.Context, m *sdk.Message) error {
	for i := range m.Parts {
		r, err := m.Parts[i].Open()
		if err != nil {
			return err
		}
		err = readAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return nil
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

func readAll(r io.Reader) error {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	for {
		if _, err := r.Read(*b); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (echoSink) Close() error { return nil }

// testAdapter speaks the protocol without the SDK, so that it can break it.
type testAdapter struct {
	adapterpb.UnimplementedAdapterServer
	role string
}

func (a *testAdapter) Describe(context.Context, *adapterpb.DescribeRequest) (*adapterpb.Description, error) {
	d := &adapterpb.Description{
		Name: a.role, Version: "1.2.3", Summary: "plays a part",
		Receive: &adapterpb.Side{Schema: []byte(`{"type":"object"}`), Exclusive: true},
		Send:    &adapterpb.Side{Schema: []byte(`{}`), Probes: true},
	}
	switch a.role {
	case "misnamed":
		d.Name = "other"
	case "shameless":
		d.Send.Schema = []byte("{")
	case "undescribed":
		return nil, errors.New("the frobnicator is not described")
	case "dies-describing":
		os.Exit(5)
	}
	return d, nil
}

func (a *testAdapter) Check(_ context.Context, r *adapterpb.CheckRequest) (*adapterpb.CheckResponse, error) {
	resp := &adapterpb.CheckResponse{}
	if string(r.GetProperties()) != "{}" {
		resp.Problems = append(resp.Problems, &adapterpb.CheckResponse_Problem{
			Property: "colour", Problem: fmt.Sprintf("receive=%v: unknown", r.GetReceive())})
	}
	return resp, nil
}

func (a *testAdapter) Run(s adapterpb.Adapter_RunServer) error {
	if a.role == "hangs-up" {
		return errors.New("the frobnicator was refused")
	}
	r := &run{role: a.role, out: s}
	for {
		m, err := s.Recv()
		if err != nil {
			return nil
		}
		if err := r.handle(m); err != nil {
			return err
		}
	}
}

// burst is how many acknowledgements the command of that name gives.
const burst = 100

type run struct {
	role string
	mu   sync.Mutex
	out  adapterpb.Adapter_RunServer
}

func (r *run) handle(m *adapterpb.ToAdapter) error {
	switch k := m.GetKind().(type) {
	case *adapterpb.ToAdapter_Configure:
		return r.configure(k.Configure)
	case *adapterpb.ToAdapter_Lease:
		return r.state("lease", fmt.Sprint(k.Lease.GetDeadlineNs()))
	case *adapterpb.ToAdapter_Ping:
		if r.role == "mute" {
			return nil
		}
		return r.send(&adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Pong{Pong: &adapterpb.Pong{Number: k.Ping.GetNumber()}}})
	case *adapterpb.ToAdapter_Send:
		return r.sent(k.Send)
	case *adapterpb.ToAdapter_Poll:
		return r.command(k.Poll.GetLocation())
	case *adapterpb.ToAdapter_Drain:
		if r.role == "busy" {
			return nil
		}
		return r.send(&adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Drained{Drained: &adapterpb.Drained{}}})
	}
	return nil
}

func (r *run) configure(c *adapterpb.Configure) error {
	switch r.role {
	case "unready":
		return nil
	case "early":
		if err := r.state("early", "bird"); err != nil {
			return err
		}
	}
	ready := &adapterpb.Ready{}
	for _, e := range c.GetEndpoints() {
		if e.GetName() == "bad" {
			ready.Rejected = append(ready.Rejected, &adapterpb.EndpointState{
				Endpoint: "bad", State: adapterpb.EndpointState_REJECTED, Error: &adapterpb.Error{Text: "no such frobnicator"}})
		}
	}
	return r.send(&adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Ready{Ready: ready}})
}

func (r *run) sent(s *adapterpb.Send) error {
	return r.send(&adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Sent{Sent: &adapterpb.Sent{Call: s.GetCall()}}})
}

// command does what the name of a polled location says.
func (r *run) command(c string) error {
	switch c {
	case "exit":
		fmt.Fprintln(os.Stderr, "last words") // through go-plugin's stream
		os.Exit(4)
	case "exit-lease":
		os.Exit(wire.ExitLeaseEnded)
	case "env":
		return r.state("env", strings.Join(os.Environ(), "\n"))
	case "last-ack":
		_ = r.send(&adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_Sent{Sent: &adapterpb.Sent{Call: 99}}})
		return errors.New("over")
	case "burst":
		for i := range uint64(burst) {
			if err := r.sent(&adapterpb.Send{Call: i}); err != nil {
				return err
			}
		}
		return nil
	case "inherited":
		b := make([]byte, 64)
		n, err := os.NewFile(3, "inherited").ReadAt(b, 0)
		if err != nil && err != io.EOF {
			return r.state("inherited", err.Error())
		}
		return r.state("inherited", string(b[:n]))
	}
	return r.state("polled", c)
}

func (r *run) state(what, text string) error {
	return r.send(&adapterpb.FromAdapter{Kind: &adapterpb.FromAdapter_EndpointState{EndpointState: &adapterpb.EndpointState{
		Endpoint: what, Error: &adapterpb.Error{Text: text}}}})
}

func (r *run) send(m *adapterpb.FromAdapter) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Send(m)
}
