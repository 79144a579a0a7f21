package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
)

func newPortCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "port",
		Short:   "List and show send ports, stop and start them",
		Example: "  fairlead port list",
	}
	groupOnly(cmd)
	cmd.AddCommand(
		&cobra.Command{
			Use:     "list",
			Short:   "List the send ports, and which of them are down",
			Example: "  fairlead port list -o json",
			Args:    cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return ask(c, cmd, readTimeout,
					func(ctx context.Context, n *api.Client) ([]api.PortStatus, error) { return n.Ports(ctx) },
					renderPorts)
			},
		},
		&cobra.Command{
			Use:               "show PORT",
			Short:             "Show one send port",
			Example:           "  fairlead port show erp",
			Args:              cobra.ExactArgs(1),
			ValidArgsFunction: c.complete(portNames),
			RunE: func(cmd *cobra.Command, args []string) error {
				return ask(c, cmd, readTimeout,
					func(ctx context.Context, n *api.Client) (*api.PortStatus, error) { return n.Port(ctx, args[0]) },
					renderPort)
			},
		},
		newPortOrderCommand(c, api.PortStart, "Start a port that was stopped",
			`Let a port that was stopped by order send again. What has waited for it goes first.`),
		newPortOrderCommand(c, api.PortStop, "Send nothing through a port until it is started again",
			`Send nothing more through a port. What is being sent is finished; other messages for
it wait and use up no attempts, and their locations take no more than they may have
in flight. It stays stopped, whatever happens to nodes and deployments, until it is
started.`),
	)
	return cmd
}

func newPortOrderCommand(c *cli, order, short, long string) *cobra.Command {
	return &cobra.Command{
		Use:               order + " PORT",
		Short:             short,
		Long:              long,
		Example:           "  fairlead port " + order + " erp",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.complete(portNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(c, cmd, changeTimeout,
				func(ctx context.Context, n *api.Client) (*api.PortStatus, error) {
					return n.SetPort(ctx, args[0], order)
				},
				func(p *page, s *api.PortStatus) { p.say(look(s.State), "%s", portLine(s)) })
		},
	}
}

// portLine says in a line what a port does.
func portLine(s *api.PortStatus) string {
	line := fmt.Sprintf("port %s is %s", s.Name, s.State)
	switch {
	case s.Stopped:
		line += " by order"
	case s.Down:
		line += downText(s)
	}
	return line + because(s.LastError)
}

// downText says since when a port is down, and when it is tried again.
func downText(s *api.PortStatus) string {
	text := ", down"
	if s.DownSince != nil {
		text += " since " + local(s.DownSince)
	}
	if s.RetryAt != nil {
		text += ", tried again at " + local(s.RetryAt)
	}
	return text
}

func renderPorts(p *page, ports []api.PortStatus) {
	rows := make([][]cell, 0, len(ports))
	for i := range ports {
		s := &ports[i]
		rows = append(rows, []cell{{s.Name, bold}, {text: s.Host}, state(s.State), count(s.Sent, plain), count(s.Retrying, warn),
			{local(s.DownSince), warn}, {text: local(s.RetryAt)}, {text: s.Rate}, {p.fit(s.LastError, 60), warn}})
	}
	p.table([]string{"NAME", "HOST", "STATE", "SENT", "RETRYING", "DOWN-SINCE", "RETRY-AT", "RATE", "LAST-ERROR"}, rows)
}

func renderPort(p *page, s *api.PortStatus) {
	p.say(bold, "port %s (adapter %s, host %s)", s.Name, s.Adapter, s.Host)
	p.say(look(s.State), "%s", portLine(s))
	p.facts([]fact{
		{"window", s.Window}, {"rate", s.Rate}, {"sent", fmt.Sprint(s.Sent)}, {"retrying", fmt.Sprint(s.Retrying)},
	})
	if s.Retrying > 0 {
		p.say(dim, "see them: fairlead message list --port %s", s.Name)
	}
}
