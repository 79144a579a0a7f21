// Package cluster runs a Fairlead cluster as processes on loopback, for the demo
// and for tests: real binaries, real ports, real signals. It answers for starting,
// hurting and stopping them, and for asking what they say; it judges nothing.
package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

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
	// TLS makes an authority and certificates, and has the nodes use them.
	TLS bool
}

// Cluster is a set of node processes.
type Cluster struct {
	cfg   Config
	Nodes []*Node
}

// Node is one node: a directory that outlives its processes.
type Node struct {
	Name, Dir string
	cfg       Config
	socket    string

	mu  sync.Mutex
	cmd *exec.Cmd
	log *os.File
	// done is closed when the process has been reaped.
	done chan struct{}
}

// Start writes the node files and starts all nodes.
func Start(cfg Config) (*Cluster, error) {
	if cfg.Profile == "" {
		cfg.Profile = "local"
	}
	ports, err := freePorts(cfg.Nodes * 3)
	if err != nil {
		return nil, err
	}
	c := &Cluster{cfg: cfg}
	var ca *authority
	if cfg.TLS {
		if ca, err = newAuthority(); err != nil {
			return nil, fmt.Errorf("authority: %w", err)
		}
	}
	var join []string
	for i := range cfg.Nodes {
		join = append(join, fmt.Sprintf("127.0.0.1:%d", ports[3*i]))
	}
	for i := range cfg.Nodes {
		name := "node-" + string(rune('a'+i))
		n := &Node{Name: name, Dir: filepath.Join(cfg.Dir, name), cfg: cfg, socket: filepath.Join(cfg.Dir, name+".sock")}
		c.Nodes = append(c.Nodes, n)
		if err := n.configure(ports[3*i:3*i+3], join, ca); err != nil {
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

// freePorts finds loopback ports that are free for TCP and UDP just now.
func freePorts(n int) ([]int, error) {
	var ports []int
	for len(ports) < n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // held until all are found, so that they differ
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer u.Close()
		ports = append(ports, port)
	}
	return ports, nil
}

func (n *Node) configure(ports []int, join []string, ca *authority) error {
	if err := os.MkdirAll(n.Dir, 0o700); err != nil {
		return fmt.Errorf("directory of %s: %w", n.Name, err)
	}
	file := fmt.Sprintf(`node:
  name: %s
  data_dir: %q
  adapter_dirs: [%q]
listen:
  gossip: 127.0.0.1:%d
  cluster: 127.0.0.1:%d
  http: 127.0.0.1:%d
  socket: %q
cluster:
  name: demo
  bootstrap_expect: %d
  join: [%s]
  profile: %s
log: {level: info, format: text}
`, n.Name, filepath.Join(n.Dir, "data"), n.cfg.Adapters, ports[0], ports[1], ports[2], n.socket,
		n.cfg.Nodes, strings.Join(join, ", "), n.cfg.Profile)
	if ca != nil {
		if err := ca.issue(n.Dir, n.Name); err != nil {
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
	cmd := exec.Command(n.cfg.Binary, "run", "-c", n.file())
	cmd.Stdout, cmd.Stderr = log, log
	if err := startTied(cmd); err != nil {
		log.Close()
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	done := make(chan struct{})
	n.mu.Lock()
	n.cmd, n.log, n.done = cmd, log, done
	n.mu.Unlock()
	go func() { // ends with the process, which Close kills
		defer close(done)
		_ = cmd.Wait()
		log.Close()
	}()
	return nil
}

// PID is the process's, 0 if it does not run.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return 0
	}
	select {
	case <-n.done:
		return 0
	default:
		return n.cmd.Process.Pid
	}
}

// Signal sends a signal to the node's process.
func (n *Node) Signal(s syscall.Signal) error {
	pid := n.PID()
	if pid == 0 {
		return fmt.Errorf("%s does not run", n.Name)
	}
	return syscall.Kill(pid, s)
}

// Kill sends SIGKILL and waits until the process is reaped.
func (n *Node) Kill() error {
	if err := n.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-n.done
	return nil
}

// Client returns a client of the node's API.
func (n *Node) Client() (*api.Client, error) { return api.Dial("unix:" + n.socket) }

// Close kills all nodes and waits for them.
func (c *Cluster) Close() error {
	for _, n := range c.Nodes {
		if n.PID() != 0 {
			_ = n.Signal(syscall.SIGCONT)
			_ = n.Kill()
		}
	}
	return nil
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

// Status asks the nodes that run, one after the other, until one answers and has
// a quorum.
func (c *Cluster) Status(ctx context.Context) (*api.Status, error) {
	err := errors.New("no node runs")
	for _, n := range c.Nodes {
		if n.PID() == 0 {
			continue
		}
		var s *api.Status
		if s, err = n.status(ctx); err == nil && s.Cluster.Quorum {
			return s, nil
		}
	}
	if err == nil {
		err = errors.New("no quorum")
	}
	return nil, err
}

func (n *Node) status(ctx context.Context) (*api.Status, error) {
	client, err := n.Client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return client.Status(ctx)
}

// WaitStatus asks until ok is satisfied, and says what was missing if ctx ends.
func (c *Cluster) WaitStatus(ctx context.Context, what string, ok func(*api.Status) bool) (*api.Status, error) {
	var last *api.Status
	for {
		s, err := c.Status(ctx)
		if err == nil {
			if last = s; ok(s) {
				return s, nil
			}
		}
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("waiting until %s: %w (last answer: %v, %v)%s", what, ctx.Err(), summary(last), err, c.logs())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func summary(s *api.Status) string {
	if s == nil {
		return "none"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "leader %s, deployment %d", s.Cluster.Leader, s.Cluster.Deployment)
	for _, h := range s.Hosts {
		fmt.Fprintf(&b, "; %s: %s on %s (%s)", h.Name, h.State, h.Owner, h.Reason)
		for _, r := range h.Handlers {
			if r.Error != "" {
				fmt.Fprintf(&b, " %s: %s", r.Adapter, r.Error)
			}
		}
	}
	return b.String()
}

// logs returns the end of every node's log, for failures.
func (c *Cluster) logs() string {
	var b strings.Builder
	for _, n := range c.Nodes {
		data, err := os.ReadFile(n.LogFile())
		if err != nil {
			continue
		}
		lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
		fmt.Fprintf(&b, "\n--- %s\n%s", n.Name, bytes.Join(lines[max(0, len(lines)-12):], []byte("\n")))
	}
	return b.String()
}

// Running reports whether the hosts run: for WaitStatus.
func Running(hosts ...string) func(*api.Status) bool {
	return func(s *api.Status) bool {
		for _, name := range hosts {
			if h := hostOf(s, name); h == nil || h.State != "running" {
				return false
			}
		}
		return true
	}
}

func hostOf(s *api.Status, name string) *api.HostStatus {
	for i := range s.Hosts {
		if s.Hosts[i].Name == name {
			return &s.Hosts[i]
		}
	}
	return nil
}

// OwnedBy reports whether the host runs on a node other than not: for WaitStatus.
func OwnedBy(host string, not string) func(*api.Status) bool {
	return func(s *api.Status) bool {
		h := hostOf(s, host)
		return h != nil && h.State == "running" && h.Owner != "" && h.Owner != not
	}
}

// Owner is the node that owns the host, empty if none does.
func Owner(s *api.Status, host string) string {
	if h := hostOf(s, host); h != nil {
		return h.Owner
	}
	return ""
}

// Deploy deploys the file through the first node that takes it.
func (c *Cluster) Deploy(ctx context.Context, name, source string) error {
	for {
		err := c.deploy(ctx, name, source)
		if err == nil {
			return nil
		}
		var p *api.Problem
		if errors.As(err, &p) && len(p.Findings) > 0 {
			return err // asking again will not mend the file
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("deploy: %w%s", err, c.logs())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (c *Cluster) deploy(ctx context.Context, name, source string) error {
	err := errors.New("no node runs")
	for _, n := range c.Nodes {
		if n.PID() == 0 {
			continue
		}
		var client *api.Client
		if client, err = n.Client(); err != nil {
			continue
		}
		_, err = client.Deploy(ctx, api.DeployRequest{Name: name, Source: source})
		client.Close()
		if err == nil {
			return nil
		}
	}
	return err
}

// Move asks for the host to be moved and waits for the answer.
func (c *Cluster) Move(ctx context.Context, host, to string) (*api.MoveReply, error) {
	err := errors.New("no node runs")
	for _, n := range c.Nodes {
		if n.PID() == 0 {
			continue
		}
		var client *api.Client
		if client, err = n.Client(); err != nil {
			continue
		}
		defer client.Close()
		var r *api.MoveReply
		if r, err = client.MoveHost(ctx, host, to); err == nil {
			return r, nil
		}
	}
	return nil, err
}
