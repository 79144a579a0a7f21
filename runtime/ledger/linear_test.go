package ledger

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// The ledger is linearizable: what concurrent clients are told can be explained by
// their commands having taken effect one after the other, each between its call and
// its answer (Herlihy and Wing, 1990). The history is recorded while leaders change
// and nodes die, and checked by porcupine.

// groupState is one group as the model has it.
type groupState struct {
	owner string // incarnation
	epoch uint64
}

// groupOp is one call about a group.
type groupOp struct {
	what, group, owner string
	epoch              uint64
}

// groupResult is its answer.
type groupResult struct {
	ok      bool // not refused
	unclear bool // it may take effect at any time, or never
	read    groupState
}

// groupModel says what a group does, whatever order the calls take effect in.
var groupModel = porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byGroup := map[string][]porcupine.Operation{}
		for _, o := range history {
			g := o.Input.(groupOp).group
			byGroup[g] = append(byGroup[g], o)
		}
		var parts [][]porcupine.Operation
		for _, g := range sortedKeys(byGroup) {
			parts = append(parts, byGroup[g])
		}
		return parts
	},
	Init: func() []any { return []any{groupState{}} },
	Step: func(state, input, output any) []any {
		s, op, r := state.(groupState), input.(groupOp), output.(groupResult)
		if op.what == "read" {
			if s == r.read {
				return []any{s}
			}
			return nil
		}
		next, ok := s.after(op)
		switch {
		case r.unclear:
			return []any{s, next}
		case ok != r.ok:
			return nil
		}
		return []any{next}
	},
	Equal: func(a, b any) bool { return a == b },
}

// after is the state machine in miniature.
func (s groupState) after(op groupOp) (next groupState, ok bool) {
	switch op.what {
	case "assign":
		if s.owner == "" && s.epoch == op.epoch {
			return groupState{op.owner, s.epoch + 1}, true
		}
	case "release":
		if s.owner == op.owner && s.owner != "" && s.epoch == op.epoch {
			return groupState{"", s.epoch + 1}, true
		}
	case "act": // fates under an epoch
		if s.owner == op.owner && s.owner != "" && s.epoch == op.epoch {
			return s, true
		}
	}
	return s, false
}

