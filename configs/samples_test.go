// Package configs_test loads every sample of this directory.
package configs_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/runtime/config"
)

func nodeFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("cluster/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 3 {
		t.Fatalf("cluster/*.yaml: got %d files, want 3", len(files))
	}
	return append(files, "node-a.yaml")
}

func TestEveryNodeFileLoadsWithoutWarnings(t *testing.T) {
	for _, file := range nodeFiles(t) {
		n, err := config.LoadNode(file)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if len(n.Warnings) > 0 {
			t.Errorf("%s: warnings:\n%v", file, n.Warnings)
		}
	}
}

func TestTheNodesOfTheClusterSampleAgreeAndDoNotCollide(t *testing.T) {
	seen := map[string]string{}
	var join []string
	for _, file := range nodeFiles(t)[:3] {
		n, err := config.LoadNode(file)
		if err != nil {
			t.Fatalf("%v", err)
		}
		for _, own := range []string{n.Node.Name, n.Node.DataDir, n.Listen.Gossip, n.Listen.Cluster, n.Listen.HTTP, n.Listen.Socket} {
			if other, ok := seen[own]; ok {
				t.Errorf("%s and %s share %s", file, other, own)
			}
			seen[own] = file
		}
		if !slices.Contains(n.Cluster.Join, n.Listen.Gossip) {
			t.Errorf("%s: listen.gossip %s is not in cluster.join %v", file, n.Listen.Gossip, n.Cluster.Join)
		}
		if join != nil && !slices.Equal(join, n.Cluster.Join) {
			t.Errorf("%s: cluster.join %v differs from the others' %v", file, n.Cluster.Join, join)
		}
		join = n.Cluster.Join
	}
}

func TestTheFullNodeFileStaysValidWithItsCommentedKeys(t *testing.T) {
	data, err := os.ReadFile("node-a.yaml")
	if err != nil {
		t.Fatal(err)
	}
	on := string(data)
	for _, key := range []string{"  # gossip_key: ", "# tls:", "#   ca: ", "#   cert: ", "#   key: ", "#   insecure: ", "# deploy: "} {
		if !strings.Contains(on, "\n"+key) {
			t.Fatalf("node-a.yaml has no line that begins with %q", key)
		}
		on = strings.Replace(on, "\n"+key, "\n"+strings.Replace(key, "# ", "", 1), 1)
	}
	n, err := config.ParseNode("node-a.yaml", []byte(on), config.Offline())
	if err != nil {
		t.Fatalf("with every key:\n%v", err)
	}
	if !n.TLS.Enabled() || n.Deploy == "" || n.Cluster.GossipKey == "" {
		t.Errorf("got tls %v, deploy %q and a gossip key of %d bytes, want all of them set", n.TLS, n.Deploy, len(n.Cluster.GossipKey))
	}
}

func TestEveryDeploymentLoads(t *testing.T) {
	files, err := filepath.Glob("*-to-*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 2 {
		t.Fatalf("*-to-*.yaml: got %v, want at least two", files)
	}
	for _, file := range append(files, "routes.yaml") {
		d, err := config.LoadDeployment(file, config.Facts{Nodes: []string{"node-a", "node-b", "node-c"}})
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		// The adapters are not known here: that is the one warning.
		if len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0].Problem, "adapters") {
			t.Errorf("%s: got warnings\n%v\nwant the one about adapters", file, d.Warnings)
		}
	}
}

func TestTheFullSamplesShowEveryKey(t *testing.T) {
	for sample, schema := range map[string]string{"node-a.yaml": "schema/node.json", "ftp-to-queue.yaml": "schema/deployment.json"} {
		text, err := os.ReadFile(sample)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(schema)
		if err != nil {
			t.Fatal(err)
		}
		var root map[string]any
		if err := json.Unmarshal(data, &root); err != nil {
			t.Fatalf("%s: %v", schema, err)
		}
		keys := keysOf(root)
		if len(keys) < 20 {
			t.Fatalf("%s: found only %d keys: %v", schema, len(keys), keys)
		}
		for _, key := range keys {
			if !strings.Contains(string(text), key+":") {
				t.Errorf("%s does not show the key %s", sample, key)
			}
		}
	}
}

// keysOf collects the names of all properties of a schema.
func keysOf(schema map[string]any) []string {
	var keys []string
	properties, _ := schema["properties"].(map[string]any)
	for name, sub := range properties {
		keys = append(keys, name)
		if sub, ok := sub.(map[string]any); ok {
			keys = append(keys, keysOf(sub)...)
		}
	}
	if sub, ok := schema["additionalProperties"].(map[string]any); ok {
		keys = append(keys, keysOf(sub)...)
	}
	return keys
}
