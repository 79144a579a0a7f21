package config

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead-io/fairlead/sdk"
)

// maxSocketPath is what a unix socket's address holds on Linux.
const maxSocketPath = 107

// nodeCheck applies the rules that the schema cannot say, and completes the node.
type nodeCheck struct {
	*document
	node    *Node
	options nodeOptions
}

func (c *nodeCheck) run() {
	c.noReferences()
	c.names()
	c.paths()
	c.addresses()
	c.cluster()
	c.security()
}

// noReferences refuses references everywhere but where they are followed.
func (c *nodeCheck) noReferences() {
	for section, v := range c.value {
		keys, _ := v.(map[string]any)
		if keys == nil {
			keys = map[string]any{"": v}
		}
		for key, item := range keys {
			p := keyPath{section, key}
			if key == "" {
				p = p[:1]
			}
			if section == "cluster" && key == "gossip_key" {
				continue
			}
			c.refuseReferences(item, p, "write the value itself, or set it by a variable such as FAIRLEAD_NODE__DATA_DIR", "references are followed in cluster.gossip_key only")
		}
	}
}

func (c *nodeCheck) names() {
	n := &c.node.Node
	if n.Name == "" && !c.isSuspect(keyPath{"node", "name"}) {
		name, err := c.options.hostname()
		if err != nil {
			c.errorf(keyPath{"node", "name"}, "write node.name", "is missing, and the host name cannot be read: %v", err)
			return
		}
		n.Name, _, _ = strings.Cut(strings.ToLower(name), ".")
		if !validName.MatchString(n.Name) {
			c.errorf(keyPath{"node", "name"}, "write node.name; "+nameRemedy(n.Name), "is missing, and the host name %s cannot be a node's name", quoted(name))
			return
		}
	}
	c.name(keyPath{"node", "name"}, n.Name)
	c.name(keyPath{"cluster", "name"}, c.node.Cluster.Name)
}

func (c *nodeCheck) name(p keyPath, name string) {
	if !validName.MatchString(name) && !c.isSuspect(p) {
		c.errorf(p, nameRemedy(name), "%s cannot be a name here", quoted(name))
	}
}

// paths makes the paths absolute.
func (c *nodeCheck) paths() {
	n := c.node
	c.absolute(keyPath{"node", "data_dir"}, &n.Node.DataDir)
	for i := range n.Node.AdapterDirs {
		c.absolute(keyPath{"node", "adapter_dirs", strconv.Itoa(i)}, &n.Node.AdapterDirs[i])
	}
	c.absolute(keyPath{"listen", "socket"}, &n.Listen.Socket)
	c.absolute(keyPath{"tls", "ca"}, &n.TLS.CA)
	c.absolute(keyPath{"tls", "cert"}, &n.TLS.Cert)
	c.absolute(keyPath{"tls", "key"}, &n.TLS.Key)
	c.absolute(keyPath{"deploy"}, &n.Deploy)
	if size := len(n.Listen.Socket); size > maxSocketPath {
		c.errorf(keyPath{"listen", "socket"}, "choose a shorter path, such as /run/fairlead/fairlead.sock", "the path has %d bytes, a socket's may have %d: %s", size, maxSocketPath, quoted(n.Listen.Socket))
	}
	if n.Node.DataDir == string(filepath.Separator) {
		c.errorf(keyPath{"node", "data_dir"}, "write a directory of its own, such as /var/lib/fairlead", "is the root directory")
	}
}

func (c *nodeCheck) absolute(p keyPath, path *string) {
	if *path == "" {
		if slices.Equal(p[:1], keyPath{"node"}) {
			c.errorf(p, "write a path", "is empty")
		}
		return
	}
	if filepath.IsAbs(*path) {
		*path = filepath.Clean(*path)
		return
	}
	base := ""
	if _, outside := c.origin(p); !outside && c.file != "" {
		base = filepath.Dir(c.file)
	}
	abs, err := filepath.Abs(filepath.Join(base, *path))
	if err != nil {
		c.errorf(p, "write an absolute path", "cannot be made absolute: %v", err)
		return
	}
	*path = abs
}

