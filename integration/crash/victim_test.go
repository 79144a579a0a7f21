package crash

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/internal/freeport"
	"github.com/fairlead-io/fairlead/runtime/api"
	"github.com/fairlead-io/fairlead/runtime/exchange"
)

const (
	// answerWithin bounds the wait for what a node under test says: starting takes it
	// one to two seconds, and the machine may be busy.
	answerWithin = 40 * time.Second
	// settledWithin bounds the wait until everything is at its destination.
	settledWithin = 40 * time.Second
)

// victim is the node under test: a directory that outlives its processes.
type victim struct {
	t      testing.TB
	dir    string // short, because of the socket
	client *api.Client

	cmd  *exec.Cmd
	in   io.WriteCloser
	says chan string   // closed when the process has closed its output
	done chan struct{} // closed when the process has been reaped
}

// newVictim writes the node file and starts the node, a cluster of its own.
func newVictim(t testing.TB) *victim {
	t.Helper()
	dir, err := os.MkdirTemp("", "fl-crash-")
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{t: t, dir: dir}
	t.Cleanup(func() { v.clean() })
	port, release, err := freeport.Take(3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	file := fmt.Sprintf(`
node: {name: node-a, data_dir: %q, adapter_dirs: [%q]}
listen: {gossip: "127.0.0.1:%d", cluster: "127.0.0.1:%d", http: "127.0.0.1:%d", socket: %q}
cluster: {name: crash, bootstrap_expect: 1, profile: local}
`, v.data(), adapters(t), port, port+1, port+2, v.socket())
	if err := os.WriteFile(v.file(), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	if v.client, err = api.Dial("unix:" + v.socket()); err != nil {
		t.Fatal(err)
	}
	v.start()
	return v
}

func (v *victim) data() string   { return filepath.Join(v.dir, "data") }
func (v *victim) socket() string { return filepath.Join(v.dir, "sock") }
func (v *victim) file() string   { return filepath.Join(v.dir, "node.yaml") }
func (v *victim) log() string    { return filepath.Join(v.dir, "log") }

// adapters is the folder of the built adapters.
func adapters(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", "bin", "adapters"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range kinds {
		if _, err := os.Stat(filepath.Join(dir, "fairlead-adapter-"+name)); err != nil {
			if testing.Short() {
				t.Skipf("adapter %s is not built: %v", name, err)
			}
			t.Fatalf("adapter %s is not built: run `make` first (`make test` does): %v", name, err)
		}
	}
	return dir
}

// start starts the node's process and returns when it serves.
func (v *victim) start() {
	v.t.Helper()
	self, err := os.Executable()
	if err != nil {
		v.t.Fatal(err)
	}
	log, err := os.OpenFile(v.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		v.t.Fatal(err)
	}
	defer log.Close()
	v.cmd = exec.Command(self)
	// A data race, where the tests look for them, ends the node: nobody reads its log.
	v.cmd.Env = append(os.Environ(), nodeEnv+"="+v.file(), "GORACE=halt_on_error=1")
	v.cmd.Stderr = log
	if v.in, err = v.cmd.StdinPipe(); err != nil {
		v.t.Fatal(err)
	}
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		v.t.Fatal(err)
	}
	if err := v.cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	v.says, v.done = make(chan string, 16), make(chan struct{})
	go v.listen(out, v.cmd, v.says, v.done) // ends with the process, which clean kills
	v.expect(saysStarted)
}

// listen passes on what the process says and reaps it.
func (v *victim) listen(out io.Reader, cmd *exec.Cmd, says chan<- string, done chan<- struct{}) {
	defer close(done)
	defer close(says)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		says <- lines.Text()
	}
	_ = cmd.Wait() // how it ended is asked of its state
}

// expect waits until the node says so.
func (v *victim) expect(want string) {
	v.t.Helper()
	select {
	case got, ok := <-v.says:
		if !ok {
			<-v.done
			v.t.Fatalf("the node ended (%v), want it to say %q", v.cmd.ProcessState, want)
		}
		if got != want {
			v.t.Fatalf("the node says %q, want %q", got, want)
		}
	case <-time.After(answerWithin):
		v.t.Fatalf("the node has not said %q for %v", want, answerWithin)
	}
}

// arm has the process killed when the step is reached for the given time.
func (v *victim) arm(step exchange.Step, times, pid int) {
	v.t.Helper()
	if _, err := fmt.Fprintln(v.in, step, times, pid); err != nil {
		v.t.Fatal(err)
	}
	v.expect(saysArmed)
}

func (v *victim) pid() int { return v.cmd.Process.Pid }

