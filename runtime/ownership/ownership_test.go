package ownership

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

var groups = []string{"edi", "mail", "queue"}

func (w *world) waitOwned(d time.Duration) {
	w.t.Helper()
	for end := time.Now().Add(d); ; time.Sleep(10 * time.Millisecond) {
		owned := 0
		for _, g := range groups {
			if len(w.acting(g)) == 1 {
				owned++
			}
		}
		if owned == len(groups) {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("after %v only %d of %d groups have a node acting for them", d, owned, len(groups))
		}
	}
}

// schedule breaks and mends the cluster at random and watches the invariants.
func schedule(t *testing.T, seed uint64, sabotage func(*world)) (doubles int) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed, 3, groups...)
		defer w.close()
		if sabotage != nil {
			sabotage(w)
		}
		w.waitOwned(5 * ttl)
		rng := rand.New(rand.NewPCG(seed, 1)) // of the faults; the world has its own
		for range 12 {
			n := w.nodes[rng.IntN(len(w.nodes))]
			switch rng.IntN(6) {
			case 0:
				if n.up {
					n.crash()
					if rng.IntN(2) == 0 {
						w.certify(n)
					}
				} else {
					n.start()
				}
			case 1, 2:
				w.mu.Lock()
				n.cut = !n.cut
				w.mu.Unlock()
			case 3:
				w.elect()
			case 4:
				w.move()
			case 5: // a long pause
				w.watch(2*ttl, groups)
			}
			w.watch(time.Duration(rng.Int64N(int64(3*ttl/2))), groups)
			if rng.IntN(2) == 0 {
				w.elect() // raft notices, sooner or later
			}
		}
		doubles = w.doubles
		if sabotage != nil {
			return
		}
		for _, n := range w.nodes {
			w.mu.Lock()
			n.cut = false
			w.mu.Unlock()
			if !n.up {
				n.start()
			}
		}
		w.elect()
		w.waitOwned(6 * ttl)
	})
	return doubles
}

// certify has the guardian of a dead node tell the leader, if there is one.
func (w *world) certify(dead *simNode) {
	w.mu.Lock()
	l := w.leader
	w.mu.Unlock()
	if l < 0 || !w.nodes[l].up {
		return
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), ttl)
	defer cancel()
	_, _ = w.nodes[l].coord.Certify(ctx, dead.proof, "killed")
}

// move asks the owner of some group to hand it over.
func (w *world) move() {
	w.mu.Lock()
	l := w.leader
	w.mu.Unlock()
	if l < 0 {
		return
	}
	n := w.nodes[l]
	var m *pb.Move
	n.View(func(s *pb.State) {
		if g := s.GetGroups()[groups[0]]; g.GetOwner() != "" {
			m = &pb.Move{Group: g.GetName(), To: "*", Epoch: g.GetEpoch()}
		}
	})
	if m != nil {
		_, _ = n.Apply(w.t.Context(), &pb.Command{Kind: &pb.Command_Move{Move: m}})
	}
}

func TestNoTwoNodesActForAGroupUnderRandomFaults(t *testing.T) {
	seeds := 300
	if testing.Short() {
		seeds = 40
	}
	for seed := range uint64(seeds) {
		if doubles := schedule(t, seed, nil); doubles > 0 {
			t.Fatalf("seed %d: two nodes acted for one group at %d moments", seed, doubles)
		}
	}
}

// The check must fail when the mechanism is switched off.
func TestTheCheckerSeesALeaderThatExpiresTooEarly(t *testing.T) {
	for seed := range uint64(40) {
		impatient := func(w *world) {
			for _, n := range w.nodes {
				n.coord.cfg.TTL = ttl / 3
			}
		}
		if schedule(t, seed, impatient) > 0 {
			return
		}
	}
	t.Error("leaders that do not wait out leases went unnoticed: the checker proves nothing")
}

func TestTheCheckerSeesLeasesCountedFromTheAnswer(t *testing.T) {
	for seed := range uint64(40) {
		careless := func(w *world) {
			for _, n := range w.nodes {
				n.tenant.cfg.TTL = ttl * 2
			}
		}
		if schedule(t, seed, careless) > 0 {
			return
		}
	}
	t.Error("nodes that overrate their leases went unnoticed: the checker proves nothing")
}

func TestAMoveHandsOverWithoutWaitingForTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 3, groups...)
		defer w.close()
		w.waitOwned(5 * ttl)
		from := w.acting(groups[0])[0]
		w.move()
		began := time.Now()
		for {
			if who := w.acting(groups[0]); len(who) == 1 && who[0] != from {
				break
			}
			if time.Since(began) > ttl/2 {
				t.Fatalf("still with %v after half a lease", w.acting(groups[0]))
			}
			time.Sleep(time.Millisecond)
		}
	})
}

