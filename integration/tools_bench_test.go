package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// These benchmarks compare a cluster of one with the tools that people move files with,
// over the same server, in the same run, in turn; figures are medians. Both ends of each
// way are directories of this machine: files appear in one, and it ends when all are
// in the other and none is left in the first. The tools sync nothing, keep no fates and
// look at nothing twice; Fairlead does.

// carrier moves files from one directory to the other.
type carrier struct {
	from, to string
	// run starts the tool; nil: it polls by itself.
	run func(ctx context.Context) *exec.Cmd
}

const (
	toolRounds = 3
	toolLimit  = 4 * time.Minute
)

// race has the carriers move so many files, by turns.
func race(b *testing.B, files, size int, carriers map[string]carrier) {
	names := make([]string, 0, len(carriers))
	for name := range carriers {
		names = append(names, name)
	}
	slices.Sort(names)
	seconds := map[string][]float64{}
	for b.Loop() {
		for round := range toolRounds {
			for i := range names {
				name := names[(i+round)%len(names)]
				seconds[name] = append(seconds[name], carriers[name].move(b, files, size))
			}
		}
	}
	median := map[string]float64{}
	for name, all := range seconds {
		slices.Sort(all)
		median[name] = all[len(all)/2]
	}
	amount, unit := float64(files), "files/s"
	if files == 1 {
		amount, unit = float64(size>>20), "MiB/s"
	}
	for name, s := range median {
		b.ReportMetric(amount/s, name+"-"+unit)
		if name != "fairlead" {
			b.ReportMetric(s/median["fairlead"], "ratio-to-"+name)
		}
	}
	b.ReportMetric(0, "ns/op") // says nothing here
}

func (c carrier) move(b *testing.B, files, size int) float64 {
	b.Helper()
	block := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	hidden := c.from + "-hidden"
	if err := errors.Join(os.MkdirAll(hidden, 0o755), own(hidden)); err != nil {
		b.Fatal(err)
	}
	for i := range files {
		path := filepath.Join(hidden, fmt.Sprintf("file-%05d", i))
		if err := errors.Join(writeBlocks(path, size, block), own(path)); err != nil {
			b.Fatal(err)
		}
	}
	began := time.Now()
	for i := range files {
		name := fmt.Sprintf("file-%05d", i)
		if err := os.Rename(filepath.Join(hidden, name), filepath.Join(c.from, name)); err != nil {
			b.Fatal(err)
		}
	}
	if c.run != nil {
		ctx, cancel := context.WithTimeout(b.Context(), toolLimit)
		defer cancel()
		if out, err := c.run(ctx).CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
	eventually(b, toolLimit, func() string {
		arrived, left := len(finalNames(b, c.to)), len(finalNames(b, c.from))
		if arrived == files && left == 0 {
			return ""
		}
		return fmt.Sprintf("%d of %d have arrived, %d are left", arrived, files, left)
	})
	took := time.Since(began).Seconds()
	// The next round begins with an empty directory: this one stays until the end, because
	// ext4 is slow to find room where many files were deleted just before.
	away, err := os.MkdirTemp(filepath.Dir(c.to), "away-")
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range finalNames(b, c.to) {
		err = errors.Join(err, os.Rename(filepath.Join(c.to, name), filepath.Join(away, name)))
	}
	if files == 1 {
		err = errors.Join(err, os.RemoveAll(away))
	}
	if err != nil {
		b.Fatal(err)
	}
	return took
}

func writeBlocks(path string, size int, block []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for left := size; left > 0 && err == nil; left -= len(block) {
		_, err = f.Write(block[:min(left, len(block))])
	}
	return errors.Join(err, f.Close())
}

// own gives a file to the FTP servers' user.
func own(path string) error {
	if os.Getuid() != 0 {
		return nil
	}
	return os.Chown(path, serverUID, serverUID)
}

func tool(b *testing.B, name string) {
	b.Helper()
	if _, err := exec.LookPath(name); err != nil {
		b.Skipf("%s is not installed", name)
	}
}

// lftp runs a script on a session at the server.
func lftp(url, login, script string) func(ctx context.Context) *exec.Cmd {
	return func(ctx context.Context) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "lftp", "-f", "/dev/stdin")
		cmd.Stdin = strings.NewReader("set net:max-retries 2\nset ftp:ssl-allow no\nset sftp:auto-confirm yes\nset cmd:fail-exit yes\n" +
			"open -u " + login + " " + url + "\n" + script + "\n")
		return cmd
	}
}

// way is one transfer: the endpoints, and what the tool does.
type way struct {
	receive, send string // adapter and endpoint, in YAML
	ours, theirs  carrier
	toolName      string
}

// deployWay starts a cluster of one that carries files on the way.
func deployWay(b *testing.B, w way) {
	b.Helper()
	c := startCluster(b, 1)
	deploy(b, c, fmt.Sprintf(`
hosts: {carrier: {clustered: true}}
receive_locations:
  in: {host: carrier, %s, schedule: {every: %s}, max_in_flight: 64, to: [out]}
send_ports:
  out: {host: carrier, max_in_flight: 64, %s}
`, w.receive, pollEvery, w.send), "carrier")
}

var toolSizes = []struct {
	name        string
	files, size int
}{{"2000x10KiB", 2000, 10 << 10}, {"256MiB", 1, 256 << 20}}

