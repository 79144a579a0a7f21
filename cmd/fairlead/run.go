package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fairlead-io/fairlead/runtime/config"
	"github.com/fairlead-io/fairlead/runtime/telemetry"
)

// stopTimeout is the default of --stop-timeout: a host's default drain time twice,
// and less than the 90 s after which systemd kills.
const stopTimeout = time.Minute

// daemon is the node as this command needs it.
type daemon interface {
	Start(ctx context.Context) error
	// Done is closed when the node has ended, by itself or stopped; Err then says
	// why.
	Done() <-chan struct{}
	Err() error
	Stop(ctx context.Context) error
}

// nodeMaker makes a node of its settings; tests have one of their own.
type nodeMaker func(*config.Node, *slog.Logger) (daemon, error)

func newRunCommand(c *cli, newNode nodeMaker) *cobra.Command {
	var file string
	var patience time.Duration
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a node in the foreground",
		Long: `Run a node until SIGTERM or SIGINT, which drain it: what is under way is finished
and its hosts go to other nodes. A second signal ends it at once; nothing is lost
by that either.

Every key of the node file can be given as a flag, or in the environment: node.name
as --node.name or FAIRLEAD_NODE__NAME. Flags win over the environment, and that
over the file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if patience <= 0 {
				return &usageError{fmt.Errorf("stop-timeout %s: want more than 0", patience)}
			}
			cfg, log, err := c.nodeSettings(cmd.Flags(), file)
			if err != nil {
				return err
			}
			n, err := newNode(cfg, log)
			if err != nil {
				return fmt.Errorf("set up node %s: %w", cfg.Node.Name, err)
			}
			return runNode(cmd.Context(), n, patience, log)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "node file (default: none, all keys at their defaults)")
	cmd.Flags().DurationVar(&patience, "stop-timeout", stopTimeout, "longest time for draining after a signal")
	must(cmd.MarkFlagFilename("config", "yaml", "yml", "toml", "json"))
	must(config.AddFlags(cmd.Flags()))
	return cmd
}

// nodeSettings reads the node file with what is laid over it, and makes the log.
func (c *cli) nodeSettings(flags *pflag.FlagSet, file string) (*config.Node, *slog.Logger, error) {
	cfg, err := config.LoadNode(file, config.WithEnvironment(os.Environ), config.WithFlags(flags))
	if err != nil {
		return nil, nil, err
	}
	log, _, err := telemetry.NewLogger(c.env.err, telemetry.LogOptions{
		Level: cfg.Log.Level, Format: cfg.Log.Format, Node: cfg.Node.Name,
	})
	if err != nil {
		return nil, nil, &usageError{err}
	}
	for _, w := range cfg.Warnings {
		log.Warn("doubtful setting", "finding", w.String())
	}
	return cfg, log, nil
}

// runNode starts the node and waits until it ends by itself or ctx does; then it
// stops it within patience. Only an end that was asked for is no error.
func runNode(ctx context.Context, n daemon, patience time.Duration, log *slog.Logger) error {
	err := n.Start(ctx)
	if err == nil {
		log.Info("node started", "version", buildVersion().Version)
		select {
		case <-ctx.Done():
			log.Info("draining; a second signal ends the node at once", "longest", patience)
		case <-n.Done():
			if err = n.Err(); err == nil {
				err = errors.New("the node ended by itself")
			}
		}
	} else if ctx.Err() != nil {
		err = nil // interrupted while starting
	} else {
		err = fmt.Errorf("start node: %w", err)
	}
	// ctx has ended already: stopping has a time limit of its own.
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if stopErr := n.Stop(stopCtx); stopErr != nil {
		err = errors.Join(err, fmt.Errorf("stop node: %w", stopErr))
	}
	if err == nil {
		log.Info("node stopped")
	}
	return err
}