func TestWithoutAMajorityNobodyActsAndWorkResumesWithOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, 3, groups...)
		defer w.close()
		w.waitOwned(5 * ttl)
		w.nodes[0].crash()
		w.nodes[1].crash()
		w.elect()
		time.Sleep(2 * ttl)
		for _, g := range groups {
			if who := w.acting(g); len(who) > 0 {
				t.Errorf("%v acts for %s without a majority", who, g)
			}
		}
		w.nodes[0].start()
		w.elect()
		w.waitOwned(5 * ttl)
	})
}

func TestAnOrderlyStopReleasesEverythingAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, 3, groups...)
		defer w.close()
		w.waitOwned(5 * ttl)
		n := w.nodes[(w.leader+1)%3]
		n.leave()
		time.Sleep(ttl / 2)
		synctest.Wait()
		for _, g := range groups {
			if who := w.acting(g); len(who) != 1 || who[0] == n.name {
				t.Errorf("%s: %v act half a lease after %s was stopped in order", g, who, n.name)
			}
		}
		w.nodes[w.leader].View(func(s *pb.State) {
			for _, session := range s.GetSessions() {
				if session.GetNode() == n.name && !session.GetLeft() {
					t.Errorf("%s did not leave", session.GetIncarnation())
				}
			}
		})
	})
}

// followerOwning returns a node that owns the group and does not lead, moving the
// group there if need be.
func (w *world) followerOwning(group string) *simNode {
	w.t.Helper()
	for range 100 {
		who := w.acting(group)
		for _, n := range w.nodes {
			if len(who) == 1 && n.name == who[0] && n.id != w.leader {
				return n
			}
		}
		w.move()
		time.Sleep(ttl / 2)
	}
	w.t.Fatalf("no follower came to own %s", group)
	return nil
}

// wantTakeover waits until a node other than the given one acts.
func (w *world) wantTakeover(group, from string, within time.Duration) {
	w.t.Helper()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		if who := w.acting(group); len(who) == 1 && who[0] != from {
			return
		}
		if time.Since(began) > within {
			w.t.Fatalf("%s: still with %v after %v", group, w.acting(group), within)
		}
	}
}

func TestACertifiedDeathIsTakenOverWithoutWaitingForTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4, 3, groups...)
		defer w.close()
		w.waitOwned(5 * ttl)
		n := w.followerOwning(groups[0])
		n.crash()
		w.certify(n)
		w.wantTakeover(groups[0], n.name, ttl/4)
	})
}

func TestWithoutAProofNobodyTakesOverBeforeTheLeaseHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4, 3, groups...)
		defer w.close()
		w.waitOwned(5 * ttl)
		n := w.followerOwning(groups[0])
		n.crash()
		n.proof = []byte("somebody else's")
		w.certify(n)
		for began := time.Now(); time.Since(began) < ttl*3/4; time.Sleep(time.Millisecond) {
			if who := w.acting(groups[0]); len(who) > 0 {
				t.Fatalf("%v acts %v after a death that nobody has proven", who, time.Since(began))
			}
		}
		w.wantTakeover(groups[0], n.name, ttl)
	})
}

func TestAGroupThatFailsOnItsNodeGoesToAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 5, 3, groups...)
		defer w.close()
		w.waitOwned(5 * ttl)
		n := w.followerOwning(groups[0])
		n.works[groups[0]].failed <- "its handler ended twice"
		w.wantTakeover(groups[0], n.name, ttl/2)
		w.nodes[w.leader].View(func(s *pb.State) {
			g := s.GetGroups()[groups[0]]
			if len(g.GetFailures()) != 1 || g.GetFailures()[0].GetNode() != n.name || g.GetLastCause() != "failure" {
				t.Errorf("group %v", g)
			}
		})
	})
}

func TestANodeThatCannotEndItsWorkGivesUpItsLeaseInsteadOfReleasing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 6, 3, groups...)
		defer w.close()
		w.waitOwned(5 * ttl)
		n := w.followerOwning(groups[0])
		w.mu.Lock()
		n.works[groups[0]].stubborn = true
		w.mu.Unlock()
		w.move()
		w.watch(ttl*3/2, groups)
		w.wantTakeover(groups[0], n.name, ttl)
		if n.gaveUp == nil || n.tenant.Lease().Valid() {
			t.Errorf("gave up: %v, lease valid: %v", n.gaveUp, n.tenant.Lease().Valid())
		}
		if w.doubles > 0 {
			t.Errorf("two nodes acted at %d moments", w.doubles)
		}
	})
}
