package integration

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/demo/cluster"
)

// A runtime that is frozen with live plugins is the worst case for a lease: only
// the plugins themselves can keep it.
func TestPluginsOfAFrozenRuntimeAreGoneBeforeTheNewOwnerComes(t *testing.T) {
	const logged = "LogFormat fairlead \"%{iso8601} %P %m\"\nExtendedLog %s ALL fairlead"
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	journal := filepath.Join(dir, "commands.log")
	ftp := startServer(t, "proftpd", "EXTRA="+strings.Replace(logged, "%s", journal, 1))
	queue := startBroker(t)
	ftp.folder(t, "out")
	c := startCluster(t, 3)
	deploy(t, c, fmt.Sprintf(`
hosts:
  intake: {clustered: true}
  outbound: {clustered: false}
receive_locations:
  files:
    host: intake
    adapter: ftp
    endpoint: {address: %q, user: tester, password: secret, directory: out, stable_for: 0s}
    schedule: {every: 200ms}
    to: [stream]
send_ports:
  stream: {host: outbound, adapter: queue, endpoint: %s}
`, ftp.addr(), queue.port("out.files")), "intake", "outbound")
	files := cluster.Files(11, 60, 1<<20)
	for _, f := range files[:20] {
		ftp.put(t, "out", f.Name, f.Content)
	}
	queue.waitFor(t, 20, 30*time.Second)

	from := owner(t, c, "intake", "")
	old := c.Node(from)
	processes := plugins(t, old)
	if len(processes) < 2 {
		t.Fatalf("%s has the plugin processes %v, want an FTP and a queue adapter", from, processes)
	}
	before := incarnation(t, c, from)
	frozen := time.Now()
	if err := old.Freeze(cluster.Runtime); err != nil {
		t.Fatal(err)
	}
	gone := make(chan time.Time, 1)
	go func() { // ends when the plugins do, or with the test
		for alive(processes) && t.Context().Err() == nil {
			wait(t, time.Millisecond)
		}
		gone <- time.Now()
	}()
	for _, f := range files[20:40] {
		ftp.put(t, "out", f.Name, f.Content)
	}
	to := owner(t, c, "intake", from)
	var ended time.Time
	select {
	case ended = <-gone:
	case <-time.After(10 * time.Second):
		t.Fatalf("plugins %v still run 10 s after their runtime was frozen", processes)
	}
	queue.waitFor(t, 40, 30*time.Second)
	first := firstLoginAfter(t, journal, frozen)
	t.Logf("plugins gone %d ms after the freeze; %s's first command %d ms after it",
		ended.Sub(frozen).Milliseconds(), to, first.Sub(frozen).Milliseconds())
	if first.Before(ended) {
		t.Errorf("%s reached the FTP server at %v, %v before the frozen node's plugins were gone", to, first, ended.Sub(first))
	}

	if err := old.Thaw(cluster.Runtime); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func() string {
		if now := incarnation(t, c, from); now == before || now == "" {
			return fmt.Sprintf("%s is still incarnation %s", from, now)
		}
		return ""
	})
	for _, f := range files[40:] {
		ftp.put(t, "out", f.Name, f.Content)
	}
	queue.waitFor(t, 60, 30*time.Second)
	ftp.drained(t, "out", 30*time.Second)
	if now := owner(t, c, "intake", ""); now != to {
		t.Errorf("the group went to %s although %s was well", now, to)
	}
	judge(t, files, queue.hashes(t))
}

// plugins are the node's adapter processes.
func plugins(t testing.TB, n *cluster.Node) []int {
	t.Helper()
	pids, err := n.PIDs(cluster.Plugin)
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

// alive reports whether any of the processes still runs; a zombie does not act.
func alive(pids []int) bool {
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		if _, rest, _ := strings.Cut(string(data), ") "); !strings.HasPrefix(rest, "Z") {
			return true
		}
	}
	return false
}

func incarnation(t *testing.T, c *cluster.Cluster, node string) string {
	t.Helper()
	s, err := c.Status(t.Context())
	if err != nil {
		return ""
	}
	for _, n := range s.Nodes {
		if n.Name == node && n.State == "alive" {
			return n.Incarnation
		}
	}
	return ""
}

