package simulation

import (
	"slices"
	"strings"
	"testing"
)

// switchedOff is how many schedules may be needed to notice that a mechanism is
// switched off. The rarest is noticed in about one of a hundred.
const switchedOff = 3000

// TestCheckersSeeWhatIsSwitchedOff switches off one safety mechanism after the other.
// If the checkers did not tell, they would prove nothing.
func TestCheckersSeeWhatIsSwitchedOff(t *testing.T) {
	for _, s := range sabotages {
		t.Run(strings.ReplaceAll(string(s), " ", "-"), func(t *testing.T) {
			seen := false
			simulate(t, job{To: switchedOff, Sabotage: s, First: true}, func(o outcome) {
				if len(o.Violations) > 0 && !seen {
					seen = true
					t.Logf("seed %d: %s", o.Seed, o.Violations[0])
				}
			})
			if !seen {
				t.Errorf("in %d schedules nobody noticed", switchedOff)
			}
		})
	}
}

// TestAFailingSeedFailsAgain plays schedules that fail several times. What is left to
// chance may turn the outcome of some, but not of most: that is why TestSeed tries more
// than once.
func TestAFailingSeedFailsAgain(t *testing.T) {
	const seeds, times = 6, 4
	var failing []uint64
	for from := uint64(0); len(failing) < seeds && from < switchedOff; from += 100 {
		simulate(t, job{From: from, To: from + 100, Sabotage: blind}, func(o outcome) {
			if len(o.Violations) > 0 {
				failing = append(failing, o.Seed)
			}
		})
	}
	slices.Sort(failing)
	if len(failing) < seeds {
		t.Fatalf("%d seeds fail, too few to tell anything", len(failing))
	}
	again, runs, traces := 0, 0, map[uint64]int{}
	for _, seed := range failing[:seeds] {
		for range times {
			simulate(t, job{From: seed, To: seed + 1, Sabotage: blind, Full: true}, func(o outcome) {
				if o.Done {
					return
				}
				runs++
				traces[o.Trace]++
				if len(o.Violations) > 0 {
					again++
				}
			})
		}
	}
	t.Logf("%d of %d runs of %d failing seeds failed again; they had %d different traces", again, runs, seeds, len(traces))
	if again < runs/2 {
		t.Error("a seed tells too little")
	}
}
