package simulation

import (
	oldrand "math/rand"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// healBound is how soon every group must be at work again when nothing is broken any
// more: an election (3.5 × heartbeat at worst), the wait of the new leader on a slow
// clock, and what is under way when the faults end: raft's pause after failures.
const healBound = 7*150*time.Millisecond/2 + 1155*time.Millisecond + 1500*time.Millisecond

// run plays the schedule of a seed.
func run(t *testing.T, seed uint64, s sabotage) (r report) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil && !leftByRaft() {
			panic(p)
		}
	}()
	synctest.Test(t, func(*testing.T) {
		p := plan{seed: seed, nodes: 3, voters: 3, groups: []string{"edi", "mail"}, sabotage: s}
		if seed%10 == 9 {
			p.nodes, p.voters = 5, 5
		}
		w := newWorld(p)
		w.play(rand.New(rand.NewPCG(seed, 1)))
		r = w.report()
	})
	return r
}

// leftByRaft reports whether the goroutines that have outlived their schedule are
// those of a transfer of leadership that raft 1.8.0 leaves waiting when the leader
// steps down before the heir has caught up (leadershipTransfer sends to a
// replication that has ended). A bubble ends in a panic if anything is left in it.
func leftByRaft() bool {
	buf := make([]byte, 1<<20)
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "synctest bubble") && !strings.Contains(g, "raft.(*Raft).leadershipTransfer(") &&
			!strings.Contains(g, "raft.(*Raft).leaderLoop.func") {
			return false
		}
	}
	return true
}

func (w *world) play(rng *rand.Rand) {
	defer w.close()
	stop := make(chan struct{})
	defer close(stop)
	w.tasks.Go(func() { w.dice(stop) })
	w.boot()
	if !w.until(6*ttl, "every group at work at the start", func() bool { return w.atWork(0) }) {
		return
	}
	for _, g := range w.groups {
		w.tasks.Go(func() { w.items.produce(g) })
	}
	defer w.items.close()
	m := &nemesis{w: w, rng: rng}
	m.rage(5*ttl + time.Duration(rng.Int64N(int64(2*ttl))))
	w.note("all is mended")
	w.heal()
}

// dice gives raft, which draws its timeouts from the process's source, new numbers
// from time to time: so that one draw more or less does not shift all that follow.
func (w *world) dice(stop <-chan struct{}) {
	for i := uint64(1); ; i++ {
		oldrand.Seed(int64(mix(w.seed ^ i<<40))) //nolint:staticcheck // there is no other way to have raft do the same again
		select {
		case <-stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// heal checks that the cluster comes back, finishes its work, and agrees.
func (w *world) heal() {
	since := w.now()
	for _, n := range w.nodes {
		n.start()
	}
	w.resume()
	if !w.until(since+healBound-w.now(), "every group at work after the faults", func() bool { return w.atWork(since) }) {
		return
	}
	w.check.healed = w.now() - since
	w.items.close()
	w.until(3*ttl, "all items through", func() bool { return w.items.left() == 0 })
	w.items.count()
	w.same()
}

// resume takes back orders whose end was lost.
func (w *world) resume() {
	for _, n := range w.nodes {
		c := &pb.Command{Kind: &pb.Command_SetNode{SetNode: &pb.SetNode{Node: n.name, Order: pb.SetNode_RESUME}}}
		w.until(2*ttl, "an order after the faults", func() bool { return w.order(w.nodes[0], c) == nil })
	}
}
