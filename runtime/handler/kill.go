package handler

import (
	"fmt"
	"os"
	"time"
)

const (
	// markEnv is the variable that tells the descendants of a handler from all other
	// processes, also of those that have left its group or lost their parent. Its
	// value is the path of the handler's private directory.
	markEnv = "FAIRLEAD_HANDLER"
	// huntWithin bounds the search for descendants that outlive their handler.
	huntWithin = time.Second
)

// zombie is the state of a process that only has to be reaped.
const zombie = "zombie"

// means are the ways to end a process. Tests have others, for one that cannot be.
type means struct {
	// signal kills the process and its group, without waiting.
	signal func(*os.Process)
	// hunt kills the descendants that have left it; see the function.
	hunt func(mark string, group int, within time.Duration) *survivor
}

// survivor is a process that got SIGKILL and is still there.
type survivor struct {
	pid   int
	state string
}

// SurvivesError is the ErrSurvives of one process.
type SurvivesError struct {
	// Adapter is the adapter's name.
	Adapter string
	// PID is the process's number: the adapter's, or that of a process it started.
	PID int
	// State is what it is doing, in the kernel's words, such as "uninterruptible
	// sleep in nfs_wait_bit_killable"; "unknown" where the system does not tell.
	State string

	again func() error
}

func (e *SurvivesError) Error() string {
	return fmt.Sprintf("adapter %s: process %d %v: it is in state %q; "+
		"if that lasts, look at what it waits for (a network file system, a device) or restart the machine",
		e.Adapter, e.PID, ErrSurvives, e.State)
}

func (e *SurvivesError) Unwrap() error { return ErrSurvives }

// Again kills the process once more, waits for its end as [Handler.Kill] does, and
// returns nil when it and all it started are gone.
func (e *SurvivesError) Again() error { return e.again() }

// kill sends SIGKILL to the process and its group. It does not wait. A process that
// has not been started will not be.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.killed {
		p.killed = true
		close(p.killedCh)
	}
	if p.started && !p.reaped {
		p.means.signal(p.proc)
	}
}

// finish kills the process and returns nil when it and all it started are gone, and
// after within at the latest a *SurvivesError. It escalates: SIGKILL to process and
// group, at half of the time once more, then also to the descendants that have left
// the group (which are otherwise looked for when the process itself is gone).
func (p *process) finish(within time.Duration) error {
	p.kill()
	if p.wait(within / 2) {
		return p.leftover()
	}
	p.kill()
	begun := time.Now()
	stray := p.means.hunt(p.dir, 0, within/4)
	if p.wait(within/2 - time.Since(begun)) {
		return p.leftover()
	}
	state := stateOf(p.pid())
	if stray != nil && (state == "" || state == zombie) {
		return p.survives(*stray)
	}
	return p.survives(survivor{pid: p.pid(), state: state})
}

// leftover looks again for the descendants of a process that is gone, if any of
// them had outlived it.
func (p *process) leftover() error {
	p.mu.Lock()
	stray := p.stray
	p.mu.Unlock()
	if stray == nil {
		return nil
	}
	if stray = p.means.hunt(p.dir, 0, huntWithin); stray == nil {
		return nil
	}
	return p.survives(*stray)
}

func (p *process) survives(s survivor) error {
	if s.state == "" {
		s.state = "unknown"
	}
	return &SurvivesError{Adapter: p.name, PID: s.pid, State: s.state,
		again: func() error { return p.finish(KillWithin) }}
}

// awaitEnd returns when the process has ended, or when it is still there within
// after it was killed: then a *SurvivesError.
func (p *process) awaitEnd(within time.Duration) error {
	select {
	case <-p.exited:
		return p.leftover()
	case <-p.killedCh:
		return p.finish(within)
	}
}
