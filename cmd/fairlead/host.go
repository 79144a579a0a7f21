package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
)

func newHostCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "host", Short: "List and show hosts, move, stop and start them",
		Example: "  fairlead host list"}
	groupOnly(cmd)
	cmd.AddCommand(
		&cobra.Command{
			Use:     "list",
			Short:   "List the hosts and who owns them",
			Example: "  fairlead host list -o json",
			Args:    cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return ask(c, cmd, readTimeout,
					func(ctx context.Context, n *api.Client) ([]api.HostStatus, error) { return n.Hosts(ctx) },
					func(p *page, hosts []api.HostStatus) { p.table(hostHeader, hostRows(hosts)) })
			},
		},
		&cobra.Command{
			Use:               "show HOST",
			Short:             "Show one host with its handlers, and which nodes may own it",
			Example:           "  fairlead host show intake",
			Args:              cobra.ExactArgs(1),
			ValidArgsFunction: c.complete(hostNames),
			RunE: func(cmd *cobra.Command, args []string) error {
				return ask(c, cmd, readTimeout,
					func(ctx context.Context, n *api.Client) (*hostDetail, error) { return getHost(ctx, n, args[0]) },
					renderHost)
			},
		},
		newMoveCommand(c),
		newHostOrderCommand(c, api.HostStart, "Start a host that was stopped",
			`Start a host that was stopped by order, on the node that is best now.`),
		newHostOrderCommand(c, api.HostStop, "Stop a host until it is started again",
			`Finish what is under way in a host, then end its handlers wherever they run. It
stays stopped, whatever happens to nodes, until it is started. Other hosts of its
group go on.`),
		newHostOrderCommand(c, api.HostReset, "Forget a host's failures and try it again at once",
			`Forget the failures of a host's group: one that has used up its failovers is tried
again at once, and has all of them before it.`),
		newHostOrderCommand(c, api.HostResume, "Let a host that was moved to a named node move by itself again",
			`A host that was moved to a named node stays there, as far as that node may own it,
until it is resumed. Then failback and balance apply to it again.`),
	)
	return cmd
}

func newHostOrderCommand(c *cli, order, short, long string) *cobra.Command {
	return &cobra.Command{
		Use:               order + " HOST",
		Short:             short,
		Long:              long,
		Example:           "  fairlead host " + order + " intake",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.complete(hostNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(c, cmd, changeTimeout,
				func(ctx context.Context, n *api.Client) (*api.HostStatus, error) {
					return n.SetHost(ctx, args[0], order)
				},
				func(p *page, h *api.HostStatus) { p.say(look(h.State), "%s", hostLine(h)) })
		},
	}
}

func newMoveCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "move HOST [NODE]",
		Short: "Move a host and its group to a node, or to the best other one",
		Long: `Move a clustered host, and all hosts of its group, to a node, or without NODE to
the best other one. The owner finishes what is under way, then the other takes
over; the command returns when it has. At a NODE that was named it stays until
` + "`fairlead host resume`" + `.`,
		Example:           "  fairlead host move intake node-b",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: c.complete(hostNames, nodeNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			to := ""
			if len(args) == 2 {
				to = args[1]
			}
			return ask(c, cmd, changeTimeout,
				func(ctx context.Context, n *api.Client) (*api.MoveReply, error) { return n.MoveHost(ctx, args[0], to) },
				func(p *page, m *api.MoveReply) {
					p.say(plain, "group %s moved from %s to %s (epoch %d)", m.Group, orNone(m.From), m.To, m.Epoch)
				})
		},
	}
}

// hostDetail is a host with what Explain says of it.
type hostDetail struct {
	api.HostStatus
	Explain []string `json:"explain"`
}

func getHost(ctx context.Context, n *api.Client, name string) (*hostDetail, error) {
	h, err := n.Host(ctx, name)
	if err != nil {
		return nil, err
	}
	why, err := n.Explain(ctx, name)
	if err != nil {
		return nil, err
	}
	return &hostDetail{HostStatus: *h, Explain: why}, nil
}

// hostLine says in a line what a host does and where.
func hostLine(h *api.HostStatus) string {
	line := fmt.Sprintf("host %s is %s", h.Name, h.State)
	if h.Owner != "" {
		line += " on " + h.Owner
	}
	return line + because(hostReason(h))
}

// hostReason is the host's own reason, with what a person has to know besides: that
// it is tried again, or that it is held where it is.
func hostReason(h *api.HostStatus) string {
	parts := make([]string, 0, 3)
	if h.Reason != "" {
		parts = append(parts, h.Reason)
	}
	if h.FailedUntil != nil {
		parts = append(parts, "tried again at "+h.FailedUntil.Local().Format(time.DateTime))
	}
	if h.Pinned != "" {
		parts = append(parts, "stays on "+h.Pinned+" until resumed")
	}
	return strings.Join(parts, "; ")
}

func renderHost(p *page, h *hostDetail) {
	kind := "runs on every eligible node"
	if h.Clustered {
		kind = fmt.Sprintf("owned by %s, epoch %d", orNone(h.Owner), h.Epoch)
		if h.Since != nil {
			kind += ", since " + h.Since.Local().Format(time.DateTime)
		}
	}
	p.say(bold, "host %s (group %s): %s", h.Name, h.Group, kind)
	p.say(look(h.State), "%s%s", h.State, because(hostReason(&h.HostStatus)))
	if h.Clustered {
		p.say(plain, "before: %s; would take over: %s; %s counted against it",
			orNone(h.LastOwner), orNone(h.Standby), plural(h.Failures, "failover"))
	}
	rows := make([][]cell, 0, len(h.Handlers))
	for _, d := range h.Handlers {
		pid := ""
		if d.PID != 0 {
			pid = fmt.Sprint(d.PID)
		}
		rows = append(rows, []cell{{d.Adapter, bold}, {text: d.Node}, {text: pid}, state(d.State),
			count(d.Restarts, warn), {d.Error, warn}})
	}
	if len(h.Explain) > 0 {
		p.WriteByte('\n')
		p.say(bold, "NODES")
		for _, why := range h.Explain {
			p.say(plain, "%s", why)
		}
	}
	p.section("HANDLERS", []string{"ADAPTER", "NODE", "PID", "STATE", "RESTARTS", "LAST-ERROR"}, rows)
}
