package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
)

// answerTimeout bounds the wait for a person's yes.
const answerTimeout = 5 * time.Minute

// messageOrder is an order about messages as a command line gives it.
type messageOrder struct {
	c *cli
	// verb is what is done, such as "discard", done its past, such as "discarded".
	verb, done string
	carryOut   func(*api.Client, context.Context, api.MessageOrder) (*api.OrderReply, error)
	// final says that it cannot be undone: a person is asked first.
	final bool

	filter        api.MessageFilter
	to            string
	all, dry, yes bool
}

func newResumeCommand(c *cli) *cobra.Command {
	o := &messageOrder{c: c, verb: "resume", done: "resumed", carryOut: (*api.Client).ResumeMessages}
	cmd := o.command("Let suspended messages go on", `Let suspended messages go on: each is sent again to the ports that have not
confirmed it, with all its attempts before it; or with --to to another port instead.
One that no route matched is routed again, by the deployment that runs now.

Messages are named by ID, or chosen by --all and what narrows it down. An ID may be
shortened to its first characters, at least eight of them. What is passed over is
named with the reason, and the exit status is then 1.`)
	cmd.Example = `  fairlead message resume 0199a0b0-0000-7000-8000-000000000001
  fairlead message resume --all --location supplier-orders --to archive`
	cmd.Flags().StringVar(&o.to, "to", "", "send them to this port instead of those that have not confirmed them")
	must(cmd.RegisterFlagCompletionFunc("to", c.completeFlag(portNames)))
	return cmd
}

func newDiscardCommand(c *cli) *cobra.Command {
	o := &messageOrder{c: c, verb: "discard", done: "discarded", carryOut: (*api.Client).DiscardMessages, final: true}
	cmd := o.command("Give suspended messages up", `Give suspended messages up: they go to no other port, and are settled at their
source as if they had arrived: a file is deleted or moved, a mail deleted, a queue's
message acknowledged. This cannot be undone. On a terminal they are shown and you are
asked first; elsewhere --yes is needed.

Messages are named by ID, or chosen by --all and what narrows it down. An ID may be
shortened to its first characters, at least eight of them. What is passed over is
named with the reason, and the exit status is then 1.`)
	cmd.Example = `  fairlead message discard 0199a0b0-0000-7000-8000-000000000001
  fairlead message discard --all --location supplier-orders --where 'reason.contains("550")' --dry-run`
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	return cmd
}

func (o *messageOrder) command(short, long string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   o.verb + " ID...",
		Short: short,
		Long:  long,
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return o.c.offer(cmd, messageIDs)
		},
		RunE: func(cmd *cobra.Command, ids []string) error {
			if err := o.check(ids); err != nil {
				return &usageError{err}
			}
			return o.run(cmd, ids)
		},
	}
	o.c.filterFlags(cmd, &o.filter)
	cmd.Flags().BoolVar(&o.all, "all", false, "all suspended messages, or those that --location, --port, --since, --until and --where leave")
	cmd.Flags().BoolVar(&o.dry, "dry-run", false, "only show which messages it would be")
	return cmd
}

// check refuses what might hit more messages than somebody thought of.
func (o *messageOrder) check(ids []string) error {
	narrowed := o.filter != api.MessageFilter{}
	switch {
	case len(ids) > 0 && (o.all || narrowed):
		return errors.New("IDs together with --all or what narrows it down: give the one or the other")
	case len(ids) > api.MaxMessageIDs:
		return fmt.Errorf("%d IDs: at most %d are possible at once", len(ids), api.MaxMessageIDs)
	case len(ids) == 0 && !o.all && narrowed:
		return fmt.Errorf("add --all to %s every suspended message that these flags leave; --dry-run shows which", o.verb)
	case len(ids) == 0 && !o.all:
		return errors.New("say which messages: their IDs, or --all with --location, --port, --since, --until or --where")
	case o.final && !o.yes && !o.dry && !o.c.canAsk():
		return fmt.Errorf("what is %s cannot be brought back: add --yes to do it unasked, or --dry-run to see which it would be", o.done)
	}
	o.filter.State = api.MessageSuspended
	_, err := o.filter.Matcher()
	return err
}

