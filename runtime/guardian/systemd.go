package guardian

import (
	"log/slog"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// manager tells systemd how things are. Its words go out from a goroutine of its own,
// because systemd may be slow to take them.
type manager struct {
	log *slog.Logger
	// every is how often the watchdog has to be fed at least; 0: not at all.
	every time.Duration
	fed   time.Time
	words chan string
	task  sync.WaitGroup
}

func newManager(log *slog.Logger) *manager {
	m := &manager{log: log, words: make(chan string, 16)}
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("systemd's watchdog is not fed", "error", err)
	}
	m.every = interval / 4
	m.task.Go(m.speak)
	return m
}

func (m *manager) speak() {
	failed := false
	for word := range m.words {
		if _, err := daemon.SdNotify(false, word); err != nil && !failed {
			failed = true // it would go on and on
			m.log.Warn("systemd is not told how the node is", "error", err)
		}
	}
}

// say drops the word if systemd does not listen at all.
func (m *manager) say(word string) {
	select {
	case m.words <- word:
	default:
	}
}

func (m *manager) ready()             { m.say(daemon.SdNotifyReady + "\nSTATUS=running") }
func (m *manager) stopping()          { m.say(daemon.SdNotifyStopping + "\nSTATUS=stopping") }
func (m *manager) status(text string) { m.say("STATUS=" + text) }

// feed tells the watchdog that all is well, as often as it wants to hear it.
func (m *manager) feed(now time.Time) {
	if m.every > 0 && now.Sub(m.fed) >= m.every {
		m.fed = now
		m.say(daemon.SdNotifyWatchdog)
	}
}

// close waits for the last words, but not for ever.
func (m *manager) close() {
	close(m.words)
	done := make(chan struct{})
	go func() { // ends with speak, or with the process
		m.task.Wait()
		close(done)
	}()
	timer := time.NewTimer(linkTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
