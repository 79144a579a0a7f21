package integration

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/demo/cluster"
)

// rounds is how many faults a test makes; CHAOS_ROUNDS raises it.
func rounds(t *testing.T, usual int) int {
	if given := os.Getenv("CHAOS_ROUNDS"); given != "" {
		n, err := strconv.Atoi(given)
		if err != nil {
			t.Fatalf("CHAOS_ROUNDS: %v", err)
		}
		return n
	}
	return usual
}

// torment kills or moves the host's owner at random moments, until it has done so
// the given number of times, and brings every node back.
func torment(t *testing.T, c *cluster.Cluster, rng *rand.Rand, host string, times int) {
	t.Helper()
	for i := range times {
		wait(t, time.Duration(200+rng.IntN(1800))*time.Millisecond)
		from := owner(t, c, host, "")
		if i%3 == 2 {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			moved, err := c.Move(ctx, host, "")
			cancel()
			if err != nil {
				t.Fatalf("move %s away from %s: %v", host, from, err)
			}
			t.Logf("moved %s from %s to %s", host, from, moved.To)
			continue
		}
		began := time.Now()
		if err := c.Node(from).Kill(); err != nil {
			t.Fatal(err)
		}
		to := owner(t, c, host, from)
		t.Logf("killed %s; %s runs %s after %d ms", from, to, host, time.Since(began).Milliseconds())
		wait(t, time.Duration(rng.IntN(500))*time.Millisecond)
		if err := c.Node(from).Start(); err != nil {
			t.Fatal(err)
		}
	}
}

// wait lets the traffic run for a randomised time: the moment of a fault is the
// test's input, not something to be waited for.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// feed puts the items at the source, spread over about the given time.
func feed(t *testing.T, items []cluster.Item, over time.Duration, put func(i int, item cluster.Item)) *sync.WaitGroup {
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(over / time.Duration(len(items)))
		defer tick.Stop()
		for i, item := range items {
			put(i, item)
			select {
			case <-tick.C:
			case <-t.Context().Done():
				return
			}
		}
	})
	t.Cleanup(wg.Wait)
	return &wg
}

