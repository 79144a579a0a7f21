// Package cluster runs a Fairlead cluster as processes on one machine, for the demo
// and for tests: real binaries, real ports, real signals. It answers for starting,
// hurting and stopping them, and for asking what they say; it judges nothing. The
// nodes share loopback, or get what [Config] gives them: addresses, and a command
// around theirs that puts them elsewhere, such as into a network namespace.
package cluster

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/fairlead-io/fairlead/internal/freeport"
	"github.com/fairlead-io/fairlead/runtime/api"
)

// Config is what Start needs.
type Config struct {
	// Binary is fairlead's; Adapters the directory of the adapter binaries.
	Binary, Adapters string
	// Dir holds the nodes' data, sockets and logs; short, because of the sockets.
	Dir   string
	Nodes int
	// Profile is the node file's cluster.profile, default local.
	Profile string
	// TLS makes an authority and certificates, and has the nodes use them. Addresses
	// beyond loopback need it.
	TLS bool
	// Addresses are the nodes' IP addresses, one for each, which all use the same
	// ports. Default: loopback for all, with free ports.
	Addresses []string
	// Wrap returns the command to run instead of a node's own, given the node's
	// number from 0: to run it in a network namespace, say. It has to become the
	// given command by exec, so that signals reach the node. Default: none.
	Wrap func(node int, command []string) []string
}

const (
	// portsOfANode lie in a row: gossip, cluster, http.
	portsOfANode = 3
	// fixedPort is the first of nodes with addresses of their own.
	fixedPort = 7946
)

// Cluster is a set of node processes.
type Cluster struct {
	cfg   Config
	Nodes []*Node
	// release gives the ports back.
	release []func()
}

// Node is one node: a directory that outlives its processes.
type Node struct {
	Name, Dir string
	cfg       Config
	number    int
	address   string
	socket    string

	mu  sync.Mutex
	cmd *exec.Cmd
	// guardian is the process that is known to be one.
	guardian int
	// done is closed when the process has been reaped.
	done chan struct{}
}

// Start writes the node files and starts all nodes.
func Start(cfg Config) (*Cluster, error) {
	if cfg.Profile == "" {
		cfg.Profile = "local"
	}
	c := &Cluster{cfg: cfg}
	ports, err := c.ports()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	cfg = c.cfg
	var ca *authority
	if cfg.TLS {
		if ca, err = newAuthority(); err != nil {
			return nil, fmt.Errorf("authority: %w", err)
		}
	}
	var join []string
	for i := range cfg.Nodes {
		join = append(join, at(cfg.Addresses[i], ports[i]))
	}
	for i := range cfg.Nodes {
		name := "node-" + string(rune('a'+i))
		n := &Node{
			Name: name, Dir: filepath.Join(cfg.Dir, name), cfg: cfg, number: i, address: cfg.Addresses[i],
			socket: filepath.Join(cfg.Dir, name+".sock"),
		}
		c.Nodes = append(c.Nodes, n)
		if err := n.configure(ports[i], join, ca); err != nil {
			return nil, err
		}
	}
	for _, n := range c.Nodes {
		if err := n.Start(); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

// ports returns the first of each node's ports, and fills in the addresses.
func (c *Cluster) ports() (first []int, err error) {
	if n := len(c.cfg.Addresses); n != 0 && n != c.cfg.Nodes {
		return nil, fmt.Errorf("%d addresses for %d nodes; give one for each, or none", n, c.cfg.Nodes)
	}
	if len(c.cfg.Addresses) > 0 {
		return slices.Repeat([]int{fixedPort}, c.cfg.Nodes), nil
	}
	for range c.cfg.Nodes {
		port, release, err := freeport.Take(portsOfANode)
		if err != nil {
			return nil, err
		}
		c.release = append(c.release, release)
		c.cfg.Addresses = append(c.cfg.Addresses, "127.0.0.1")
		first = append(first, port)
	}
	return first, nil
}

func at(address string, port int) string { return net.JoinHostPort(address, strconv.Itoa(port)) }

func (n *Node) configure(port int, join []string, ca *authority) error {
	if err := os.MkdirAll(n.Dir, 0o700); err != nil {
		return fmt.Errorf("directory of %s: %w", n.Name, err)
	}
	file := fmt.Sprintf(`node:
  name: %s
  data_dir: %q
  adapter_dirs: [%q]
listen:
  gossip: %q
  cluster: %q
  http: %q
  socket: %q
cluster:
  name: demo
  bootstrap_expect: %d
  join: [%s]
  profile: %s
log: {level: info, format: text}
`, n.Name, filepath.Join(n.Dir, "data"), n.cfg.Adapters,
		at(n.address, port), at(n.address, port+1), at(n.address, port+2), n.socket, n.cfg.Nodes,
		strings.Join(join, ", "), n.cfg.Profile)
	if ca != nil {
		if err := ca.issue(n.Dir, n.Name, n.address); err != nil {
			return err
		}
		file += "tls: {ca: ca.pem, cert: cert.pem, key: key.pem}\n"
	}
	return os.WriteFile(n.file(), []byte(file), 0o600)
}

func (n *Node) file() string { return filepath.Join(n.Dir, "node.yaml") }

// LogFile is where the node's log goes, through all its processes.
func (n *Node) LogFile() string { return filepath.Join(n.Dir, "log") }

// Socket is the node's local API socket.
func (n *Node) Socket() string { return n.socket }

// Start starts the node's process; it ends with this one at the latest.
func (n *Node) Start() error {
	log, err := os.OpenFile(n.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of %s: %w", n.Name, err)
	}
	command := []string{n.cfg.Binary, "run", "-c", n.file()}
	if n.cfg.Wrap != nil {
		command = n.cfg.Wrap(n.number, command)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := startTied(cmd); err != nil {
		log.Close()
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	done := make(chan struct{})
	n.mu.Lock()
	n.cmd, n.done = cmd, done
	n.mu.Unlock()
	go func() { // ends with the process, which Close kills
		defer close(done)
		_ = cmd.Wait()
		log.Close()
	}()
	return nil
}

// Client returns a client of the node's API.
func (n *Node) Client() (*api.Client, error) { return api.Dial("unix:" + n.socket) }

// Close kills all nodes and waits for them.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range c.Nodes {
		if n.PID() != 0 {
			errs = append(errs, n.Kill())
		}
	}
	for _, release := range c.release {
		release()
	}
	return errors.Join(errs...)
}

// Node returns a node by name.
func (c *Cluster) Node(name string) *Node {
	for _, n := range c.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}
