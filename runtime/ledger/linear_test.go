package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// The ledger is linearizable: what concurrent clients are told can be explained by
// their commands having taken effect one after the other, each between its call and
// its answer (Herlihy and Wing, 1990). Histories are recorded over the real raft
// while leaders change, nodes are cut off and answers get lost, and are checked by
// porcupine.

// calls of one client at one of the nodes.
type caller struct {
	m      *memory
	r      *recorder
	id     int
	rng    *rand.Rand
	groups []string
	past   map[string]groupState // what it saw of groups earlier
	// stale has it read from whatever replica it meets, as if that were the ledger.
	stale bool
}

// recorder collects a history.
type recorder struct {
	began time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

func (r *recorder) now() int64 { return time.Since(r.began).Nanoseconds() }

func (r *recorder) note(client int, op groupOp, called int64, result groupResult) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, porcupine.Operation{ClientId: client, Input: op, Call: called, Output: result, Return: r.now()})
}

// history has the unclear calls open to its end.
func (r *recorder) history() (ops []porcupine.Operation, unclear int) {
	end := r.now() + 1
	for i := range r.ops {
		if r.ops[i].Output.(groupResult).unclear {
			unclear++
			r.ops[i].Return = end
		}
	}
	return r.ops, unclear
}

// run makes calls until there were enough.
func (c *caller) run(ctx context.Context, calls int) {
	for made := 0; made < calls && ctx.Err() == nil; {
		time.Sleep(time.Duration(c.rng.IntN(20)) * time.Millisecond)
		l := c.m.nodes[c.m.names[c.rng.IntN(len(c.m.names))]]
		op := c.choose(l, made)
		called := c.r.now()
		if result, done := c.call(ctx, l, op); done {
			c.r.note(c.id, op, called, result)
			made++
		}
	}
}

// choose decides by what the replica shows, which may lag, or by what it showed long
// ago, as a node does that was frozen.
func (c *caller) choose(l *Ledger, n int) groupOp {
	group := c.groups[c.rng.IntN(len(c.groups))]
	seen := groupOf(l, group)
	switch c.rng.IntN(5) {
	case 0:
		seen = c.past[group]
	case 1:
		c.past[group] = seen
	}
	op := groupOp{group: group, owner: seen.owner, epoch: seen.epoch, item: c.rng.IntN(itemsPerGroup)}
	op.what = []string{"assign", "release", "read", "read", "intend", "intend", "deliver", "suspend", "settle", "forget", "resume", "discard"}[c.rng.IntN(12)]
	switch op.what {
	case "assign":
		op.owner = []string{"a1", "b1"}[c.rng.IntN(2)]
	case "resume", "discard":
		op.id = seen.items[op.item].id
	case "intend":
		if op.id = seen.items[op.item].id; op.id == "" || c.rng.IntN(4) == 0 {
			op.id = fmt.Sprintf("m%d.%d", c.id, n)
		}
	}
	return op
}

// call proposes, or reads behind a barrier. done is false if the call certainly had
// no effect and told nothing.
func (c *caller) call(ctx context.Context, l *Ledger, op groupOp) (result groupResult, done bool) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if op.what == "read" {
		if !c.stale && (!l.Leading() || l.Barrier(ctx) != nil) {
			return result, false
		}
		return groupResult{read: groupOf(l, op.group)}, true
	}
	_, err := l.Apply(ctx, op.command())
	switch {
	case err == nil:
		return groupResult{ok: true}, true
	case errors.Is(err, ErrNotLeader):
		return result, false
	case errors.Is(err, ErrUnclear):
		return groupResult{unclear: true}, true
	}
	return groupResult{}, true
}

// unrest cuts off leaders and others, one way or both, loses answers, and changes
// leaders, until ended is closed.
func (m *memory) unrest(rng *rand.Rand, ended <-chan struct{}) (troubles int) {
	defer m.heal()
	for {
		select {
		case <-ended:
			return troubles
		case <-time.After(time.Duration(200+rng.IntN(500)) * time.Millisecond):
		}
		troubles++
		node := m.names[rng.IntN(len(m.names))]
		for _, n := range m.names {
			if m.nodes[n].Leading() && rng.IntN(2) == 0 {
				node = n
			}
		}
		switch rng.IntN(7) {
		case 0, 1:
			m.isolate(node, 2)
		case 2:
			m.isolate(node, rng.IntN(2))
		case 3:
			m.loses(0.3)
		case 4:
			_ = m.nodes[node].Elect() // one that fails is unrest as well
		default:
			m.heal()
		}
	}
}