func (c *nodeCheck) addresses() {
	l := c.node.Listen
	used := map[string]string{}
	for _, a := range []struct {
		key, address string
		peers        bool
	}{{"gossip", l.Gossip, true}, {"cluster", l.Cluster, true}, {"http", l.HTTP, false}} {
		p := keyPath{"listen", a.key}
		host, port, ok := c.address(p, a.address)
		if !ok {
			c.suspect(p)
			continue
		}
		if ip, err := netip.ParseAddr(host); a.peers && (host == "" || err == nil && ip.IsUnspecified()) {
			c.errorf(p, "write the address of this machine that the other nodes reach, such as 10.0.0.11:"+port, "%s is every address of this machine, and peers must be told one", quoted(a.address))
			c.suspect(p)
			continue
		}
		if first, ok := used[a.address]; ok && port != "0" {
			c.errorf(p, "choose another port", "%s is the address of listen.%s, too", quoted(a.address), first)
		}
		used[a.address] = a.key
	}
	if loopback(l.Cluster) && !loopback(l.Gossip) && !c.isSuspect(keyPath{"listen", "cluster"}) && !c.isSuspect(keyPath{"listen", "gossip"}) {
		c.errorf(keyPath{"listen", "cluster"}, "write an address of this machine that the other nodes reach", "%s is a loopback address while listen.gossip (%s) is not: peers would see this node and not reach it", quoted(l.Cluster), l.Gossip)
	}
	c.join()
}

func (c *nodeCheck) join() {
	gossip := c.node.Listen.Gossip
	seen := map[string]bool{}
	for i, a := range c.node.Cluster.Join {
		p := keyPath{"cluster", "join", strconv.Itoa(i)}
		host, port, ok := c.address(p, a)
		switch {
		case !ok:
		case host == "" || port == "0":
			c.errorf(p, "write host:port of a node's listen.gossip", "%s is no address that can be reached", quoted(a))
		case seen[a]:
			c.errorf(p, "remove one of them", "%s stands twice", quoted(a))
		case !loopback(a) && loopback(gossip) && !c.isSuspect(keyPath{"listen", "gossip"}):
			c.errorf(p, "write listen.gossip and listen.cluster with an address of this machine that it reaches", "%s is another machine, which cannot reach this node at its listen.gossip %s", quoted(a), gossip)
		}
		seen[a] = true
	}
}

