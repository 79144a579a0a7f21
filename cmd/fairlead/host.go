package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
)

func newHostCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "host", Short: "List and show hosts, and move them to another node"}
	groupOnly(cmd)
	cmd.AddCommand(
		&cobra.Command{
			Use:   "list",
			Short: "List the hosts and who owns them",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return ask(c, cmd, readTimeout,
					func(ctx context.Context, n *api.Client) ([]api.HostStatus, error) { return n.Hosts(ctx) },
					func(p *page, hosts []api.HostStatus) { p.table(hostHeader, hostRows(hosts)) })
			},
		},
		&cobra.Command{
			Use:   "show HOST",
			Short: "Show one host with its handlers",
			Args:  cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return ask(c, cmd, readTimeout,
					func(ctx context.Context, n *api.Client) (*api.HostStatus, error) { return n.Host(ctx, args[0]) },
					renderHost)
			},
		},
		newMoveCommand(c),
	)
	return cmd
}

func newMoveCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "move HOST [NODE]",
		Short: "Move a host and its group to a node, or to the best other one",
		Long: `Move a clustered host, and all hosts of its group, to a node, or without NODE to
the best other one. The owner finishes what is under way, then the other takes
over; the command returns when it has.`,
		Args: cobra.RangeArgs(1, 2),
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

func renderHost(p *page, h *api.HostStatus) {
	kind := "runs on every eligible node"
	if h.Clustered {
		kind = fmt.Sprintf("owned by %s, epoch %d", orNone(h.Owner), h.Epoch)
	}
	p.say(bold, "host %s (group %s): %s", h.Name, h.Group, kind)
	p.say(look(h.State), "%s%s", h.State, because(h.Reason))
	rows := make([][]cell, 0, len(h.Handlers))
	for _, d := range h.Handlers {
		pid := ""
		if d.PID != 0 {
			pid = fmt.Sprint(d.PID)
		}
		rows = append(rows, []cell{{d.Adapter, bold}, {text: d.Node}, {text: pid}, state(d.State),
			count(d.Restarts, warn), {d.Error, warn}})
	}
	p.section("HANDLERS", []string{"ADAPTER", "NODE", "PID", "STATE", "RESTARTS", "LAST-ERROR"}, rows)
}