// record runs clients against a cluster in trouble.
func record(t *testing.T, seed uint64, calls int, stale bool) (history []porcupine.Operation) {
	m := newMemory(t, seed, "a", "b", "c")
	groups := []string{"g", "h", "i", "j"}
	for _, cmd := range []*pb.Command{register("a", "a1"), register("b", "b1"), grant("a1", "b1"), deploy(1, groups...)} {
		if _, err := m.nodes[m.leader()].Apply(within(t), cmd); err != nil {
			t.Fatal(err)
		}
	}
	r := &recorder{began: time.Now()}
	// In the cluster's own time: a hung run ends, and says so.
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	var clients sync.WaitGroup
	for id := range 6 {
		c := &caller{m: m, r: r, id: id, rng: rand.New(rand.NewPCG(seed, uint64(id))), groups: groups, past: map[string]groupState{}, stale: stale}
		clients.Go(func() { c.run(ctx, calls) })
	}
	ended := make(chan struct{})
	go func() { clients.Wait(); close(ended) }()
	troubles := m.unrest(rand.New(rand.NewPCG(seed, 99)), ended)
	if ctx.Err() != nil {
		t.Fatal("the clients were not served any more")
	}
	history, unclear := r.history()
	t.Logf("seed %d: %d calls, of which %d with an unclear end, in %v with %d troubles", seed, len(history), unclear, time.Since(r.began), troubles)
	return history
}

// checkWithin bounds the search for an order.
const checkWithin = 30 * time.Second

func TestConcurrentClientsSeeOneOrderOfCommands(t *testing.T) {
	first, runs, calls := uint64(time.Now().UnixNano()), uint64(60), 150
	if testing.Short() {
		runs, calls = 8, 100
	}
	if given := os.Getenv("FAIRLEAD_SEED"); given != "" {
		var err error
		if first, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("FAIRLEAD_SEED: %v", err)
		}
		runs = 1
	}
	for i := range runs {
		var history []porcupine.Operation
		synctest.Test(t, func(t *testing.T) { history = record(t, first+i, calls, false) })
		if result := porcupine.CheckOperationsTimeout(groupModel, history, checkWithin); result != porcupine.Ok {
			t.Errorf("FAIRLEAD_SEED=%d: no order of the commands explains what the clients were told: %v", first+i, result)
		}
	}
}

// The check must be able to fail: a replica is not the ledger, for it may lag. That
// is found out within a run or two.
func TestReadsFromAReplicaAreNotLinearizable(t *testing.T) {
	for seed := range uint64(20) {
		var history []porcupine.Operation
		synctest.Test(t, func(t *testing.T) { history = record(t, seed, 150, true) })
		if porcupine.CheckOperationsTimeout(groupModel, history, checkWithin) == porcupine.Illegal {
			return
		}
	}
	t.Error("none of the runs was found out: the check proves nothing")
}

// The same for each answer that a broken ledger could give.
func TestHistoriesOfABrokenLedgerAreFoundOut(t *testing.T) {
	assign := groupOp{what: "assign", group: "g", owner: "a1"}
	act := groupOp{what: "intend", group: "g", owner: "a1", epoch: 1, id: "m1"}
	release := groupOp{what: "release", group: "g", owner: "a1", epoch: 1}
	yes, no := groupResult{ok: true}, groupResult{}
	owned := groupState{owner: "a1", epoch: 1}
	type step struct {
		op     groupOp
		result groupResult
	}
	for _, c := range []struct {
		name  string
		steps []step
		want  porcupine.CheckResult
	}{
		{"as it should be", []step{{assign, yes}, {act, yes}, {release, yes}, {act, no}}, porcupine.Ok},
		{"a fate under an epoch that is over", []step{{assign, yes}, {release, yes}, {act, yes}}, porcupine.Illegal},
		{"a fate that was refused without reason", []step{{assign, yes}, {act, no}}, porcupine.Illegal},
		{"two owners of one epoch", []step{{assign, yes}, {groupOp{what: "assign", group: "g", owner: "b1"}, yes}}, porcupine.Illegal},
		{"a commit that is forgotten", []step{{assign, yes}, {act, yes}, {groupOp{what: "read", group: "g"}, groupResult{read: owned}}}, porcupine.Illegal},
		{"a command that takes effect twice", []step{{assign, yes}, {release, yes}, {release, yes}}, porcupine.Illegal},
		{"an unclear one may have taken effect", []step{{assign, groupResult{unclear: true}}, {act, yes}}, porcupine.Ok},
		{"or not", []step{{assign, groupResult{unclear: true}}, {act, no}}, porcupine.Ok},
	} {
		t.Run(c.name, func(t *testing.T) {
			var history []porcupine.Operation
			for i, s := range c.steps {
				o := porcupine.Operation{ClientId: i, Input: s.op, Output: s.result, Call: int64(10 * i), Return: int64(10*i + 1)}
				if s.result.unclear {
					o.Return = 1000
				}
				history = append(history, o)
			}
			if got := porcupine.CheckOperationsTimeout(groupModel, history, checkWithin); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
