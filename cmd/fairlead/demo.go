package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/demo"
)

func newDemoCommand(c *cli) *cobra.Command {
	o := demo.Options{}
	asJSON := false
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Three nodes move files and mails while their owner is killed; ends with a verdict",
		Long: `Starts three nodes on loopback, an FTP server, a POP3 server and a JetStream broker,
and generates traffic. The owner is hurt twice and moved once. At the end what
went in is compared with what came out.

Exit status 0 only if nothing was lost or doubled.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			o.Binary, o.JSON, o.Out = c.env.executable, asJSON, c.env.out
			if o.Adapters == "" {
				o.Adapters = filepath.Join(filepath.Dir(c.env.executable), "adapters")
			}
			if _, err := os.Stat(filepath.Join(o.Adapters, "fairlead-adapter-ftp")); err != nil {
				return errors.New("no adapters in " + o.Adapters + ": build them with `make`, or give their folder with --adapters")
			}
			err := demo.Run(ctx, o)
			if errors.Is(err, context.Canceled) {
				return errors.New("interrupted")
			}
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Nodes, "nodes", 3, "number of nodes")
	f.IntVar(&o.Items, "items", 500, "number of files; a fifth as many mails are added")
	f.IntVar(&o.Size, "size", 8<<20, "size of the largest file in bytes")
	f.IntVar(&o.Rate, "rate", 40, "files that appear at the source per second")
	f.StringVar(&o.Cause, "cause", "kill", "what is done to the owner: kill, stop or move")
	f.BoolVar(&o.Keep, "keep", false, "leave everything running after the verdict")
	f.BoolVar(&asJSON, "json", false, "print one JSON object at the end, nothing else")
	f.StringVar(&o.Adapters, "adapters", "", "folder of the adapters (default: next to this binary)")
	return cmd
}
