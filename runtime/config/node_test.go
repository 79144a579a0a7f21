package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// withHostname replaces the machine's name.
func withHostname(name string) Option {
	return func(o *nodeOptions) { o.hostname = func() (string, error) { return name, nil } }
}

func environment(variables ...string) Option {
	return WithEnvironment(func() []string { return variables })
}

func mustParseNode(t *testing.T, text string, opts ...Option) *Node {
	t.Helper()
	n, err := ParseNode("/etc/fairlead/node.yaml", file(text), opts...)
	if err != nil {
		t.Fatalf("parse:\n%v", err)
	}
	return n
}

func TestNodeDefaults(t *testing.T) {
	n, err := LoadNode("", withHostname("Gate-7.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, n.Warnings)
	got := asJSON(t, n)
	want := `{"node":{"name":"gate-7","role":"member","data_dir":"/var/lib/fairlead","adapter_dirs":["/usr/lib/fairlead/adapters"]},` +
		`"listen":{"gossip":"127.0.0.1:7946","cluster":"127.0.0.1:7947","http":"127.0.0.1:7948","socket":"/run/fairlead/fairlead.sock"},` +
		`"cluster":{"name":"fairlead","bootstrap_expect":1,"profile":"lan"},"tls":{"insecure":false},"log":{"level":"info","format":"text"}}`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestALayerOverridesThoseBelow(t *testing.T) {
	text := `
node: {name: from-file, labels: {site: paris}}
cluster: {name: from-file, join: [127.0.0.1:7946]}
log: {level: debug}
`
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	fs.StringP("config", "c", "", "not a key")
	if err := AddFlags(fs); err != nil {
		t.Fatal(err)
	}
	if err := fs.Parse([]string{"-c", "x", "--node.name=from-flag", "--cluster.join=127.0.0.1:1,127.0.0.1:2", "--cluster.join=127.0.0.1:3", "--log.level=error"}); err != nil {
		t.Fatal(err)
	}
	env := environment("FAIRLEAD_NODE__NAME=from-environment", "FAIRLEAD_CLUSTER__NAME=from-environment", "FAIRLEAD_CLUSTER__BOOTSTRAP_EXPECT=3",
		"FAIRLEAD_NODE__LABELS=rack=4,row=b", "FAIRLEAD_TLS__INSECURE=true", "FAIRLEAD_ADDRESS=elsewhere", "FAIRLEAD_LOG__FORMAT=", "PATH=/bin")
	n := mustParseNode(t, text, env, WithFlags(fs), WithOverrides(map[string]any{"log.level": "warn", "cluster.bootstrap_expect": 5}))
	got := fmt.Sprint(n.Node.Name, n.Cluster.Name, n.Cluster.Join, n.Cluster.BootstrapExpect, n.Node.Labels, n.TLS.Insecure, n.Log)
	want := "from-flagfrom-environment[127.0.0.1:1 127.0.0.1:2 127.0.0.1:3] 5 map[rack:4 row:b site:paris] true {warn text}"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSecretsHaveNoFlag(t *testing.T) {
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	if err := AddFlags(fs); err != nil {
		t.Fatal(err)
	}
	if fs.Lookup("cluster.gossip-key") != nil {
		t.Error("the gossip key can be given on the command line, where everybody sees it")
	}
	if fs.Lookup("node.data-dir") == nil || fs.Lookup("deploy") == nil {
		t.Error("node.data-dir or deploy has no flag")
	}
}

func TestFindingsNameTheLayerThatIsWrong(t *testing.T) {
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	if err := AddFlags(fs); err != nil {
		t.Fatal(err)
	}
	if err := fs.Parse([]string{"--log.format=xml"}); err != nil {
		t.Fatal(err)
	}
	_, err := ParseNode("node.yaml", file("node: {name: node-a, role: boss}\n"),
		environment("FAIRLEAD_CLUSTER__BOOTSTRAP_EXPECT=many", "FAIRLEAD_LISTN__HTTP=x", "FAIRLEAD_NODE____NAME=x", "FAIRLEAD_NODE__DATADIR=/x"),
		WithFlags(fs), WithOverrides(map[string]any{"listen.gossip": "nowhere"}))
	wantFindings(t, err,
		`environment FAIRLEAD_CLUSTER__BOOTSTRAP_EXPECT: cluster.bootstrap_expect: is the text "many", want a whole number`,
		`environment FAIRLEAD_LISTN__HTTP: listn: unknown key; did you mean listen?`,
		`environment FAIRLEAD_NODE__DATADIR: node.datadir: unknown key; did you mean data_dir?`,
		`environment FAIRLEAD_NODE____NAME: does not name a key; write it like FAIRLEAD_NODE__DATA_DIR, with two underscores between the levels`,
		`flag --log.format: log.format: is "xml", want one of text, json`,
		`override listen.gossip: listen.gossip: "nowhere" is not host:port; add the port: nowhere:7946`,
		`node.yaml:1:28: node.role: is "boss", want one of member, witness`,
	)
}

func TestRelativePathsStartWhereTheyAreWritten(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	n := mustParseNode(t, `
node: {name: node-a, data_dir: data, adapter_dirs: [adapters, /opt/adapters]}
listen: {socket: ../run/x.sock}
tls: {ca: ca.pem, cert: a.pem, key: /k/a.key}
`, environment("FAIRLEAD_DEPLOY=app.yaml"))
	got := fmt.Sprint(n.Node.DataDir, n.Node.AdapterDirs, n.Listen.Socket, n.TLS.CA, n.TLS.Cert, n.TLS.Key, n.Deploy)
	want := "/etc/fairlead/data[/etc/fairlead/adapters /opt/adapters]/etc/run/x.sock/etc/fairlead/ca.pem/etc/fairlead/a.pem/k/a.key" + filepath.Join(wd, "app.yaml")
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestGossipKeys(t *testing.T) {
	raw := strings.Repeat("k", 31) + "\n"
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("TEST_GOSSIP_KEY", "0123456789abcdef")
	for _, c := range []struct{ name, key, want string }{
		{"base64 in a file", "${file:" + write("b64", base64.StdEncoding.EncodeToString([]byte(raw))+"\n") + "}", raw},
		{"raw bytes in a file, the last a line break", "${file:" + write("raw", raw) + "}", raw},
		{"raw bytes and a line break", "${file:" + write("rawnl", "0123456789abcdef\n") + "}", "0123456789abcdef"},
		{"variable", "${env:TEST_GOSSIP_KEY}", "0123456789abcdef"},
		{"literal", "0123456789abcdef01234567", "0123456789abcdef01234567"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := mustParseNode(t, "node: {name: node-a}\ncluster: {gossip_key: \""+c.key+"\"}\n")
			if got := n.Cluster.GossipKey.Reveal(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if strings.Contains(fmt.Sprintf("%v %+v %#v", n, n, n)+asJSON(t, n), c.want) {
				t.Error("the key is shown when the node is printed")
			}
			if literal := c.name == "literal"; literal != (len(n.Warnings) == 1) {
				t.Errorf("got warnings %v", n.Warnings)
			}
		})
	}
	short := write("short", "hunter2\n")
	_, err := ParseNode("node.yaml", file(`
node: {name: node-a}
cluster: {gossip_key: "${file:`+short+`}"}
`))
	wantFindings(t, err, `node.yaml:2:23: cluster.gossip_key: is no key: want 16, 24 or 32 bytes, raw or in base64, and it is neither (8 characters); make one with: head -c 32 /dev/urandom | base64`)
	missing := "node: {name: node-a}\ncluster: {gossip_key: \"${file:/does/not/exist}\"}\n"
	_, err = ParseNode("node.yaml", []byte(missing))
	wantFindings(t, err, `node.yaml:2:23: cluster.gossip_key: file /does/not/exist does not exist on this node; look at the reference, and whether this user may read it`)
	n := mustParseNode(t, missing, Offline())
	if got := n.Cluster.GossipKey.Reveal(); got != "${file:/does/not/exist}" {
		t.Errorf("offline: got %q, want the reference as it stands", got)
	}
}

func TestWrongNodeFiles(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"everything at once", `
node:
  name: Node_A
  rol: member
  data_dir: 5
listen:
  gossip: 10.0.0.11
  http: 127.0.0.1:99999
cluster:
  bootstrap_expect: "3"
  profil: lan
tls: {ca: a.pem}
log: {level: warning}
deploy: [a]
labels: {}
`, []string{
			`node.yaml:2:9: node.name: "Node_A" cannot be a name here; names have up to 63 small letters, digits and dashes and begin with a letter or digit, such as node-a`,
			`node.yaml:3:3: node.rol: unknown key; did you mean role?`,
			`node.yaml:4:13: node.data_dir: is the number 5, want text; write it in quotes: "5"`,
			`node.yaml:6:11: listen.gossip: "10.0.0.11" is not host:port; add the port: 10.0.0.11:7946`,
			`node.yaml:7:9: listen.http: "127.0.0.1:99999" has no valid port; write a port from 1 to 65535`,
			`node.yaml:9:21: cluster.bootstrap_expect: is the text "3", want a whole number; write 3 without quotes`,
			`node.yaml:10:3: cluster.profil: unknown key; did you mean profile?`,
			`node.yaml:11:1: tls.cert: is missing; write all of ca, cert and key, or none`,
			`node.yaml:11:1: tls.key: is missing; write all of ca, cert and key, or none`,
			`node.yaml:12:14: log.level: is "warning", want one of debug, info, warn, error; did you mean warn?`,
			`node.yaml:13:1: deploy: is a list, want text; write one value, without brackets`,
			`node.yaml:14:1: labels: unknown key; it belongs under node`}},
		{"reachable without TLS", `
node: {name: node-a}
listen: {gossip: "10.0.0.11:7946", cluster: "10.0.0.11:7947"}
cluster: {gossip_key: "${env:PATH}"}
`, []string{
			`node.yaml:2:18: listen.gossip: "10.0.0.11:7946" can be reached from other machines, and there is no tls section; write tls: {ca: ..., cert: ..., key: ...}, or use a loopback address`,
			`node.yaml:2:45: listen.cluster: "10.0.0.11:7947" can be reached from other machines, and there is no tls section; write tls: {ca: ..., cert: ..., key: ...}, or use a loopback address`}},
		{"insecure beside certificates", `
node: {name: node-a}
tls: {ca: a, cert: b, key: c, insecure: true}
`, []string{`node.yaml:2:41: tls.insecure: contradicts the certificates beside it; remove it, or remove ca, cert and key`}},
		{"addresses that peers cannot use", `
node: {name: node-a}
listen: {gossip: "0.0.0.0:7946", cluster: ":7947", http: "::1:1"}
tls: {insecure: true}
cluster: {gossip_key: "${env:PATH}"}
`, []string{
			`node.yaml:2:18: listen.gossip: "0.0.0.0:7946" is every address of this machine, and peers must be told one; write the address of this machine that the other nodes reach, such as 10.0.0.11:7946`,
			`node.yaml:2:43: listen.cluster: ":7947" is every address of this machine, and peers must be told one; write the address of this machine that the other nodes reach, such as 10.0.0.11:7947`,
			`node.yaml:2:58: listen.http: "::1:1" is not host:port; add the port: [::1:1]:7948`}},
		{"one address twice", `
node: {name: node-a}
listen: {cluster: "127.0.0.1:7948"}
`, []string{`node.yaml:2:1: listen.http: "127.0.0.1:7948" is the address of listen.cluster, too; choose another port`}},
		{"cluster port on loopback only", `
node: {name: node-a}
listen: {gossip: "10.0.0.11:7946"}
tls: {ca: a, cert: b, key: c}
cluster: {gossip_key: 0123456789abcdef}
`, []string{
			`node.yaml:2:1: listen.cluster: "127.0.0.1:7947" is a loopback address while listen.gossip (10.0.0.11:7946) is not: peers would see this node and not reach it; write an address of this machine that the other nodes reach`,
			`node.yaml:4:23: warning: cluster.gossip_key: stands in the file, where everybody can read it who reads the file; put it into a file of its own and write ${file:/path}`}},
		{"every node its own cluster", `
node: {name: node-a}
cluster: {join: ["127.0.0.1:7956"]}
`, []string{`node.yaml:2:1: cluster.bootstrap_expect: is 1 while cluster.join names other nodes: every node would found a cluster of its own; write how many nodes found the cluster, the same number on each, such as 3`}},
		{"founders that never meet", `
node: {name: node-a}
cluster: {bootstrap_expect: 3}
`, []string{`node.yaml:2:1: cluster.join: is missing: 3 nodes found the cluster, and this one knows none of them; write the gossip addresses of the nodes`}},
		{"addresses to join", `
node: {name: node-a}
cluster: {bootstrap_expect: 3, join: ["127.0.0.1:7956", "10.0.0.1:7946", "127.0.0.1:7956", "127.0.0.1:0", ":7946", "a b:1", node-b]}
`, []string{
			`node.yaml:2:57: cluster.join[1]: "10.0.0.1:7946" is another machine, which cannot reach this node at its listen.gossip 127.0.0.1:7946; write listen.gossip and listen.cluster with an address of this machine that it reaches`,
			`node.yaml:2:74: cluster.join[2]: "127.0.0.1:7956" stands twice; remove one of them`,
			`node.yaml:2:92: cluster.join[3]: "127.0.0.1:0" is no address that can be reached; write host:port of a node's listen.gossip`,
			`node.yaml:2:107: cluster.join[4]: ":7946" is no address that can be reached; write host:port of a node's listen.gossip`,
			`node.yaml:2:116: cluster.join[5]: "a b:1" has no valid host; write an IP address or a host name`,
			`node.yaml:2:125: cluster.join[6]: "node-b" is not host:port; add the port: node-b:7946`}},
		{"reference where none is followed", `
node: {name: "${env:HOSTNAME}", labels: {a: "${file:/x}"}}
`, []string{
			`node.yaml:1:14: node.name: references are followed in cluster.gossip_key only; write the value itself, or set it by a variable such as FAIRLEAD_NODE__DATA_DIR`,
			`node.yaml:1:45: node.labels.a: references are followed in cluster.gossip_key only; write the value itself, or set it by a variable such as FAIRLEAD_NODE__DATA_DIR`}},
		{"host name that is no name", `
cluster: {name: edi}
`, []string{`node.yaml:1:1: node.name: is missing, and the host name "my_box" cannot be a node's name; write node.name; names have up to 63 small letters, digits and dashes and begin with a letter or digit, such as my-box`}},
		{"long socket path", `
node: {name: node-a, data_dir: /}
listen: {socket: /` + strings.Repeat("x", 107) + `}
`, []string{
			`node.yaml:1:32: node.data_dir: is the root directory; write a directory of its own, such as /var/lib/fairlead`,
			`node.yaml:2:18: listen.socket: the path has 108 bytes, a socket's may have 107: "/` + strings.Repeat("x", 59) + `..."; choose a shorter path, such as /run/fairlead/fairlead.sock`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("PATH", "0123456789abcdef")
			_, err := ParseNode("node.yaml", file(c.text), withHostname("my_box"))
			wantFindings(t, err, c.want...)
		})
	}
}

func TestDoubtfulNodeFilesAreAcceptedWithWarnings(t *testing.T) {
	n, err := ParseNode("node.yaml", file(`
node: {name: node-a, role: witness}
listen: {gossip: "10.0.0.11:7946", cluster: "10.0.0.11:7947", http: "0.0.0.0:7948"}
cluster: {bootstrap_expect: 2, join: ["10.0.0.12:7946"]}
tls: {insecure: true}
`))
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, n.Warnings,
		`node.yaml:2:45: warning: listen.cluster: tls.insecure: everybody who reaches 10.0.0.11:7947 can command the cluster; use it on a closed test network only`,
		`node.yaml:2:69: warning: listen.http: everybody who reaches 0.0.0.0:7948 can read the state of the cluster; use 127.0.0.1, or put a proxy before it that asks who it is`,
		`node.yaml:3:1: warning: cluster.gossip_key: is missing: everybody who reaches 10.0.0.11:7946 can pretend to be a node; write gossip_key: ${file:/etc/fairlead/gossip.key}, the same key on every node`,
		`node.yaml:3:29: warning: cluster.bootstrap_expect: with 2 nodes the cluster survives no more losses than with 1; add a node, which may be a witness (role: witness)`,
	)
}

func TestASectionWithItsLinesCommentedOutCountsAsLeftOut(t *testing.T) {
	n := mustParseNode(t, "node:\n  name: node-a\ncluster:\n#  name: x\ntls:\n")
	if n.Cluster.Name != "fairlead" || n.TLS.Enabled() {
		t.Errorf("got %+v %+v, want the defaults", n.Cluster, n.TLS)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, make([]byte, maxFileBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none.yaml"): "there is no such file; look at the path",
		dir:                             "is not a regular file; name the file itself",
		big:                             "is larger than 1 MiB; look whether it is the right file",
	} {
		_, err := LoadNode(path)
		wantFindings(t, err, path+": "+want)
		_, err = LoadDeployment(path, Facts{})
		wantFindings(t, err, path+": "+want)
	}
	var findings Findings
	if _, err := LoadNode("does-not-exist.yaml"); !errors.As(err, &findings) || !strings.HasPrefix(findings[0].Remedy, "it was looked for at /") {
		t.Errorf("got %v, want the absolute path", err)
	}
}
