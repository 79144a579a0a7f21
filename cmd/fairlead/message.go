package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
)

func newMessageCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "message", Short: "List the messages whose fate is not final"}
	groupOnly(cmd)
	var wanted string
	list := &cobra.Command{
		Use:   "list",
		Short: "List messages that are suspended, in doubt, in flight or not yet settled",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wanted != "" && !slices.Contains(api.MessageStates, wanted) {
				return &usageError{fmt.Errorf("state %q: want %s", wanted, strings.Join(api.MessageStates, ", "))}
			}
			return ask(c, cmd, readTimeout,
				func(ctx context.Context, n *api.Client) ([]api.Message, error) { return n.Messages(ctx, wanted) },
				renderMessages)
		},
	}
	list.Flags().StringVar(&wanted, "state", "", "only those in this state: "+strings.Join(api.MessageStates, ", "))
	must(list.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(api.MessageStates, cobra.ShellCompDirectiveNoFileComp)))
	cmd.AddCommand(list)
	return cmd
}

func renderMessages(p *page, messages []api.Message) {
	rows := make([][]cell, 0, len(messages))
	for _, m := range messages {
		since := ""
		if !m.Since.IsZero() {
			since = m.Since.Local().Format(time.DateTime)
		}
		st := warn
		if m.State == "in-flight" || m.State == "delivered" {
			st = plain
		}
		rows = append(rows, []cell{{text: m.ID}, {m.Location, bold}, {m.State, st}, {text: since},
			{text: strings.Join(m.Pending, ",")}, {text: p.fit(m.Key, 48)}, {p.fit(m.Reason, 80), warn}})
	}
	p.table([]string{"ID", "LOCATION", "STATE", "SINCE", "PENDING", "KEY", "REASON"}, rows)
}
