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
// chance (see job) may turn the outcome of some, but not of most.
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
	same, traces, runs := 0, map[uint64]int{}, 0
	for _, seed := range failing[:seeds] {
		failed := 0
		for range times {
			simulate(t, job{From: seed, To: seed + 1, Sabotage: blind, Full: true}, func(o outcome) {
				if o.Done {
					return
				}
				runs++
				traces[o.Trace]++
				if len(o.Violations) > 0 {
					failed++
				}
			})
		}
		if failed == times {
			same++
		}
		t.Logf("seed %d failed in %d of %d runs", seed, failed, times)
	}
	t.Logf("%d runs of %d seeds had %d different traces", runs, seeds, len(traces))
	if same < seeds/2 {
		t.Errorf("%d of %d seeds failed again every time", same, seeds)
	}
}
