package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-io/fairlead/runtime/config"
	"github.com/fairlead-io/fairlead/runtime/handler"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// examineAtOnce bounds the adapter processes of one `validate --live`.
const examineAtOnce = 4

// liveOptions are the flags that go with --live.
type liveOptions struct {
	on      bool
	only    []string
	items   int
	timeout time.Duration
	write   bool
}

func (o liveOptions) check(cmd *cobra.Command) error {
	for _, name := range []string{"only", "items", "endpoint-timeout", "write-test"} {
		if !o.on && cmd.Flags().Changed(name) {
			return &usageError{fmt.Errorf("--%s goes with --live", name)}
		}
	}
	if o.items < 0 || o.items > 1000 || o.timeout <= 0 {
		return &usageError{errors.New("want --items from 0 to 1000 and an --endpoint-timeout above 0")}
	}
	return nil
}

// examined is what one endpoint said.
type examined struct {
	Name    string `json:"name"`
	Side    string `json:"side"` // receive location or send port
	Adapter string `json:"adapter"`
	// Problem is what ended it, empty if all is well.
	Problem  string     `json:"problem,omitempty"`
	Steps    []liveStep `json:"steps"`
	Warnings []string   `json:"warnings"`
	// Count is how many items would be taken now, and Items the first of them.
	Count    int64          `json:"count"`
	Items    []liveItem     `json:"items"`
	Rejected []liveRejected `json:"rejected"`
}

func (e examined) failed() bool { return e.Problem != "" }

type liveStep struct {
	Name   string `json:"name"`
	Detail string `json:"detail"`
}

type liveItem struct {
	Name string `json:"name"`
	// Size is -1 if it is not known.
	Size     int64      `json:"size"`
	Modified *time.Time `json:"modified,omitempty"`
}

type liveRejected struct {
	Reason string   `json:"reason"`
	Count  int64    `json:"count"`
	Names  []string `json:"names"`
}

const (
	locationSide = "receive location"
	portSide     = "send port"
)

// examine looks at every endpoint of the deployment that is asked for.
func (v *validator) examine(d *config.Deployment) []examined {
	var all []examined
	var properties []map[string]any
	for _, name := range slices.Sorted(maps.Keys(d.ReceiveLocations)) {
		l := d.ReceiveLocations[name]
		all, properties = append(all, examined{Name: name, Side: locationSide, Adapter: l.Adapter}), append(properties, l.Endpoint)
	}
	for _, name := range slices.Sorted(maps.Keys(d.SendPorts)) {
		p := d.SendPorts[name]
		all, properties = append(all, examined{Name: name, Side: portSide, Adapter: p.Adapter}), append(properties, p.Endpoint)
	}
	asked := make([]bool, len(all))
	var group errgroup.Group
	group.SetLimit(examineAtOnce)
	for i := range all {
		if len(v.live.only) > 0 && !slices.Contains(v.live.only, all[i].Name) {
			continue
		}
		asked[i] = true
		group.Go(func() error {
			v.examineOne(&all[i], properties[i])
			return nil
		})
	}
	_ = group.Wait() // what went wrong is in each
	var chosen []examined
	for i, e := range all {
		if asked[i] {
			chosen = append(chosen, e)
		}
	}
	for _, name := range v.live.only {
		if !slices.ContainsFunc(all, func(e examined) bool { return e.Name == name }) {
			chosen = append(chosen, examined{Name: name, Side: "endpoint", Problem: "there is no receive location or send port of this name in the file"})
		}
	}
	return chosen
}

func (v *validator) examineOne(e *examined, properties map[string]any) {
	e.Steps, e.Warnings, e.Items, e.Rejected = []liveStep{}, []string{}, []liveItem{}, []liveRejected{}
	binary, ok := v.binaries[e.Adapter]
	if !ok {
		e.Problem = fmt.Sprintf("adapter %s is not here; say where with --adapters", e.Adapter)
		return
	}
	ctx, cancel := context.WithTimeout(v.cmd.Context(), v.live.timeout)
	defer cancel()
	resolved, err := config.Resolve(ctx, properties)
	if err != nil {
		e.Problem = fmt.Sprintf("on this machine: %v", err)
		return
	}
	found, err := handler.Examine(ctx, binary, &adapterpb.Endpoint{
		Name: e.Name, Receive: e.Side == locationSide, Properties: resolved, MaxInFlight: 1,
	}, v.live.items, v.live.write)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Problem = fmt.Sprintf("no answer within %v; --endpoint-timeout gives it more", v.live.timeout)
	case err != nil:
		e.Problem = err.Error()
	default:
		e.take(found)
	}
}

func (e *examined) take(found *adapterpb.Examination) {
	for _, s := range found.GetSteps() {
		if s.GetProblem() != "" {
			e.Problem = fmt.Sprintf("%s: %s", s.GetName(), s.GetProblem())
			continue
		}
		e.Steps = append(e.Steps, liveStep{s.GetName(), s.GetDetail()})
	}
	e.Warnings = append(e.Warnings, found.GetWarnings()...)
	e.Count = found.GetCount()
	for _, i := range found.GetItems() {
		item := liveItem{Name: i.GetName(), Size: i.GetSize()}
		if ms := i.GetModifiedMs(); ms != 0 {
			at := time.UnixMilli(ms).UTC()
			item.Modified = &at
		}
		e.Items = append(e.Items, item)
	}
	for _, r := range found.GetRejected() {
		e.Rejected = append(e.Rejected, liveRejected{r.GetReason(), r.GetCount(), append([]string{}, r.GetNames()...)})
	}
}

func renderLive(p *page, all []examined) {
	for _, e := range all {
		p.say(plain, "")
		p.say(plain, "%s %s (%s)", e.Side, e.Name, e.Adapter)
		for _, s := range e.Steps {
			p.say(good, "  %s: %s", s.Name, s.Detail)
		}
		for _, w := range e.Warnings {
			p.say(warn, "  warning: %s", w)
		}
		if e.failed() {
			p.say(bad, "  error: %s", e.Problem)
			continue
		}
		if e.Side == locationSide {
			renderTaken(p, e)
		}
	}
}

func renderTaken(p *page, e examined) {
	p.say(plain, "  would be taken: %d", e.Count)
	for _, i := range e.Items {
		about := "size not known"
		if i.Size >= 0 {
			about = fmt.Sprintf("%d bytes", i.Size)
		}
		if i.Modified != nil {
			about += ", " + i.Modified.Format(time.RFC3339)
		}
		p.say(plain, "    %s (%s)", i.Name, about)
	}
	if more := e.Count - int64(len(e.Items)); more > 0 && len(e.Items) > 0 {
		p.say(plain, "    and %d more", more)
	}
	for _, r := range e.Rejected {
		names := strings.Join(r.Names, ", ")
		if more := r.Count - int64(len(r.Names)); more > 0 && len(r.Names) > 0 {
			names += fmt.Sprintf(", and %d more", more)
		}
		p.say(plain, "  left there: %d: %s", r.Count, r.Reason)
		if names != "" {
			p.say(plain, "    %s", names)
		}
	}
}
