package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/demo/cluster"
)

// Everything between the nodes is mutual TLS here: raft, leases, and content on its
// way from the node that reads to the node that sends.
func TestThreeNodesOverMutualTLSDeliverThroughEachOther(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the built binaries")
	}
	c := startCluster(t, 3, func(cfg *cluster.Config) { cfg.TLS = true })
	in, out := t.TempDir(), t.TempDir()
	deploy(t, c, fmt.Sprintf(`
hosts:
  intake: {clustered: true, preferred_owners: [node-a]}
  delivery: {clustered: true, preferred_owners: [node-b]}
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
	if a := owner(t, c, "intake", ""); a == owner(t, c, "delivery", "") {
		if _, err := c.Move(t.Context(), "delivery", ""); err != nil { // a node was late
			t.Fatal(err)
		}
		owner(t, c, "delivery", a)
	}
	files := cluster.Files(3, 40, 3<<20) // some larger than what stays in memory
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(in, "."+f.Name), f.Content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(in, "."+f.Name), filepath.Join(in, f.Name)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 30*time.Second, func() string {
		if have := len(finalNames(t, out)); have != len(files) {
			return fmt.Sprintf("%d of %d files arrived", have, len(files))
		}
		return ""
	})
	var hashes []string
	for _, name := range finalNames(t, out) {
		data, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, cluster.Hash(data))
	}
	judge(t, files, hashes)
}
