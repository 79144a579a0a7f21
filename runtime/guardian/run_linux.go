package guardian

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stopNotice bounds the attempts to tell the peers when the guardian is to end.
const stopNotice = time.Second

// guardian is the parent's side. Run's goroutine alone uses it, except the notices.
type guardian struct {
	cfg     Config
	log     *slog.Logger
	ctx     context.Context
	manager *manager

	ended    chan os.Signal // a child may have ended
	signals  chan os.Signal
	stopping bool
	stops    int // signals that asked for it
	deadline *time.Timer

	pace   pace
	peers  []string
	reaped int // descendants other than the runtime, since its start

	notices sync.WaitGroup
	// telling ends when the notices are given up.
	telling context.Context
	hush    context.CancelFunc
}

// Run starts the runtime and starts it again whenever it dies, until it ends by
// itself with status 0, says that its settings are wrong, or is asked to end: by
// SIGTERM or SIGINT to this process, or by the end of ctx. The first of them is passed
// on, the second signal kills everything. Nothing of the runtime is left then. Run returns
// the exit status for this process; the error is for what the guardian itself could not do.
//
// It is for a process that does nothing else: Run takes signals and reaps all children,
// whoever started them. See the package comment for what it promises.
func Run(ctx context.Context, cfg Config) (code int, err error) {
	if err := cfg.orDefault(); err != nil {
		return 0, err
	}
	if cfg.Args == nil {
		cfg.Args = os.Args
	}
	if cfg.Env == nil {
		cfg.Env = os.Environ()
	}
	if cfg.kill == nil {
		cfg.kill = func(pid int) error { return unix.Kill(pid, unix.SIGKILL) }
	}
	if err := checkProc(); err != nil {
		return 0, err
	}
	// See startChild.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("become a subreaper: %w", err)
	}
	g := &guardian{
		cfg: cfg, log: cfg.Log, ctx: ctx,
		ended: make(chan os.Signal, 1), signals: make(chan os.Signal, 8),
		deadline: time.NewTimer(0), pace: pace{longest: cfg.longestDelay},
	}
	<-g.deadline.C
	g.telling, g.hush = context.WithCancel(context.WithoutCancel(ctx))
	defer g.hush()
	defer g.takeSignals()()
	g.manager = newManager(cfg.Log)
	defer g.manager.close()
	return g.run()
}

// takeSignals begins to take signals, and returns what ends that.
func (g *guardian) takeSignals() (end func()) {
	signal.Notify(g.ended, unix.SIGCHLD)
	for _, s := range []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP} {
		if !signal.Ignored(s) { // nohup
			signal.Notify(g.signals, s)
		}
	}
	// The end of whoever reads the log must not be the end of the node.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, unix.SIGPIPE)
	return func() {
		signal.Stop(g.ended)
		signal.Stop(g.signals)
		signal.Stop(pipe)
	}
}

func (g *guardian) run() (int, error) {
	defer g.farewell()
	for first := true; ; first = false {
		code, again, uptime, err := g.one()
		if !again || first && err != nil {
			return code, err
		}
		if err != nil {
			g.log.Error("the runtime does not start", "error", err)
		}
		delay := g.pace.after(uptime)
		g.log.Info("starting the runtime again", "in", delay)
		if !g.pause(delay) {
			return 0, nil
		}
	}
}

// one runs one runtime from its start to the end of everything of it, and tells
// whether there should be another. With another, the error says why there was none.
func (g *guardian) one() (code int, again bool, uptime time.Duration, err error) {
	if g.ctx.Err() != nil {
		g.stop(nil, unix.SIGTERM)
	}
	if g.stopping {
		return 0, false, 0, nil
	}
	if g.cfg.Starting != nil {
		g.cfg.Starting()
	}
	c, err := startChild(&g.cfg)
	if err != nil {
		return 0, true, 0, err
	}
	g.reaped = 0
	g.log.Debug("runtime started", "pid", c.pid)
	g.live(c)
	uptime = time.Since(c.begun)
	if err := g.bury(c); err != nil {
		return 1, false, uptime, err
	}
	again = !g.stopping && !c.wanted()
	if again {
		g.manager.status(c.outcome() + "; starting it again")
	}
	return c.code(), again, uptime, nil
}

// live watches the child until it has ended, or has to.
func (g *guardian) live(c *child) {
	look := time.NewTicker(g.cfg.HangAfter / ticksToHang)
	defer look.Stop()
	reports, done := c.reports, g.ctx.Done()
	for !c.ended && c.killed == "" {
		select {
		case <-g.ended:
			g.reap(c)
		case r, ok := <-reports:
			if !ok {
				reports = nil // it is about to end, or the look finds it silent
				continue
			}
			g.heard(c, r)
		case s := <-g.signals:
			g.signalled(c, s)
		case <-done:
			done = nil
			g.stop(c, unix.SIGTERM)
		case <-g.deadline.C:
			c.killed = fmt.Sprintf("it had not stopped within %v", g.cfg.StopLimit)
		case <-look.C:
			if c.silence.looked() {
				c.killed = fmt.Sprintf("it hung: no sign of life for %v", g.cfg.HangAfter)
			}
		}
	}
}

