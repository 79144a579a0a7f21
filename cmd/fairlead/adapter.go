package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
	"github.com/fairlead-io/fairlead/runtime/config"
	"github.com/fairlead-io/fairlead/runtime/handler"
)

func newAdapterCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "adapter", Short: "List adapters and describe the properties of their endpoints"}
	groupOnly(cmd)
	var dirs []string
	cmd.PersistentFlags().StringSliceVar(&dirs, "adapters", nil, "look into these directories instead of asking a node")
	cmd.AddCommand(
		&cobra.Command{
			Use:   "list",
			Short: "List the adapters that the node, or --adapters, has",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if len(dirs) == 0 {
					return ask(c, cmd, readTimeout,
						func(ctx context.Context, n *api.Client) ([]api.Adapter, error) { return n.Adapters(ctx) },
						renderAdapters)
				}
				adapters, err := c.localAdapters(cmd, dirs)
				if err != nil {
					return err
				}
				return c.print(adapters, func(p *page) { renderAdapters(p, adapters) })
			},
		},
		&cobra.Command{
			Use:   "describe NAME",
			Short: "Show what can be written under `endpoint:` for an adapter",
			Args:  cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				if len(dirs) == 0 {
					return ask(c, cmd, readTimeout,
						func(ctx context.Context, n *api.Client) (*api.Adapter, error) { return n.Adapter(ctx, args[0]) },
						renderAdapter)
				}
				adapters, err := c.localAdapters(cmd, dirs)
				if err != nil {
					return err
				}
				for i := range adapters {
					if a := &adapters[i]; a.Name == args[0] {
						return c.print(a, func(p *page) { renderAdapter(p, a) })
					}
				}
				return api.NotFound("no adapter %q in %s", args[0], strings.Join(dirs, ", "))
			},
		},
	)
	return cmd
}

// localAdapters asks the binaries themselves.
func (c *cli) localAdapters(cmd *cobra.Command, dirs []string) ([]api.Adapter, error) {
	found, err := c.scan(cmd, dirs)
	adapters := make([]api.Adapter, 0, len(found))
	for _, b := range found {
		adapters = append(adapters, fromBinary(b))
	}
	return adapters, err
}

// scan finds adapters; a directory that is not there is worth a warning only, as
// for a node.
func (c *cli) scan(cmd *cobra.Command, dirs []string) ([]handler.Binary, error) {
	ctx, cancel := c.bounded(cmd, changeTimeout)
	defer cancel()
	log := slog.New(slog.NewTextHandler(c.env.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	found := handler.Scan(ctx, dirs, log)
	return found, ctx.Err()
}

func fromBinary(b handler.Binary) api.Adapter {
	a := api.Adapter{Name: b.Name, Version: b.Version, Summary: b.Summary, Path: b.Path, SHA256: b.SHA256}
	if b.Err != nil {
		a.Error = b.Err.Error()
	}
	if s := b.Receive; s != nil {
		a.Receive = &api.AdapterSide{Schema: s.Schema, Exclusive: s.Exclusive, Probes: s.Probes}
	}
	if s := b.Send; s != nil {
		a.Send = &api.AdapterSide{Schema: s.Schema, Exclusive: s.Exclusive, Probes: s.Probes}
	}
	return a
}

// factsOf is what a deployment is checked against.
func factsOf(b handler.Binary) config.AdapterFacts {
	facts := config.AdapterFacts{Version: b.Version}
	if b.Receive != nil {
		facts.ReceiveSchema, facts.Exclusive = b.Receive.Schema, b.Receive.Exclusive
	}
	if b.Send != nil {
		facts.SendSchema, facts.Probes = b.Send.Schema, b.Send.Probes
	}
	facts.Check = func(ctx context.Context, receive bool, properties []byte) ([]config.Problem, error) {
		found, err := handler.Check(ctx, b, receive, properties)
		problems := make([]config.Problem, len(found))
		for i, p := range found {
			problems[i] = config.Problem(p)
		}
		return problems, err
	}
	return facts
}

// adapterDirs are the directories given, or those that belong to this binary: next
// to it as `make` builds them, and as a package installs them.
func (c *cli) adapterDirs(given []string) []string {
	if len(given) > 0 {
		return given
	}
	bin := filepath.Dir(c.env.executable)
	var dirs []string
	for _, dir := range []string{filepath.Join(bin, "adapters"), filepath.Join(bin, "..", "lib", "fairlead", "adapters")} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func renderAdapters(p *page, adapters []api.Adapter) {
	rows := make([][]cell, 0, len(adapters))
	for _, a := range adapters {
		summary := cell{text: a.Summary}
		if a.Error != "" {
			summary = cell{"cannot be used: " + a.Error, bad}
		}
		rows = append(rows, []cell{{a.Name, bold}, {text: a.Version}, {text: yes(a.Receive != nil)}, {text: yes(a.Send != nil)}, summary})
	}
	p.table([]string{"NAME", "VERSION", "RECEIVES", "SENDS", "SUMMARY"}, rows)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
