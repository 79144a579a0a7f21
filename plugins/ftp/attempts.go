package main

import (
	"sync"

	"github.com/fairlead-io/fairlead/sdk"
)

// attemptsMax bounds the memory of attempts. What is forgotten is merely not
// known.
const attemptsMax = 10_000

// attempts remembers, for messages whose last send failed in this process,
// whether they can have arrived. It lets Probe answer after failures that left
// no trace at the server.
type attempts struct {
	mu sync.Mutex
	// mayHaveArrived holds the messages begun and not known to have arrived.
	mayHaveArrived map[string]bool
}

func newAttempts() *attempts { return &attempts{mayHaveArrived: map[string]bool{}} }

// begin notes an attempt. Once a message may have arrived, a later attempt that
// fails does not change that.
func (a *attempts) begin(m *sdk.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.mayHaveArrived[m.ID]; ok {
		return
	}
	for id := range a.mayHaveArrived {
		if len(a.mayHaveArrived) < attemptsMax {
			break
		}
		delete(a.mayHaveArrived, id)
	}
	a.mayHaveArrived[m.ID] = m.Redelivered
}

// open notes that nobody knows whether the message arrived.
func (a *attempts) open(m *sdk.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mayHaveArrived[m.ID] = true
}

// arrived forgets the message: it will not be sent again.
func (a *attempts) arrived(m *sdk.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.mayHaveArrived, m.ID)
}

// knownAbsent reports whether every attempt at the message was made here and
// failed before it could arrive.
func (a *attempts) knownAbsent(m *sdk.Message) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	open, ok := a.mayHaveArrived[m.ID]
	return ok && !open
}
