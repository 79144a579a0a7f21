package exchange

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// PortPolicy is what a deployment says about failures of a send port.
type PortPolicy struct {
	// Attempts is how often a failed send is tried again; Interval the wait before
	// the first of them, multiplied by Backoff for each further one, and varied by
	// up to Jitter of itself (0 to 1) either way.
	Attempts int
	Interval time.Duration
	Backoff  float64
	Jitter   float64
	// Backup is the port that gets what this one gives up. Empty: it is suspended.
	Backup string
	// SuspendInDoubt: a message of which nobody can tell whether it arrived is
	// suspended instead of being sent again.
	SuspendInDoubt bool
	// Shut says that nothing may be sent just now, why, and until when (zero: not
	// known): the port is stopped, or outside its window. Nil: it never is.
	Shut func(now time.Time) (why string, until time.Time) `json:"-"`
}

// longestRetry bounds the wait between two attempts.
const longestRetry = 24 * time.Hour

// step is what to do after a failed attempt.
type step struct {
	suspend string        // why to give up, if not empty
	wait    time.Duration // before the next attempt, besides the gate
	counted bool          // the attempt used up one retry
	doubt   bool          // it may have arrived
}

// afterFailure decides on the next step. failed counts the attempts that were used
// up before. Outages cost no attempt: the gate makes them wait.
func (p PortPolicy) afterFailure(err error, interrupted bool, failed int) step {
	switch kind := kindOf(err); {
	case kind == adapterpb.Error_PERMANENT, kind == adapterpb.Error_GONE:
		return step{suspend: err.Error()}
	case kind == adapterpb.Error_DISCONNECTED:
		return step{}
	case interrupted:
		return step{doubt: true}
	case failed >= p.Attempts:
		return step{suspend: fmt.Sprintf("gave up after %d retries: %v", p.Attempts, err), doubt: true}
	default:
		factor := math.Pow(max(p.Backoff, 1), float64(failed))
		wait := min(float64(p.Interval)*factor, float64(longestRetry))
		wait *= 1 + p.Jitter*(2*rand.Float64()-1)
		return step{wait: time.Duration(wait), counted: true, doubt: true}
	}
}

// errand is what a listed or offered item needs.
type errand int

const (
	nothing   errand = iota // it is under way, suspended, kept, or just settled
	carryNew                // never seen before
	carryOn                 // intended, but not delivered to every port
	settleIt                // delivered or discarded: only the source does not know yet
	refuseIt                // suspended: a pushed source is to put it aside
	confirmIt               // settled before, and offered again: say it again
)

// errandOf decides from an item's fate what is to be done with it.
func errandOf(f *pb.Fate, kept, pushed bool) errand {
	switch f.GetState() {
	case pb.Fate_UNKNOWN:
		return carryNew
	case pb.Fate_INTENDED:
		return carryOn
	case pb.Fate_DELIVERED, pb.Fate_DISCARDED:
		if kept {
			return nothing
		}
		return settleIt
	case pb.Fate_SUSPENDED:
		if pushed {
			return refuseIt
		}
	case pb.Fate_SETTLED:
		if pushed {
			return confirmIt
		}
	}
	return nothing
}

// absence is what to do with the fate of an item that a complete listing lacks.
type absence int

const (
	keepFate absence = iota
	// settleFate: an earlier owner's settling had its effect.
	settleFate
	// forgetFate: it is not at the source and nothing is owed.
	forgetFate
	// suspendFate: it is not at the source and not delivered.
	suspendFate
)

// absent decides on an item that has been missing from listings, for so many of
// them and for so long. One listing is not enough to forget anything: a directory
// that is away for a moment must not make everything in it new.
// removes says that the source's items go when they are settled, so that this one
// was.
func absent(f *pb.Fate, removes bool, listings int, since, grace time.Duration) absence {
	switch f.GetState() {
	case pb.Fate_DELIVERED, pb.Fate_DISCARDED:
		if removes {
			return settleFate
		}
	case pb.Fate_INTENDED:
		if listings >= 2 {
			return suspendFate
		}
		return keepFate
	}
	if listings >= 2 && since >= grace {
		return forgetFate
	}
	return keepFate
}
