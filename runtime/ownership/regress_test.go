package ownership

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// These are troubles that other systems had with ownership, each with the thread
// that tells of it.

// hurtOwner hurts a follower that owns the first group, and wants its work to end by
// its own clock, before anybody else acts.
func hurtOwner(t *testing.T, hurt func(w *world, n *simNode)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 7, 3, groups...)
		defer w.close()
		w.waitOwned(5 * ttl)
		n := w.followerOwning(groups[0])
		work := n.works[groups[0]]
		w.mu.Lock()
		hurt(w, n)
		w.mu.Unlock()
		w.watch(ttl, groups)
		w.mu.Lock()
		ended := work.ended
		w.mu.Unlock()
		if !ended {
			t.Error("the work goes on although its lease has run out")
		}
		w.wantTakeover(groups[0], n.name, ttl)
		if w.doubles > 0 {
			t.Errorf("two nodes acted at %d moments", w.doubles)
		}
	})
}

// apache/camel#25611: the session is lost and no callback says so; the route never
// stops and the second node starts it as well.
func TestCamel25611StoppingNeedsNobodyToSaySo(t *testing.T) {
	hurtOwner(t, func(_ *world, n *simNode) { n.cut, n.deaf = true, true })
}

// apache/camel#19272, #19281: a lock that was held once is never looked at again.
func TestCamel19272AHeldLeaseEndsByItsOwnClock(t *testing.T) {
	hurtOwner(t, func(_ *world, n *simNode) { n.mute, n.deaf = true, true })
}

// spring-projects/spring-integration#2098: leadership is not given up although the
// lock can no longer be taken again.
func TestSpringIntegration2098ARefusedRenewalIsALostLease(t *testing.T) {
	hurtOwner(t, func(_ *world, n *simNode) { n.refused = true })
}

// apache/camel#25842: at shutdown the cluster policy and the election wait for each
// other. Here every Kill asks the tenant what it holds.
func TestCamel25842StoppingHoldsNoLockThatTheWorkNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8, 3, groups...)
		defer w.close()
		w.waitOwned(5 * ttl)
		n := w.followerOwning(groups[0])
		n.leave()
		w.wantTakeover(groups[0], n.name, ttl/2)
	})
}

// spring-cloud/spring-cloud-kubernetes#1955, #2032: the event that says "you are not
// the leader any more" is lost, and a phantom stays until a human kills it.
func TestSpringCloudKubernetes1955LostEventsOnlyCostTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 9, 3, groups...)
		defer w.close()
		w.waitOwned(5 * ttl)
		n := w.followerOwning(groups[0])
		w.mu.Lock()
		for _, each := range w.nodes {
			each.deaf = true
		}
		w.mu.Unlock()
		w.move()
		w.wantTakeover(groups[0], n.name, ttl)
		w.watch(ttl, groups)
		if w.doubles > 0 {
			t.Errorf("two nodes acted at %d moments", w.doubles)
		}
	})
}

// JasperFx/wolverine#2602: the database dropped the lock, the process went on saying
// that it has it, and its commands carried nothing that told them from the new
// owner's.
func TestWolverine2602CommandsOfAFormerOwnerAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10, 3, groups...)
		defer w.close()
		w.waitOwned(5 * ttl)
		n := w.followerOwning(groups[0])
		old := n.works[groups[0]].tenure
		n.crash()
		w.certify(n)
		w.wantTakeover(groups[0], n.name, ttl)
		_, err := w.nodes[w.leader].Apply(t.Context(), &pb.Command{Kind: &pb.Command_Fates{Fates: &pb.FateBatch{
			Group: old.Group, Incarnation: old.Incarnation, Epoch: old.Epoch,
		}}})
		if !errors.Is(err, ledger.ErrFenced) {
			t.Errorf("the former owner's command: %v", err)
		}
	})
}

// wso2/product-ei#5221: touching the deployed file starts the poller on both nodes.
func TestWso25221ANewDeploymentStartsNothingElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 11, 3, groups...)
		defer w.close()
		w.waitOwned(5 * ttl)
		before := map[string]string{}
		for _, g := range groups {
			before[g] = w.acting(g)[0]
		}
		for version := uint64(2); version < 6; version++ {
			c := &pb.Command{Kind: &pb.Command_Deploy{Deploy: &pb.Deploy{Version: version, Groups: groups}}}
			if _, err := w.nodes[w.leader].Apply(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			w.watch(ttl/4, groups)
		}
		time.Sleep(ttl)
		for _, g := range groups {
			if who := w.acting(g); len(who) != 1 || who[0] != before[g] {
				t.Errorf("%s: %v act, before it was %s", g, who, before[g])
			}
		}
		if w.doubles > 0 {
			t.Errorf("two nodes acted at %d moments", w.doubles)
		}
	})
}
