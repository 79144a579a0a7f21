package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
)

func newRouteCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "route",
		Short:   "Show where a message would go",
		Example: "  fairlead route test --location supplier-orders --context ftp.name=a.edi",
	}
	groupOnly(cmd)
	cmd.AddCommand(newRouteTestCommand(c))
	return cmd
}

// routeTest is a message that is not there, as a command line gives it.
type routeTest struct {
	request  api.RouteRequest
	file     string
	message  string
	settings []string
}

func newRouteTestCommand(c *cli) *cobra.Command {
	var t routeTest
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Show which routes a message would match, where it would go, and why not elsewhere",
		Long: `Show which routes a message would match, where it would go, and why not elsewhere,
by the running deployment, or with -f by a file that is not deployed. Nothing is sent.

The message is made up of --location and --context, or is one that there is, named by
--message; --location, --adapter and --context then take the place of what it has.`,
		Example: `  fairlead route test --location supplier-orders --context ftp.name=a.edi
  fairlead route test -f app.yaml --message 0199a0b0-0000-7000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := t.read(c); err != nil {
				return err
			}
			return ask(c, cmd, readTimeout, t.ask, renderRoutes)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&t.file, "file", "f", "", `deployment file to test ("-": standard input) instead of the running deployment`)
	f.StringVar(&t.request.Location, "location", "", "receive location that the message would come from")
	f.StringVar(&t.request.Adapter, "adapter", "", "adapter that the message would come from (default: the location's)")
	f.StringArrayVar(&t.settings, "context", nil, "property of the message as NAME=VALUE; may be given many times")
	f.StringVar(&t.message, "message", "", "test this message; its ID may be shortened to eight characters or more")
	must(cmd.RegisterFlagCompletionFunc("location", c.completeFlag(locationNames)))
	must(cmd.RegisterFlagCompletionFunc("message", c.completeFlag(messageIDs)))
	return cmd
}

// read checks the flags and reads the file.
func (t *routeTest) read(c *cli) error {
	if t.request.Location == "" && t.message == "" {
		return &usageError{errors.New("say which message: --location with --context, or --message")}
	}
	t.request.Context = map[string]string{}
	for _, setting := range t.settings {
		name, value, ok := strings.Cut(setting, "=")
		if _, twice := t.request.Context[name]; !ok || name == "" || twice {
			return &usageError{fmt.Errorf("context %q: want NAME=VALUE, each name once", setting)}
		}
		t.request.Context[name] = value
	}
	if t.file == "" {
		return nil
	}
	name, source, err := c.readInput(t.file, api.MaxDeployment)
	if err != nil {
		return err
	}
	if len(source) == 0 {
		return &usageError{fmt.Errorf("%s is empty", name)}
	}
	t.request.Name, t.request.Source = name, string(source)
	return nil
}

func (t *routeTest) ask(ctx context.Context, n *api.Client) (*api.RouteReply, error) {
	request := t.request
	if t.message != "" {
		m, err := n.Message(ctx, t.message)
		if err != nil {
			return nil, err
		}
		if len(m.Context) == 0 && len(t.settings) == 0 {
			return nil, fmt.Errorf("the context of message %s is not kept: give what its routes ask for with --context", m.ID)
		}
		if request.Location == "" {
			request.Location = m.Location
		}
		given := request.Context
		request.Context = maps.Clone(m.Context)
		if request.Context == nil {
			request.Context = map[string]string{}
		}
		maps.Copy(request.Context, given)
	}
	return n.TestRoute(ctx, request)
}

func renderRoutes(p *page, r *api.RouteReply) {
	if len(r.To) > 0 {
		p.say(good, "goes to %s%s", strings.Join(r.To, ", "), because(r.Reason))
	} else {
		p.say(warn, "goes nowhere and would be suspended%s", because(r.Reason))
	}
	if len(r.Rules) == 0 {
		return
	}
	rows := make([][]cell, 0, len(r.Rules))
	for _, rule := range r.Rules {
		matches := cell{"no", dim}
		if rule.Matched {
			matches = cell{"yes", good}
		}
		when := rule.When
		if when == "" {
			when = "(always)"
		}
		rows = append(rows, []cell{{text: fmt.Sprint(rule.Index)}, {rule.Name, bold}, matches, {text: strings.Join(rule.To, ",")},
			{text: when}, {rule.Error, warn}})
	}
	p.section("ROUTES", []string{"INDEX", "NAME", "MATCHES", "TO", "WHEN", "ERROR"}, rows)
}
