package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fairlead-io/fairlead/runtime/config"
	"github.com/fairlead-io/fairlead/runtime/datadir"
	"github.com/fairlead-io/fairlead/runtime/guardian"
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
	// Answer returns if the node answers; see node.Answer.
	Answer()
	Stop(ctx context.Context) error
}

// attachments are what a node gets from around it: its guardian and the lock of its
// data directory.
type attachments struct {
	// Link is nil without a guardian, which is a link that does nothing.
	Link *guardian.Link
	Lock *datadir.Lock
}

// nodeMaker makes a node of its settings; tests have one of their own.
type nodeMaker func(*config.Node, *slog.Logger, attachments) (daemon, error)

// runFlags are those of run that are not keys of the node file.
type runFlags struct {
	file       string
	patience   time.Duration
	noGuardian bool
}

func newRunCommand(c *cli, newNode nodeMaker) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a node in the foreground",
		Long: `Run a node until SIGTERM or SIGINT, which drain it: what is under way is finished
and its hosts go to other nodes. A second signal ends it at once; nothing is lost
by that either.

On Linux this process is the node's guardian. It starts the node itself as its
child, and if that dies or hangs, it kills what is left of it, tells the other
nodes that they can take over at once, and starts it again.

Every key of the node file can be given as a flag, or in the environment: node.name
as --node.name or FAIRLEAD_NODE__NAME. Flags win over the environment, and that
over the file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.patience <= 0 {
				return &usageError{fmt.Errorf("stop-timeout %s: want more than 0", f.patience)}
			}
			if guardian.Supported && !f.noGuardian && c.env.getenv(guardian.LinkEnv) == "" {
				return c.guard(cmd, f)
			}
			return c.runRuntime(cmd, f, newNode)
		},
	}
	cmd.Flags().StringVarP(&f.file, "config", "c", "", "node file (default: none, all keys at their defaults)")
	cmd.Flags().DurationVar(&f.patience, "stop-timeout", stopTimeout, "longest time for draining after a signal")
	cmd.Flags().BoolVar(&f.noGuardian, "no-guardian", false, "run the node in this process, without a guardian: for debuggers; others wait for its lease if it dies")
	must(cmd.MarkFlagFilename("config", "yaml", "yml", "toml", "json"))
	must(config.AddFlags(cmd.Flags()))
	return cmd
}

// runRuntime runs the node in this process, with its guardian's help if it has one.
func (c *cli) runRuntime(cmd *cobra.Command, f runFlags, newNode nodeMaker) (err error) {
	link, err := guardian.Attach(c.env.getenv)
	if err != nil {
		return err
	}
	defer link.Close()
	defer func() {
		if exitCode(err) == exitWrong {
			link.Refuse()
		}
	}()
	beats := keepBeating(link)
	defer beats.stop()
	cfg, log, err := c.nodeSettings(cmd.Flags(), f.file)
	if err != nil {
		return err
	}
	for _, w := range cfg.Warnings {
		log.Warn("doubtful setting", "finding", w.String())
	}
	lock, err := lockDataDir(cmd.Context(), cfg, log)
	if err != nil && cmd.Context().Err() != nil {
		log.Info("interrupted while waiting for the data directory", "reason", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	n, err := newNode(cfg, log, attachments{Link: link, Lock: lock})
	if err != nil {
		return fmt.Errorf("set up node %s: %w", cfg.Node.Name, err)
	}
	return runNode(cmd.Context(), n, beats, f.patience, log)
}

// lockWait bounds the wait for what is left of an earlier run, which dies within
// milliseconds if it dies at all. A guardian tries again.
const lockWait = 30 * time.Second

func lockDataDir(ctx context.Context, cfg *config.Node, log *slog.Logger) (*datadir.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	return datadir.Open(ctx, cfg.Node.DataDir, datadir.WithLog(log))
}

// beatEvery is well below the time after which a guardian takes silence for a hang.
const beatEvery = 500 * time.Millisecond

// beats tell the guardian that this process runs, and, once there is a node, that
// the node answers. A nil one does nothing.
type beats struct {
	link   *guardian.Link
	probe  atomic.Pointer[func()]
	cancel context.CancelFunc
	task   sync.WaitGroup
}

// keepBeating begins; nil without a guardian.
func keepBeating(link *guardian.Link) *beats {
	if link == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &beats{link: link, cancel: cancel}
	b.task.Go(func() {
		tick := time.NewTicker(beatEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if probe := b.probe.Load(); probe != nil {
					(*probe)() // of a node that hangs it does not return: no beat
				}
				link.Beat()
			case <-ctx.Done():
				return
			}
		}
	})
	return b
}

// ready says that the node serves; from now on it has to answer.
func (b *beats) ready(probe func()) {
	if b != nil {
		b.probe.Store(&probe)
		b.link.Ready()
	}
}

func (b *beats) stop() {
	if b != nil {
		b.cancel()
		b.task.Wait()
	}
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
	return cfg, log, nil
}

// runNode starts the node and waits until it ends by itself or ctx does; then it
// stops it within patience. Only an end that was asked for is no error.
func runNode(ctx context.Context, n daemon, b *beats, patience time.Duration, log *slog.Logger) error {
	err := n.Start(ctx)
	if err == nil {
		b.ready(n.Answer)
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
