package soak

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// sample is what the cluster used at one moment: sums over its processes, by quantity.
type sample map[quantity]float64

// quantity is something that must not grow.
type quantity string

const (
	nodeMemory   quantity = "memory of nodes, MiB"
	pluginMemory quantity = "memory of plugins, MiB"
	goroutines   quantity = "goroutines of nodes"
	nodeFiles    quantity = "descriptors of nodes"
	pluginFiles  quantity = "descriptors of plugins"
	spooled      quantity = "spool, MiB"
)

// slack is what a quantity may have more at the end, besides a quarter of what it was:
// so much differs between two moments of a healthy cluster.
var slack = map[quantity]float64{
	nodeMemory:   48,
	pluginMemory: 48,
	goroutines:   60,
	nodeFiles:    40,
	pluginFiles:  40,
	spooled:      4,
}

// factor is the growth that counts as none.
const factor = 1.25

// fifths is how many parts the samples are cut into. The first is left out: caches
// fill, and the heap finds its size.
const fifths = 5

// growth names every quantity whose median in the last fifth of the samples is more
// than the factor times the one in the second, plus the slack. Too few samples are a
// finding, too.
func growth(samples []sample) (findings []string) {
	if len(samples) < 2*fifths {
		return []string{fmt.Sprintf("%d samples: too few to judge, want at least %d", len(samples), 2*fifths)}
	}
	for q, more := range slack {
		before, after := medianOf(samples, q, 1), medianOf(samples, q, fifths-1)
		if limit := factor*before + more; after > limit {
			findings = append(findings, fmt.Sprintf("%s: %.1f at the end, %.1f before; at most %.1f would be steady", q, after, before, limit))
		}
	}
	slices.Sort(findings)
	return findings
}

// medianOf is the median of a quantity in one fifth of the samples, counted from 0.
func medianOf(samples []sample, q quantity, fifth int) float64 {
	var values []float64
	for _, s := range samples[fifth*len(samples)/fifths : (fifth+1)*len(samples)/fifths] {
		values = append(values, s[q])
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// table shows the medians of all fifths.
func table(samples []sample) string {
	var b strings.Builder
	for _, q := range []quantity{nodeMemory, pluginMemory, goroutines, nodeFiles, pluginFiles, spooled} {
		fmt.Fprintf(&b, "\n%-25s", q)
		for i := range fifths {
			if len(samples) >= fifths {
				fmt.Fprintf(&b, "%10.1f", medianOf(samples, q, i))
			}
		}
	}
	return b.String()
}

func TestGrowthIsSeenAndNoiseIsNot(t *testing.T) {
	// made makes samples of one quantity; the others stay at 100.
	made := func(q quantity, n int, value func(i int) float64) (samples []sample) {
		for i := range n {
			s := sample{}
			for other := range slack {
				s[other] = 100
			}
			s[q] = value(i)
			samples = append(samples, s)
		}
		return samples
	}
	for _, c := range []struct {
		name    string
		samples []sample
		want    quantity // empty: nothing
	}{
		{"steady", made(nodeMemory, 100, func(int) float64 { return 300 }), ""},
		{"it fills in the beginning", made(nodeMemory, 100, func(i int) float64 { return min(float64(i)*20, 400) }), ""},
		{"a saw", made(pluginMemory, 100, func(i int) float64 { return 100 + 200*float64(i%10)/10 }), ""},
		{"a single peak at the end", made(spooled, 100, func(i int) float64 { return float64(i/99) * 4000 }), ""},
		{"within the slack", made(goroutines, 100, func(i int) float64 { return 100 + float64(i)/2 }), ""},
		{"memory grows", made(nodeMemory, 100, func(i int) float64 { return 300 + 4*float64(i) }), nodeMemory},
		{"goroutines leak", made(goroutines, 100, func(i int) float64 { return 100 + 5*float64(i) }), goroutines},
		{"descriptors of plugins leak", made(pluginFiles, 60, func(i int) float64 { return 100 + 5*float64(i) }), pluginFiles},
		{"the spool is not emptied", made(spooled, 100, func(i int) float64 { return float64(i) }), spooled},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := growth(c.samples)
			if c.want == "" && len(got) > 0 {
				t.Errorf("findings %q, want none", got)
			}
			if c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], string(c.want)+":")) {
				t.Errorf("findings %q, want one about %s", got, c.want)
			}
		})
	}
	if got := growth(made(spooled, 9, func(int) float64 { return 0 })); len(got) != 1 {
		t.Errorf("findings on nine samples: %q, want that they are too few", got)
	}
}
