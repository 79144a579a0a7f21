package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/demo/cluster"
	"github.com/fairlead-io/fairlead/internal/freeport"
)

// serverUID is the user whom the servers' sessions run as.
const serverUID = 20021

func repo(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// seed of the test's random choices: printed, and settable to repeat a run.
func seed(t testing.TB) *rand.Rand {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if given := os.Getenv("FAIRLEAD_SEED"); given != "" {
		var err error
		if s, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("FAIRLEAD_SEED: %v", err)
		}
	}
	t.Logf("FAIRLEAD_SEED=%d repeats this run's choices", s)
	return rand.New(rand.NewPCG(s, 0))
}

// startCluster starts nodes from the built binaries.
func startCluster(t testing.TB, nodes int, options ...func(*cluster.Config)) *cluster.Cluster {
	t.Helper()
	bin := filepath.Join(repo(t), "bin")
	if _, err := os.Stat(filepath.Join(bin, "fairlead")); err != nil {
		t.Fatal("bin/fairlead is missing: run `make` first (`make test` does)")
	}
	dir, err := os.MkdirTemp("", "fl-it-") // short, because of the sockets
	if err != nil {
		t.Fatal(err)
	}
	cfg := cluster.Config{
		Binary: filepath.Join(bin, "fairlead"), Adapters: filepath.Join(bin, "adapters"), Dir: dir, Nodes: nodes,
	}
	for _, o := range options {
		o(&cfg)
	}
	c, err := cluster.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		if t.Failed() {
			t.Logf("the nodes' logs are in %s", dir)
			for _, n := range c.Nodes {
				tail(t, n.LogFile(), 60)
			}
			return
		}
		os.RemoveAll(dir)
	})
	return c
}

func tail(t testing.TB, file string, lines int) {
	data, err := os.ReadFile(file)
	if err != nil {
		return
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	t.Logf("--- %s\n%s", file, strings.Join(all[max(0, len(all)-lines):], "\n"))
}

// server is one real server, started by its script.
type server struct {
	dir  string
	port string
	info map[string]string
}

func (s *server) addr() string { return net.JoinHostPort("127.0.0.1", s.port) }
func (s *server) data() string { return filepath.Join(s.dir, "data") }

func startServer(t testing.TB, name string, env ...string) *server {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a real " + name)
	}
	scripts := os.Getenv("FAIRLEAD_SERVERS")
	if scripts == "" {
		scripts = filepath.Join(repo(t), "..", "shared", "servers")
	}
	script := filepath.Join(scripts, "start-"+name)
	if _, err := os.Stat(script); err != nil {
		t.Skipf("no script to start %s: give the scripts' folder in FAIRLEAD_SERVERS", name)
	}
	dir, err := os.MkdirTemp("", "fl-srv-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // its sessions run as another user
		t.Fatal(err)
	}
	first, release, err := freeport.Take(6) // some servers use those behind it, too
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	port := strconv.Itoa(first)
	cmd := exec.Command(script, dir, port)
	cmd.Env = append(os.Environ(), append(env, fmt.Sprintf("OWNER_PID=%d", os.Getpid()))...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("start %s: %v\n%s", name, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(filepath.Join(scripts, "stop"), dir).CombinedOutput(); err != nil {
			t.Logf("stop %s: %v\n%s", name, err, out)
		}
		os.RemoveAll(dir)
	})
	s := &server{dir: dir, port: port, info: map[string]string{}}
	for _, field := range strings.Fields(string(out)) {
		if k, v, ok := strings.Cut(field, "="); ok {
			s.info[k] = v
		}
	}
	return s
}

// put makes a file appear at once and whole in a server's directory, owned by the
// user of its sessions.
func (s *server) put(t testing.TB, folder, name string, content []byte) {
	t.Helper()
	staged := filepath.Join(s.dir, "staged")
	if err := os.WriteFile(staged, content, 0o644); err != nil {
		t.Error(err)
		return
	}
	if os.Getuid() == 0 {
		if err := os.Chown(staged, serverUID, serverUID); err != nil {
			t.Error(err)
			return
		}
	}
	if err := os.Rename(staged, filepath.Join(s.data(), folder, name)); err != nil {
		t.Error(err)
	}
}

// folder makes a directory in the server's data that its sessions may write to.
func (s *server) folder(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(s.data(), name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(dir, serverUID, serverUID); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// drained waits until nothing is left in a folder of the server.
func (s *server) drained(t testing.TB, folder string, within time.Duration) {
	t.Helper()
	eventually(t, within, func() string {
		left, err := os.ReadDir(filepath.Join(s.data(), folder))
		if err != nil {
			return err.Error()
		}
		if len(left) > 0 {
			return fmt.Sprintf("%d items are still in %s, such as %q", len(left), folder, left[0].Name())
		}
		return ""
	})
}

// eventually waits until missing returns nothing.
func eventually(t testing.TB, within time.Duration, missing func() string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
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

// broker is a real NATS server with a stream, and what arrived in it.
type broker struct {
	*server
	stream jetstream.Stream
}

func startBroker(t testing.TB) *broker {
	t.Helper()
	b := &broker{server: startServer(t, "nats", "EXTRA=max_payload: 16MB")}
	nc, err := nats.Connect("nats://"+b.addr(), nats.UserInfo("tester", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	b.stream, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OUT", Subjects: []string{"out.>"}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *broker) port(subject string) string {
	return fmt.Sprintf("{broker: %q, user: tester, password: secret, stream: OUT, subject: %s}", "nats://"+b.addr(), subject)
}

// count is how many messages the stream holds.
func (b *broker) count(t testing.TB) int {
	t.Helper()
	info, err := b.stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return int(info.State.Msgs)
}

// hashes reads the whole stream.
func (b *broker) hashes(t testing.TB) []string {
	t.Helper()
	n := b.count(t)
	consumer, err := b.stream.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var hashes []string
	for range n {
		m, err := consumer.Next(jetstream.FetchMaxWait(10 * time.Second))
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", len(hashes), n, err)
		}
		hashes = append(hashes, cluster.Hash(m.Data()))
	}
	return hashes
}

func (b *broker) waitFor(t testing.TB, n int, within time.Duration) {
	t.Helper()
	eventually(t, within, func() string {
		if have := b.count(t); have < n {
			return fmt.Sprintf("%d of %d messages arrived", have, n)
		}
		return ""
	})
}

func deploy(t testing.TB, c *cluster.Cluster, source string, hosts ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	if err := c.Deploy(ctx, "test.yaml", source); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WaitStatus(ctx, "the hosts run", cluster.Running(hosts...)); err != nil {
		t.Fatal(err)
	}
}

func owner(t testing.TB, c *cluster.Cluster, host, not string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	s, err := c.WaitStatus(ctx, host+" runs on a node other than "+strconv.Quote(not), cluster.OwnedBy(host, not))
	if err != nil {
		t.Fatal(err)
	}
	return cluster.Owner(s, host)
}

func judge(t testing.TB, in []cluster.Item, out []string) {
	t.Helper()
	v := cluster.Judge(in, out)
	t.Log(v)
	if !v.OK() {
		t.Errorf("%v\n%s", v, strings.Join(v.Problems, "\n"))
	}
}
