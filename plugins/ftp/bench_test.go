package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	ftpclient "github.com/jlaffaye/ftp"

	"github.com/fairlead-io/fairlead/sdk"
)

// BenchmarkReceive fetches and deletes files from vsftpd, by a plain loop on the
// client library and by the adapter. The adapter also asks for the times, looks
// again before it deletes, and compares sizes.
func BenchmarkReceive(b *testing.B) {
	const files, size = 1000, 10 << 10
	for _, mode := range []string{"plain", tlsExplicit} {
		for _, connections := range []int{1, 4} {
			b.Run(fmt.Sprintf("%s %d connections loop", mode, connections), func(b *testing.B) {
				receive(b, mode, files, size, connections, loop)
			})
			b.Run(fmt.Sprintf("%s %d connections adapter", mode, connections), func(b *testing.B) {
				receive(b, mode, files, size, connections, throughAdapter)
			})
		}
	}
	for name, run := range map[string]func(testing.TB, *realServer, int){"loop": loop, "adapter": throughAdapter} {
		b.Run("1 GiB "+name, func(b *testing.B) { receive(b, "plain", 1, 1<<30, 1, run) })
	}
}

func receive(b *testing.B, mode string, files, size, connections int, run func(testing.TB, *realServer, int)) {
	settings := []string{}
	if mode != "plain" {
		settings = append(settings, "FTPS="+mode, "TLS_REUSE=1")
	}
	s := startReal(b, "vsftpd", settings...)
	b.SetBytes(int64(files) * int64(size))
	content := noise(1, size)
	for b.Loop() {
		b.StopTimer()
		for i := range files {
			s.write(b, fmt.Sprintf("file-%05d", i), content)
		}
		b.StartTimer()
		run(b, s, connections)
		if left := s.names(b); len(left) != 0 {
			b.Fatalf("%d files are left", len(left))
		}
	}
	b.ReportMetric(float64(files)*float64(b.N)/b.Elapsed().Seconds(), "files/s")
}

func throughAdapter(b testing.TB, s *realServer, connections int) {
	src := newSource(b, with(s.props, "connections", connections, "timeout", "30s"))
	items, err := src.List(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	work := make(chan sdk.Item)
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			for item := range work {
				content, err := src.Open(b.Context(), item)
				if err != nil {
					b.Error(err)
					continue
				}
				for part := range content.Parts {
					if _, err := io.Copy(io.Discard, part.Reader); err != nil {
						b.Error(err)
					}
				}
				if err := content.Close(); err != nil {
					b.Error(err)
				}
				if err := src.Settle(b.Context(), item); err != nil {
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

func loop(b testing.TB, s *realServer, connections int) {
	p, err := newPool(decode[receiveProperties](b, s.props).connection)
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
	c, err := end.connect(b.Context())
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
