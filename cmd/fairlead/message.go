package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
)

func newMessageCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "message",
		Short:   "List and show messages, resume and discard suspended ones",
		Example: "  fairlead message list --state suspended",
	}
	groupOnly(cmd)
	cmd.AddCommand(
		newMessageListCommand(c),
		&cobra.Command{
			Use:   "show ID",
			Short: "Show one message: its context, its attempts, its history, and where its content lies",
			Long: `Show one message: its context, its attempts, its history, and where its content
lies. The ID may be shortened to its first characters, at least eight of them. A
message that is done with is found as long as its history is kept.`,
			Example:           "  fairlead message show 0199a0b0-0000-7000",
			Args:              cobra.ExactArgs(1),
			ValidArgsFunction: c.complete(messageIDs),
			RunE: func(cmd *cobra.Command, args []string) error {
				return ask(c, cmd, readTimeout,
					func(ctx context.Context, n *api.Client) (*api.Message, error) { return n.Message(ctx, args[0]) },
					renderMessage)
			},
		},
		newResumeCommand(c),
		newDiscardCommand(c),
	)
	return cmd
}

func newMessageListCommand(c *cli) *cobra.Command {
	var f api.MessageFilter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List messages that are suspended, held, in doubt, in flight or not yet settled",
		Long: `List messages whose fate is not final, oldest first; with --history, or --state
settled, also those that are done with, as long as their history is kept.

--where takes a condition in CEL over id, location, key, name, state, reason, node,
size, attempts, since, pending, delivered and context.`,
		Example: `  fairlead message list --state suspended --since 2h
  fairlead message list --where 'context["ftp.name"].endsWith(".edi") && attempts > 1'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := wrongFilter(f); err != nil {
				return err
			}
			return ask(c, cmd, readTimeout,
				func(ctx context.Context, n *api.Client) ([]api.Message, error) { return c.listMessages(ctx, n, f) },
				renderMessages)
		},
	}
	c.filterFlags(cmd, &f)
	cmd.Flags().StringVar(&f.State, "state", "", "only those in this state: "+strings.Join(api.MessageStates, ", "))
	cmd.Flags().BoolVar(&f.History, "history", false, "also those that are done with")
	cmd.Flags().IntVar(&f.Limit, "limit", 0, fmt.Sprintf("show at most so many (default 1000, at most %d)", api.MaxMessages))
	must(cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(api.MessageStates, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// filterFlags are those that choose messages, wherever they are chosen.
func (c *cli) filterFlags(cmd *cobra.Command, f *api.MessageFilter) {
	flags := cmd.Flags()
	flags.StringVar(&f.Location, "location", "", "only those of this receive location")
	flags.StringVar(&f.Port, "port", "", "only those that go to this send port, have gone there, or were tried there")
	flags.Var((*moment)(&f.Since), "since", "only those received since then: 2h ago, or a time such as 2026-03-29T01:30:00Z")
	flags.Var((*moment)(&f.Until), "until", "only those received before then, given as for --since")
	flags.StringVar(&f.Where, "where", "", "only those for which this condition in CEL is true")
	must(cmd.RegisterFlagCompletionFunc("location", c.completeFlag(locationNames)))
	must(cmd.RegisterFlagCompletionFunc("port", c.completeFlag(portNames)))
}

// wrongFilter says what is wrong with a filter before any node is asked.
func wrongFilter(f api.MessageFilter) error {
	if _, err := f.Matcher(); err != nil {
		return &usageError{err}
	}
	return nil
}

// listMessages returns what the filter matches, and says so if that is not all.
func (c *cli) listMessages(ctx context.Context, n *api.Client, f api.MessageFilter) ([]api.Message, error) {
	found, err := n.Messages(ctx, f)
	if err != nil {
		return nil, err
	}
	if found.Truncated {
		c.warnf("warning: more messages match than the %d shown: narrow it with --location, --since or --where", len(found.Messages))
	}
	return found.Messages, nil
}

// moment is a time given as one, or as how long ago.
type moment time.Time

// String is part of pflag.Value.
func (m *moment) String() string {
	if t := time.Time(*m); !t.IsZero() {
		return t.Format(time.RFC3339)
	}
	return ""
}

// Type is part of pflag.Value: the name in the help.
func (m *moment) Type() string { return "time" }

// Set is part of pflag.Value. Beside RFC 3339 it takes what tables show, which is
// local time.
func (m *moment) Set(text string) error {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		*m = moment(time.Now().Add(-ago))
		return nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			*m = moment(t)
			return nil
		}
	}
	return fmt.Errorf("want how long ago, such as 2h, or a time such as 2026-03-29T01:30:00Z or %q", "2026-03-29 01:30:00")
}

func messageIDs(ctx context.Context, client *api.Client) ([]string, error) {
	found, err := client.Messages(ctx, api.MessageFilter{State: api.MessageSuspended})
	if err != nil {
		return nil, err
	}
	list := make([]string, 0, len(found.Messages))
	for _, m := range found.Messages {
		list = append(list, cobra.CompletionWithDesc(m.ID, clean(nameOf(&m))))
	}
	return list, nil
}

// nameOf is what people know a message by.
func nameOf(m *api.Message) string {
	if m.Name != "" {
		return m.Name
	}
	return m.Key
}

func renderMessages(p *page, messages []api.Message) {
	rows := make([][]cell, 0, len(messages))
	for _, m := range messages {
		rows = append(rows, []cell{{text: m.ID}, {m.Location, bold}, {m.State, messageStyle(m.State)}, {text: local(&m.Since)},
			{text: strings.Join(m.Pending, ",")}, {text: p.fit(m.Name, 40)}, {text: p.fit(m.Key, 48)}, {p.fit(m.Reason, 80), warn}})
	}
	p.table([]string{"ID", "LOCATION", "STATE", "SINCE", "PENDING", "NAME", "KEY", "REASON"}, rows)
}

func messageStyle(state string) style {
	switch state {
	case api.MessageSuspended, api.MessageHeld, api.MessageInDoubt:
		return warn
	default:
		return plain
	}
}

// local is a time as people read it; empty if there is none.
func local(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

func renderMessage(p *page, m *api.Message) {
	since := ""
	if !m.Since.IsZero() {
		since = " since " + local(&m.Since)
	}
	p.say(bold, "message %s of location %s", m.ID, m.Location)
	p.say(messageStyle(m.State), "%s%s%s", m.State, since, because(m.Reason))
	p.facts([]fact{
		{"name", m.Name}, {"key", m.Key}, {"size", bytesOf(m.Size)}, {"node", m.Node},
		{"received", local(m.Received)}, {"settled", local(m.Settled)},
		{"pending", strings.Join(m.Pending, ", ")}, {"delivered", strings.Join(m.Delivered, ", ")},
		{"content", m.Where},
	})
	if m.State == api.MessageSuspended {
		p.say(dim, "try it again: fairlead message resume %s [--to PORT]; give it up: fairlead message discard %s", m.ID, m.ID)
	}
	rows := make([][]cell, 0, len(m.Context))
	for _, name := range slices.Sorted(maps.Keys(m.Context)) {
		rows = append(rows, []cell{{name, bold}, {text: m.Context[name]}})
	}
	p.section("CONTEXT", []string{"PROPERTY", "VALUE"}, rows)
	rows = nil
	for _, a := range m.Attempts {
		rows = append(rows, []cell{{text: local(&a.At)}, {a.Port, bold}, {a.Error, warn}})
	}
	p.section("FAILED ATTEMPTS", []string{"AT", "PORT", "ERROR"}, rows)
	rows = nil
	for _, s := range m.History {
		attempt := ""
		if s.Attempt > 0 {
			attempt = fmt.Sprint(s.Attempt)
		}
		rows = append(rows, []cell{{text: local(&s.At)}, {s.Kind, bold}, {text: s.Node}, {text: s.Port}, {text: attempt},
			{text: bytesOf(s.Size)}, {text: s.Text}})
	}
	p.section("HISTORY", []string{"AT", "STEP", "NODE", "PORT", "ATTEMPT", "SIZE", "TEXT"}, rows)
}

func bytesOf(n int64) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf("%d B", n)
}
