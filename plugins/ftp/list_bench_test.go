package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	ftpclient "github.com/jlaffaye/ftp"
)

// BenchmarkListLarge lists a directory of 100,000 files by the client library alone and
// by the adapter, in turn. Where the server has no MLSD the first listing also asks for
// the time of each file that the pattern takes; later ones know it.
func BenchmarkListLarge(b *testing.B) {
	const files = 100_000
	for _, server := range []string{"vsftpd", "proftpd"} {
		b.Run(server, func(b *testing.B) {
			s := startReal(b, server)
			old := time.Now().AddDate(0, -1, 0)
			for i := range files {
				name := fmt.Sprintf("file-%06d", i)
				s.write(b, name, nil)
				if err := os.Chtimes(filepath.Join(s.Dir, name), old, old); err != nil {
					b.Fatal(err)
				}
			}
			for pattern, want := range map[string]int{"*": files, "file-000*": 1000} {
				b.Run(pattern, func(b *testing.B) { listLarge(b, s, files, pattern, want) })
			}
		})
	}
}

func listLarge(b *testing.B, s *realServer, files int, pattern string, want int) {
	plainly, err := ftpclient.Dial(s.props["address"].(string), ftpclient.DialWithTimeout(time.Minute))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = plainly.Quit() }()
	if err := plainly.Login(s.props["user"].(string), s.props["password"].(string)); err != nil {
		b.Fatal(err)
	}
	src := newSource(b, with(s.props, "pattern", pattern, "timeout", "60s"))
	ours := func() time.Duration {
		began := time.Now()
		items, err := src.List(b.Context())
		if err != nil || len(items) != want {
			b.Fatalf("%d files, %v; want %d", len(items), err, want)
		}
		return time.Since(began)
	}
	first := ours()
	var plain, later []time.Duration
	for b.Loop() {
		began := time.Now()
		if entries, err := plainly.List(""); err != nil || len(entries) < files {
			b.Fatalf("%d files by the library, %v; want %d", len(entries), err, files)
		}
		plain = append(plain, time.Since(began))
		later = append(later, ours())
	}
	b.ReportMetric(float64(first.Milliseconds()), "first-ms")
	b.ReportMetric(float64(median(plain).Milliseconds()), "plain-ms")
	b.ReportMetric(float64(median(later).Milliseconds()), "ms")
	b.ReportMetric(median(plain).Seconds()/median(later).Seconds(), "ratio")
}
