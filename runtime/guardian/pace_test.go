package guardian

import (
	"slices"
	"testing"
	"time"
)

func TestRestartsComeSlowerUntilARuntimeLivesLong(t *testing.T) {
	p := pace{longest: longestDelay}
	var got []time.Duration
	for range 11 {
		got = append(got, p.after(steadyAfter-1))
	}
	const ms = time.Millisecond
	want := []time.Duration{250 * ms, 500 * ms, 1000 * ms, 2000 * ms, 4000 * ms, 8000 * ms, 16000 * ms, 30000 * ms, 30000 * ms, 30000 * ms, 30000 * ms}
	if !slices.Equal(got, want) {
		t.Errorf("delays %v, want %v", got, want)
	}
	if got := p.after(steadyAfter); got != firstDelay {
		t.Errorf("after a minute without a fault: %v, want %v", got, firstDelay)
	}
	if got := p.after(0); got != 2*firstDelay {
		t.Errorf("and then: %v, want %v", got, 2*firstDelay)
	}
}

func TestOnlySilenceInARowIsAHang(t *testing.T) {
	var s silence
	for range 1000 {
		for range ticksToHang {
			if s.looked() {
				t.Fatal("killed before it was silent for long enough")
			}
		}
		s.heard()
	}
	for i := range ticksToHang + 1 {
		if hung := s.looked(); hung != (i == ticksToHang) {
			t.Fatalf("look %d: hung %v", i, hung)
		}
	}
}
