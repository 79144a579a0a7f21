package sdk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

func TestASourceThatIsNoExaminerIsListed(t *testing.T) {
	c := startChild(t)
	found, err := c.client.Examine(t.Context(), &adapterpb.ExamineRequest{
		Endpoint: &adapterpb.Endpoint{Name: "in", Receive: true, Properties: []byte("{}")}, Most: 5,
	})
	if err != nil {
		t.Fatal(err)
	}
	if found.GetCount() != 1 || found.GetItems()[0].GetName() != "a" || len(found.GetSteps()) != 1 {
		t.Errorf("found %v", found)
	}
}

func TestAProcessThatServesExaminesNothing(t *testing.T) {
	c := startChild(t)
	c.run()
	_, err := c.client.Examine(t.Context(), &adapterpb.ExamineRequest{Endpoint: &adapterpb.Endpoint{Receive: true, Properties: []byte("{}")}})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("%v, want that it runs", err)
	}
}

// curious is a source whose Examine does as told.
type curious struct {
	*fake
	do     func(ctx context.Context, x *Examination) error
	closed *bool
}

func (c curious) Examine(ctx context.Context, x *Examination) error { return c.do(ctx, x) }

func (c curious) Close() error {
	*c.closed = true
	return nil
}

func examineWith(t *testing.T, most int, do func(env Env) func(context.Context, *Examination) error) *adapterpb.Examination {
	t.Helper()
	closed := false
	s := newServer(Adapter{Name: "curious", Version: "1.0.0", Summary: "For tests.",
		Receive: Polled(func(_ context.Context, _ struct{}, env Env) (PolledSource, error) {
			return curious{fake: listing("a"), do: do(env), closed: &closed}, nil
		}),
	}, hooks{})
	found, err := s.Examine(t.Context(), &adapterpb.ExamineRequest{
		Endpoint: &adapterpb.Endpoint{Name: "in", Receive: true, Properties: []byte("{}")}, Most: int32(most),
	})
	if err != nil {
		t.Fatal(err)
	}
	if !closed {
		t.Error("the source was not closed")
	}
	return found
}

func TestWhatAnExaminerNotesIsBoundedAndCounted(t *testing.T) {
	found := examineWith(t, 2, func(env Env) func(context.Context, *Examination) error {
		return func(_ context.Context, x *Examination) error {
			env.Log.Info("not shown")
			env.Log.With("server", "s").Warn("careful", "why", "because")
			env.Log.With("server", "s").Warn("careful", "why", "because")
			x.Step("log in", "welcome\r\nto \x1b[31mthe server")
			for i := range 500 {
				x.Take(fmt.Sprintf("taken %d", i), int64(i), time.UnixMilli(int64(i)))
				x.Reject(fmt.Sprintf("left %d", i), "pattern")
				x.Reject("odd", fmt.Sprintf("reason %d", i))
				x.Warn("warning %d", i)
			}
			return errors.New("broken off")
		}
	})
	if found.GetCount() != 500 || len(found.GetItems()) != 2 || found.GetItems()[1].GetModifiedMs() != 1 {
		t.Errorf("%d items, shown are %v", found.GetCount(), found.GetItems())
	}
	if r := found.GetRejected(); len(r) != maxReasons || r[0].GetCount() != 500 || !slices.Equal(r[0].GetNames(), []string{"left 0", "left 1"}) {
		t.Errorf("rejected %v", r)
	}
	if w := found.GetWarnings(); len(w) != maxReasons || w[0] != "careful; server: s; why: because" || w[1] != "warning 0" {
		t.Errorf("warnings %q", w)
	}
	steps := found.GetSteps()
	if len(steps) != 2 || strings.ContainsAny(steps[0].GetDetail(), "\r\n\x1b") || steps[1].GetProblem() != "broken off" {
		t.Errorf("steps %v", steps)
	}
}

func TestAnExaminerThatPanicsIsAProblem(t *testing.T) {
	found := examineWith(t, 1, func(Env) func(context.Context, *Examination) error {
		return func(_ context.Context, x *Examination) error {
			x.Step("connect", "done")
			panic("oh")
		}
	})
	if s := found.GetSteps(); len(s) != 2 || !strings.Contains(s[1].GetProblem(), "oh") {
		t.Errorf("steps %v", s)
	}
}
