package sdk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
	"github.com/fairlead-io/fairlead/sdk/wire"
)

// roleEnv makes the test's binary an adapter's.
const roleEnv = "FAIRLEAD_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "adapter":
		Serve(processAdapter())
	case "wrong":
		Serve(Adapter{Name: "Wrong Name"})
	default:
		os.Exit(m.Run())
	}
}

// processAdapter receives one item over and over, and logs.
func processAdapter() Adapter {
	return Adapter{
		Name: "process", Version: "1.0.0", Summary: "An adapter for tests.",
		Receive: Polled(func(_ context.Context, _ struct{}, env Env) (PolledSource, error) {
			env.Log.Info("opened", "number", 7)
			return listing("a"), nil
		}),
	}
}

// child is an adapter process, started as a runtime does it, without TLS.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer // complete when exitedCh is closed
	client adapterpb.AdapterClient
	stream grpc.BidiStreamingClient[adapterpb.ToAdapter, adapterpb.FromAdapter]

	exitedCh chan struct{}
}

const patience = 20 * time.Second

func startChild(t *testing.T) *child {
	t.Helper()
	c := &child{t: t, exitedCh: make(chan struct{})}
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append(os.Environ(), roleEnv+"=adapter", "PLUGIN_PROTOCOL_VERSIONS=1",
		wire.Handshake.MagicCookieKey+"="+wire.Handshake.MagicCookieValue)
	c.cmd.Stderr = &c.stderr
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	go func() {
		defer close(c.exitedCh)
		_ = c.cmd.Wait() // its status is in ProcessState
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.exitedCh
	})
	fields := strings.Split(strings.TrimSpace(line), "|")
	if err != nil || len(fields) < 5 || fields[1] != "1" || fields[4] != "grpc" {
		t.Fatalf("handshake %q: %v", line, err)
	}
	conn, err := grpc.NewClient("unix:"+fields[3], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c.client = adapterpb.NewAdapterClient(conn)
	return c
}

// run opens the stream and waits for Ready.
func (c *child) run() {
	c.t.Helper()
	var err error
	if c.stream, err = c.client.Run(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	c.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Configure{Configure: &adapterpb.Configure{
		Endpoints: []*adapterpb.Endpoint{{Name: "in", Receive: true, MaxInFlight: 1}}}}})
	c.await("Ready", func(m *adapterpb.FromAdapter) bool { return m.GetReady() != nil })
}

func (c *child) tell(m *adapterpb.ToAdapter) {
	c.t.Helper()
	if err := c.stream.Send(m); err != nil {
		c.t.Fatal(err)
	}
}

func (c *child) lease(d time.Duration) {
	c.t.Helper()
	c.tell(&adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Lease{Lease: &adapterpb.Lease{
		DeadlineNs: int64(bootclock.Now().Add(d))}}})
}

func (c *child) await(what string, is func(*adapterpb.FromAdapter) bool) {
	c.t.Helper()
	for {
		m, err := c.stream.Recv()
		if err != nil {
			c.t.Fatalf("waiting for %s: %v", what, err)
		}
		if is(m) {
			return
		}
	}
}

func (c *child) wantExit(status int) {
	c.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.exitedCh:
	case <-timer.C:
		c.t.Fatalf("still running after %s", patience)
	}
	if got := c.cmd.ProcessState.ExitCode(); got != status {
		c.t.Errorf("exit status %d, want %d; stderr:\n%s", got, status, &c.stderr)
	}
}

func TestProcessEndsWithItsStream(t *testing.T) {
	c := startChild(t)
	c.run()
	c.lease(time.Hour)
	c.await("a listing", func(m *adapterpb.FromAdapter) bool { return m.GetListing().GetFinal() })
	if err := c.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := c.stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the stream ended with %v, want an orderly end", err)
		}
	}
	c.wantExit(0)
}

func TestProcessEndsAtTheLeaseDeadline(t *testing.T) {
	c := startChild(t)
	c.run()
	started := time.Now()
	c.lease(200 * time.Millisecond)
	c.wantExit(wire.ExitLeaseEnded)
	if took := time.Since(started); took < 200*time.Millisecond {
		t.Errorf("exited after %s, before the deadline", took)
	}
}

func TestProcessEndsWhenItsParentIsGone(t *testing.T) {
	c := startChild(t)
	c.run()
	if err := c.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	c.wantExit(wire.ExitOrphaned)
}

func TestSIGTERMDrains(t *testing.T) {
	c := startChild(t)
	c.run()
	c.lease(time.Hour)
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil { // means nothing to it
		t.Fatal(err)
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.await("Drained", func(m *adapterpb.FromAdapter) bool { return m.GetDrained() != nil })
	c.wantExit(0)
}

func TestSecondRunIsRefused(t *testing.T) {
	c := startChild(t)
	c.run()
	again, err := c.client.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Recv(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("second Run gave %v, want a refusal", err)
	}
}

func TestLogsAreJSONLines(t *testing.T) {
	c := startChild(t)
	c.run()
	if err := c.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	c.wantExit(wire.ExitOrphaned)
	found := false
	for line := range strings.Lines(c.stderr.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Errorf("line %q: %v", line, err)
		}
		if record["msg"] == "opened" {
			found = record["endpoint"] == "in" && record["level"] == "INFO" && record["number"] == 7.0 && record["time"] != ""
		}
	}
	if !found {
		t.Errorf("the adapter's line is missing or lacks keys:\n%s", &c.stderr)
	}
}

func TestBinaryExplainsItself(t *testing.T) {
	for role, want := range map[string]string{
		"adapter": "adapter process 1.0.0",
		"wrong":   "lower case letters",
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), roleEnv+"="+role)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), want) {
			t.Errorf("started by a person (%s): %v, output %q, want %q", role, err, out, want)
		}
	}
}

func TestMessagesOfMoreThanFourMegabytesArrive(t *testing.T) {
	c := startChild(t)
	big := fmt.Sprintf(`{"x": %q}`, strings.Repeat("x", 6<<20))
	_, err := c.client.Check(t.Context(), &adapterpb.CheckRequest{Receive: true, Properties: []byte(big)})
	if err != nil {
		t.Errorf("check: %v", err)
	}
}
