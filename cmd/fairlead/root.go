package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
)

const (
	defaultAddress = "unix:/run/fairlead/fairlead.sock"
	addressEnv     = "FAIRLEAD_ADDRESS"

	readTimeout   = 10 * time.Second
	changeTimeout = 2 * time.Minute
)

// environment is what a command sees of the process, so that tests can make one.
type environment struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	// terminal says that out is read by a person.
	terminal bool
	// keyboard says that in is typed by a person.
	keyboard bool
	// executable is the path of this binary.
	executable string
}

func osEnvironment() environment {
	exe, _ := os.Executable()
	return environment{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		getenv:     os.Getenv,
		terminal:   isTerminal(os.Stdout),
		keyboard:   isTerminal(os.Stdin),
		executable: exe,
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// cli holds the global flags.
type cli struct {
	env     environment
	address string
	output  string
	timeout time.Duration
	// began is set when the command line was understood and its command runs.
	began bool
}

var outputs = []string{"table", "json", "yaml"}

func newRootCommand(c *cli) *cobra.Command {
	root := &cobra.Command{
		Use:   "fairlead",
		Short: "Run adapter handlers that must not run twice",
		Long: `Fairlead runs adapter handlers (FTP, POP3, IMAP, queues, ...) on a cluster of a
few machines, each on exactly one of them, and lets another take over when its
machine fails.

Exit status: 0 done, 1 failed, 2 wrong usage or input, 3 no node reachable or no
quorum, 4 no such thing.`,
		Version:       buildVersion().Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	groupOnly(root)
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return c.begin() }
	f := root.PersistentFlags()
	f.StringVar(&c.address, "address", "", fmt.Sprintf("node to ask: unix:/path, or http://host:port (default $%s, else %s)", addressEnv, defaultAddress))
	f.StringVarP(&c.output, "output", "o", "table", "output as "+strings.Join(outputs, ", "))
	f.DurationVar(&c.timeout, "timeout", 0, "longest wait for the node (default 10s; 2m for what changes something)")
	must(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(outputs, cobra.ShellCompDirectiveNoFileComp)))
	root.AddCommand(commands(c)...)
	root.SetIn(c.env.in)
	root.SetOut(c.env.out)
	root.SetErr(c.env.err)
	// After SetOut: cobra's completion command keeps the output of this moment.
	root.InitDefaultCompletionCmd()
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		groupOnly(completion)
	}
	return root
}

// commands are those of the first level.
func commands(c *cli) []*cobra.Command {
	return []*cobra.Command{
		newRunCommand(c, newNode),
		newDemoCommand(c),
		newValidateCommand(c),
		newDeployCommand(c),
		newStatusCommand(c),
		newHostCommand(c),
		newNodeCommand(c),
		newLocationCommand(c),
		newPortCommand(c),
		newRouteCommand(c),
		newMessageCommand(c),
		newAdapterCommand(c),
		newEventsCommand(c),
		newClusterCommand(c),
		newVersionCommand(c),
	}
}

func (c *cli) begin() error {
	if !slices.Contains(outputs, c.output) {
		return fmt.Errorf("output %q: want %s", c.output, strings.Join(outputs, ", "))
	}
	if c.timeout < 0 {
		return fmt.Errorf("timeout %s: want more than 0", c.timeout)
	}
	c.findAddress()
	c.began = true
	return nil
}

// findAddress takes the node to ask from the environment, or the default, unless
// the flag says it.
func (c *cli) findAddress() {
	if c.address == "" {
		c.address = c.env.getenv(addressEnv)
	}
	if c.address == "" {
		c.address = defaultAddress
	}
}

// groupOnly makes a command that does nothing but hold others: called alone or with
// a wrong name it is wrong usage.
func groupOnly(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			cmd.SetOut(cmd.ErrOrStderr())
			_ = cmd.Help()
			return &usageError{fmt.Errorf("say which command of %q", cmd.CommandPath())}
		}
		text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			text += fmt.Sprintf("; did you mean %s?", strings.Join(near, " or "))
		}
		return &usageError{errors.New(text)}
	}
	cmd.SuggestionsMinimumDistance = 2
}

// dial returns the client of the node that the flags name.
func (c *cli) dial() (*api.Client, error) {
	client, err := api.Dial(c.address)
	if err != nil {
		return nil, &usageError{err}
	}
	return client, nil
}

// bounded gives the command's context its time limit.
func (c *cli) bounded(cmd *cobra.Command, otherwise time.Duration) (context.Context, context.CancelFunc) {
	if c.timeout > 0 {
		otherwise = c.timeout
	}
	return context.WithTimeout(cmd.Context(), otherwise)
}

// ask calls the node and prints the answer.
func ask[T any](c *cli, cmd *cobra.Command, timeout time.Duration, call func(context.Context, *api.Client) (T, error), table func(*page, T)) error {
	client, err := c.dial()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := c.bounded(cmd, timeout)
	defer cancel()
	v, err := call(ctx, client)
	if err != nil {
		return c.withQuorum(cmd.Context(), client, err)
	}
	return c.print(v, func(p *page) { table(p, v) })
}

// askAgain bounds the second question that explains a failure of the first.
const askAgain = 3 * time.Second

// withQuorum adds to a refusal for want of a quorum what the node knows of who is
// missing.
func (c *cli) withQuorum(ctx context.Context, client *api.Client, err error) error {
	var p *api.Problem
	if !errors.As(err, &p) || p.Type != api.TypeNoQuorum {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askAgain)
	defer cancel()
	st, statusErr := client.Status(ctx)
	if statusErr != nil || st.Cluster.QuorumText == "" || strings.Contains(p.Detail, st.Cluster.QuorumText) {
		return err
	}
	return fmt.Errorf("%w: %s", err, st.Cluster.QuorumText)
}

// must is for what can only fail by a mistake in this package.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