// firstLoginAfter is when the server's own log shows the first login after at. A
// session that began before belongs to the frozen node.
func firstLoginAfter(t *testing.T, journal string, at time.Time) time.Time {
	t.Helper()
	f, err := os.Open(journal)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text()) // 2026-11-23 01:02:03,456 PID COMMAND
		if len(fields) < 4 || fields[3] != "USER" {
			continue
		}
		when, err := time.ParseInLocation("2006-01-02 15:04:05.000", fields[0]+" "+strings.Replace(fields[1], ",", ".", 1), time.UTC)
		if err != nil {
			t.Fatalf("line %q of the server's log: %v", lines.Text(), err)
		}
		if when.After(at) {
			return when
		}
	}
	t.Fatal("the server's log shows no login after the freeze")
	return time.Time{}
}

func TestWithoutAMajorityNobodyActsAndWorkResumesWhenOneComesBack(t *testing.T) {
	ftp, queue := startServer(t, "vsftpd"), startBroker(t)
	ftp.folder(t, "out")
	c := startCluster(t, 3)
	deploy(t, c, fmt.Sprintf(`
hosts:
  intake: {clustered: true, preferred_owners: [node-a]}
  outbound: {clustered: false}
receive_locations:
  files:
    host: intake
    adapter: ftp
    endpoint: {address: %q, user: tester, password: secret, directory: /out, stable_for: 0s}
    schedule: {every: 200ms}
    to: [stream]
send_ports:
  stream: {host: outbound, adapter: queue, endpoint: %s}
`, ftp.addr(), queue.port("out.files")), "intake", "outbound")
	files := cluster.Files(12, 60, 1<<20)
	for _, f := range files[:20] {
		ftp.put(t, "out", f.Name, f.Content)
	}
	queue.waitFor(t, 20, 30*time.Second)
	ftp.drained(t, "out", 30*time.Second)

	last := c.Node(owner(t, c, "intake", ""))
	for _, n := range c.Nodes {
		if n != last {
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, 10*time.Second, func() string {
		if left := plugins(t, last); alive(left) {
			return fmt.Sprintf("%s alone still runs plugins %v", last.Name, left)
		}
		return ""
	})
	if _, err := c.Status(t.Context()); err == nil {
		t.Error("one node of three says that it has a quorum")
	}
	for _, f := range files[20:] {
		ftp.put(t, "out", f.Name, f.Content)
	}
	// Many polls' and leases' time: nobody may come.
	logged := size(t, filepath.Join(ftp.dir, "ftp.log"))
	quiet, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	<-quiet.Done()
	if now := size(t, filepath.Join(ftp.dir, "ftp.log")); now != logged {
		t.Error("somebody talked to the FTP server without a majority")
	}
	if n := queue.count(t); n != 20 {
		t.Errorf("%d messages, want the 20 from before", n)
	}

	for _, n := range c.Nodes {
		if n != last {
			if err := n.Start(); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	queue.waitFor(t, 60, 30*time.Second)
	ftp.drained(t, "out", 30*time.Second)
	judge(t, files, queue.hashes(t))
}

func size(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// One node is a whole cluster. What it knows survives its death.
func TestAClusterOfOneGoesOnFromItsDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the built binaries")
	}
	c := startCluster(t, 1)
	in, out := t.TempDir(), t.TempDir()
	put := func(name, content string) {
		if err := os.WriteFile(filepath.Join(in, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	arrived := func(n int) {
		t.Helper()
		eventually(t, 20*time.Second, func() string {
			if have := len(finalNames(t, out)); have != n {
				return fmt.Sprintf("%d files arrived, want %d", have, n)
			}
			return ""
		})
	}
	// The source keeps its items, so only the ledger knows what is done; and every
	// delivery gets a name of its own, so that one too many would show.
	put("one", "1")
	put("two", "2")
	deploy(t, c, fmt.Sprintf(`
hosts:
  files: {clustered: true}
receive_locations:
  drop:
    host: files
    adapter: file
    endpoint: {directory: %q, after_delivery: keep, stable_for: 0s}
    schedule: {every: 200ms}
    to: [out]
send_ports:
  out: {host: files, adapter: file, endpoint: {directory: %q}}
`, in, out), "files")
	arrived(2)
	if err := c.Nodes[0].Kill(); err != nil {
		t.Fatal(err)
	}
	put("three", "3")
	if err := c.Nodes[0].Start(); err != nil {
		t.Fatal(err)
	}
	arrived(3)
	before := time.Now()
	eventually(t, 20*time.Second, func() string { // a few more polls
		if time.Since(before) < time.Second {
			return "not polled long enough"
		}
		return ""
	})
	arrived(3)
}
