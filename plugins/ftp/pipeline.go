package main

import (
	"strings"
	"sync/atomic"
)

const (
	// aheadMax is how many commands are on their way at once. Few are enough to hide
	// the way there and back, and few replies fit into any buffer, so that neither
	// side ever waits for the other to read.
	aheadMax = 32
	// aheadBytes bounds them in bytes, unless a single one is longer: servers read
	// commands into buffers of a few kilobytes.
	aheadBytes = 2 << 10
)

// pipelining is what is known of a server's way with several commands at once. RFC
// 959 neither forbids nor promises it, and some servers throw away what comes with
// a command. Only commands without a data connection are sent so: firewalls that
// watch for the reply to EPSV or PASV may miss it between others.
type pipelining struct{ state atomic.Int32 }

const (
	pipeliningUnproven int32 = iota
	pipeliningProven         // many commands have had their replies
	pipeliningOff            // the first attempt broke the connection, or it is not wanted
)

func (p *pipelining) off() bool { return p.state.Load() == pipeliningOff }

func (p *pipelining) worked() { p.state.CompareAndSwap(pipeliningUnproven, pipeliningProven) }

// broke notes that a connection broke with several commands on their way. It reports
// whether that is a reason to try again with one at a time: after it has once worked
// the connection had another reason to break.
func (p *pipelining) broke() bool {
	return p.state.CompareAndSwap(pipeliningUnproven, pipeliningOff)
}

// exchange is commands for the library to send: lines are what it will send, word by
// word, and run makes it send them and reads every reply.
type exchange struct {
	lines []string
	run   func() error
}

// pipelined does n exchanges in order, with the commands of many on their way at the
// same time. Their outcomes count only if it returns nil: until all replies have come
// a reply that is missing would go unnoticed, and the later ones would be taken for
// the earlier.
func (s *session) pipelined(n int, at func(i int) exchange) error {
	for begin := 0; begin < n; {
		window := s.window(begin, n, at)
		if err := s.runWindow(window); err != nil {
			return err
		}
		begin += len(window)
	}
	return nil
}

// window collects the exchanges from begin that go together: at least one.
func (s *session) window(begin, n int, at func(i int) exchange) []exchange {
	var window []exchange
	commands, size := 0, 0
	for i := begin; i < n; i++ {
		e := at(i)
		for _, line := range e.lines {
			commands, size = commands+1, size+len(line)+2
		}
		if len(window) > 0 && (commands > aheadMax || size > aheadBytes) {
			break
		}
		window = append(window, e)
	}
	return window
}

func (s *session) runWindow(window []exchange) error {
	together := s.mayPipeline(window)
	if together {
		var lines []byte
		for _, e := range window {
			for _, line := range e.lines {
				lines = append(append(lines, line...), "\r\n"...)
			}
		}
		s.pipelining = true
		if err := s.control.sendAhead(lines); err != nil {
			return err
		}
	}
	for _, e := range window {
		if err := e.run(); err != nil {
			return err
		}
	}
	if together {
		s.pipelining = false
		s.end.pipelining.worked()
	}
	return nil
}

// mayPipeline also leaves names that no command can carry to the library, which
// refuses them.
func (s *session) mayPipeline(window []exchange) bool {
	commands := 0
	for _, e := range window {
		for _, line := range e.lines {
			if strings.ContainsAny(line, "\r\n") {
				return false
			}
			commands++
		}
	}
	return commands > 1 && !s.end.pipelining.off()
}
