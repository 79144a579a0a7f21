package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
)

// completeTimeout bounds a question to the node while somebody waits at the TAB
// key.
const completeTimeout = time.Second

// names asks a node for what may be typed.
type names func(context.Context, *api.Client) ([]string, error)

// complete makes a completion of names, one list for each argument. Where no node
// answers there is nothing to offer, and no error either: it would appear in the
// middle of the command line.
func (c *cli) complete(arguments ...names) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= len(arguments) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return c.offer(cmd, arguments[len(args)])
	}
}

// completeFlag makes a completion of one flag's value.
func (c *cli) completeFlag(n names) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return c.offer(cmd, n)
	}
}

func (c *cli) offer(cmd *cobra.Command, n names) ([]cobra.Completion, cobra.ShellCompDirective) {
	c.findAddress()
	client, err := c.dial()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer client.Close()
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	list, err := n(ctx, client)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}

func nodeNames(ctx context.Context, client *api.Client) ([]string, error) {
	nodes, err := client.Nodes(ctx)
	list := make([]string, 0, len(nodes))
	for _, n := range nodes {
		list = append(list, n.Name)
	}
	return list, err
}

func hostNames(ctx context.Context, client *api.Client) ([]string, error) {
	hosts, err := client.Hosts(ctx)
	list := make([]string, 0, len(hosts))
	for _, h := range hosts {
		list = append(list, h.Name)
	}
	return list, err
}

func groupNames(ctx context.Context, client *api.Client) ([]string, error) {
	hosts, err := client.Hosts(ctx)
	var list []string
	seen := map[string]bool{}
	for _, h := range hosts {
		if h.Clustered && !seen[h.Group] {
			seen[h.Group] = true
			list = append(list, h.Group)
		}
	}
	return list, err
}

func locationNames(ctx context.Context, client *api.Client) ([]string, error) {
	locations, err := client.Locations(ctx)
	list := make([]string, 0, len(locations))
	for _, l := range locations {
		list = append(list, l.Name)
	}
	return list, err
}

func portNames(ctx context.Context, client *api.Client) ([]string, error) {
	ports, err := client.Ports(ctx)
	list := make([]string, 0, len(ports))
	for _, p := range ports {
		list = append(list, p.Name)
	}
	return list, err
}
