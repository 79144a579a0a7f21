package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
)

func newNodeCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "node",
		Short:   "List nodes, empty one for maintenance, and forget one that is gone",
		Example: "  fairlead node list",
	}
	groupOnly(cmd)
	cmd.AddCommand(
		&cobra.Command{
			Use:     "list",
			Short:   "List the nodes, what each owns, and why one is not alive",
			Example: "  fairlead node list -o json",
			Args:    cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return ask(c, cmd, readTimeout,
					func(ctx context.Context, n *api.Client) ([]api.NodeStatus, error) { return n.Nodes(ctx) },
					renderNodes)
			},
		},
		newDrainCommand(c),
		newNodeOrderCommand(c, api.NodePause, "Let a node keep its groups, but take no others",
			`Let a node keep the groups that it owns, and take no others until it is resumed. The
order holds while the node is restarted.`),
		newNodeOrderCommand(c, api.NodeResume, "Let a node own groups again",
			`End a drain, a pause or a quarantine: the node may own groups again. Groups come
back to it only where their failback says so.`),
		newNodeOrderCommand(c, api.NodeRemove, "Forget a node that is gone for good",
			`Forget a node that is gone for good: it does not count for a majority any more and
is not listed. A node that is running, or that may still act, is refused: stop it
first. It may come back under the same name.`),
	)
	return cmd
}

func newNodeOrderCommand(c *cli, order, short, long string) *cobra.Command {
	return &cobra.Command{
		Use:               order + " NODE",
		Short:             short,
		Long:              long,
		Example:           "  fairlead node " + order + " node-a",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.complete(nodeNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(c, cmd, changeTimeout,
				func(ctx context.Context, n *api.Client) (*api.NodeReply, error) {
					return n.SetNode(ctx, args[0], order)
				},
				renderNodeReply)
		},
	}
}

func newDrainCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "drain NODE",
		Short: "Give away everything a node owns, and let it take nothing",
		Long: `Give away every group that a node owns, each after what is under way there is
finished, and let the node take none until it is resumed. The command returns when
the node owns nothing. The order holds while the node is restarted.

When --timeout runs out first, the exit status is 1 and what is left is named; the
drain goes on all the same. What no other node may own stays where it is.`,
		Example:           "  fairlead node drain node-a --timeout 10m",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.complete(nodeNames),
		RunE:              func(cmd *cobra.Command, args []string) error { return c.drain(cmd, args[0]) },
	}
}

// drain gives the order and shows a person what is left until it is carried out.
func (c *cli) drain(cmd *cobra.Command, name string) error {
	client, err := c.dial()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := c.bounded(cmd, changeTimeout)
	defer cancel()
	end := func() {}
	if c.env.terminal && c.output == "table" {
		end = c.showProgress(ctx, client, name)
	}
	reply, err := client.SetNode(ctx, name, api.NodeDrain)
	end()
	switch {
	case cmd.Context().Err() != nil:
		return fmt.Errorf("interrupted: the drain of %s goes on; `fairlead node resume %s` ends it", name, name)
	case isTimeout(err):
		return c.notDrained(cmd.Context(), client, name, err)
	case err != nil:
		return c.withQuorum(cmd.Context(), client, err)
	}
	return c.print(reply, func(p *page) { renderNodeReply(p, reply) })
}

// isTimeout reports whether the time was up, here or at the node.
func isTimeout(err error) bool {
	var p *api.Problem
	if errors.As(err, &p) {
		return p.Type == api.TypeTimeout
	}
	return errors.Is(err, context.DeadlineExceeded)
}

// notDrained says what is left on a node whose drain ran out of time.
func (c *cli) notDrained(ctx context.Context, client *api.Client, name string, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, askAgain)
	defer cancel()
	left, err := groupsOf(ctx, client, name)
	switch {
	case err != nil:
		return cause
	case len(left) == 0:
		return fmt.Errorf("the time was up before the drain of %s was confirmed; it owns nothing now", name)
	}
	return fmt.Errorf("the time was up, and %s still owns %s: %s; the drain goes on, give it longer with --timeout",
		name, plural(len(left), "group"), strings.Join(left, ", "))
}

// groupsOf are the groups that a node owns.
func groupsOf(ctx context.Context, client *api.Client, name string) ([]string, error) {
	nodes, err := client.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if n.Name == name {
			return n.Owns, nil
		}
	}
	return nil, api.NotFound("no node %q in the cluster", name)
}

const (
	progressEvery = 500 * time.Millisecond
	eraseLine     = "\r\x1b[K"
)

// showProgress keeps a line on the terminal that says what the node still owns,
// until the returned function is called; that one waits for it to end.
func (c *cli) showProgress(ctx context.Context, client *api.Client, name string) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(progressEvery)
		defer t.Stop()
		p := c.newPage()
		for {
			// What goes wrong here the order itself will say.
			if left, err := groupsOf(ctx, client, name); err == nil && len(left) > 0 {
				line := fmt.Sprintf("draining %s: %s left: %s", name, plural(len(left), "group"), strings.Join(left, ", "))
				fmt.Fprint(c.env.err, eraseLine+p.fit(clean(line), 78))
			}
			select {
			case <-t.C:
			case <-ctx.Done():
				fmt.Fprint(c.env.err, eraseLine)
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func renderNodeReply(p *page, r *api.NodeReply) {
	moved := ""
	if len(r.Moved) > 0 {
		moved = fmt.Sprintf(", has given away %s: %s", plural(len(r.Moved), "group"), strings.Join(r.Moved, ", "))
	}
	p.say(plain, "node %s is %s%s", r.Node, r.State, moved)
}

func renderNodes(p *page, nodes []api.NodeStatus) {
	rows := make([][]cell, 0, len(nodes))
	for _, n := range nodes {
		voter := ""
		if n.Voter {
			voter = "yes"
		}
		rows = append(rows, []cell{{n.Name, bold}, {text: n.Role}, state(n.State), {text: voter}, {text: lease(n.LeaseMS)},
			{text: p.fit(strings.Join(n.Owns, ","), 40)}, {text: n.Version}, {n.Reason, warn}})
	}
	p.table([]string{"NAME", "ROLE", "STATE", "VOTER", "LEASE", "OWNS", "VERSION", "REASON"}, rows)
}
