package sdk

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// Examiner is a [PolledSource], [PushedSource] or [Sink] that can tell an operator what
// it meets at the other side, before it is deployed: `fairlead validate --live`. Of one
// that is no Examiner it is told what opening it says, and for a polled source its List.
//
// Examine is called once, right after the endpoint was opened, and nothing but Close
// after it; other nodes may serve the same endpoint meanwhile. It must change nothing at
// the other side, unless [Examination.WriteTest] allows it. It returns what ended it; what
// it has noted until then is shown, too.
type Examiner interface {
	Examine(ctx context.Context, x *Examination) error
}

// Examination gathers what an [Examiner] finds. Several goroutines may use it.
type Examination struct {
	most      int
	writeTest bool

	mu       sync.Mutex
	found    *adapterpb.Examination
	rejected map[string]*adapterpb.Examination_Rejected
}

// maxReasons bounds the reasons that are told apart.
const maxReasons = 50

func newExamination(most int) *Examination {
	return &Examination{most: max(most, 0), found: &adapterpb.Examination{}, rejected: map[string]*adapterpb.Examination_Rejected{}}
}

// WriteTest says that the operator allows a sink to write something that is no message,
// under a name that no consumer takes, and to take it away again.
func (x *Examination) WriteTest() bool { return x.writeTest }

// Step notes that something was done, such as "log in", and what was found, such as
// the server's greeting. Neither may hold a secret.
func (x *Examination) Step(name, detail string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.found.Steps = append(x.found.Steps, &adapterpb.Examination_Step{Name: name, Detail: clean(detail)})
}

// Warn notes what will not stop the endpoint and should be looked at.
func (x *Examination) Warn(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if text := clean(fmt.Sprintf(format, args...)); !slices.Contains(x.found.Warnings, text) && len(x.found.Warnings) < maxReasons {
		x.found.Warnings = append(x.found.Warnings, text)
	}
}

// Take notes an item that would be taken, in their order. Size is -1, and modified zero,
// where they are not known.
func (x *Examination) Take(name string, size int64, modified time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.found.Count++
	if len(x.found.Items) >= x.most {
		return
	}
	item := &adapterpb.Examination_Item{Name: clean(name), Size: size}
	if !modified.IsZero() {
		item.ModifiedMs = modified.UnixMilli()
	}
	x.found.Items = append(x.found.Items, item)
}

// Reject notes an item that would not be taken, and why. Reasons that are the same for
// several items should have the same words.
func (x *Examination) Reject(name, reason string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	reason = clean(reason)
	r := x.rejected[reason]
	if r == nil {
		if len(x.rejected) == maxReasons {
			return
		}
		r = &adapterpb.Examination_Rejected{Reason: reason}
		x.rejected[reason] = r
		x.found.Rejected = append(x.found.Rejected, r)
	}
	r.Count++
	if len(r.Names) < x.most {
		r.Names = append(r.Names, clean(name))
	}
}

// clean makes a text of the other side fit for one line of ours.
func clean(text string) string {
	return escapeInvalid(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.TrimSpace(text)))
}

func (x *Examination) fail(name string, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.found.Steps = append(x.found.Steps, &adapterpb.Examination_Step{Name: name, Problem: errorText(err)})
}

// Examine implements [adapterpb.AdapterServer].
func (s *server) Examine(ctx context.Context, r *adapterpb.ExamineRequest) (*adapterpb.Examination, error) {
	s.mu.Lock()
	runs := s.session != nil
	s.mu.Unlock()
	if runs {
		return nil, status.Error(codes.FailedPrecondition, "Examine beside Run: this process serves endpoints")
	}
	x := newExamination(int(r.GetMost()))
	x.writeTest = r.GetWriteTest()
	s.examine(ctx, x, r.GetEndpoint())
	x.mu.Lock()
	defer x.mu.Unlock()
	return proto.CloneOf(x.found), nil // some goroutine of the adapter may still warn
}

func (s *server) examine(ctx context.Context, x *Examination, e *adapterpb.Endpoint) {
	defer func() {
		if p := recover(); p != nil {
			x.fail("look", fmt.Errorf("the adapter panicked: %v", p))
		}
	}()
	env := Env{Endpoint: e.GetName(), MaxInFlight: max(int(e.GetMaxInFlight()), 1), Ordered: e.GetOrdered(), Log: slog.New(&warnings{x: x})}
	opened, closing, err := s.openAny(ctx, e, env)
	if err != nil {
		x.fail("open", err)
		return
	}
	defer func() { _ = closing() }() // nothing was changed
	step := "look"
	switch at := opened.(type) {
	case Examiner:
		err = at.Examine(ctx, x)
	case PolledSource:
		step = "list"
		err = examineList(ctx, at, x)
	default:
		x.Warn("the endpoint was opened; the adapter cannot tell more without receiving or sending")
	}
	if err != nil {
		x.fail(step, err)
	}
}

// openAny opens the endpoint, whatever side and kind it is of.
func (s *server) openAny(ctx context.Context, e *adapterpb.Endpoint, env Env) (opened any, closing func() error, err error) {
	if !e.GetReceive() {
		if s.adapter.Send == nil {
			return nil, nil, fmt.Errorf("adapter %s cannot send", s.adapter.Name)
		}
		sink, err := s.adapter.Send.sender().open(ctx, e.GetProperties(), env)
		if err := orNil(err, sink == nil); err != nil {
			return nil, nil, err
		}
		return sink, sink.Close, nil
	}
	if s.adapter.Receive == nil {
		return nil, nil, fmt.Errorf("adapter %s cannot receive", s.adapter.Name)
	}
	k := s.adapter.Receive.receiver()
	if k.openPushed != nil {
		src, err := k.openPushed(ctx, e.GetProperties(), env)
		if err := orNil(err, src == nil); err != nil {
			return nil, nil, err
		}
		return src, src.Close, nil
	}
	src, err := k.openPolled(ctx, e.GetProperties(), env)
	if err := orNil(err, src == nil); err != nil {
		return nil, nil, err
	}
	return src, src.Close, nil
}

// examineList is for sources that are no Examiner.
func examineList(ctx context.Context, src PolledSource, x *Examination) error {
	items, err := src.List(ctx)
	if err != nil {
		return err
	}
	x.Step("list", fmt.Sprintf("%d items", len(items)))
	for _, item := range items {
		x.Take(item.Key, item.Size, time.Time{})
	}
	return nil
}

// warnings is a log of which the warnings are shown.
type warnings struct {
	slog.Handler // of nothing: see Enabled
	x            *Examination
	attrs        []slog.Attr
}

// Enabled implements [slog.Handler].
func (w *warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// Handle implements [slog.Handler].
func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	add := func(a slog.Attr) bool {
		text += fmt.Sprintf("; %s: %v", a.Key, a.Value)
		return true
	}
	for _, a := range w.attrs {
		add(a)
	}
	r.Attrs(add)
	w.x.Warn("%s", text)
	return nil
}

// WithAttrs implements [slog.Handler].
func (w *warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &warnings{x: w.x, attrs: append(slices.Clone(w.attrs), attrs...)}
}

// WithGroup implements [slog.Handler].
func (w *warnings) WithGroup(string) slog.Handler { return w }