// died waits until the node has killed itself; any other end is a failure.
func (v *victim) died(step exchange.Step, times int) {
	v.t.Helper()
	select {
	case <-v.done:
	case <-time.After(answerWithin):
		v.t.Fatalf("the node still runs after %v: step %q did not come %d times", answerWithin, step, times)
	}
	if how := v.cmd.ProcessState.Sys().(syscall.WaitStatus); !how.Signaled() || how.Signal() != syscall.SIGKILL {
		v.t.Fatalf("the node ended with %v, want it killed at step %q", v.cmd.ProcessState, step)
	}
}

// kill kills the node from outside and waits for its end.
func (v *victim) kill() {
	v.t.Helper()
	if err := v.cmd.Process.Kill(); err != nil {
		v.t.Fatal(err)
	}
	<-v.done // bounded: SIGKILL
}

// clean ends the node and removes its directory; of a test that failed the log stays.
func (v *victim) clean() {
	if v.cmd != nil && v.cmd.Process != nil {
		_ = v.cmd.Process.Kill()
		<-v.done // bounded: SIGKILL
	}
	if v.client != nil {
		v.client.Close()
	}
	if v.t.Failed() {
		v.t.Logf("the node's directory is kept: %s\n%s", v.dir, tail(v.log(), 60))
		return
	}
	if err := os.RemoveAll(v.dir); err != nil {
		v.t.Error(err)
	}
}

func tail(file string, lines int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// deploy deploys and waits until every host runs.
func (v *victim) deploy(source string) {
	v.t.Helper()
	eventually(v.t, answerWithin, func() string {
		ctx, cancel := context.WithTimeout(v.t.Context(), answerWithin)
		defer cancel()
		if _, err := v.client.Deploy(ctx, api.DeployRequest{Name: "crash.yaml", Source: source}); err != nil {
			return "deploy: " + err.Error()
		}
		return ""
	})
	v.running()
}

// running waits until every host runs and returns the hosts.
func (v *victim) running() (hosts map[string]api.HostStatus) {
	v.t.Helper()
	eventually(v.t, answerWithin, func() string {
		s, err := v.status()
		if err != nil {
			return err.Error()
		}
		hosts = map[string]api.HostStatus{}
		for _, h := range s.Hosts {
			hosts[h.Name] = h
			if h.State != "running" {
				return fmt.Sprintf("host %s is %s: %s", h.Name, h.State, h.Reason)
			}
		}
		if len(hosts) == 0 {
			return "nothing is deployed"
		}
		return ""
	})
	return hosts
}

// handler is the process of the host's only handler.
func (v *victim) handler(host string) int {
	v.t.Helper()
	handlers := v.running()[host].Handlers
	if len(handlers) != 1 || handlers[0].PID == 0 {
		v.t.Fatalf("host %s has the handlers %+v, want one process", host, handlers)
	}
	return handlers[0].PID
}

func (v *victim) status() (*api.Status, error) {
	ctx, cancel := context.WithTimeout(v.t.Context(), answerWithin)
	defer cancel()
	return v.client.Status(ctx)
}

// unfinished says in words what the node still has to do; empty: nothing. Of a source
// that pushes, items may be left that have arrived: if the node died between the
// broker's confirmation and its own note of it, nobody offers the item again, and the
// fate is forgotten a day later.
func (v *victim) unfinished(pushed bool) string {
	ctx, cancel := context.WithTimeout(v.t.Context(), answerWithin)
	defer cancel()
	list, err := v.client.Messages(ctx, api.MessageFilter{})
	if err != nil {
		return "list of messages: " + err.Error()
	}
	for _, m := range list.Messages {
		if !pushed || m.State != api.MessageDelivered {
			return fmt.Sprintf("fates are left, such as %s of %q: %s, pending %v %s", m.ID, m.Name, m.State, m.Pending, m.Reason)
		}
	}
	s, err := v.client.Status(ctx)
	if err != nil {
		return err.Error()
	}
	for _, l := range s.ReceiveLocations {
		busy := l.InFlight + l.InDoubt + l.Suspended + l.Held
		if !pushed {
			busy += l.Settling
		}
		if busy > 0 {
			return fmt.Sprintf("location %s has something to do: %+v", l.Name, l)
		}
	}
	return v.spooled()
}

// spooled names what is left in the node's spools.
func (v *victim) spooled() string {
	for _, spool := range []string{"spool", "spool-remote"} {
		left, err := os.ReadDir(filepath.Join(v.data(), spool))
		if err != nil {
			return err.Error()
		}
		if len(left) > 0 {
			return fmt.Sprintf("%d directories are left in %s, such as %s", len(left), spool, left[0].Name())
		}
	}
	return ""
}

// eventually waits until missing returns nothing.
func eventually(t testing.TB, within time.Duration, missing func() string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(within); ; <-tick.C {
		what := missing()
		if what == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %v: %s", within, what)
		}
	}
}
