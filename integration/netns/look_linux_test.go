package netns

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-io/fairlead/demo/cluster"
	"github.com/fairlead-io/fairlead/runtime/api"
)

// ask asks every node that runs, all at once, and returns the answers by node. The
// nodes except are left out: one that is frozen would cost a second.
func (a *arena) ask(ctx context.Context, except ...int) map[int]*api.Status {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	answers := make([]*api.Status, nodes)
	var all sync.WaitGroup
	for i, n := range a.c.Nodes {
		if n.PID() != 0 && !slices.Contains(except, i) {
			all.Go(func() {
				if s, err := n.Status(ctx); err == nil {
					answers[i] = s
				}
			})
		}
	}
	all.Wait()
	found := map[int]*api.Status{}
	for i, s := range answers {
		if s != nil {
			found[i] = s
		}
	}
	return found
}

// view is the newest of the nodes' views: of those that have a quorum the one that
// knows the highest epoch.
func (a *arena) view(ctx context.Context, except ...int) *api.Status {
	var best *api.Status
	for _, s := range a.ask(ctx, except...) {
		if s.Cluster.Quorum && s.Cluster.Leader != "" && (best == nil || epoch(s) > epoch(best)) {
			best = s
		}
	}
	return best
}

func hostStatus(s *api.Status) *api.HostStatus {
	for i := range s.Hosts {
		if s.Hosts[i].Name == host {
			return &s.Hosts[i]
		}
	}
	return &api.HostStatus{}
}

func epoch(s *api.Status) uint64 { return hostStatus(s).Epoch }

// number is the node's number, -1 for none.
func (a *arena) number(name string) int {
	return slices.IndexFunc(a.c.Nodes, func(n *cluster.Node) bool { return n.Name == name })
}

// until waits until missing returns nothing, and returns the time that it took.
func until(ctx context.Context, within time.Duration, missing func(context.Context) string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	began := time.Now()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for last := ""; ; {
		what := missing(ctx)
		if what == "" {
			return time.Since(began), nil
		}
		if ctx.Err() == nil {
			last = what // what is asked when the time is over says nothing
		}
		select {
		case <-ctx.Done():
			return time.Since(began), fmt.Errorf("after %v: %s", within, last)
		case <-tick.C:
		}
	}
}

// roles waits for an owner that runs and returns its number and the leader's.
func (a *arena) roles(ctx context.Context) (owner, leader int, err error) {
	_, err = until(ctx, convergeWithin, func(ctx context.Context) string {
		s := a.view(ctx)
		if s == nil {
			return "no node has a quorum"
		}
		owner, leader = a.number(hostStatus(s).Owner), a.number(s.Cluster.Leader)
		if owner < 0 || leader < 0 || hostStatus(s).State != "running" {
			return describe(s)
		}
		return ""
	})
	return owner, leader, err
}

// takenOver waits until a node that is not among the hurt ones runs the host.
func (a *arena) takenOver(ctx context.Context, hurt []int) (to int, took time.Duration, err error) {
	took, err = until(ctx, takeoverWithin, func(ctx context.Context) string {
		s := a.view(ctx, hurt...)
		if s == nil {
			return "no node has a quorum"
		}
		if to = a.number(hostStatus(s).Owner); to < 0 || slices.Contains(hurt, to) || hostStatus(s).State != "running" {
			return "nobody has taken over: " + describe(s)
		}
		return ""
	})
	return to, took, err
}

// converged waits until all nodes are in and of one mind, and until new files arrive.
// It returns in words how long it took and what came last.
func (a *arena) converged(ctx context.Context) (story string, err error) {
	probe, last := a.feed.next(), "nothing"
	took, err := until(ctx, convergeWithin, func(ctx context.Context) string {
		what := a.diverging(ctx, probe)
		if what != "" && ctx.Err() == nil {
			last = what
		}
		return what
	})
	return fmt.Sprintf("converged %d ms after it was over, at last was missing: %s", took.Milliseconds(), last), err
}

