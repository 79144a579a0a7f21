package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	ftpclient "github.com/jlaffaye/ftp"

	"github.com/fairlead-io/fairlead/sdk"
)

// inFlight is how many items the runtime has under way at this location.
const inFlight = 64

// BenchmarkReceive fetches and deletes files from vsftpd, by a plain loop on the
// client library and by the adapter, in turn. The adapter also asks for the times,
// looks again before it deletes, and compares sizes. The ratio is that of the medians.
func BenchmarkReceive(b *testing.B) {
	const files, size = 1000, 10 << 10
	for _, mode := range []string{"plain", tlsExplicit} {
		for _, connections := range []int{1, 4} {
			b.Run(fmt.Sprintf("%s %d connections", mode, connections), func(b *testing.B) {
				receive(b, mode, files, size, connections)
			})
		}
	}
	b.Run("1 GiB", func(b *testing.B) { receive(b, "plain", 1, 1<<30, 1) })
}

func receive(b *testing.B, mode string, files, size, connections int) {
	settings := []string{}
	if mode != "plain" {
		settings = append(settings, "FTPS="+mode, "TLS_REUSE=1")
	}
	s := startReal(b, "vsftpd", settings...)
	content := noise(1, size)
	round := func(run func(testing.TB, *realServer, int)) time.Duration {
		for i := range files {
			s.write(b, fmt.Sprintf("file-%05d", i), content)
		}
		began := time.Now()
		run(b, s, connections)
		took := time.Since(began)
		if left := s.names(b); len(left) != 0 {
			b.Fatalf("%d files are left", len(left))
		}
		return took
	}
	var plain, ours []time.Duration
	for b.Loop() {
		plain = append(plain, round(loop))
		ours = append(ours, round(throughAdapter))
	}
	b.ReportMetric(float64(files)/median(plain).Seconds(), "plain-files/s")
	b.ReportMetric(float64(files)/median(ours).Seconds(), "files/s")
	b.ReportMetric(median(plain).Seconds()/median(ours).Seconds(), "ratio")
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

func throughAdapter(b testing.TB, s *realServer, connections int) {
	src := newSource(b, with(s.props, "connections", connections, "timeout", "30s"))
	items, err := src.List(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	work := make(chan sdk.Item)
	var wg sync.WaitGroup
	for range inFlight {
		wg.Go(func() {
			for item := range work {
				if err := takeAndSettle(b, src, item); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for _, item := range items {
		work <- item
	}
	close(work)
	wg.Wait()
	src.Close()
}

func takeAndSettle(b testing.TB, src *source, item sdk.Item) error {
	content, err := src.Open(b.Context(), item)
	if err != nil {
		return err
	}
	for part := range content.Parts {
		if _, err := io.Copy(io.Discard, part.Reader); err != nil {
			return errors.Join(err, content.Close())
		}
	}
	if err := content.Close(); err != nil {
		return err
	}
	return src.Settle(b.Context(), item)
}

func loop(b testing.TB, s *realServer, connections int) {
	p, err := newPool(decode[receiveProperties](b, s.props).connection, slog.Default())
	if err != nil {
		b.Fatal(err)
	}
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		b.Fatal(err)
	}
	work := make(chan string)
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() { loopOne(b, p.end, work) })
	}
	for _, e := range entries {
		work <- filepath.Base(e.Name())
	}
	close(work)
	wg.Wait()
}

func loopOne(b testing.TB, end *endpoint, work <-chan string) {
	c, err := end.connect(b.Context(), func() {})
	if err != nil {
		b.Error(err)
		return
	}
	defer c.quit()
	for name := range work {
		err := func(c *ftpclient.ServerConn) error {
			r, err := c.Retr(name)
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				return err
			}
			if err := r.Close(); err != nil {
				return err
			}
			return c.Delete(name)
		}(c.ftp)
		if err != nil {
			b.Error(err)
		}
	}
}
