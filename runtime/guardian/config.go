package guardian

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

const (
	// DefaultHangAfter is long against any delay that a loaded machine causes to a
	// process whose guardian runs, and short against an operator's reaction.
	DefaultHangAfter = 10 * time.Second
	// DefaultNoticeLimit is longer than three leases of the slowest profile, after
	// which nobody needs the notice.
	DefaultNoticeLimit = 30 * time.Second
	// DefaultStopLimit is more than a node takes to drain by default.
	DefaultStopLimit = 80 * time.Second

	// sweepLimit is how long descendants may take to die before that is an error. Only
	// processes that hang in the kernel, or that may not be killed, take that long.
	sweepLimit = 10 * time.Second
)

// Config is what Run needs.
type Config struct {
	// Node is the node's name in the notices. Required.
	Node string
	// Path is the executable of the runtime, Args its command line including the name,
	// Env its environment, without what the guardian adds. Defaults: this process's.
	Path string
	Args []string
	Env  []string
	// HangAfter is how long a runtime may show no sign of life before it is killed; see
	// [Link.Beat]. Default: DefaultHangAfter.
	HangAfter time.Duration
	// StopLimit bounds the time from the first signal until everything is killed.
	// Default: DefaultStopLimit.
	StopLimit time.Duration
	// NoticeLimit bounds the attempts to tell the peers of one death. Default:
	// DefaultNoticeLimit.
	NoticeLimit time.Duration
	// Prepare is called when the runtime has died, before its descendants are killed,
	// with the addresses that the runtime named last, in its order. It must not block.
	// Nil: nobody is told.
	Prepare func(peers []string) Errand
	// Starting, if not nil, is called before each start of the runtime: the time to
	// read again what it will read. It should take milliseconds at most.
	Starting func()
	// Log gets the few things that the guardian does. Nil discards.
	Log *slog.Logger

	// For tests; zero fields get the defaults.
	sweepLimit, longestDelay time.Duration
	kill                     func(pid int) error
}

func (c *Config) orDefault() error {
	if c.Node == "" {
		return errors.New("guardian: no name of the node")
	}
	if c.HangAfter <= 0 {
		c.HangAfter = DefaultHangAfter
	}
	if c.StopLimit <= 0 {
		c.StopLimit = DefaultStopLimit
	}
	if c.NoticeLimit <= 0 {
		c.NoticeLimit = DefaultNoticeLimit
	}
	if c.sweepLimit <= 0 {
		c.sweepLimit = sweepLimit
	}
	if c.longestDelay <= 0 {
		c.longestDelay = longestDelay
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Notice is the word that a runtime and all its descendants are dead.
type Notice struct {
	Node string
	// Proof is what the runtime's certifier is the SHA-256 of.
	Proof []byte
	// Reason is how the runtime ended, for people.
	Reason string
}

// Errand is the way to the peers on the occasion of one death.
type Errand interface {
	// Deliver returns nil when one peer has taken the notice, or an error when ctx ends
	// before that. It is called once, with an ended context where there is nothing
	// to tell, and gives up what Prepare opened.
	Deliver(ctx context.Context, n Notice) error
}
