package simulation

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-io/fairlead/runtime/ledger"
)

func groupNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("group-%04d", i))
	}
	return names
}

// finish reports what a world that was not played by a seed has seen.
func (w *world) finish(t *testing.T) {
	t.Helper()
	w.close()
	r := w.report()
	if len(r.violations) == 0 {
		return
	}
	for _, line := range r.events {
		t.Log(line)
	}
	t.Errorf("violations: %q", r.violations)
}

func TestFiftyMembersStayStable(t *testing.T) {
	calm := 2 * time.Minute
	if testing.Short() {
		calm = 10 * time.Second
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(plan{seed: 50, nodes: 50, voters: 5, groups: groupNames(100), idle: true})
		defer w.finish(t)
		w.boot()
		for _, n := range w.nodes[w.voters:] {
			w.until(5*ttl, n.name+" in the cluster", func() bool {
				p := w.leader()
				if p == nil {
					return false
				}
				ctx, cancel := context.WithTimeout(t.Context(), ttl)
				defer cancel()
				return p.ledger.AddNonvoter(ctx, ledger.Server{Node: n.name, Address: n.name}) == nil
			})
		}
		w.until(5*ttl, "every group at work", func() bool { return w.atWork(0) })
		leader := w.leader()
		before, expiries, owners := w.turns(), w.check.expiries, map[string]bool{}
		time.Sleep(calm)
		if after := w.turns(); after != before || w.check.expiries != expiries {
			w.fail("in %v without a fault there were %d changes of owner and %d expiries", calm, after-before, w.check.expiries-expiries)
		}
		if w.leader() != leader {
			w.fail("the leader has changed from %s to %s", leader.name, w.leader().name)
		}
		for _, n := range w.nodes {
			for _, k := range n.works {
				owners[k.n.name] = true
			}
		}
		t.Logf("%d groups on %d of %d nodes, unmoved for %v", len(w.groups), len(owners), len(w.nodes), calm)
	})
}

// turns is how often groups have changed hands.
func (w *world) turns() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, terms := range w.check.terms {
		n += len(terms)
	}
	return n
}

func TestAThousandGroupsOfADeadNodeAreTakenOverInOneEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(plan{seed: 1000, nodes: 3, voters: 3, groups: groupNames(1000), preferred: []string{"n02"}, idle: true})
		defer w.finish(t)
		w.boot()
		dead := w.nodes[2]
		w.until(5*ttl, "all groups at work on "+dead.name, func() bool { return w.atWork(0) && len(dead.works) == len(w.groups) })
		w.until(5*ttl, "another leader", func() bool {
			if p := w.leader(); p != nil && p.n == dead {
				ctx, cancel := context.WithTimeout(t.Context(), ttl)
				defer cancel()
				_ = p.ledger.TransferLeadership(ctx) // tried again
			}
			p := w.leader()
			return p != nil && p.n != dead
		})
		expiries, assigns, since := w.check.expiries, w.check.assigns, w.now()
		dead.crash(everything)
		w.until(3*ttl, "all groups at work elsewhere", func() bool { return w.atWork(since) })
		entries := map[uint64]int{}
		for _, g := range w.groups {
			terms := w.check.terms[g]
			entries[terms[len(terms)-1].index]++
		}
		if len(entries) != 1 || w.check.expiries != expiries+1 || w.check.assigns != assigns {
			w.fail("taken over by entries %v, with %d expiries and %d assignments", entries, w.check.expiries-expiries, w.check.assigns-assigns)
		}
		t.Logf("%d groups at work elsewhere %v after the crash", len(w.groups), w.now()-since)
	})
}
