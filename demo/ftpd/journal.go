package ftpd

import (
	"sync"
	"time"
)

// journalMax bounds the journal's memory in a demo that is left running.
const journalMax = 100_000

// Event is one thing a client did.
type Event struct {
	Time time.Time
	// Session numbers the control connections from 1.
	Session uint32
	// Remote is the client's address.
	Remote string
	// Command is the FTP command in upper case, or one of CONNECT, DISCONNECT,
	// and TLS for a finished handshake on either channel.
	Command string
	// Path the command was about, To the new path of a RNTO.
	Path, To string
	// Bytes transferred by RETR, STOR and APPE, which are noted when they end.
	Bytes int64
	// Resumed says of TLS that an earlier session was resumed.
	Resumed bool
	// Err is why the command failed, nil if it did not.
	Err error
}

type journal struct {
	log func(Event)

	mu   sync.Mutex
	list []Event
}

func (j *journal) add(e Event) {
	e.Time = time.Now()
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
