package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
)

func newDeployCommand(c *cli) *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "deploy FILE",
		Short: "Make a deployment file the running one, whole or not at all",
		Long: `Send a deployment file ("-" for standard input) to the cluster, which checks it and
accepts it whole or not at all. If it is wrong every finding is printed with its
place, the exit status is 2, and what runs goes on.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, source, err := c.readInput(args[0], api.MaxDeployment)
			if err != nil {
				return err
			}
			request := api.DeployRequest{Name: name, Source: string(source), DryRun: dry}
			return ask(c, cmd, changeTimeout,
				func(ctx context.Context, n *api.Client) (*api.DeployReply, error) { return n.Deploy(ctx, request) },
				func(p *page, r *api.DeployReply) { c.renderDeploy(p, r, dry) })
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "check only, change nothing")
	return cmd
}

func (c *cli) renderDeploy(p *page, r *api.DeployReply, dry bool) {
	for _, w := range r.Warnings {
		c.warnf("warning: %s", w)
	}
	switch {
	case dry && r.Changed:
		p.say(plain, "the deployment is right and would change what runs")
	case dry:
		p.say(plain, "the deployment is right and is what runs already (version %d)", r.Version)
	case r.Changed:
		p.say(good, "deployment %d accepted", r.Version)
	default:
		p.say(plain, "unchanged: deployment %d is this one already", r.Version)
	}
}

// readInput reads a file, or standard input for "-", of at most limit bytes.
func (c *cli) readInput(path string, limit int64) (name string, data []byte, err error) {
	r := c.env.in
	name = "stdin.yaml"
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", nil, &usageError{err}
		}
		defer func() { _ = f.Close() }()
		r, name = f, path
	}
	data, err = io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return "", nil, &usageError{fmt.Errorf("read %s: %w", name, err)}
	}
	if int64(len(data)) > limit {
		return "", nil, &usageError{fmt.Errorf("%s has more than %d bytes", name, limit)}
	}
	return name, data, nil
}