func (op groupOp) command() *pb.Command {
	switch op.what {
	case "assign":
		return assign(place(op.group, op.owner, op.owner), op.epoch)
	case "release":
		return release(op.group, op.owner, op.epoch, nil)
	}
	return fates(op.group, op.owner, op.epoch)
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
func (r *recorder) history() []porcupine.Operation {
	end := r.now() + 1
	for i := range r.ops {
		if r.ops[i].Output.(groupResult).unclear {
			r.ops[i].Return = end
		}
	}
	return r.ops
}

// groupOf looks at a replica, which may lag.
func groupOf(l *Ledger, group string) (s groupState) {
	l.View(func(state *pb.State) {
		g := state.GetGroups()[group]
		s = groupState{g.GetIncarnation(), g.GetEpoch()}
	})
	return s
}

// client makes calls at random nodes until it has made enough.
func (c *cluster) client(ctx context.Context, id int, rng *rand.Rand, r *recorder, groups []string, calls int) {
	for made := 0; made < calls && ctx.Err() == nil; {
		n := c.random(rng)
		if n == nil {
			continue
		}
		group := groups[rng.IntN(len(groups))]
		seen := groupOf(n.Ledger, group)
		op := groupOp{what: []string{"assign", "release", "act", "read"}[rng.IntN(4)], group: group, owner: seen.owner, epoch: seen.epoch}
		if op.what == "assign" {
			op.owner = []string{"a", "b"}[rng.IntN(2)]
		}
		called := r.now()
		result, done := n.call(ctx, op)
		if !done {
			continue // nothing was proposed
		}
		r.note(id, op, called, result)
		made++
	}
}

// call proposes, or reads behind a barrier, at the node. done is false if the call
// certainly had no effect.
func (n *node) call(ctx context.Context, op groupOp) (result groupResult, done bool) {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	if op.what == "read" {
		if !n.Leading() || n.Barrier(ctx) != nil {
			return result, false
		}
		result.read = groupOf(n.Ledger, op.group)
		// A leader that was deposed meanwhile has read from the past.
		return result, n.Barrier(ctx) == nil
	}
	_, err := n.Apply(ctx, op.command())
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

func (c *cluster) random(rng *rand.Rand) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := sortedKeys(c.nodes)
	if len(names) == 0 {
		return nil
	}
	return c.nodes[names[rng.IntN(len(names))]]
}

func TestConcurrentClientsSeeOneOrderOfCommands(t *testing.T) {
	calls := 120
	if testing.Short() {
		calls = 30
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := bootstrapped(t, "a", "b", "c")
	groups := []string{"g", "h", "i"}
	for _, cmd := range []*pb.Command{register("a", "a"), register("b", "b"), grant("a", "b"), deploy(1, groups...)} {
		if _, err := c.leader().Apply(within(t), cmd); err != nil {
			t.Fatal(err)
		}
	}
	r := &recorder{began: time.Now()}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	for id := range 5 {
		clients.Go(func() { c.client(ctx, id, rand.New(rand.NewPCG(seed, uint64(id))), r, groups, calls) })
	}
	ended := make(chan struct{})
	go func() { clients.Wait(); close(ended) }()
	c.unrest(t, rand.New(rand.NewPCG(seed, 99)), ended)

	unclear := 0
	for _, op := range r.history() {
		if op.Output.(groupResult).unclear {
			unclear++
		}
	}
	t.Logf("%d calls, of which %d with an unclear end", len(r.ops), unclear)
	model := groupModel.ToModel()
	if result := porcupine.CheckOperationsTimeout(model, r.ops, 30*time.Second); result != porcupine.Ok {
		t.Errorf("no order of the commands explains what the clients were told: %v", result)
	}
}

// unrest changes leaders until ended is closed.
func (c *cluster) unrest(t *testing.T, rng *rand.Rand, ended <-chan struct{}) {
	tick := time.NewTicker(150 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		n := c.random(rng)
		if n.Leading() && rng.IntN(2) == 0 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_ = n.TransferLeadership(ctx) // one that fails is unrest as well
			cancel()
			continue
		}
		_ = n.Elect() // the same
	}
}

// The check must be able to fail: a replica that lags is not the ledger.
func TestReadsFromAReplicaThatLagsAreNotLinearizable(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	leader := c.leader()
	for _, cmd := range []*pb.Command{register("a", "a"), grant("a"), deploy(1, "g")} {
		if _, err := leader.Apply(within(t), cmd); err != nil {
			t.Fatal(err)
		}
	}
	var follower *node
	for _, n := range c.nodes {
		if n != leader {
			follower = n
		}
	}
	waitFor(t, "the follower to have the group", func() bool {
		found := false
		follower.View(func(s *pb.State) { found = s.GetGroups()["g"] != nil })
		return found
	})
	r := &recorder{began: time.Now()}
	for i := range 200 {
		op := groupOp{what: "assign", group: "g", owner: "a", epoch: uint64(i)}
		if i%2 == 1 {
			op.what = "release"
		}
		called := r.now()
		if _, err := leader.Apply(within(t), op.command()); err != nil {
			t.Fatal(err)
		}
		r.note(0, op, called, groupResult{ok: true})
		read := r.now()
		r.note(1, groupOp{what: "read", group: "g"}, read, groupResult{read: groupOf(follower.Ledger, "g")})
		if porcupine.CheckOperationsTimeout(groupModel.ToModel(), r.history(), 10*time.Second) == porcupine.Illegal {
			return
		}
	}
	t.Error("200 reads from a follower, right after a commit elsewhere, passed for linearizable: the check proves nothing")
}
