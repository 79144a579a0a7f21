package popd

import (
	"sync"
	"time"
)

// journalMax bounds the journal's memory in a demo that is left running.
const journalMax = 100_000

// Event is one thing a client did.
type Event struct {
	Time time.Time
	// Session numbers the connections from 1, Number the commands of a session.
	Session uint32
	Number  int
	// Remote is the client's address.
	Remote string
	// Command is in upper case, or one of CONNECT, GREETING and DISCONNECT.
	Command string
	// Argument is what followed, empty where it would tell a secret.
	Argument string
	// UIDL of the mail that RETR or DELE is about.
	UIDL string
}

// Fault is how the server fails at a command.
type Fault int

const (
	// None: it does not fail.
	None Fault = iota
	// DropBefore: the connection ends, and the command has no effect.
	DropBefore
	// DropAfter: the command has its effect (QUIT deletes), and the connection ends
	// without an answer.
	DropAfter
	// Silent: no effect and no answer, and the connection stays.
	Silent
	// Half: the answer breaks off in its middle, and the connection ends.
	Half
	// HalfSilent: the answer stops in its middle, and the connection stays.
	HalfSilent
	// Refuse: -ERR, and no effect.
	Refuse
)

type journal struct {
	log func(Event)

	mu   sync.Mutex
	list []Event
}

func (j *journal) add(e Event) {
	j.mu.Lock()
	if len(j.list) >= journalMax {
		j.list = append(j.list[:0], j.list[journalMax/10:]...)
	}
	j.list = append(j.list, e)
	j.mu.Unlock()
	if j.log != nil {
		j.log(e)
	}
}

func (j *journal) events() []Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]Event(nil), j.list...)
}
