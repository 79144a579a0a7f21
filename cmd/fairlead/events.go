package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
)

// followAgain is the pause before a lost event stream is opened again.
const followAgain = time.Second

func newEventsCommand(c *cli) *cobra.Command {
	var follow bool
	var after uint64
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened in the cluster",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.dial()
			if err != nil {
				return err
			}
			defer client.Close()
			ctx, cancel := c.bounded(cmd, readTimeout)
			defer cancel()
			past, err := client.Events(ctx, after)
			if err != nil {
				return err
			}
			if !follow {
				return c.print(past, func(p *page) {
					for _, e := range past {
						renderEvent(p, e)
					}
				})
			}
			for _, e := range past {
				if err := c.printEvent(e); err != nil {
					return err
				}
				after = e.Index
			}
			return c.followEvents(cmd.Context(), client, after)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens from now, until interrupted")
	cmd.Flags().Uint64Var(&after, "after", 0, "only events after this index")
	return cmd
}

// followEvents goes on where it was when the node goes away and comes back.
func (c *cli) followEvents(ctx context.Context, client *api.Client, after uint64) error {
	lost := false
	for {
		err := client.FollowEvents(ctx, after, func(e api.Event) error {
			after, lost = e.Index, false
			return c.printEvent(e)
		})
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, api.ErrUnreachable) {
			return err
		}
		if !lost {
			c.warnf("fairlead: %v; trying again", err)
			lost = true
		}
		pause := time.NewTimer(followAgain)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil
		}
	}
}

// printEvent writes one event of a stream: a line of text or of JSON, or a YAML
// document.
func (c *cli) printEvent(e api.Event) error {
	if c.output == "table" {
		p := c.newPage()
		renderEvent(p, e)
		return c.write(p.Bytes())
	}
	if c.output == "json" {
		out, err := toJSON(e, "")
		if err != nil {
			return err
		}
		return c.write(out)
	}
	out, err := toYAML(e)
	if err != nil {
		return err
	}
	return c.write(append([]byte("---\n"), out...))
}

// renderEvent has columns of fixed width: a stream cannot wait for the widest.
func renderEvent(p *page, e api.Event) {
	at := ""
	if !e.At.IsZero() {
		at = e.At.Local().Format(time.DateTime)
	}
	p.say(plain, "%-19s  %6d  %s  %s", at, e.Index, fmt.Sprintf("%-16s", e.Kind), e.Text)
}
