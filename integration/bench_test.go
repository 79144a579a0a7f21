package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
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

// The benchmarks compare Fairlead with plain loops on the same FTP client library, in
// the same run and against the same server, because only the ratio means something
// on a shared machine. The rounds take turns, and each time another begins: a disk or a
// processor that is slow for a while is slow for all. Figures are medians.
//
// One loop writes files without any sync, as most scripts do. The other gives what
// Fairlead gives, one file after the other: the content synced, the rename, the
// directory synced, and only then the deletion at the source.

// pollEvery is short because the loops need not wait for any poll: half of it counts,
// on average, as Fairlead's time.
const pollEvery = 100 * time.Millisecond

// receiveBench is one server, and a one-node cluster that receives from it into a
// directory.
type receiveBench struct {
	src         *server
	c           *cluster.Cluster
	dst         string
	connections int
	files, size int
}

func newReceiveBench(b *testing.B, connections, files, size int) *receiveBench {
	b.Helper()
	r := &receiveBench{src: startServer(b, "vsftpd"), dst: b.TempDir(), connections: connections, files: files, size: size}
	r.src.folder(b, "out")
	r.src.folder(b, "plain")
	r.c = startCluster(b, 1)
	deploy(b, r.c, fmt.Sprintf(`
hosts:
  intake: {clustered: true}
receive_locations:
  files:
    host: intake
    adapter: ftp
    endpoint: {address: %q, user: tester, password: secret, directory: /out, stable_for: 0s, connections: %d}
    schedule: {every: %s}
    max_in_flight: 64
    to: [disk]
send_ports:
  disk: {host: intake, adapter: file, max_in_flight: 64, endpoint: {directory: %q, name: "{{ftp.name}}"}}
`, r.src.addr(), connections, pollEvery, r.dst), "intake")
	return r
}

// run takes so many rounds of each and reports the medians.
func (r *receiveBench) run(b *testing.B, rounds int) {
	ways := []func(*testing.B) figures{
		func(b *testing.B) figures { return figures{"plain": r.plainLoop(b, false)} },
		func(b *testing.B) figures { return figures{"durable": r.plainLoop(b, true)} },
		r.ours,
	}
	all := map[string][]float64{}
	for b.Loop() {
		for round := range rounds {
			for i := range ways {
				for name, value := range ways[(i+round)%len(ways)](b) {
					all[name] = append(all[name], value)
				}
			}
		}
	}
	took := map[string]float64{}
	for name, values := range all {
		slices.Sort(values)
		took[name] = values[len(values)/2]
	}
	r.report(b, took)
}

// figures are those of one round, by name: seconds unless the name says otherwise.
type figures map[string]float64

func (r *receiveBench) report(b *testing.B, median figures) {
	amount, unit := float64(r.files), "files/s"
	if r.files == 1 {
		amount, unit = float64(r.size>>20), "MiB/s"
	}
	for _, way := range []string{"plain", "durable"} {
		b.ReportMetric(amount/median[way], way+"-"+unit)
		b.ReportMetric(median[way]/median["ours"], "ratio-to-"+way)
		delete(median, way)
	}
	b.ReportMetric(amount/median["ours"], unit)
	delete(median, "ours")
	for name, value := range median {
		b.ReportMetric(value, name)
	}
	b.ReportMetric(0, "ns/op") // says nothing here
}

// ours lets the files appear where the cluster polls, and waits until none is left.
func (r *receiveBench) ours(b *testing.B) figures {
	r.emptyDestination(b)
	appear := r.fill(b, "out")
	before := r.usage(b)
	stop := r.watch(b)
	began := time.Now()
	appear()
	r.src.drained(b, "out", 3*time.Minute)
	f := figures{"ours": time.Since(began).Seconds()}
	for name, at := range stop() {
		f[name+"-ms"] = max(0, float64(at.Sub(began).Microseconds())/1e3)
	}
	for name, busy := range r.usage(b) {
		f[name+"-cpu-ms"] = float64((busy - before[name]).Milliseconds())
	}
	if n := len(finalNames(b, r.dst)); n != r.files {
		b.Fatalf("%d files arrived, want %d", n, r.files)
	}
	return f
}

