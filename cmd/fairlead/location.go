package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
)

func newLocationCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "location",
		Short:   "List and show receive locations, stop and start them, look at a source now",
		Example: "  fairlead location list",
	}
	groupOnly(cmd)
	cmd.AddCommand(
		&cobra.Command{
			Use:     "list",
			Short:   "List the receive locations, and what waits at each",
			Example: "  fairlead location list -o json",
			Args:    cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return ask(c, cmd, readTimeout,
					func(ctx context.Context, n *api.Client) ([]api.LocationStatus, error) { return n.Locations(ctx) },
					renderLocations)
			},
		},
		&cobra.Command{
			Use:               "show LOCATION",
			Short:             "Show one receive location",
			Example:           "  fairlead location show supplier-orders",
			Args:              cobra.ExactArgs(1),
			ValidArgsFunction: c.complete(locationNames),
			RunE: func(cmd *cobra.Command, args []string) error {
				return ask(c, cmd, readTimeout,
					func(ctx context.Context, n *api.Client) (*api.LocationStatus, error) {
						return n.Location(ctx, args[0])
					},
					renderLocation)
			},
		},
		newLocationOrderCommand(c, api.LocationStart, "Start a location that was stopped",
			`Let a location that was stopped by order take items from its source again.`),
		newLocationOrderCommand(c, api.LocationStop, "Take nothing from a source until the location is started again",
			`Take nothing more from a location's source. What is under way is finished and
settled. It stays stopped, whatever happens to nodes and deployments, until it is
started.`),
		newLocationOrderCommand(c, api.LocationPoll, "Look at a source now, whatever the schedule says",
			`Look at a location's source now instead of when its schedule says so. The command
returns when the look is ordered, not when it is done. A location that is stopped, or
outside its window, is refused.`),
	)
	return cmd
}

func newLocationOrderCommand(c *cli, order, short, long string) *cobra.Command {
	return &cobra.Command{
		Use:               order + " LOCATION",
		Short:             short,
		Long:              long,
		Example:           "  fairlead location " + order + " supplier-orders",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.complete(locationNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(c, cmd, changeTimeout,
				func(ctx context.Context, n *api.Client) (*api.LocationStatus, error) {
					return n.SetLocation(ctx, args[0], order)
				},
				func(p *page, l *api.LocationStatus) { p.say(look(l.State), "%s", locationLine(l)) })
		},
	}
}

// locationLine says in a line what a location does.
func locationLine(l *api.LocationStatus) string {
	line := fmt.Sprintf("location %s is %s", l.Name, l.State)
	if l.Stopped {
		line += " by order"
	}
	if l.Node != "" {
		line += " on " + l.Node
	}
	if l.NextPoll != nil {
		line += ", next poll at " + local(l.NextPoll)
	}
	return line + because(l.LastError)
}

func renderLocations(p *page, locations []api.LocationStatus) {
	rows := make([][]cell, 0, len(locations))
	for i := range locations {
		l := &locations[i]
		rows = append(rows, []cell{{l.Name, bold}, {text: l.Host}, {text: l.Node}, state(l.State), count(l.Received, plain),
			count(l.InFlight, plain), count(l.Settling, plain), count(l.InDoubt, warn), count(l.Suspended, warn), count(l.Held, warn),
			{text: local(l.NextPoll)}, {p.fit(l.LastError, 60), warn}})
	}
	p.table([]string{"NAME", "HOST", "NODE", "STATE", "RECEIVED", "IN-FLIGHT", "SETTLING", "IN-DOUBT", "SUSPENDED", "HELD",
		"NEXT-POLL", "LAST-ERROR"}, rows)
}

func renderLocation(p *page, l *api.LocationStatus) {
	p.say(bold, "location %s (adapter %s, host %s)", l.Name, l.Adapter, l.Host)
	p.say(look(l.State), "%s", locationLine(l))
	p.facts([]fact{
		{"window", l.Window}, {"received", fmt.Sprint(l.Received)}, {"in flight", fmt.Sprint(l.InFlight)},
		{"settling", fmt.Sprint(l.Settling)}, {"in doubt", fmt.Sprint(l.InDoubt)}, {"suspended", fmt.Sprint(l.Suspended)},
		{"held", fmt.Sprint(l.Held)}, {"last item", l.LastItem},
	})
	if l.InDoubt+l.Suspended+l.Held > 0 {
		p.say(dim, "see them: fairlead message list --location %s", l.Name)
	}
}
