package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
)

// followAgain is the pause before a lost event stream is opened again.
const followAgain = time.Second

// eventFilter says which events are shown; the zero value shows all.
type eventFilter struct {
	group string
	// node is whom it happened to, or from whom or to whom a group went.
	node string
	// kinds are those shown; none: all.
	kinds []string
	// from is the earliest time.
	from time.Time
}

func (f *eventFilter) shows(e api.Event) bool {
	switch {
	case f.group != "" && e.Group != f.group:
		return false
	case f.node != "" && e.Node != f.node && e.From != f.node && e.To != f.node:
		return false
	case len(f.kinds) > 0 && !slices.Contains(f.kinds, e.Kind):
		return false
	}
	return f.from.IsZero() || !e.At.Before(f.from)
}

func newEventsCommand(c *cli) *cobra.Command {
	var follow bool
	var after uint64
	var since time.Duration
	var filter eventFilter
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened in the cluster",
		Long: `Show what happened in the cluster, oldest first: who owned what, from which node it
came, why, under which epoch, and how long nobody can have acted in between; orders,
deployments, and items that were suspended, resumed or discarded. Every node shows the same events; the cluster keeps
the newest thousand.`,
		Example: "  fairlead events --follow --group edi --since 2h",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, kind := range filter.kinds {
				if !slices.Contains(api.EventKinds, kind) {
					return &usageError{fmt.Errorf("kind %q: want %s", kind, strings.Join(api.EventKinds, ", "))}
				}
			}
			if since < 0 {
				return &usageError{fmt.Errorf("since %s: want how long ago, such as 2h", since)}
			}
			if since > 0 {
				filter.from = time.Now().Add(-since)
			}
			return c.events(cmd, filter, after, follow)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on with what happens from now, until interrupted")
	f.Uint64Var(&after, "after", 0, "only events after this index")
	f.StringVar(&filter.group, "group", "", "only events of this group")
	f.StringVar(&filter.node, "node", "", "only events of this node, and of groups that came to it or left it")
	f.StringSliceVar(&filter.kinds, "kind", nil, "only events of these kinds, such as item-suspended,items-resumed")
	f.DurationVar(&since, "since", 0, "only events of this last time, such as 2h, by this machine's clock")
	must(cmd.RegisterFlagCompletionFunc("group", c.completeFlag(groupNames)))
	must(cmd.RegisterFlagCompletionFunc("node", c.completeFlag(nodeNames)))
	must(cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(api.EventKinds, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func (c *cli) events(cmd *cobra.Command, filter eventFilter, after uint64, follow bool) error {
	client, err := c.dial()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := c.bounded(cmd, readTimeout)
	defer cancel()
	all, err := client.Events(ctx, after)
	if err != nil {
		return c.withQuorum(cmd.Context(), client, err)
	}
	past := make([]api.Event, 0, len(all))
	for _, e := range all {
		if filter.shows(e) {
			past = append(past, e)
		}
		after = e.Index
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
	}
	return c.followEvents(cmd.Context(), client, filter, after)
}

// followEvents goes on where it was when the node goes away and comes back.
func (c *cli) followEvents(ctx context.Context, client *api.Client, filter eventFilter, after uint64) error {
	place := newPlace(after)
	lost := false
	for {
		err := client.FollowEvents(ctx, place.resume(), func(e api.Event) error {
			lost = false
			if !place.isNew(e) || !filter.shows(e) {
				return nil
			}
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

// place is how far a stream of events was read. One ledger entry makes several
// events of the same index (a node dies: its groups get owners), and a stream may
// break between them: then the index is asked for again, and what was seen of it is
// passed over.
type place struct {
	index uint64 // the newest that was seen
	seen  int    // how many events of it; -1: all of them
	again int    // how many events of it have come since the stream was opened
}

func newPlace(after uint64) *place { return &place{index: after, seen: -1} }

// resume returns the index after which to open the stream.
func (p *place) resume() uint64 {
	p.again = 0
	if p.seen < 0 {
		return p.index
	}
	return p.index - 1
}

// isNew reports whether the stream's next event was not seen before.
func (p *place) isNew(e api.Event) bool {
	if e.Index > p.index {
		p.index, p.seen, p.again = e.Index, 1, 1
		return true
	}
	if p.again++; e.Index < p.index || p.again <= p.seen {
		return false
	}
	p.seen = p.again
	return true
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
	p.say(eventStyle(e.Kind), "%-19s  %6d  %-16s  %s", at, e.Index, e.Kind, eventText(e))
}

func eventStyle(kind string) style {
	switch kind {
	case "node-expired", "group-unowned", "group-failed", "item-suspended", "items-discarded":
		return warn
	default:
		return plain
	}
}

// eventText says what it happened to, the change of owner if it is one, and why.
func eventText(e api.Event) string {
	var b strings.Builder
	add := func(format string, args ...any) {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, format, args...)
	}
	for _, what := range []struct{ noun, name string }{{"group", e.Group}, {"host", e.Host}, {"node", e.Node}} {
		// Many texts say it themselves.
		if what.name != "" && !strings.HasPrefix(e.Text, what.name+" ") {
			add("%s %s", what.noun, what.name)
		}
	}
	if e.From != "" || e.To != "" {
		add("%s → %s", orNone(e.From), orNone(e.To))
	}
	if e.Epoch != 0 {
		add("epoch %d", e.Epoch)
	}
	if e.Cause != "" {
		add("cause %s", e.Cause)
	}
	if e.GapMS != nil {
		add("gap %d ms", *e.GapMS)
	}
	if e.Text != "" && b.Len() > 0 {
		b.WriteString(": ")
	}
	return b.String() + e.Text
}