// emptyDestination moves the files of the last round away. Small ones are not deleted
// until the end: ext4 is slow to find room for new files where many were deleted within
// the last seconds, and the next round would pay for it.
func (r *receiveBench) emptyDestination(b *testing.B) {
	away, err := os.MkdirTemp(filepath.Dir(r.dst), "away-")
	if err != nil {
		b.Fatal(err)
	}
	entries, err := os.ReadDir(r.dst)
	for _, e := range entries {
		err = errors.Join(err, os.Rename(filepath.Join(r.dst, e.Name()), filepath.Join(away, e.Name())))
	}
	if err != nil {
		b.Fatal(err)
	}
	r.discard(b, away)
}

// discard deletes a directory if its files are large; small ones stay until the end.
func (r *receiveBench) discard(b *testing.B, dir string) {
	if r.files > 1 {
		return
	}
	if err := os.RemoveAll(dir); err != nil {
		b.Fatal(err)
	}
}

// fill writes the files into a folder that nobody reads, and returns what lets them
// appear in another. That folder stays the same one, so that no poll misses it.
func (r *receiveBench) fill(b *testing.B, folder string) (appear func()) {
	b.Helper()
	hidden := r.src.folder(b, "hidden")
	rng := rand.New(rand.NewPCG(1, 2))
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(rng.Uint32())
	}
	names := make([]string, r.files)
	for i := range names {
		names[i] = fmt.Sprintf("file-%05d", i)
		r.create(b, filepath.Join(hidden, names[i]), block)
	}
	syscall.Sync() // what was written before is not to be paid for in the measured time
	return func() {
		for _, name := range names {
			if err := os.Rename(filepath.Join(hidden, name), filepath.Join(r.src.data(), folder, name)); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func (r *receiveBench) create(b *testing.B, path string, block []byte) {
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	for left := r.size; left > 0 && err == nil; left -= len(block) {
		_, err = f.Write(block[:min(left, len(block))])
	}
	if err := errors.Join(err, f.Close()); err != nil {
		b.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(path, serverUID, serverUID); err != nil {
			b.Fatal(err)
		}
	}
}

// plainLoop fetches and deletes all files of a folder with as many connections, as
// a script on the same client library would. It returns the seconds.
func (r *receiveBench) plainLoop(b *testing.B, durable bool) float64 {
	b.Helper()
	dst, err := os.MkdirTemp(filepath.Dir(r.dst), "plain-")
	if err != nil {
		b.Fatal(err)
	}
	defer r.discard(b, dst)
	r.fill(b, "plain")()
	began := time.Now()
	names := make(chan string)
	var failed atomic.Value
	var wg sync.WaitGroup
	for range r.connections {
		wg.Go(func() {
			c, err := r.dial()
			for name := range names {
				if err == nil {
					err = fetch(c, name, dst, durable)
				}
			}
			if err != nil {
				failed.Store(err)
				return
			}
			_ = c.Quit()
		})
	}
	c, err := r.dial()
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
	took := time.Since(began).Seconds()
	if n := len(finalNames(b, dst)); n != r.files {
		b.Fatalf("the loop fetched %d files, want %d", n, r.files)
	}
	return took
}

func (r *receiveBench) dial() (*ftp.ServerConn, error) {
	c, err := ftp.Dial(r.src.addr(), ftp.DialWithTimeout(5*time.Second))
	if err == nil {
		err = c.Login("tester", "secret")
	}
	if err == nil {
		err = c.ChangeDir("/plain")
	}
	return c, err
}

func fetch(c *ftp.ServerConn, name, dst string, durable bool) error {
	r, err := c.Retr(name)
	if err != nil {
		return err
	}
	to := filepath.Join(dst, name)
	if durable {
		to += ".part"
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	err = errors.Join(err, r.Close())
	if durable && err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if durable && err == nil {
		err = errors.Join(os.Rename(to, filepath.Join(dst, name)), syncFolder(dst))
	}
	if err != nil {
		return err
	}
	return c.Delete(name)
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func BenchmarkFTPReceive2000Small(b *testing.B) {
	for _, connections := range []int{1, 4} {
		b.Run(fmt.Sprintf("connections-%d", connections), func(b *testing.B) {
			r := newReceiveBench(b, connections, 2000, 10<<10)
			idle := memory(b, r.c)
			r.run(b, 5)
			b.ReportMetric(memory(b, r.c)-idle, "MiB-above-idle-after")
		})
	}
}

func BenchmarkFTPReceiveOneGiB(b *testing.B) {
	if testing.Short() {
		b.Skip("needs 3 GiB of disk")
	}
	r := newReceiveBench(b, 1, 1, 1<<30)
	idle := memory(b, r.c)
	most := watchMemory(b, r.c)
	r.run(b, 3)
	b.ReportMetric(most()-idle, "MiB-above-idle-most")
}

// watch notes when the destination has its first temporary file (the first send has
// begun), its first final name, and all of them: where the time goes.
func (r *receiveBench) watch(b *testing.B) (stop func() map[string]time.Time) {
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	seen := map[string]time.Time{}
	note := func(name string, when bool) {
		if _, known := seen[name]; when && !known {
			seen[name] = time.Now()
		}
	}
	look := func() {
		entries, _ := os.ReadDir(r.dst)
		final := len(entries)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".fairlead-") {
				final--
			}
		}
		note("first-send-begun", len(entries) > 0)
		note("first-arrived", final > 0)
		note("all-arrived", final == r.files)
	}
	go func() { // ends with ctx
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				look()
				return
			case <-tick.C:
				look()
			}
		}
	}()
	return func() map[string]time.Time {
		cancel()
		<-done
		return seen
	}
}