func TestFilesFromFTPToAStreamThroughTheDeathOfTheirOwner(t *testing.T) {
	for _, name := range []string{"vsftpd", "proftpd"} {
		t.Run(name, func(t *testing.T) {
			rng := seed(t)
			ftp, queue := startServer(t, name), startBroker(t)
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
    endpoint: {address: %q, user: tester, password: secret, directory: %s, stable_for: 0s}
    schedule: {every: 300ms}
    to: [stream]
send_ports:
  stream: {host: outbound, adapter: queue, endpoint: %s, retry: {attempts: 5, interval: 1s}}
`, ftp.addr(), ftpDir(name, ftp, "out"), queue.port("out.files")), "intake", "outbound")
			files := cluster.Files(rng.Uint64(), 300, 4<<20)
			fed := feed(t, files, 12*time.Second, func(_ int, f cluster.Item) { ftp.put(t, "out", f.Name, f.Content) })
			torment(t, c, rng, "intake", rounds(t, 5))
			fed.Wait()
			queue.waitFor(t, len(files), time.Minute)
			ftp.drained(t, "out", 30*time.Second)
			judge(t, files, queue.hashes(t))
		})
	}
}

// ftpDir is where a folder of the server's data is for a session: vsftpd confines
// its sessions to the data, ProFTPD may not.
func ftpDir(name string, s *server, folder string) string {
	if name == "vsftpd" {
		return "/" + folder
	}
	return folder
}

func TestMailsFromPOP3ToAStreamThroughTheDeathOfTheirOwner(t *testing.T) {
	rng := seed(t)
	pop, queue := startServer(t, "dovecot"), startBroker(t)
	c := startCluster(t, 3)
	deploy(t, c, fmt.Sprintf(`
hosts:
  mail: {clustered: true}
  outbound: {clustered: false}
receive_locations:
  mails:
    host: mail
    adapter: pop3
    endpoint: {address: %q, user: tester, password: secret}
    schedule: {every: 300ms}
    to: [stream]
send_ports:
  stream: {host: outbound, adapter: queue, endpoint: %s, retry: {attempts: 5, interval: 1s}}
`, pop.addr(), queue.port("out.mails")), "mail", "outbound")
	mails := cluster.Mails(rng.Uint64(), 200)
	fed := feed(t, mails, 10*time.Second, func(i int, m cluster.Item) {
		pop.put(t, "new", fmt.Sprintf("%d.M%d.test", time.Now().Unix(), i), m.Content)
	})
	torment(t, c, rng, "mail", rounds(t, 4))
	fed.Wait()
	queue.waitFor(t, len(mails), time.Minute)
	eventually(t, 30*time.Second, func() string {
		if n := maildir(pop.data()); n > 0 {
			return fmt.Sprintf("%d mails are still in the mailbox", n)
		}
		return ""
	})
	judge(t, mails, queue.hashes(t))
}

func maildir(dir string) int {
	n := 0
	for _, folder := range []string{"new", "cur"} {
		entries, _ := os.ReadDir(filepath.Join(dir, folder))
		n += len(entries)
	}
	return n
}

// The destination is an FTP server whose host is clustered too, so that sends go
// to another node over the cluster port and their owner dies as well.
func TestFilesFromFTPToFTPAreNeverVisibleInPart(t *testing.T) {
	rng := seed(t)
	src, dst := startServer(t, "vsftpd"), startServer(t, "vsftpd")
	src.folder(t, "out")
	in := dst.folder(t, "in")
	c := startCluster(t, 3)
	deploy(t, c, fmt.Sprintf(`
hosts:
  intake: {clustered: true, preferred_owners: [node-a]}
  delivery: {clustered: true, preferred_owners: [node-b]}
receive_locations:
  files:
    host: intake
    adapter: ftp
    endpoint: {address: %q, user: tester, password: secret, directory: /out, stable_for: 0s}
    schedule: {every: 300ms}
    to: [partner]
send_ports:
  partner:
    host: delivery
    adapter: ftp
    endpoint: {address: %q, user: tester, password: secret, directory: /in, name: "{{ftp.name}}"}
    retry: {attempts: 5, interval: 1s}
`, src.addr(), dst.addr()), "intake", "delivery")
	files := cluster.Files(rng.Uint64(), 200, 4<<20)
	sizes := map[string]int{}
	for _, f := range files {
		sizes[f.Name] = len(f.Content)
	}
	watching, stop := context.WithCancel(t.Context())
	var watch sync.WaitGroup
	watch.Go(func() { watchWhole(watching, t, in, sizes) })
	fed := feed(t, files, 10*time.Second, func(_ int, f cluster.Item) { src.put(t, "out", f.Name, f.Content) })
	torment(t, c, rng, "intake", rounds(t, 3))
	torment(t, c, rng, "delivery", rounds(t, 3))
	fed.Wait()
	src.drained(t, "out", time.Minute)
	stop()
	watch.Wait()
	var hashes []string
	for _, name := range finalNames(t, in) {
		data, err := os.ReadFile(filepath.Join(in, name))
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, cluster.Hash(data))
	}
	judge(t, files, hashes)
}

// watchWhole looks again and again whether any file has its final name but not its
// whole size.
func watchWhole(ctx context.Context, t *testing.T, dir string, sizes map[string]int) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for looks := 0; ; looks++ {
		select {
		case <-ctx.Done():
			t.Logf("looked at the destination %d times", looks)
			return
		case <-tick.C:
		}
		for _, name := range finalNames(t, dir) {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				continue // replaced just now
			}
			if want, known := sizes[name]; !known || info.Size() != int64(want) {
				t.Errorf("%q is visible with %d bytes, want %d", name, info.Size(), want)
				return
			}
		}
	}
}

// finalNames are the files that a partner would take: not the temporary ones.
func finalNames(t testing.TB, dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	var names []string
	for _, e := range entries {
		if e.Type()&fs.ModeType == 0 && !strings.HasPrefix(e.Name(), ".fairlead-") {
			names = append(names, e.Name())
		}
	}
	return names
}
