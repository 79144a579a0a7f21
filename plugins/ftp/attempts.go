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
	// known holds the messages begun and not known to have arrived, by ID.
	known map[string]attempt
}

type attempt struct {
	// open: some attempt may have made it arrive.
	open bool
	// underWay: the last attempt has not returned.
	underWay bool
}

func newAttempts() *attempts { return &attempts{known: map[string]attempt{}} }

// begin notes an attempt, which end ends.
func (a *attempts) begin(m *sdk.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	was, ok := a.known[m.ID]
	if !ok {
		was.open = m.Redelivered
		for id := range a.known {
			if len(a.known) < attemptsMax {
				break
			}
			delete(a.known, id)
		}
	}
	was.underWay = true
	a.known[m.ID] = was
}

// end notes how the attempt ended: the message has arrived and will not be sent
// again, or it may have arrived (open), or this attempt had no effect, which
// does not change what an earlier one may have done.
func (a *attempts) end(m *sdk.Message, arrived, open bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if arrived {
		delete(a.known, m.ID)
		return
	}
	was, ok := a.known[m.ID]
	// Forgotten meanwhile: then earlier attempts are not known either.
	a.known[m.ID] = attempt{open: was.open || open || !ok}
}

// knownAbsent reports whether every attempt at the message was made here and
// failed before it could arrive.
func (a *attempts) knownAbsent(m *sdk.Message) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	was, ok := a.known[m.ID]
	return ok && !was.open && !was.underWay
}
