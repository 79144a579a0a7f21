package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/demo/cluster"
)

// loadFor is how long the cluster is kept under load; FAIRLEAD_LOAD sets it, such
// as to 1h.
func loadFor(t *testing.T) time.Duration {
	t.Helper()
	given := os.Getenv("FAIRLEAD_LOAD")
	if given == "" {
		return 30 * time.Second
	}
	d, err := time.ParseDuration(given)
	if err != nil {
		t.Fatalf("FAIRLEAD_LOAD: %v", err)
	}
	return d
}

// burn keeps every core busy, and the disk with synced writes, until the test ends.
func burn(t *testing.T) {
	var wg sync.WaitGroup
	for range 2 * runtime.NumCPU() {
		wg.Go(func() {
			for n := uint64(1); t.Context().Err() == nil; {
				for range 1 << 20 {
					n = n*6364136223846793005 + 1442695040888963407
				}
				runtime.KeepAlive(n)
			}
		})
	}
	dir := t.TempDir()
	wg.Go(func() {
		block := make([]byte, 1<<20)
		for t.Context().Err() == nil {
			f, err := os.Create(filepath.Join(dir, "block"))
			if err != nil {
				t.Error(err)
				return
			}
			_, werr := f.Write(block)
			serr := f.Sync()
			f.Close()
			if werr != nil || serr != nil {
				t.Errorf("load on the disk: %v, %v", werr, serr)
				return
			}
		}
	})
	t.Cleanup(wg.Wait)
}

func TestNoOwnershipIsLostUnderFullLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the built binaries, and every core for a while")
	}
	c := startCluster(t, 3, func(cfg *cluster.Config) { cfg.Profile = "lan" })
	in, out := t.TempDir(), t.TempDir()
	deploy(t, c, fmt.Sprintf(`
hosts:
  intake: {clustered: true}
  delivery: {clustered: true}
receive_locations:
  drop:
    host: intake
    adapter: file
    endpoint: {directory: %q, stable_for: 0s}
    schedule: {every: 200ms}
    to: [partner]
send_ports:
  partner: {host: delivery, adapter: file, endpoint: {directory: %q, name: "{{file.name}}"}}
`, in, out), "intake", "delivery")
	before := ownership(t, c)
	burn(t)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	sent := 0
	for end := time.Now().Add(loadFor(t)); time.Now().Before(end); sent++ {
		name := fmt.Sprintf("order-%06d", sent)
		if err := os.WriteFile(filepath.Join(in, "."+name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(in, "."+name), filepath.Join(in, name)); err != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
	eventually(t, time.Minute, func() string {
		if have := len(finalNames(t, out)); have != sent {
			return fmt.Sprintf("%d of %d files arrived", have, sent)
		}
		return ""
	})
	if after := ownership(t, c); after != before {
		t.Errorf("ownership has changed for no reason but load:\n%s\nafter it:\n%s", before, after)
	}
	t.Logf("%d files in %v", sent, loadFor(t))
}

// ownership is who owns what, under which epochs and incarnations.
func ownership(t *testing.T, c *cluster.Cluster) string {
	t.Helper()
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all string
	for _, n := range s.Nodes {
		all += fmt.Sprintf("%s %s\n", n.Name, n.Incarnation)
	}
	for _, h := range s.Hosts {
		all += fmt.Sprintf("%s %s %d\n", h.Name, h.Owner, h.Epoch)
	}
	return all
}