// heard takes a message of the child.
func (g *guardian) heard(c *child, r report) {
	if !c.attached {
		c.attached = true
		for _, s := range c.early {
			c.forward(s)
		}
	}
	if r.Beat {
		c.silence.heard()
		g.manager.feed(time.Now())
	}
	if r.Ready && !g.stopping {
		g.manager.ready()
	}
	if r.Told {
		g.peers = r.Peers
	}
	c.refused = c.refused || r.Refused
}

// signalled passes on a signal that was sent to the guardian. c is nil if nothing
// runs.
func (g *guardian) signalled(c *child, s os.Signal) {
	sig, ok := s.(syscall.Signal)
	if !ok {
		return
	}
	if sig == unix.SIGHUP {
		if c != nil {
			c.forward(sig)
		}
		return
	}
	g.stops++
	if g.stops > 1 && c != nil {
		c.killed = "a second signal asked for it"
		return
	}
	g.stop(c, sig)
}

// stop begins the end, once.
func (g *guardian) stop(c *child, s unix.Signal) {
	if g.stopping {
		return
	}
	g.stopping = true
	g.deadline.Reset(g.cfg.StopLimit)
	g.manager.stopping()
	if c != nil {
		c.forward(s)
	}
}

// bury makes sure that nothing of the child is left, and has the peers told. On an
// error something is left, and nobody is told.
func (g *guardian) bury(c *child) error {
	begun := time.Now()
	var e Errand
	if g.cfg.Prepare != nil {
		e = g.cfg.Prepare(g.peers)
	}
	err := g.sweep(c)
	if err == nil {
		g.tell(e, Notice{Node: g.cfg.Node, Proof: c.secret, Reason: c.outcome()}, begun)
	} else if e != nil {
		ended, cancel := context.WithCancel(g.telling)
		cancel()
		_ = e.Deliver(ended, Notice{Node: g.cfg.Node})
	}
	// What the child said last. Nobody has the other end, unless something is left.
	_ = c.conn.SetReadDeadline(time.Now().Add(linkTimeout))
	for r := range c.reports {
		g.heard(c, r)
	}
	_ = c.conn.Close()
	if err != nil {
		return fmt.Errorf("%s, but not all of it: %w", c.outcome(), err)
	}
	g.log.Log(g.telling, level(c), c.outcome(), "uptime", time.Since(c.begun).Round(time.Millisecond), "descendants", g.reaped)
	return nil
}

func level(c *child) slog.Level {
	if c.killed == "" && c.status.Exited() && c.status.ExitStatus() == 0 {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// tell delivers the notice, beside all else.
func (g *guardian) tell(e Errand, n Notice, death time.Time) {
	if e == nil {
		return
	}
	ctx, cancel := context.WithTimeout(g.telling, g.cfg.NoticeLimit)
	g.notices.Go(func() {
		defer cancel()
		err := e.Deliver(ctx, n)
		switch {
		case errors.Is(err, errNoPeers):
			g.log.Debug("there is nobody to tell of the death", "reason", err)
		case err != nil:
			g.log.Warn("no other node took the notice of death; they wait until the lease has run out", "error", err)
		default:
			g.log.Info("other nodes know that everything of the runtime is dead", "after", time.Since(death))
		}
	})
}

// pause waits before the next start, and returns false if there should be none.
func (g *guardian) pause(d time.Duration) bool {
	feed := time.NewTicker(g.cfg.HangAfter / ticksToHang)
	defer feed.Stop()
	over := time.NewTimer(d)
	defer over.Stop()
	done := g.ctx.Done()
	for !g.stopping {
		select {
		case <-over.C:
			return true
		case <-feed.C:
			g.manager.feed(time.Now()) // all goes as it should
		case <-g.ended:
			g.reap(nil)
		case s := <-g.signals:
			g.signalled(nil, s)
		case <-done:
			done = nil
			g.stop(nil, unix.SIGTERM)
		}
	}
	return false
}

// farewell waits for the notices under way, for a short time.
func (g *guardian) farewell() {
	done := make(chan struct{})
	go func() { // hush ends it at the latest
		g.notices.Wait()
		close(done)
	}()
	limit := time.NewTimer(stopNotice)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
	case <-g.signals:
	}
	g.hush()
	<-done
}
