package guardian

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is one runtime, from its start to the end of everything of it.
type child struct {
	pid    int
	begun  time.Time
	secret []byte
	conn   net.Conn
	// reports come from the link until it ends; then the channel is closed.
	reports chan report

	attached bool
	// early are signals for a runtime that does not handle them yet.
	early   []unix.Signal
	silence silence
	// hungUp: SIGHUP was passed on.
	hungUp bool
	// refused: its settings are wrong.
	refused bool
	// killed is why the guardian killed it, if it did.
	killed string
	ended  bool
	status unix.WaitStatus
}

// startChild forks the runtime. It must run on the thread that Run locked: the kernel
// ties the child's death to the thread that forked, not to the process.
func startChild(cfg *Config) (c *child, err error) {
	c = &child{secret: make([]byte, 32), reports: make(chan report)}
	if _, err := rand.Read(c.secret); err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	ours, theirs, err := pair()
	if err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	defer theirs.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, ours.Close())
		}
	}()
	certifier := sha256.Sum256(c.secret)
	if err := transmit(ours, greeting{Certifier: certifier[:]}); err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	path := cfg.Path
	if path == "" {
		if path, err = executable(); err != nil {
			return nil, err
		}
	}
	c.begun = time.Now()
	c.pid, err = syscall.ForkExec(path, cfg.Args, &syscall.ProcAttr{
		Env:   environment(cfg.Env),
		Files: []uintptr{0, 1, 2, theirs.Fd()},
		Sys: &syscall.SysProcAttr{
			Pdeathsig: syscall.SIGKILL,
			// A group of its own: what the terminal sends to its foreground group would
			// reach the runtime twice, once from here.
			Setpgid: true,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	c.conn = ours
	go c.listen() // ends when the link does; bury waits for it
	return c, nil
}

// pair makes the two ends of a link that keeps the bounds of messages.
func pair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	end := os.NewFile(uintptr(fds[0]), "link")
	theirs = os.NewFile(uintptr(fds[1]), "link of the runtime")
	defer end.Close() // FileConn duplicates it
	if ours, err = net.FileConn(end); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}

// executable is this process's own program. Its path may lead to a newer version by
// now, which the guardian must not mix with itself.
func executable() (string, error) {
	const self = "/proc/self/exe"
	running, err := os.Stat(self)
	if err != nil {
		return "", fmt.Errorf("find the own program: %w", err)
	}
	path, err := os.Readlink(self)
	if err != nil {
		return "", fmt.Errorf("find the own program: %w", err)
	}
	if found, err := os.Stat(path); err == nil && os.SameFile(running, found) {
		return path, nil // the better name in ps
	}
	return self, nil
}

// ours are the variables that are not the runtime's business: systemd is to hear of
// the guardian alone.
var ours = []string{LinkEnv, "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}

func environment(base []string) []string {
	env := slices.DeleteFunc(slices.Clone(base), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(ours, name)
	})
	return append(env, LinkEnv+"=3")
}

// listen reads the link until its end.
func (c *child) listen() {
	defer close(c.reports)
	for {
		var r report
		if err := receive(c.conn, &r); err != nil {
			return
		}
		c.reports <- r
	}
}

// forward passes a signal on, now or when the child handles signals.
func (c *child) forward(s unix.Signal) {
	c.hungUp = c.hungUp || s == unix.SIGHUP
	switch {
	case c.ended:
	case c.attached:
		_ = unix.Kill(c.pid, s) // it is not reaped, so the number is its own
	default:
		c.early = append(c.early, s)
	}
}

// outcome says for people how the child ended.
func (c *child) outcome() string {
	var text string
	switch {
	case !c.ended:
		text = "runtime does not end"
	case c.status.Exited():
		text = fmt.Sprintf("runtime ended with exit status %d", c.status.ExitStatus())
	case c.status.Signaled():
		text = fmt.Sprintf("runtime was ended by signal %d (%s)", int(c.status.Signal()), c.status.Signal())
	default:
		text = fmt.Sprintf("runtime ended with status %#x", uint32(c.status))
	}
	if c.killed != "" {
		text += ": " + c.killed
	}
	return text
}

// wanted tells whether the child ended in a way that another would end in, too, or
// that somebody asked for.
func (c *child) wanted() bool {
	switch {
	case c.refused:
		return true
	case c.status.Signaled():
		// Passed on from a terminal that is gone, to a runtime that does not handle it.
		return c.hungUp && c.status.Signal() == unix.SIGHUP
	}
	return c.status.ExitStatus() == 0
}

// code is the exit status to end with after this child.
func (c *child) code() int {
	switch {
	case c.status.Signaled():
		return 128 + int(c.status.Signal())
	case c.status.ExitStatus() == exitWrong && !c.refused:
		return 1 // a panic
	}
	return c.status.ExitStatus()
}

// exitWrong is the exit status for wrong settings; also that of a panic.
const exitWrong = 2
