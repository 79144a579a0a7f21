package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/demo/cluster"
)

// usualRounds of random faults come when CHAOS_ROUNDS does not say otherwise.
const usualRounds = 4

// quietFor is how long nobody may be seen at the server without a majority: many
// polls and several leases.
const quietFor = 5 * time.Second

// drainWithin bounds the time until all that was put has arrived, in the end.
const drainWithin = time.Minute

// One cluster goes through everything, because what one fault leaves is what the
// next one meets. After each it has to find together again; the verdict on the whole
// comes in the end.
func TestFiveNodesInNetworksOfTheirOwn(t *testing.T) {
	needNamespaces(t)
	a := newArena(t)
	step := func(name string, do func(ctx context.Context) (string, error)) bool {
		return t.Run(name, func(t *testing.T) {
			story, err := do(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", story, err)
			}
			ending, err := a.converged(t.Context())
			if err != nil {
				t.Fatalf("%s: does not converge: %v", story, err)
			}
			err = errors.Join(a.pardon(t.Context()), a.move(t.Context()), a.remember(t.Context()))
			if err != nil {
				t.Fatalf("%s: %v", story, err)
			}
			t.Logf("%s; %s", story, ending)
		})
	}
	good := true
	for _, f := range faults() {
		if good {
			good = step("owner/"+f.name, func(ctx context.Context) (string, error) { return a.strikeOwner(ctx, f) })
		}
	}
	for _, f := range faults() {
		if good && f.leader {
			good = step("leader/"+f.name, func(ctx context.Context) (string, error) { return a.strikeLeader(ctx, f) })
		}
	}
	for _, s := range []struct {
		name string
		do   func(ctx context.Context) (string, error)
	}{
		{"leader is cut off", a.isolateLeader},
		{"two of five are dead", a.killTwo},
		{"three of five are dead", a.killThree},
	} {
		if good {
			good = step(s.name, s.do)
		}
	}
	for round := range rounds(t) {
		if good {
			good = step(fmt.Sprintf("mixed/%d", round+1), a.mixed)
		}
	}
	t.Run("verdict", a.verdict)
}

func rounds(t *testing.T) int {
	given := os.Getenv("CHAOS_ROUNDS")
	if given == "" {
		return usualRounds
	}
	n, err := strconv.Atoi(given)
	if err != nil {
		t.Fatalf("CHAOS_ROUNDS: %v", err)
	}
	return n
}

// strikeOwner does the fault to the owner, if that has the process that it is about.
func (a *arena) strikeOwner(ctx context.Context, f fault) (string, error) {
	owner, _, err := a.roles(ctx)
	if err != nil {
		return "", err
	}
	if !a.has(owner, f.part) {
		return fmt.Sprintf("*** NOT TESTED: %q: this build has no %s process", f.name, f.part), nil
	}
	return a.strike(ctx, f, owner)
}

// strikeLeader does the fault to the leader, whatever it owns.
func (a *arena) strikeLeader(ctx context.Context, f fault) (string, error) {
	_, leader, err := a.roles(ctx)
	if err != nil {
		return "", err
	}
	return a.strike(ctx, f, leader)
}

// has reports whether the node has a process of the part now.
func (a *arena) has(i int, part cluster.Part) bool {
	if part == "" {
		return true
	}
	pids, err := a.c.Nodes[i].PIDs(part)
	return err == nil && len(pids) > 0
}

func (a *arena) isolateLeader(ctx context.Context) (string, error) {
	_, leader, err := a.roles(ctx)
	if err != nil {
		return "", err
	}
	if err := a.net.estrange(leader); err != nil {
		return "", errors.Join(err, a.net.reconcile(leader))
	}
	began := time.Now()
	story := a.c.Nodes[leader].Name + " led and is cut off from the nodes"
	took, err := until(ctx, takeoverWithin, func(ctx context.Context) string {
		s := a.view(ctx, leader)
		if s == nil || s.Cluster.Leader == a.c.Nodes[leader].Name {
			return "no other node leads"
		}
		if owner := hostStatus(s); owner.State != "running" || owner.Owner == a.c.Nodes[leader].Name {
			return describe(s)
		}
		return ""
	})
	story += fmt.Sprintf("; another leads after %d ms", took.Milliseconds())
	pause(ctx, beyondLease-time.Since(began))
	return story, errors.Join(err, a.net.reconcile(leader), a.revive(leader))
}

// killTwo kills the owner and the leader, or somebody else if they are one.
func (a *arena) killTwo(ctx context.Context) (string, error) {
	owner, leader, err := a.roles(ctx)
	if err != nil {
		return "", err
	}
	dead := []int{owner, leader}
	if owner == leader {
		dead[1] = (owner + 1) % nodes
	}
	for _, i := range dead {
		err = errors.Join(err, a.c.Nodes[i].Kill())
	}
	if err != nil {
		return "", err
	}
	story := fmt.Sprintf("%s and %s are dead, the owner and the leader among them", a.c.Nodes[dead[0]].Name, a.c.Nodes[dead[1]].Name)
	to, took, err := a.takenOver(ctx, dead)
	if err == nil {
		story += fmt.Sprintf("; %s runs %s after %d ms", a.c.Nodes[to].Name, host, took.Milliseconds())
	}
	for _, i := range dead {
		err = errors.Join(err, a.revive(i))
	}
	return story, err
}