var validHost = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`)

// address checks host:port and returns its parts.
func (c *nodeCheck) address(p keyPath, address string) (host, port string, ok bool) {
	defaultPort := map[string]string{"cluster": "7947", "http": "7948"}[p[1]]
	if defaultPort == "" || p[0] == "cluster" {
		defaultPort = "7946"
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		remedy := "write host:port, such as 10.0.0.11:" + defaultPort
		if ip, err := netip.ParseAddr(address); err == nil {
			remedy = "add the port: " + net.JoinHostPort(ip.String(), defaultPort)
		} else if validHost.MatchString(address) {
			remedy = "add the port: " + address + ":" + defaultPort
		}
		c.errorf(p, remedy, "%s is not host:port", quoted(address))
		return "", "", false
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		c.errorf(p, "write a port from 1 to 65535", "%s has no valid port", quoted(address))
		return "", "", false
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !validHost.MatchString(host) {
		c.errorf(p, "write an IP address or a host name", "%s has no valid host", quoted(address))
		return "", "", false
	}
	return host, port, true
}

func (c *nodeCheck) cluster() {
	c.founders()
	c.gossipKey()
}

// founders applies the rules of bootstrap_expect and join.
func (c *nodeCheck) founders() {
	n := c.node.Cluster
	if c.isSuspect(keyPath{"cluster", "bootstrap_expect"}) || c.isSuspect(keyPath{"cluster", "join"}) {
		return
	}
	others := slices.ContainsFunc(n.Join, func(a string) bool { return a != c.node.Listen.Gossip })
	if n.BootstrapExpect == 1 && others {
		c.errorf(keyPath{"cluster", "bootstrap_expect"}, "write how many nodes found the cluster, the same number on each, such as 3",
			"is 1 while cluster.join names other nodes: every node would found a cluster of its own")
	}
	if n.BootstrapExpect > 1 && len(n.Join) == 0 {
		c.errorf(keyPath{"cluster", "join"}, "write the gossip addresses of the nodes",
			"is missing: %d nodes found the cluster, and this one knows none of them", n.BootstrapExpect)
	}
	if n.BootstrapExpect > 1 && n.BootstrapExpect%2 == 0 {
		c.warnf(keyPath{"cluster", "bootstrap_expect"}, "add a node, which may be a witness (role: witness)",
			"with %d nodes the cluster survives no more losses than with %d", n.BootstrapExpect, n.BootstrapExpect-1)
	}
}

// gossipKey follows the reference and decodes the key.
func (c *nodeCheck) gossipKey() {
	p := keyPath{"cluster", "gossip_key"}
	text := c.node.Cluster.GossipKey.Reveal()
	if text == "" {
		return
	}
	refs, err := references(text)
	if err != nil {
		c.errorf(p, err.remedy, "%s", err.problem)
		return
	}
	if len(refs) == 0 {
		if _, outside := c.origin(p); !outside {
			c.warnf(p, "put it into a file of its own and write ${file:/path}", "stands in the file, where everybody can read it who reads the file")
		}
	} else if c.options.offline {
		return
	}
	raw, failure := expand(context.Background(), text, false)
	if failure != nil {
		c.errorf(p, "look at the reference, and whether this user may read it", "%v", failure)
		return
	}
	key, ok := decodeKey(raw)
	if !ok {
		c.errorf(p, "make one with: head -c 32 /dev/urandom | base64", "is no key: want 16, 24 or 32 bytes, raw or in base64, and it is neither (%d characters)", len(raw))
		return
	}
	c.node.Cluster.GossipKey = sdk.Secret(key)
}

// security applies the rule that only loopback does without TLS, and warns of what
// is open.
func (c *nodeCheck) security() {
	l := c.node.Listen
	if !c.isSuspect(keyPath{"tls"}) {
		c.tls()
	}
	if !loopback(l.Gossip) && c.node.Cluster.GossipKey == "" && !c.isSuspect(keyPath{"cluster", "gossip_key"}) {
		c.warnf(keyPath{"cluster", "gossip_key"}, "write gossip_key: ${file:/etc/fairlead/gossip.key}, the same key on every node", "is missing: everybody who reaches %s can pretend to be a node", l.Gossip)
	}
	if !loopback(l.HTTP) {
		c.warnf(keyPath{"listen", "http"}, "use 127.0.0.1, or put a proxy before it that asks who it is", "everybody who reaches %s can read the state of the cluster", l.HTTP)
	}
}

func (c *nodeCheck) tls() {
	t, l := c.node.TLS, c.node.Listen
	files := map[string]string{"ca": t.CA, "cert": t.Cert, "key": t.Key}
	given := 0
	for name, path := range files {
		if path != "" || c.isSuspect(keyPath{"tls", name}) {
			given++
		}
	}
	for _, name := range sortedKeys(files) {
		if files[name] == "" && given > 0 && !c.isSuspect(keyPath{"tls", name}) {
			c.errorf(keyPath{"tls", name}, "write all of ca, cert and key, or none", "is missing")
		}
	}
	if t.Insecure && given > 0 {
		c.errorf(keyPath{"tls", "insecure"}, "remove it, or remove ca, cert and key", "contradicts the certificates beside it")
	}
	if given > 0 || c.isSuspect(keyPath{"tls", "insecure"}) {
		return
	}
	for _, a := range []struct{ key, address string }{{"gossip", l.Gossip}, {"cluster", l.Cluster}} {
		p := keyPath{"listen", a.key}
		switch {
		case loopback(a.address), c.isSuspect(p):
		case !t.Insecure:
			c.errorf(p, "write tls: {ca: ..., cert: ..., key: ...}, or use a loopback address", "%s can be reached from other machines, and there is no tls section", quoted(a.address))
		case a.key == "cluster":
			c.warnf(p, "use it on a closed test network only", "tls.insecure: everybody who reaches %s can command the cluster", a.address)
		}
	}
}

// loopback reports whether only this machine reaches the address. An address that
// is none has been reported before and counts as one.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}
