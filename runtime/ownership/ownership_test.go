package ownership

import (
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