// killThree leaves the owner and one more: they have to stop when their leases are
// over, and to say why.
func (a *arena) killThree(ctx context.Context) (string, error) {
	owner, _, err := a.roles(ctx)
	if err != nil {
		return "", err
	}
	var dead []int
	for k := range 3 {
		i := (owner + 1 + k) % nodes
		dead = append(dead, i)
		err = errors.Join(err, a.c.Nodes[i].Kill())
	}
	if err != nil {
		return "", err
	}
	story := fmt.Sprintf("%s owns and is left with one other", a.c.Nodes[owner].Name)
	quiet, err := a.quiet(ctx)
	if err == nil {
		story += fmt.Sprintf("; nobody at the server after %d ms", quiet.Milliseconds())
		err = a.saysNoQuorum(ctx, owner)
	}
	for _, i := range dead {
		err = errors.Join(err, a.revive(i))
	}
	return story, err
}

// quiet waits until the lease must be over, and sees that nobody talks to the server
// from then on. It returns when the last one did.
func (a *arena) quiet(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	size, last := int64(-1), began
	_, err := until(ctx, takeoverWithin+quietFor, func(context.Context) string {
		info, err := os.Stat(a.ftp.log())
		if err != nil {
			return err.Error()
		}
		if info.Size() != size {
			size, last = info.Size(), time.Now()
		}
		if time.Since(last) < quietFor {
			return "somebody talks to the server without a majority"
		}
		return ""
	})
	if err == nil && last.Sub(began) > takeoverWithin {
		err = fmt.Errorf("somebody talked to the server %v after the majority was lost", last.Sub(began))
	}
	return last.Sub(began), err
}

// saysNoQuorum asks a node as an operator would.
func (a *arena) saysNoQuorum(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	n := a.c.Nodes[i]
	out, err := exec.CommandContext(ctx, filepath.Join(a.bin, "fairlead"), "status", "--address", "unix:"+n.Socket()).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("fairlead status: %w", err)
	}
	if !strings.Contains(strings.ToLower(string(out)), "quorum") {
		return fmt.Errorf("fairlead status on %s does not speak of the quorum:\n%s", n.Name, out)
	}
	return nil
}

// mixed does one fault, or two at the same time to two nodes, which leaves a majority.
func (a *arena) mixed(ctx context.Context) (string, error) {
	owner, leader, err := a.roles(ctx)
	if err != nil {
		return "", err
	}
	all := faults()
	victims := []int{[]int{owner, leader, a.rng.IntN(nodes)}[a.rng.IntN(3)]}
	if a.rng.IntN(2) == 0 {
		victims = append(victims, (victims[0]+1+a.rng.IntN(nodes-1))%nodes)
	}
	stories := make([]string, len(victims))
	errs := make([]error, len(victims))
	done := make(chan struct{}, len(victims))
	for k, i := range victims {
		f := all[a.rng.IntN(len(all))]
		if !a.has(i, f.part) {
			f = all[2] // all processes killed: every node has some
		}
		f.takeover = false // the other's fault may be in the way
		if f.hold == 0 {
			f.hold = time.Duration(1000+a.rng.IntN(3000)) * time.Millisecond
		}
		go func() { // ends within the fault's bounds
			defer func() { done <- struct{}{} }()
			stories[k], errs[k] = a.strike(ctx, f, i)
		}()
	}
	for range victims {
		<-done
	}
	return strings.Join(stories, ", and "), errors.Join(errs...)
}

// verdict waits until all that was put has arrived, and judges the whole.
func (a *arena) verdict(t *testing.T) {
	in, err := a.feed.stop()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := until(t.Context(), drainWithin, func(context.Context) string {
		left, err := os.ReadDir(a.ftp.folder("out"))
		if err != nil {
			return err.Error()
		}
		if len(left) > 0 {
			return fmt.Sprintf("%d files are still at the source, such as %s", len(left), left[0].Name())
		}
		return ""
	}); err != nil {
		t.Error(err)
	}
	if err := a.remember(t.Context()); err != nil {
		t.Error(err)
	}
	// Nobody works any more, so nobody writes while the judge reads.
	if err := a.c.Close(); err != nil {
		t.Error(err)
	}
	a.judgeArrivals(t, in)
	a.judgeLog(t)
}

func (a *arena) judgeArrivals(t *testing.T, in []cluster.Item) {
	arrived, err := a.ftp.arrivals()
	if err != nil {
		t.Fatal(err)
	}
	var hashes []string
	for source, names := range arrived {
		if len(names) > 1 {
			t.Errorf("%s arrived as %v", source, names)
		}
		for _, name := range names {
			data, err := os.ReadFile(filepath.Join(a.ftp.folder("in"), name))
			if err != nil {
				t.Fatal(err)
			}
			hashes = append(hashes, cluster.Hash(data))
		}
	}
	v := cluster.Judge(in, hashes)
	t.Log(v)
	if !v.OK() {
		t.Errorf("%v\n%s", v, strings.Join(v.Problems, "\n"))
	}
}

func (a *arena) judgeLog(t *testing.T) {
	commands := a.ftp.commands(t)
	o := judgeOverlaps(commands)
	t.Logf("%d commands of %d owners in turn, %d epochs; %d commands were on their way when their node was hurt",
		len(commands), len(o.owners), len(a.owners), len(o.late))
	for _, c := range o.late {
		t.Logf("on its way, line %d: %s (reply %d)", c.line, c.text, c.reply)
	}
	for _, v := range o.violations[:min(len(o.violations), 10)] {
		t.Errorf("two owners at a time: %s", v)
	}
	history, err := a.history()
	if err != nil {
		t.Fatal(err)
	}
	if wrong := judgeOrder(o, history); wrong != "" {
		t.Error(wrong)
	}
	if twice := judgeRenames(commands); len(twice) > 0 {
		t.Errorf("sent twice: %v", slices.Clip(twice[:min(len(twice), 10)]))
	}
}
