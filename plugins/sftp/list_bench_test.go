package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkListLarge lists a directory of 100,000 files of OpenSSH by the client library
// alone and by the adapter, in turn, each on a connection that is there already.
func BenchmarkListLarge(b *testing.B) {
	const files = 100_000
	dir, props := startOpenSSH(b)
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%06d", i)), nil, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for pattern, want := range map[string]int{"*": files, "file-000*": 1000} {
		b.Run(pattern, func(b *testing.B) {
			src := newSource(b, with(props, "pattern", pattern, "directory", dir, "timeout", "60s"))
			var plain, ours []time.Duration
			for b.Loop() {
				plain = append(plain, readPlainly(b, src, dir, files))
				began := time.Now()
				items, err := src.List(b.Context())
				if err != nil || len(items) != want {
					b.Fatalf("%d files, %v; want %d", len(items), err, want)
				}
				ours = append(ours, time.Since(began))
			}
			b.ReportMetric(float64(median(plain).Milliseconds()), "plain-ms")
			b.ReportMetric(float64(median(ours).Milliseconds()), "ms")
			b.ReportMetric(median(plain).Seconds()/median(ours).Seconds(), "ratio")
		})
	}
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// readPlainly asks by the library, through one of the source's own connections.
func readPlainly(b *testing.B, src *source, dir string, want int) (took time.Duration) {
	b.Helper()
	err := src.pool.with(b.Context(), func(c *session) error {
		began := time.Now()
		entries, err := c.ReadDir(dir)
		took = time.Since(began)
		if err == nil && len(entries) != want {
			err = fmt.Errorf("%d files, want %d", len(entries), want)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return took
}
