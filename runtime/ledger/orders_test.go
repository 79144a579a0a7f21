package ledger

import (
	"errors"
	"math"
	"testing"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// at gives the command a proposer's time.
func at(ms int64, c *pb.Command) *pb.Command {
	c.AtMs = ms
	return c
}

// play applies commands from the machine's next index on, and wants no refusal.
func play(t *testing.T, m *Machine, cs ...*pb.Command) {
	t.Helper()
	for i, c := range cs {
		if err := m.Apply(m.State().GetIndex()+1, c); err != nil {
			t.Fatalf("command %d (%T): %v", i+1, c.GetKind(), err)
		}
	}
}

func refuse(t *testing.T, m *Machine, want error, c *pb.Command) {
	t.Helper()
	before := bytesOf(t, m)
	if err := m.Apply(m.State().GetIndex()+1, c); !errors.Is(err, want) {
		t.Errorf("%T: got %v, want %v", c.GetKind(), err, want)
	}
	if bytesOf(t, m) != before {
		t.Errorf("%T was refused and has changed the state", c.GetKind())
	}
}

func lastEventOf(m *Machine) *pb.Event {
	es := m.State().GetEvents()
	return es[len(es)-1]
}

func session(s *pb.Session) *pb.Command {
	return &pb.Command{Kind: &pb.Command_Register{Register: &pb.Register{Session: s, Seen: math.MaxUint64}}}
}

func proven(incarnation string, proof []byte, placements ...*pb.Placement) *pb.Command {
	c := expire(incarnation, 0, placements...)
	c.GetExpire().Proof = proof
	return c
}

func TestOnlyItsGuardiansProofEndsAnIncarnationBeforeItsLease(t *testing.T) {
	m := NewMachine()
	secret := []byte("kept by the guardian")
	play(t, m,
		session(&pb.Session{Node: "a", Incarnation: "a1", Certifier: Certifier(secret)}), register("b", "b1"),
		at(1000, grant("a1", "b1")), deploy(1, "g"), assign(place("g", "a", "a1"), 0),
	)
	refuse(t, m, ErrIllegal, proven("a1", []byte("a guess")))
	refuse(t, m, ErrIllegal, proven("b1", []byte("nobody vouches for it"))) // no certifier at all
	refuse(t, m, ErrIllegal, proven("b1", Certifier(nil)))
	play(t, m, at(1400, proven("a1", secret, place("g", "b", "b1"))))
	if g := m.State().GetGroups()["g"]; g.GetOwner() != "b" || g.GetEpoch() != 2 {
		t.Errorf("group %v", g)
	}
	e := lastEventOf(m)
	if e.GetKind() != "group-owned" || e.GetFrom() != "a" || e.GetTo() != "b" || e.GetCause() != "death" || e.GetGapMs() != 400 || e.GetEpoch() != 2 {
		t.Errorf("event %v", e)
	}
	refuse(t, m, ErrStale, proven("a1", secret))
}

func TestARegistrationUnderTheSameLockEndsTheEarlierIncarnation(t *testing.T) {
	for _, c := range []struct {
		name         string
		first, again *pb.Session
		ends         bool
	}{
		{"same node, same lock", &pb.Session{Node: "a", Lock: "L"}, &pb.Session{Node: "a", Lock: "L"}, true},
		{"another directory", &pb.Session{Node: "a", Lock: "L"}, &pb.Session{Node: "a", Lock: "M"}, false},
		{"another node's directory", &pb.Session{Node: "b", Lock: "L"}, &pb.Session{Node: "a", Lock: "L"}, false},
		{"no locks on this platform", &pb.Session{Node: "a"}, &pb.Session{Node: "a"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := NewMachine()
			c.first.Incarnation, c.again.Incarnation = "first", "again"
			play(t, m, session(c.first), grant("first"), deploy(1, "g"), assign(place("g", c.first.Node, "first"), 0), session(c.again))
			g := m.State().GetGroups()["g"]
			if ended := g.GetOwner() == "" && g.GetEpoch() == 2; ended != c.ends {
				t.Errorf("ended %v, want %v: %v", ended, c.ends, g)
			}
			if m.live("again") == nil {
				t.Error("the new incarnation is not live")
			}
		})
	}
}

// Found by simulation: the repeated registration of an incarnation that had ended and
// was forgotten passed for one that had just got the lock.
func TestALateRegistrationOfAnEarlierIncarnationEndsNobody(t *testing.T) {
	m := NewMachine()
	late := func(incarnation string, seen uint64) *pb.Command {
		c := session(&pb.Session{Node: "a", Incarnation: incarnation, Lock: "L"})
		c.GetRegister().Seen = seen
		return c
	}
	first := late("first", 0)
	play(t, m, first, grant("first"), deploy(1, "g")) // 1, 2, 3
	refuse(t, m, ErrStale, late("second", 0))         // 4: it has not heard of first yet
	play(t, m, late("second", 4), late("third", 5), assign(place("g", "a", "third"), 0))
	refuse(t, m, ErrStale, first) // forgotten meanwhile, and back on the wire
	if g := m.State().GetGroups()["g"]; g.GetIncarnation() != "third" || m.live("third") == nil {
		t.Errorf("group %v", g)
	}
	play(t, m, late("third", 0)) // the same again: an unclear answer
}

func TestALocationStaysWithItsHolderUntilThatYields(t *testing.T) {
	m := NewMachine()
	deployTo := func(version uint64, group string) *pb.Command {
		c := deploy(version, "old", "new")
		c.GetDeploy().Locations = map[string]string{"in": group}
		return c
	}
	yield := func(group, incarnation string, epoch, version uint64) *pb.Command {
		return &pb.Command{Kind: &pb.Command_Yield{Yield: &pb.Yield{Group: group, Incarnation: incarnation, Epoch: epoch, Version: version}}}
	}
	play(t, m,
		register("a", "a1"), register("b", "b1"), grant("a1", "b1"), deployTo(1, "old"),
		assign(place("old", "a", "a1"), 0), assign(place("new", "b", "b1"), 0),
		fates("old", "a1", 1, intended("k", "m1", "p")),
	)
	refuse(t, m, ErrFenced, fates("new", "b1", 1, intended("k2", "m2", "p")))
	play(t, m, deployTo(2, "new"))
	// The old owner may end what it has begun; the new one must wait.
	refuse(t, m, ErrFenced, fates("new", "b1", 1, intended("k2", "m2", "p")))
	play(t, m, fates("old", "a1", 1, deliveredTo("k", "p")))
	refuse(t, m, ErrFenced, yield("old", "b1", 1, 2))
	refuse(t, m, ErrFenced, yield("old", "a1", 7, 2))
	refuse(t, m, ErrStale, yield("old", "a1", 1, 1)) // it speaks of an earlier deployment
	play(t, m, yield("old", "a1", 1, 2))
	refuse(t, m, ErrFenced, fates("old", "a1", 1, intended("k3", "m3", "p")))
	play(t, m, fates("new", "b1", 1, intended("k2", "m2", "p")))
	// A holder that is gone holds nothing.
	play(t, m, deployTo(3, "old"), release("new", "b1", 1, nil))
	if h := m.State().GetHolders()["in"]; h != "old" {
		t.Errorf("in is held by %q after its holder's release", h)
	}
}

func TestOrdersAboutNodes(t *testing.T) {
	m := running(t)
	order := func(node string, o pb.SetNode_Order) *pb.Command {
		return at(50, &pb.Command{Kind: &pb.Command_SetNode{SetNode: &pb.SetNode{Node: node, Order: o}}})
	}
	refuse(t, m, ErrUnknown, order("nobody", pb.SetNode_DRAIN))
	refuse(t, m, ErrUnknown, order("a", 99))
	refuse(t, m, ErrIllegal, order("a", pb.SetNode_REMOVE)) // alive
	play(t, m, order("a", pb.SetNode_DRAIN))
	if n := m.State().GetNodes()["a"]; n.GetOrder() != pb.SetNode_DRAIN || n.GetOrderAtMs() != 50 {
		t.Errorf("node %v", n)
	}
	play(t, m, expire("a1", 3), register("a", "a2"))
	if n := m.State().GetNodes()["a"]; n.GetOrder() != pb.SetNode_DRAIN || len(n.GetExpiredAtMs()) != 1 {
		t.Errorf("after an expiry and a restart: %v", n)
	}
	play(t, m, order("a", pb.SetNode_RESUME))
	if n := m.State().GetNodes()["a"]; n.GetOrder() != pb.SetNode_RESUME || len(n.GetExpiredAtMs()) != 0 {
		t.Errorf("resumed: %v", n)
	}
	play(t, m, leave("a2"), order("a", pb.SetNode_REMOVE))
	if n := m.State().GetNodes()["a"]; n.GetOrder() != pb.SetNode_REMOVE || len(m.State().GetSessions()) != 1 {
		t.Errorf("removed: %v, sessions %v", n, m.State().GetSessions())
	}
	play(t, m, register("a", "a3"))
	if n := m.State().GetNodes()["a"]; n.GetOrder() != pb.SetNode_RESUME {
		t.Errorf("back after its removal: %v", n)
	}
}

func TestFailuresOfAGroupAreCountedUntilReset(t *testing.T) {
	m := running(t)
	failed := func(c *pb.Command, ms, until int64) *pb.Command {
		c.GetRelease().Cause, c.GetRelease().FailedUntilMs, c.AtMs = "failure", until, ms
		return c
	}
	play(t, m, failed(release("g", "a1", 1, place("g", "b", "b1")), 100, 0))
	play(t, m, failed(release("g", "b1", 2, nil), 200, 3600_000))
	g := m.State().GetGroups()["g"]
	if len(g.GetFailures()) != 2 || g.GetFailures()[0].GetNode() != "a" || g.GetFailures()[1].GetAtMs() != 200 || g.GetFailedUntilMs() != 3600_000 {
		t.Errorf("group %v", g)
	}
	if e := lastEventOf(m); e.GetKind() != "group-failed" || e.GetFrom() != "b" {
		t.Errorf("event %v", e)
	}
	play(t, m, &pb.Command{Kind: &pb.Command_SetGroup{SetGroup: &pb.SetGroup{Group: "g", Reset_: true}}})
	if g := m.State().GetGroups()["g"]; len(g.GetFailures()) != 0 || g.GetFailedUntilMs() != 0 {
		t.Errorf("reset: %v", g)
	}
}

func TestAMoveByHandPinsTheGroupUntilResumed(t *testing.T) {
	m := running(t)
	m2 := &pb.Command{Kind: &pb.Command_Move{Move: &pb.Move{Group: "g", To: "b", Epoch: 1, Pin: true, Cause: "move", Reason: "by order"}}}
	released := release("g", "a1", 1, place("g", "b", "b1"))
	released.GetRelease().Cause = "move"
	play(t, m, m2, released)
	g := m.State().GetGroups()["g"]
	if g.GetPinned() != "b" || g.GetMovingTo() != "" || g.GetMovingPin() || g.GetLastCause() != "move" {
		t.Errorf("group %v", g)
	}
	if e := lastEventOf(m); e.GetGapMs() != 0 || e.GetFrom() != "a" || e.GetTo() != "b" {
		t.Errorf("event %v", e)
	}
	play(t, m, &pb.Command{Kind: &pb.Command_SetGroup{SetGroup: &pb.SetGroup{Group: "g", Resume: true}}})
	if g := m.State().GetGroups()["g"]; g.GetPinned() != "" {
		t.Errorf("resumed: %v", g)
	}
}

func TestTheLedgersVersionRisesOnlyWhenEveryLiveNodeCanFollow(t *testing.T) {
	m := NewMachine()
	upgrade := func(v uint32) *pb.Command {
		return &pb.Command{Kind: &pb.Command_Upgrade{Upgrade: &pb.Upgrade{Version: v}}}
	}
	play(t, m, session(&pb.Session{Node: "a", Incarnation: "a1", Machine: 2}), session(&pb.Session{Node: "b", Incarnation: "b1", Machine: 1}))
	refuse(t, m, ErrStale, upgrade(2))
	play(t, m, upgrade(1), leave("b1"), upgrade(2))
	refuse(t, m, ErrStale, upgrade(2))
	refuse(t, m, ErrTooOld, session(&pb.Session{Node: "b", Incarnation: "b2", Machine: 1}))
	play(t, m, session(&pb.Session{Node: "b", Incarnation: "b3", Machine: 2}))
}

func TestAClusterIsNamedOnce(t *testing.T) {
	m := NewMachine()
	found := func(id string) *pb.Command {
		return &pb.Command{Kind: &pb.Command_Found{Found: &pb.Found{ClusterId: id}}}
	}
	refuse(t, m, ErrIllegal, found(""))
	play(t, m, found("one"))
	refuse(t, m, ErrStale, found("two"))
	refuse(t, m, ErrStale, found("one"))
}

func TestEventsAreBounded(t *testing.T) {
	m := running(t)
	for range 2 * keptEvents {
		play(t, m, &pb.Command{Kind: &pb.Command_SetHost{SetHost: &pb.SetHost{Host: "h", Stopped: true}}})
	}
	es := m.State().GetEvents()
	if len(es) != keptEvents || LastEvent(m.State()) != m.State().GetIndex() || es[0].GetIndex() >= es[1].GetIndex() {
		t.Errorf("%d events, the last at %d of %d", len(es), LastEvent(m.State()), m.State().GetIndex())
	}
	if !m.State().GetHosts()["h"].GetStopped() {
		t.Error("the host is not stopped")
	}
	play(t, m, &pb.Command{Kind: &pb.Command_SetHost{SetHost: &pb.SetHost{Host: "h"}}})
	if m.State().GetHosts()["h"] != nil {
		t.Error("the host is still stopped")
	}
}
