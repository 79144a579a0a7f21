package integration

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jlaffaye/ftp"

	"github.com/fairlead-io/fairlead/demo/cluster"
)

// The benchmarks compare Fairlead with a plain loop on the same FTP client library,
// in the same run and against the same server, because only the ratio means
// something on a shared machine.

// intoFiles is a one-node cluster that receives from the server into a directory.
func intoFiles(b *testing.B, src *server, connections, inFlight int) (*cluster.Cluster, string) {
	b.Helper()
	dst := b.TempDir()
	c := startCluster(b, 1)
	deploy(b, c, fmt.Sprintf(`
hosts:
  intake: {clustered: true}
receive_locations:
  files:
    host: intake
    adapter: ftp
    endpoint: {address: %q, user: tester, password: secret, directory: /out, stable_for: 0s, connections: %d}
    schedule: {every: 200ms}
    max_in_flight: %d
    to: [disk]
send_ports:
  disk: {host: intake, adapter: file, max_in_flight: %d, endpoint: {directory: %q, name: "{{ftp.name}}"}}
`, src.addr(), connections, inFlight, inFlight, dst), "intake")
	return c, dst
}

// fill puts the files into a folder that nobody reads, and returns what lets all of
// them appear at once in the folder: "out", which the cluster polls, or "plain".
func fill(b *testing.B, src *server, folder string, n, size int) (appear func()) {
	b.Helper()
	src.folder(b, "hidden")
	rng := rand.New(rand.NewPCG(1, 2))
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(rng.Uint32())
	}
	for i := range n {
		path := filepath.Join(src.data(), "hidden", fmt.Sprintf("file-%05d", i))
		f, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		for left := size; left > 0; left -= len(block) {
			if _, err := f.Write(block[:min(left, len(block))]); err != nil {
				b.Fatal(err)
			}
		}
		f.Close()
		if os.Getuid() == 0 {
			if err := os.Chown(path, serverUID, serverUID); err != nil {
				b.Fatal(err)
			}
		}
	}
	return func() {
		out := filepath.Join(src.data(), folder)
		if err := os.RemoveAll(out); err != nil {
			b.Fatal(err)
		}
		syscall.Sync() // what was written before is not to be paid for in the measured time
		if err := os.Rename(filepath.Join(src.data(), "hidden"), out); err != nil {
			b.Fatal(err)
		}
	}
}

// emptied waits until the source holds nothing any more.
func emptied(b *testing.B, src *server, within time.Duration) {
	b.Helper()
	src.drained(b, "out", within)
}

// plainLoop fetches and deletes all files of the folder with the given number of
// connections, as a script on the same client library would.
func plainLoop(b *testing.B, src *server, connections int) time.Duration {
	b.Helper()
	dst := b.TempDir()
	began := time.Now()
	names := make(chan string)
	var failed atomic.Value
	var wg sync.WaitGroup
	dial := func() (*ftp.ServerConn, error) {
		c, err := ftp.Dial(src.addr(), ftp.DialWithTimeout(5*time.Second))
		if err == nil {
			err = c.Login("tester", "secret")
		}
		if err == nil {
			err = c.ChangeDir("/plain")
		}
		return c, err
	}
	for range connections {
		wg.Go(func() {
			c, err := dial()
			for name := range names {
				if err == nil {
					err = fetch(c, name, dst)
				}
			}
			if err != nil {
				failed.Store(err)
				return
			}
			_ = c.Quit()
		})
	}
	c, err := dial()
	if err != nil {
		b.Fatal(err)
	}
	entries, err := c.List("")
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range entries {
		names <- e.Name
	}
	close(names)
	wg.Wait()
	_ = c.Quit()
	if err, ok := failed.Load().(error); ok {
		b.Fatal(err)
	}
	return time.Since(began)
}

func fetch(c *ftp.ServerConn, name, dst string) error {
	r, err := c.Retr(name)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dst, name))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = c.Delete(name)
	}
	return err
}

func BenchmarkFTPReceive2000Small(b *testing.B) {
	const files, size = 2000, 10 << 10
	src := startServer(b, "vsftpd")
	src.folder(b, "out")
	for _, connections := range []int{1, 4} {
		b.Run(fmt.Sprintf("connections-%d", connections), func(b *testing.B) {
			c, dst := intoFiles(b, src, connections, 64)
			for b.Loop() {
				fill(b, src, "plain", files, size)()
				plain := plainLoop(b, src, connections)
				appear := fill(b, src, "out", files, size)
				began := time.Now()
				appear()
				emptied(b, src, 3*time.Minute)
				ours := time.Since(began)
				if n := len(finalNames(b, dst)); n != files {
					b.Fatalf("%d files arrived, want %d", n, files)
				}
				b.ReportMetric(files/ours.Seconds(), "files/s")
				b.ReportMetric(files/plain.Seconds(), "plain-files/s")
				b.ReportMetric(plain.Seconds()/ours.Seconds(), "ratio")
			}
			reportMemory(b, c, "after")
		})
	}
}

func BenchmarkFTPReceiveOneGiB(b *testing.B) {
	if testing.Short() {
		b.Skip("needs 3 GiB of disk")
	}
	const size = 1 << 30
	src := startServer(b, "vsftpd")
	src.folder(b, "out")
	c, _ := intoFiles(b, src, 1, 16)
	reportMemory(b, c, "idle")
	for b.Loop() {
		fill(b, src, "plain", 1, size)()
		plain := plainLoop(b, src, 1)
		appear := fill(b, src, "out", 1, size)
		began := time.Now()
		appear()
		stop := watchMemory(b, c)
		emptied(b, src, 3*time.Minute)
		ours := time.Since(began)
		stop()
		b.ReportMetric(float64(size>>20)/ours.Seconds(), "MiB/s")
		b.ReportMetric(float64(size>>20)/plain.Seconds(), "plain-MiB/s")
		b.ReportMetric(plain.Seconds()/ours.Seconds(), "ratio")
	}
}

// memory is the resident memory in MiB of the runtime and of its largest plugin.
func memory(tb testing.TB, c *cluster.Cluster) (node, plugin float64) {
	all, err := c.Nodes[0].Processes()
	if err != nil {
		tb.Fatal(err)
	}
	for _, p := range all {
		switch p.Part {
		case cluster.Runtime:
			node = resident(p.PID)
		case cluster.Plugin:
			plugin = max(plugin, resident(p.PID))
		}
	}
	return node, plugin
}

func resident(pid int) float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.ParseFloat(fields[0], 64)
	return kib / 1024
}

func reportMemory(b *testing.B, c *cluster.Cluster, when string) {
	node, plugin := memory(b, c)
	b.ReportMetric(node, "node-MiB-"+when)
	b.ReportMetric(plugin, "plugin-MiB-"+when)
}

// watchMemory notes the most memory used until it is stopped.
func watchMemory(b *testing.B, c *cluster.Cluster) (stop func()) {
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	var node, plugin float64
	go func() { // ends with ctx
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				n, p := memory(b, c)
				node, plugin = max(node, n), max(plugin, p)
			}
		}
	}()
	return func() {
		cancel()
		<-done
		b.ReportMetric(node, "node-MiB-most")
		b.ReportMetric(plugin, "plugin-MiB-most")
	}
}