// usage is the processor time that was used so far: by the node, by each adapter, and
// by the whole machine, which includes the server, the kernel's own work, and whoever
// else uses it.
func (r *receiveBench) usage(b *testing.B) map[string]time.Duration {
	all, err := r.c.Nodes[0].Processes()
	if err != nil {
		b.Fatal(err)
	}
	used := map[string]time.Duration{"machine": machineTime(b)}
	for _, p := range all {
		switch p.Part {
		case cluster.Runtime:
			used["node"] = processTime(p.PID)
		case cluster.Plugin:
			used[p.Adapter] += processTime(p.PID)
		}
	}
	return used
}

// clockTick is the unit of /proc: USER_HZ, which is 100 on every platform of Linux that
// this runs on.
const clockTick = 10 * time.Millisecond

// processTime reads user and system time, the fields 14 and 15 of proc(5)'s stat.
func processTime(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The command's name, in parentheses, may have blanks. After it comes field 3.
	fields := strings.Fields(string(data[strings.LastIndex(string(data), ")")+1:]))
	if len(fields) < 13 {
		return 0
	}
	return ticks(fields[11]) + ticks(fields[12])
}

// machineTime is what all processors have been busy with.
func machineTime(b *testing.B) time.Duration {
	data, err := os.ReadFile("/proc/stat")
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if err != nil {
		b.Fatal(err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq ...
	if len(fields) < 8 {
		return 0
	}
	return ticks(fields[1]) + ticks(fields[2]) + ticks(fields[3]) + ticks(fields[6]) + ticks(fields[7])
}

func ticks(field string) time.Duration {
	n, _ := strconv.ParseInt(field, 10, 64)
	return time.Duration(n) * clockTick
}

// memory is the resident memory in MiB of the runtime and its plugins together.
func memory(tb testing.TB, c *cluster.Cluster) float64 {
	all, err := c.Nodes[0].Processes()
	if err != nil {
		tb.Fatal(err)
	}
	sum := 0.0
	for _, p := range all {
		if p.Part != cluster.Guardian {
			sum += resident(p.PID)
		}
	}
	return sum
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

// watchMemory notes the most memory used until it is stopped.
func watchMemory(b *testing.B, c *cluster.Cluster) (stop func() float64) {
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	most := 0.0
	go func() { // ends with ctx
		defer close(done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				most = max(most, memory(b, c))
			}
		}
	}()
	return func() float64 {
		cancel()
		<-done
		return most
	}
}
