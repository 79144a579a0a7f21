package handler

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// pipesGrace is how long the pipes of a dead process stay open for what it had
// still written. A descendant that outlived it must not hold us up for longer.
const pipesGrace = 200 * time.Millisecond

// process is one plugin process with its group and pipes. It is started once.
type process struct {
	name, path, sha256 string
	env                []string
	dir                string
	inherit            []*os.File
	log                *slog.Logger
	means              means

	// hello holds the first line of standard output; helloCh is closed when it is
	// there or never will be.
	hello   string
	helloCh chan struct{}
	last    *tail

	// exited is closed when the process has been reaped and its descendants have
	// been looked for, drained when everything that it wrote has been read as well.
	exited, drained chan struct{}
	// killedCh is closed by the first kill.
	killedCh chan struct{}
	// stray is a descendant that outlived SIGKILL, set before exited is closed.
	stray *survivor

	mu      sync.Mutex
	proc    *os.Process
	state   *os.ProcessState
	started bool
	killed  bool
	reaped  bool
}

func newProcess(s launchSpec, dir string) *process {
	p := &process{
		name: s.name, path: s.path, sha256: s.sha256,
		dir: dir, inherit: s.inherit, log: s.log, means: s.means,
		helloCh:  make(chan struct{}),
		last:     &tail{},
		exited:   make(chan struct{}),
		drained:  make(chan struct{}),
		killedCh: make(chan struct{}),
	}
	if p.means.signal == nil {
		p.means = means{signal: sweep, hunt: hunt}
	}
	return p
}

// pipes are both ends of the process's standard streams.
type pipes struct {
	inR, inW, outR, outW, errR, errW *os.File
}

func newPipes() (p *pipes, err error) {
	p = &pipes{}
	defer func() {
		if err != nil {
			p.closeChild()
			p.closeOwn()
		}
	}()
	if p.inR, p.inW, err = os.Pipe(); err != nil {
		return p, err
	}
	if p.outR, p.outW, err = os.Pipe(); err != nil {
		return p, err
	}
	p.errR, p.errW, err = os.Pipe()
	return p, err
}

func (p *pipes) closeChild() { closeAll(p.inR, p.outW, p.errW) }
func (p *pipes) closeOwn()   { closeAll(p.inW, p.outR, p.errR) }

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// start checks the file and forks. The process belongs to a thread of its own,
// because the kernel ties its death to the forking thread, not to this process.
func (p *process) start() error {
	file, _, err := openBinary(p.name, p.path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := verify(p.name, file, p.sha256); err != nil {
		return err
	}
	pp, err := newPipes()
	if err != nil {
		return fmt.Errorf("adapter %s: pipes: %w", p.name, err)
	}
	forked := make(chan error, 1)
	go p.life(file, pp, forked)
	err = <-forked
	pp.closeChild()
	if err != nil {
		pp.closeOwn()
		return err
	}
	go p.drain(pp)
	return nil
}

// life is the goroutine of the process: fork, wait, sweep the group and whoever
// has left it, reap.
func (p *process) life(file *os.File, pp *pipes, forked chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.fork(file, pp); err != nil {
		forked <- err
		return
	}
	// Not before life has taken what it needs from file: start closes it.
	forked <- nil
	state := awaitExit(p.proc)

	// On Linux the leader is still a zombie here: nobody else can have been given
	// its number, so this hits its own group or nothing.
	p.means.signal(p.proc)
	stray := p.means.hunt(p.dir, p.proc.Pid, huntWithin)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stray = stray
	if state == nil {
		state, _ = p.proc.Wait()
	}
	p.state, p.reaped = state, true
	close(p.exited)
}

func (p *process) fork(file *os.File, pp *pipes) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed {
		return fmt.Errorf("adapter %s: start given up", p.name)
	}
	files := append([]*os.File{pp.inR, pp.outW, pp.errW}, p.inherit...)
	path, files := execPath(p.path, p.dir, file, files)
	proc, err := os.StartProcess(path, []string{p.path}, &os.ProcAttr{
		Dir: "/", Env: p.env, Files: files, Sys: sysProcAttr(),
	})
	if err != nil {
		return p.explainFork(err)
	}
	p.proc, p.started = proc, true
	return nil
}

func (p *process) explainFork(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err // its path is our way to the file, not the file's
	}
	if errors.Is(err, syscall.ENOEXEC) {
		return because(ErrNotPlugin, "adapter %s: %s is not a program for %s/%s: replace it with one that is",
			p.name, p.path, runtime.GOOS, runtime.GOARCH)
	}
	return fmt.Errorf("adapter %s: start %s: %w", p.name, p.path, err)
}

// drain reads what the process writes until all ends of its pipes are closed, or
// shortly after its death.
func (p *process) drain(pp *pipes) {
	var readers sync.WaitGroup
	readers.Go(func() { p.readStdout(pp.outR) })
	readers.Go(func() { p.readStderr(pp.errR) })
	done := make(chan struct{})
	go func() {
		readers.Wait()
		close(done)
	}()
	<-p.exited
	grace := time.NewTimer(pipesGrace)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
	}
	pp.closeOwn()
	<-done
	close(p.drained)
}

func (p *process) readStdout(r io.Reader) {
	first := true
	eachLine(r, func(line []byte, cut bool) {
		if first {
			first = false
			p.hello = string(line)
			close(p.helloCh)
			return
		}
		logLine(p.log, line, cut, "stdout")
	})
	if first {
		close(p.helloCh)
	}
}

func (p *process) readStderr(r io.Reader) {
	eachLine(r, func(line []byte, cut bool) {
		p.last.add(line)
		logLine(p.log, line, cut, "stderr")
	})
}

// wait returns whether the process was reaped within d. A process that never
// started counts as reaped.
func (p *process) wait(d time.Duration) bool {
	p.mu.Lock()
	started := p.started
	p.mu.Unlock()
	if !started {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.exited:
		return true
	case <-t.C:
		return false
	}
}

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proc == nil {
		return 0
	}
	return p.proc.Pid
}

// killedByUs tells whether the process ended by kill and not before it.
func (p *process) killedByUs() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed && p.state != nil && p.state.String() == "signal: killed"
}

// exitError tells how the process ended, or nil if it never ran or still runs.
func (p *process) exitError(atStart bool) *ExitError {
	p.mu.Lock()
	reaped, state := p.reaped, p.state
	p.mu.Unlock()
	if !reaped {
		return nil
	}
	<-p.drained // bounded by pipesGrace after the exit
	status, code := "unknown", -1
	if state != nil {
		status, code = state.String(), state.ExitCode()
	}
	return &ExitError{Adapter: p.name, PID: p.pid(), Status: status, Code: code, AtStart: atStart, Output: p.last.lines()}
}