func benchWays(b *testing.B, make func(b *testing.B, connections int) way) {
	for _, s := range toolSizes {
		for _, connections := range []int{1, 4} {
			if s.files == 1 && connections > 1 {
				continue
			}
			b.Run(fmt.Sprintf("%s/connections-%d", s.name, connections), func(b *testing.B) {
				w := make(b, connections)
				deployWay(b, w)
				race(b, s.files, s.size, map[string]carrier{"fairlead": w.ours, w.toolName: w.theirs})
			})
		}
	}
}

// local makes a directory that is no server's.
func local(b *testing.B) string {
	b.Helper()
	return b.TempDir()
}

func BenchmarkFTPReceiveAgainstLFTP(b *testing.B) {
	tool(b, "lftp")
	benchWays(b, func(b *testing.B, connections int) way {
		s := startServer(b, "vsftpd")
		dst, plain := local(b), local(b)
		return way{
			receive: fmt.Sprintf("adapter: ftp, endpoint: {address: %q, user: tester, password: secret, directory: /ours, stable_for: 0s, connections: %d}", s.addr(), connections),
			send:    fmt.Sprintf(`adapter: file, endpoint: {directory: %q, name: "{{ftp.name}}"}`, dst),
			ours:    carrier{from: s.folder(b, "ours"), to: dst},
			theirs: carrier{s.folder(b, "theirs"), plain, lftp("ftp://"+s.addr(), "tester,secret",
				fmt.Sprintf("mirror --Remove-source-files --parallel=%d /theirs %s", connections, plain))},
			toolName: "lftp",
		}
	})
}

func BenchmarkFTPSendAgainstLFTP(b *testing.B) {
	tool(b, "lftp")
	benchWays(b, func(b *testing.B, connections int) way {
		s := startServer(b, "vsftpd")
		src, plain := local(b), local(b)
		return way{
			receive: fmt.Sprintf("adapter: file, endpoint: {directory: %q, stable_for: 0s}", src),
			send:    fmt.Sprintf(`adapter: ftp, endpoint: {address: %q, user: tester, password: secret, directory: /ours, name: "{{file.name}}", connections: %d}`, s.addr(), connections),
			ours:    carrier{from: src, to: s.folder(b, "ours")},
			theirs: carrier{plain, s.folder(b, "theirs"), lftp("ftp://"+s.addr(), "tester,secret",
				fmt.Sprintf("mirror -R --Remove-source-files --parallel=%d %s /theirs", connections, plain))},
			toolName: "lftp",
		}
	})
}

// sshd is OpenSSH with its own user, and the properties to reach it.
func sshd(b *testing.B) (s *server, endpoint string) {
	b.Helper()
	s = startServer(b, "sshd")
	key, err := os.ReadFile(s.info["host_key"])
	if err != nil {
		b.Fatal(err)
	}
	return s, fmt.Sprintf("address: %q, user: %s, private_key: %q, host_keys: [%q]", s.addr(), s.info["user"], "${file:"+s.info["key"]+"}", strings.TrimSpace(string(key)))
}

// sftpBatch runs the batch with OpenSSH's own client, which has one connection.
func sftpBatch(s *server, batch string) func(ctx context.Context) *exec.Cmd {
	return func(ctx context.Context) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "sftp", "-q", "-b", "-", "-P", s.port, "-i", s.info["key"], "-o", "StrictHostKeyChecking=no",
			"-o", "UserKnownHostsFile=/dev/null", s.info["user"]+"@127.0.0.1")
		cmd.Stdin = strings.NewReader(batch)
		return cmd
	}
}

func BenchmarkSFTPReceiveAgainstSFTP(b *testing.B) {
	tool(b, "sftp")
	benchWays(b, func(b *testing.B, connections int) way {
		s, endpoint := sshd(b)
		dst, plain := local(b), local(b)
		return way{
			receive: fmt.Sprintf("adapter: sftp, endpoint: {%s, directory: ours, stable_for: 0s, connections: %d}", endpoint, connections),
			send:    fmt.Sprintf(`adapter: file, endpoint: {directory: %q, name: "{{sftp.name}}"}`, dst),
			ours:    carrier{from: s.folder(b, "ours"), to: dst},
			theirs:  carrier{s.folder(b, "theirs"), plain, sftpBatch(s, fmt.Sprintf("lcd %s\nget theirs/*\nrm theirs/*\n", plain))},

			toolName: "sftp",
		}
	})
}

func BenchmarkSFTPSendAgainstSFTP(b *testing.B) {
	tool(b, "sftp")
	benchWays(b, func(b *testing.B, connections int) way {
		s, endpoint := sshd(b)
		src, plain := local(b), local(b)
		return way{
			receive: fmt.Sprintf("adapter: file, endpoint: {directory: %q, stable_for: 0s}", src),
			send:    fmt.Sprintf(`adapter: sftp, endpoint: {%s, directory: ours, name: "{{file.name}}", connections: %d}`, endpoint, connections),
			ours:    carrier{from: src, to: s.folder(b, "ours")},
			theirs:  carrier{plain, s.folder(b, "theirs"), sftpBatch(s, fmt.Sprintf("put %s/* theirs/\n!rm %s/*\n", plain, plain))},

			toolName: "sftp",
		}
	})
}
