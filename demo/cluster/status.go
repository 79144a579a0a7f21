package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/fairlead-io/fairlead/runtime/api"
)

// askWithin bounds the wait for one node's answer: a frozen one gives none.
const askWithin = 2 * time.Second

// Status asks the nodes that run, all at once, and returns the first answer of one
// that has a quorum.
func (c *Cluster) Status(ctx context.Context) (*api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	type answer struct {
		s   *api.Status
		err error
	}
	answers := make(chan answer, len(c.Nodes))
	asked := 0
	for _, n := range c.Nodes {
		if n.PID() == 0 {
			continue
		}
		asked++
		go func() { // ends with ctx, which this call cancels
			s, err := n.Status(ctx)
			answers <- answer{s, err}
		}()
	}
	err := errors.New("no node runs")
	for range asked {
		a := <-answers
		if err = a.err; err != nil {
			continue
		}
		if a.s.Cluster.Quorum {
			return a.s, nil
		}
		err = errors.New("no quorum")
	}
	return nil, err
}

// Status asks this node.
func (n *Node) Status(ctx context.Context) (*api.Status, error) {
	client, err := n.Client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, askWithin)
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
