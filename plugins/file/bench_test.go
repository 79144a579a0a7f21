package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk/files"
)

// BenchmarkSend sends many small files from several goroutines: by the sink, by a
// plain write without any sync, and by the plain durable sequence of write, fsync,
// rename and fsync of the directory, in turn. The ratios are those of the medians.
func BenchmarkSend(b *testing.B) {
	const files, size = 1000, 10 << 10
	content := noise(size)
	for _, senders := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprintf("%d at once", senders), func(b *testing.B) {
			var unsynced, durable, ours []time.Duration
			for b.Loop() {
				unsynced = append(unsynced, sendAll(b, files, senders, writeOnly(b, content)))
				durable = append(durable, sendAll(b, files, senders, writeDurably(b, content)))
				ours = append(ours, sendAll(b, files, senders, writeBySink(b, string(content))))
			}
			b.ReportMetric(files/median(unsynced).Seconds(), "unsynced-files/s")
			b.ReportMetric(files/median(durable).Seconds(), "durable-files/s")
			b.ReportMetric(files/median(ours).Seconds(), "files/s")
			b.ReportMetric(median(durable).Seconds()/median(ours).Seconds(), "ratio-to-durable")
			b.ReportMetric(median(unsynced).Seconds()/median(ours).Seconds(), "ratio-to-unsynced")
		})
	}
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

func sendAll(b *testing.B, files, senders int, send func(i int) error) time.Duration {
	var next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range senders {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= files; i = int(next.Add(1)) {
				if err := send(i); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

func writeOnly(b *testing.B, content []byte) func(int) error {
	dir := b.TempDir()
	return func(i int) error { return os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), content, fileMode) }
}

func writeDurably(b *testing.B, content []byte) func(int) error {
	dir := b.TempDir()
	return func(i int) error {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i, ".part")))
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.Write(content); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if err := os.Rename(f.Name(), filepath.Join(dir, fmt.Sprint(i))); err != nil {
			return err
		}
		return syncPath(dir)
	}
}

func writeBySink(b *testing.B, content string) func(int) error {
	s := newSink(b, b.TempDir(), map[string]any{"name": "{{ftp.name}}"})
	return func(i int) error {
		return s.Send(b.Context(), message(newID(b), fmt.Sprint(i), content))
	}
}

// BenchmarkCopyLarge copies a large file out of the page cache, as a sink does with
// the spool, checks its sum and syncs it: by the sink's way, and by io.Copy, in turn.
func BenchmarkCopyLarge(b *testing.B) {
	const size = 512 << 20
	from := filepath.Join(b.TempDir(), "spooled")
	if err := os.WriteFile(from, noise(size), fileMode); err != nil {
		b.Fatal(err)
	}
	to := filepath.Join(b.TempDir(), "sent")
	fresh := func() { // each pays for what it writes itself
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			b.Fatal(err)
		}
		syscall.Sync()
	}
	ways := []func(*contentReader, *os.File) error{
		func(in *contentReader, f *os.File) error {
			_, err := io.Copy(f, in)
			return err
		},
		(*contentReader).copyTo,
	}
	took := make([][]time.Duration, len(ways))
	for round := 0; b.Loop(); round++ {
		for i := range ways {
			way := (i + round) % len(ways) // disks repay later what they were quick with
			fresh()
			took[way] = append(took[way], copyLarge(b, from, to, ways[way]))
		}
	}
	plain, ours := took[0], took[1]
	b.ReportMetric(size>>20/median(plain).Seconds(), "io.Copy-MiB/s")
	b.ReportMetric(size>>20/median(ours).Seconds(), "MiB/s")
	b.ReportMetric(median(plain).Seconds()/median(ours).Seconds(), "ratio")
}

func copyLarge(b *testing.B, from, to string, run func(*contentReader, *os.File) error) time.Duration {
	in, err := os.Open(from)
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	began := time.Now()
	if err := run(&contentReader{ctx: b.Context(), r: in, sums: files.NewSums()}, out); err != nil {
		b.Fatal(err)
	}
	if err := syncContent(out); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

func noise(n int) []byte {
	out := make([]byte, n)
	x := uint32(1)
	for i := range out {
		x = x*1664525 + 1013904223
		out[i] = byte(x >> 24)
	}
	return out
}

// BenchmarkListLarge lists a directory of 100,000 files: by the source, and by reading
// the directory and asking for each file that its pattern takes, in turn.
func BenchmarkListLarge(b *testing.B) {
	const files = 100_000
	dir := b.TempDir()
	for i := range files {
		write(b, dir, fmt.Sprintf("file-%06d", i), "")
	}
	for pattern, want := range map[string]int{"*": files, "file-000*": 1000} {
		b.Run(pattern, func(b *testing.B) {
			src := newSource(b, dir, map[string]any{"pattern": pattern})
			var plain, ours []time.Duration
			for b.Loop() {
				began := time.Now()
				if n := listPlainly(b, dir, pattern); n != want {
					b.Fatalf("%d files by the plain loop, want %d", n, want)
				}
				plain = append(plain, time.Since(began))
				began = time.Now()
				if n := len(list(b, src)); n != want {
					b.Fatalf("%d files, want %d", n, want)
				}
				ours = append(ours, time.Since(began))
			}
			b.ReportMetric(float64(median(plain).Milliseconds()), "plain-ms")
			b.ReportMetric(float64(median(ours).Milliseconds()), "ms")
			b.ReportMetric(median(plain).Seconds()/median(ours).Seconds(), "ratio")
		})
	}
}

func listPlainly(b *testing.B, dir, pattern string) (n int) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range entries {
		if ok, _ := filepath.Match(pattern, e.Name()); !ok {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			n++
		}
	}
	return n
}
