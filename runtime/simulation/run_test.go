package simulation

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Schedules are run by workers: processes of this same test binary, each on one
// thread. Only so does a seed give the same schedule again: the order in which
// goroutines run, and the numbers that raft draws for its timeouts, are the
// process's (and its environment lets them be seeded). What is left to chance is the
// order of Go's maps and selects.

// job is what a worker is to do: every Step-th seed of [From, To).
type job struct {
	From, To, Step uint64
	Sabotage       sabotage
	// First: stop at the first violation. Full: report every schedule whole.
	First, Full bool
}

// outcome is what a worker tells of one schedule, or of all of them at its end.
type outcome struct {
	Seed       uint64
	Violations []string        `json:",omitempty"`
	Events     []string        `json:",omitempty"`
	Trace      uint64          `json:",omitempty"`
	Healed     []time.Duration `json:",omitempty"`
	Acts       int             `json:",omitempty"`
	Schedules  int             `json:",omitempty"`
	Done       bool            `json:",omitempty"`
}

const (
	jobVariable = "FAIRLEAD_SIMULATION_JOB"
	mark        = "simulation: " // before every line that is an outcome
)

// TestWorker is the workers' part. It does nothing in the process that starts them.
func TestWorker(t *testing.T) {
	var j job
	if data := os.Getenv(jobVariable); data == "" {
		t.Skip("it is started by the tests of schedules")
	} else if err := json.Unmarshal([]byte(data), &j); err != nil {
		t.Fatal(err)
	}
	all := outcome{Done: true}
	for seed := j.From; seed < j.To; seed += j.Step {
		fmt.Printf("%s%d\n", mark, seed)
		r := run(t, seed, j.Sabotage)
		all.Schedules++
		all.Acts += r.acts
		if r.healed > 0 {
			all.Healed = append(all.Healed, r.healed)
		}
		if len(r.violations) > 0 || j.Full {
			tell(t, outcome{Seed: seed, Violations: r.violations, Events: r.events, Trace: r.trace, Acts: r.acts})
		}
		if len(r.violations) > 0 && j.First {
			break
		}
	}
	tell(t, all)
}

func tell(t *testing.T, o outcome) {
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%s%s\n", mark, data)
}

// start starts a worker and hands on what it tells.
func (j job) start(ctx context.Context, heard func(outcome)) error {
	data, err := json.Marshal(j)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestWorker$", "-test.timeout=0", "-test.count=1")
	cmd.Env = append(os.Environ(), jobVariable+"="+string(data),
		"GOMAXPROCS=1", "GOGC=400", "GODEBUG=randseednop=0,asyncpreemptoff=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var noise strings.Builder
	cmd.Stderr = &noise
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	seed := ""
	for lines.Scan() {
		line, ours := strings.CutPrefix(lines.Text(), mark)
		var o outcome
		switch {
		case !ours:
			noise.WriteString(line + "\n")
		case !strings.HasPrefix(line, "{"):
			seed = line
		case json.Unmarshal([]byte(line), &o) == nil:
			heard(o)
		}
	}
	if err := cmd.Wait(); err != nil {
		text := noise.String()
		return fmt.Errorf("the schedule of seed %s broke off: %w\n%s", seed, err, text[:min(len(text), 6000)])
	}
	return nil
}

// simulate runs a job with as many workers as there are processors.
func simulate(t *testing.T, j job, heard func(outcome)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	workers := min(uint64(runtime.GOMAXPROCS(0)), j.To-j.From)
	for i := range workers {
		part := j
		part.From, part.Step = j.From+i, workers
		wg.Go(func() {
			err := part.start(ctx, func(o outcome) {
				mu.Lock()
				defer mu.Unlock()
				heard(o)
				if j.First && len(o.Violations) > 0 {
					cancel()
				}
			})
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// number is a setting from the environment.
func number(t *testing.T, name string) (n uint64, ok bool) {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n, true
}

// TestSchedules runs FAIRLEAD_SEEDS schedules (10000, with -short 150), those from
// FAIRLEAD_FROM (0) on.
func TestSchedules(t *testing.T) {
	if _, ok := number(t, "FAIRLEAD_SEED"); ok {
		t.Skip("FAIRLEAD_SEED asks for one schedule: see TestSeed")
	}
	n := uint64(10000)
	if testing.Short() {
		n = 150
	}
	if wanted, ok := number(t, "FAIRLEAD_SEEDS"); ok {
		n = wanted
	}
	from, _ := number(t, "FAIRLEAD_FROM")
	began := time.Now()
	var all outcome
	failed := 0
	simulate(t, job{From: from, To: from + n}, func(o outcome) {
		if o.Done {
			all.Schedules += o.Schedules
			all.Acts += o.Acts
			all.Healed = append(all.Healed, o.Healed...)
			return
		}
		if failed++; failed <= 3 {
			o.show(t)
		}
	})
	if uint64(all.Schedules) < n {
		t.Errorf("%d of %d schedules came to an end", all.Schedules, n)
	}
	if failed > 0 {
		t.Errorf("%d schedules of %d failed", failed, n)
	}
	t.Logf("%d schedules, %d acts, in %v; at work again after the faults: %s", all.Schedules, all.Acts, time.Since(began).Round(time.Millisecond), spread(all.Healed))
}

// TestSeed plays the schedule of FAIRLEAD_SEED again, until it fails, at most
// FAIRLEAD_TRIES (20) times, and shows what happened.
func TestSeed(t *testing.T) {
	seed, ok := number(t, "FAIRLEAD_SEED")
	if !ok {
		t.Skip("FAIRLEAD_SEED names no seed")
	}
	tries, ok := number(t, "FAIRLEAD_TRIES")
	if !ok {
		tries = 20
	}
	for try := range tries {
		simulate(t, job{From: seed, To: seed + 1, Full: true}, func(o outcome) {
			if len(o.Violations) > 0 || !o.Done && try+1 == tries {
				t.Logf("try %d of %d", try+1, tries)
				o.show(t)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// spread is the distribution of durations, for people.
func spread(ds []time.Duration) string {
	if len(ds) == 0 {
		return "never"
	}
	slices.Sort(ds)
	at := func(p int) time.Duration { return ds[min(len(ds)*p/1000, len(ds)-1)].Round(time.Millisecond) }
	return fmt.Sprintf("median %v, p95 %v, p99.9 %v, at most %v", at(500), at(950), at(999), at(1000))
}

// show prints a schedule so that it can be followed and run again.
func (o outcome) show(t *testing.T) {
	t.Helper()
	for _, line := range o.Events {
		t.Log(line)
	}
	for _, v := range o.Violations {
		t.Errorf("seed %d: %s", o.Seed, v)
	}
	t.Logf("seed %d, trace %x; again: FAIRLEAD_SEED=%d go test -count=1 -v -run TestSeed ./runtime/simulation", o.Seed, o.Trace, o.Seed)
}
