package netns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/demo/cluster"
)

const (
	nodes = 5
	// host is the clustered host that everything is about; its group has its name.
	host = "intake"
	// diskSize is each node's data directory, a file system of its own that can be
	// filled up.
	diskSize = "96m"

	// takeoverWithin bounds the time from a fault that takes the owner away to another
	// owner that runs. It is the bound of docs/guarantees.md for the profile, and what
	// a busy machine with two cores adds.
	takeoverWithin = 10 * time.Second
	// convergeWithin bounds the time from the end of a fault until all nodes are in
	// again and agree, and until a file that was put after it has arrived.
	convergeWithin = 20 * time.Second
	// askWithin bounds the wait for one node's answer.
	askWithin = time.Second
)

const deployment = `
hosts:
  intake:
    clustered: true
    restart: {max: 60, within: 1m}
    failover: {max: 60, within: 1m, retry_after: 5s}
receive_locations:
  files:
    host: intake
    adapter: ftp
    endpoint: {address: "%[1]s", user: tester, password: secret, directory: /out, stable_for: 0s, timeout: 5s}
    schedule: {every: 200ms}
    max_in_flight: 8
    to: [partner]
send_ports:
  partner:
    host: intake
    adapter: ftp
    endpoint: {address: "%[1]s", user: tester, password: secret, directory: /in, timeout: 5s, name: "{{ftp.name}}~{{fairlead.id}}"}
    retry: {attempts: 1000, interval: 500ms}
`

// arena is the cluster, its network, its servers and what watches it.
type arena struct {
	net  *network
	c    *cluster.Cluster
	ftp  *ftpServer
	feed *traffic
	rng  *rand.Rand
	// bin is where the binaries are.
	bin string

	// owners is the ledger's history of the group: node by epoch.
	owners map[uint64]string
}

func newArena(t *testing.T) *arena {
	t.Helper()
	a := &arena{rng: seeded(t), owners: map[uint64]string{}}
	var err error
	if a.net, err = newNetwork(nodes); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.net.remove(); err != nil {
			t.Error(err)
		}
	})
	a.ftp = startFTP(t)
	a.bin = binaries(t)
	dir := shortDir(t)
	for i := range nodes {
		data := filepath.Join(dir, "node-"+string(rune('a'+i)), "data")
		if err := os.MkdirAll(data, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("fairlead", data, "tmpfs", 0, "mode=0700,size="+diskSize); err != nil {
			t.Fatalf("file system for node %d: %v", i, err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(data, syscall.MNT_DETACH) })
	}
	a.c, err = cluster.Start(cluster.Config{
		Binary: filepath.Join(a.bin, "fairlead"), Adapters: filepath.Join(a.bin, "adapters"), Dir: dir, Nodes: nodes,
		Profile: "lan", TLS: true, Addresses: a.net.addresses(), Wrap: a.net.wrap,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.c.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			a.dump(t)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := a.c.Deploy(ctx, "netns.yaml", fmt.Sprintf(deployment, hubAddress+":"+ftpPort)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.c.WaitStatus(ctx, "the host runs", cluster.Running(host)); err != nil {
		t.Fatal(err)
	}
	a.feed = startTraffic(t, a.ftp, a.rng)
	return a
}

// seeded makes the source of the test's random choices, which is printed.
func seeded(t *testing.T) *rand.Rand {
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

// remember notes the ledger's history of owners, which the ledger keeps for a while.
func (a *arena) remember(ctx context.Context) error {
	err := errors.New("no node runs")
	for _, n := range a.c.Nodes {
		if n.PID() == 0 {
			continue
		}
		if err = a.rememberFrom(ctx, n); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the ledger's history: %w", err)
}

func (a *arena) rememberFrom(ctx context.Context, n *cluster.Node) error {
	client, err := n.Client()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	events, err := client.Events(ctx, 0)
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.Kind == "group-owned" && e.Group == host {
			a.owners[e.Epoch] = e.To
		}
	}
	return nil
}

// history is the addresses of the owners in the ledger's order.
func (a *arena) history() ([]string, error) {
	var epochs []uint64
	for e := range a.owners {
		epochs = append(epochs, e)
	}
	slices.Sort(epochs)
	var all []string
	for _, e := range epochs {
		i := a.number(a.owners[e])
		if i < 0 {
			return nil, fmt.Errorf("epoch %d belongs to %q, which is no node", e, a.owners[e])
		}
		all = append(all, address(i))
	}
	return all, nil
}

// dump puts the end of every node's log into the test's.
func (a *arena) dump(t *testing.T) {
	for _, n := range a.c.Nodes {
		t.Logf("--- %s\n%s", n.Name, lastLines(n.LogFile(), 40))
	}
	t.Logf("--- the FTP server\n%s", lastLines(a.ftp.log(), 20))
}

func lastLines(file string, n int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	lines = lines[max(0, len(lines)-n):]
	for i, line := range lines {
		lines[i] = line[:min(len(line), 300)]
	}
	return strings.Join(lines, "\n")
}