// diverging says what keeps the cluster from being whole again.
func (a *arena) diverging(ctx context.Context, probe string) string {
	answers := a.ask(ctx)
	if len(answers) < nodes {
		return fmt.Sprintf("only %d of %d nodes answer", len(answers), nodes)
	}
	first := answers[0]
	for i, s := range answers {
		h := hostStatus(s)
		switch {
		case !s.Cluster.Quorum || h.State != "running" || s.Cluster.Leader != first.Cluster.Leader || h.Owner != hostStatus(first).Owner || h.Epoch != epoch(first):
			return fmt.Sprintf("%s sees %s; %s sees %s", a.c.Nodes[0].Name, describe(first), a.c.Nodes[i].Name, describe(s))
		case present(s) < nodes:
			return fmt.Sprintf("%s sees %s", a.c.Nodes[i].Name, describe(s))
		}
	}
	arrived, err := a.ftp.arrivals()
	if err != nil {
		return err.Error()
	}
	if len(arrived[probe]) == 0 {
		return fmt.Sprintf("%s, which was put after the fault, has not arrived; %s", probe, describe(first))
	}
	return ""
}

// move has the host moved by order, and sees that every node learns of it: the replica
// of one that has only stopped following would not show otherwise.
func (a *arena) move(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, convergeWithin)
	defer cancel()
	moved, err := a.c.Move(ctx, host, "")
	if err != nil {
		return fmt.Errorf("move %s: %w", host, err)
	}
	_, err = until(ctx, convergeWithin, func(ctx context.Context) string {
		answers := a.ask(ctx)
		for i, n := range a.c.Nodes {
			if s := answers[i]; s == nil || epoch(s) < moved.Epoch {
				return fmt.Sprintf("%s has not learnt of epoch %d", n.Name, moved.Epoch)
			}
		}
		return ""
	})
	return err
}

// present counts the nodes that are in. One that flaps may be kept from owning.
func present(s *api.Status) int {
	n := 0
	for _, node := range s.Nodes {
		if node.State == "alive" || node.State == "quarantined" {
			n++
		}
	}
	return n
}

// pardon ends the quarantine of nodes, as an operator does who knows why they flapped:
// what the nemesis does to one node must not decide what the next fault meets.
func (a *arena) pardon(ctx context.Context) error {
	_, err := until(ctx, convergeWithin, func(ctx context.Context) string {
		s := a.view(ctx)
		if s == nil {
			return "no node has a quorum"
		}
		held := 0
		for _, node := range s.Nodes {
			if node.State != "quarantined" {
				continue
			}
			held++
			if err := a.order(ctx, node.Name, api.NodeResume); err != nil {
				return err.Error()
			}
		}
		if held > 0 {
			return fmt.Sprintf("%d nodes are still in quarantine", held)
		}
		return ""
	})
	return err
}

// order gives an order about a node, to the node itself.
func (a *arena) order(ctx context.Context, name, order string) error {
	client, err := a.c.Node(name).Client()
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.SetNode(ctx, name, order)
	return err
}

func describe(s *api.Status) string {
	var b strings.Builder
	h := hostStatus(s)
	fmt.Fprintf(&b, "quorum %t, leader %q, %s %s on %q under epoch %d (%s)", s.Cluster.Quorum, s.Cluster.Leader, host, h.State, h.Owner, h.Epoch, h.Reason)
	for _, n := range s.Nodes {
		fmt.Fprintf(&b, " %s:%s", strings.TrimPrefix(n.Name, "node-"), n.State)
		if n.Reason != "" {
			fmt.Fprintf(&b, " (%s)", n.Reason)
		}
	}
	for _, p := range h.Handlers {
		if p.Error != "" {
			fmt.Fprintf(&b, "; %s on %s: %s", p.Adapter, p.Node, p.Error)
		}
	}
	for _, l := range s.ReceiveLocations {
		fmt.Fprintf(&b, "; %s %s %s", l.Name, l.State, l.LastError)
	}
	return b.String()
}
