package handler

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// PrepareSpec says what Prepare starts. The fields are those of a Spec.
type PrepareSpec struct {
	Binary     Binary
	RuntimeDir string
	Inherit    []*os.File
	// Log gets the process's log with the adapter's name until a handler takes the
	// process over; then the handler's does.
	Log        *slog.Logger
	KillWithin time.Duration

	times times
	means means
}

// Prepared is an adapter's process that has been launched and checked, and waits to
// be configured. It knows no endpoint and has no lease, so it cannot act; it dies
// with this process as every handler does, and waits without limit. All methods may
// be called at the same time, and on nil.
type Prepared struct {
	binary Binary
	inst   *instance
	log    *relay
	taken  atomic.Bool
	once   sync.Once
	err    error
}

// aliveWithin bounds the question whether a prepared process still answers.
const aliveWithin = time.Second

// Prepare launches a process for a later Start, which then only has to configure it.
// ctx bounds the launch only. The errors are those of Start.
func Prepare(ctx context.Context, ps PrepareSpec) (*Prepared, error) {
	if err := ps.Binary.pin(); err != nil {
		return nil, err
	}
	log := &relay{}
	log.set(orDiscard(ps.Log).With("adapter", ps.Binary.Name))
	s := Spec{
		Binary: ps.Binary, RuntimeDir: ps.RuntimeDir, Inherit: ps.Inherit, Log: slog.New(log),
		KillWithin: ps.KillWithin, times: ps.times.orDefault(), means: ps.means,
	}
	if s.KillWithin <= 0 {
		s.KillWithin = KillWithin
	}
	inst, err := s.launch(ctx)
	if err != nil {
		return nil, err
	}
	return &Prepared{binary: ps.Binary, inst: inst, log: log}, nil
}

// take returns the process for a handler of s, or nil if it cannot be used: then it
// has been closed. What survives that waits for nothing and knows nothing: a new
// process may be launched beside it.
func (p *Prepared) take(ctx context.Context, s Spec) *instance {
	if p == nil || p.taken.Swap(true) {
		return nil
	}
	same := p.binary.key() == s.Binary.key()
	if same && p.answers(ctx) {
		p.log.set(s.Log)
		return p.inst
	}
	s.Log.Info("prepared process cannot be used: another one is launched", "pid", p.PID(), "same_binary", same)
	_ = p.shut() // bounded, and logged there
	return nil
}

// answers asks the process what it is, which takes less than a millisecond: one that
// has ended or is stopped is not worth the time a start may take.
func (p *Prepared) answers(ctx context.Context) bool {
	if p.ended() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, aliveWithin)
	defer cancel()
	return identify(ctx, p.inst, p.binary) == nil
}

// key tells pinned binaries apart.
func (b Binary) key() string {
	return strings.Join([]string{b.Name, b.Version, b.SHA256, b.Path}, "\x00")
}

func (p *Prepared) ended() bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

// PID is the process's number, for display; 0 for nil.
func (p *Prepared) PID() int {
	if p == nil {
		return 0
	}
	return p.inst.proc.pid()
}

// Done is closed when the process has ended, by itself or by Close or, if a handler
// took it over, with that; for nil it is closed.
func (p *Prepared) Done() <-chan struct{} {
	if p == nil {
		return closedCh
	}
	return p.inst.proc.exited
}

// Close ends the process, unless a Start has it, and returns when it is gone, or
// KillWithin later with a *SurvivesError.
func (p *Prepared) Close() error {
	if p == nil || p.taken.Swap(true) {
		return nil
	}
	return p.shut()
}

func (p *Prepared) shut() error {
	p.once.Do(func() { p.err = p.inst.close(0) })
	return p.err
}

var closedCh = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()

// relay is a log's handler whose target can be changed: a prepared process begins to
// log before it is known for which host.
type relay struct{ to atomic.Pointer[slog.Logger] }

var _ slog.Handler = (*relay)(nil)

func (r *relay) set(log *slog.Logger) { r.to.Store(log) }

func (r *relay) target() slog.Handler { return r.to.Load().Handler() }

func (r *relay) Enabled(ctx context.Context, l slog.Level) bool { return r.target().Enabled(ctx, l) }

func (r *relay) Handle(ctx context.Context, rec slog.Record) error {
	return r.target().Handle(ctx, rec)
}

func (r *relay) WithAttrs(attrs []slog.Attr) slog.Handler { return r.target().WithAttrs(attrs) }

func (r *relay) WithGroup(name string) slog.Handler { return r.target().WithGroup(name) }