func (o *messageOrder) run(cmd *cobra.Command, ids []string) error {
	client, err := o.c.dial()
	if err != nil {
		return err
	}
	defer client.Close()
	order := api.MessageOrder{IDs: ids, Port: o.to}
	if len(ids) == 0 {
		order.Filter = &o.filter
	}
	if o.dry || o.final && !o.yes {
		chosen, err := o.chosen(cmd, client, ids)
		if err != nil {
			return o.c.withQuorum(cmd.Context(), client, err)
		}
		if o.dry {
			return o.c.print(chosen, func(p *page) { renderMessages(p, chosen) })
		}
		if agreed, err := o.confirm(cmd.Context(), chosen); err != nil || !agreed {
			return err
		}
		// What was shown, and not what may have been suspended since.
		order = api.MessageOrder{IDs: idsOf(chosen)}
	}
	ctx, cancel := o.c.bounded(cmd, changeTimeout)
	defer cancel()
	reply, err := o.carryOut(client, ctx, order)
	if err != nil {
		return o.c.withQuorum(cmd.Context(), client, err)
	}
	if err := o.c.print(reply, func(p *page) { o.render(p, reply) }); err != nil {
		return err
	}
	if n := len(reply.Skipped); n > 0 {
		return fmt.Errorf("%s not %s: the reasons are above", plural(n, "message"), o.done)
	}
	return nil
}

// chosen are the messages that the order would be about.
func (o *messageOrder) chosen(cmd *cobra.Command, client *api.Client, ids []string) ([]api.Message, error) {
	ctx, cancel := o.c.bounded(cmd, readTimeout)
	defer cancel()
	if len(ids) == 0 {
		return o.c.listMessages(ctx, client, o.filter)
	}
	list := make([]api.Message, 0, len(ids))
	for _, id := range ids {
		m, err := client.Message(ctx, id)
		if err != nil {
			return nil, err
		}
		list = append(list, *m)
	}
	return list, nil
}

// confirm shows the messages to a person and returns what that one says.
func (o *messageOrder) confirm(ctx context.Context, chosen []api.Message) (bool, error) {
	if len(chosen) == 0 {
		o.c.warnf("no suspended message matches")
		return false, nil
	}
	p := o.c.newPage()
	renderMessages(p, chosen)
	fmt.Fprintf(p, "%s %s? This cannot be undone. [y/N] ", o.verb, plural(len(chosen), "message"))
	if _, err := o.c.env.err.Write(p.Bytes()); err != nil {
		return false, fmt.Errorf("ask before %sing: %w", o.verb, err)
	}
	answer, err := o.c.answer(ctx)
	if err != nil {
		return false, fmt.Errorf("%w: nothing was %s", err, o.done)
	}
	if answer = strings.ToLower(answer); answer != "y" && answer != "yes" {
		o.c.warnf("nothing was %s", o.done)
		return false, nil
	}
	return true, nil
}

// canAsk reports whether somebody sees a question and can answer it.
func (c *cli) canAsk() bool { return c.env.terminal && c.env.keyboard }

// answer reads a line from the keyboard. When nobody answers in time the reading goes
// on in the background until the process ends: it cannot be broken off.
func (c *cli) answer(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	lines := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(c.env.in).ReadString('\n') // the end of input is a no
		lines <- strings.TrimSpace(line)
	}()
	select {
	case line := <-lines:
		return line, nil
	case <-ctx.Done():
		return "", fmt.Errorf("no answer: %w", ctx.Err())
	}
}

func idsOf(messages []api.Message) []string {
	ids := make([]string, 0, len(messages))
	for _, m := range messages {
		ids = append(ids, m.ID)
	}
	return ids
}

func (o *messageOrder) render(p *page, r *api.OrderReply) {
	p.say(plain, "%s %s", o.done, plural(r.Done, "message"))
	if len(r.Skipped) == 0 {
		return
	}
	rows := make([][]cell, 0, len(r.Skipped))
	for _, s := range r.Skipped {
		rows = append(rows, []cell{{text: s.ID}, {s.Reason, warn}})
	}
	p.section("PASSED OVER", []string{"ID", "REASON"}, rows)
}
