package ledger

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// Short ways to write commands.

func register(node, incarnation string) *pb.Command {
	return &pb.Command{Kind: &pb.Command_Register{Register: &pb.Register{Session: &pb.Session{Node: node, Incarnation: incarnation}, Seen: math.MaxUint64}}}
}

func grant(incarnations ...string) *pb.Command {
	return &pb.Command{Kind: &pb.Command_Grant{Grant: &pb.Grant{Incarnations: incarnations}}}
}

func expire(incarnation string, granted uint64, placements ...*pb.Placement) *pb.Command {
	return &pb.Command{Kind: &pb.Command_Expire{Expire: &pb.Expire{Incarnation: incarnation, Granted: granted, Reason: "lease ran out", Placements: placements}}}
}

func place(group, node, incarnation string) *pb.Placement {
	return &pb.Placement{Group: group, Node: node, Incarnation: incarnation, Reason: "chosen"}
}

func assign(p *pb.Placement, epoch uint64) *pb.Command {
	p.Epoch = epoch
	return &pb.Command{Kind: &pb.Command_Assign{Assign: &pb.Assign{Placements: []*pb.Placement{p}}}}
}

func move(group, to string, epoch uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_Move{Move: &pb.Move{Group: group, To: to, Epoch: epoch}}}
}

func release(group, incarnation string, epoch uint64, next *pb.Placement) *pb.Command {
	return &pb.Command{Kind: &pb.Command_Release{Release: &pb.Release{Group: group, Incarnation: incarnation, Epoch: epoch, Reason: "asked to", Next: next}}}
}

func leave(incarnation string) *pb.Command {
	return &pb.Command{Kind: &pb.Command_Leave{Leave: &pb.Leave{Incarnation: incarnation}}}
}

func deploy(version uint64, groups ...string) *pb.Command {
	return &pb.Command{AtMs: int64(version), Kind: &pb.Command_Deploy{Deploy: &pb.Deploy{Version: version, Name: "shop", Source: []byte("x"), Groups: groups}}}
}

func fates(group, incarnation string, epoch uint64, changes ...*pb.FateChange) *pb.Command {
	return &pb.Command{AtMs: 77, Kind: &pb.Command_Fates{Fates: &pb.FateBatch{Group: group, Incarnation: incarnation, Epoch: epoch, Changes: changes}}}
}

func intended(key, id string, ports ...string) *pb.FateChange {
	return &pb.FateChange{Location: "in", Key: key, Change: &pb.FateChange_Intend{Intend: &pb.Intend{MessageId: id, Ports: ports}}}
}

func deliveredTo(key string, ports ...string) *pb.FateChange {
	return &pb.FateChange{Location: "in", Key: key, Change: &pb.FateChange_Delivered{Delivered: &pb.Delivered{Ports: ports}}}
}

func orderOf(order pb.OrderItems_Order, key, id, port string) *pb.Command {
	return &pb.Command{AtMs: 88, Kind: &pb.Command_OrderItems{OrderItems: &pb.OrderItems{
		Order: order, Port: port, Items: []*pb.ItemRef{{Location: "in", Key: key, MessageId: id}},
	}}}
}

func redirected(key, from, to string) *pb.FateChange {
	return &pb.FateChange{Location: "in", Key: key, Change: &pb.FateChange_Redirect{Redirect: &pb.Redirect{From: from, To: to}}}
}

func suspended(key, reason string) *pb.FateChange {
	return &pb.FateChange{Location: "in", Key: key, Change: &pb.FateChange_Suspend{Suspend: &pb.Suspend{Reason: reason}}}
}

func settledAt(key string) *pb.FateChange {
	return &pb.FateChange{Location: "in", Key: key, Change: &pb.FateChange_Settled{Settled: &pb.Settled{}}}
}

func forgotten(key string) *pb.FateChange {
	return &pb.FateChange{Location: "in", Key: key, Change: &pb.FateChange_Forget{Forget: &pb.Forget{}}}
}

// bytesOf is the state without its index, in one fixed encoding.
func bytesOf(t interface{ Fatal(...any) }, m *Machine) string {
	s := proto.Clone(m.State()).(*pb.State)
	s.Index = 0
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// running is a machine with two nodes; a1 owns group g under epoch 1, and group
// idle has no owner. The last index is 6.
func running(t *testing.T) *Machine {
	t.Helper()
	m := NewMachine()
	for i, c := range []*pb.Command{
		register("a", "a1"), register("b", "b1"), grant("a1", "b1"), // granted at 3
		deploy(1, "g", "idle"), assign(place("g", "a", "a1"), 0),
		fates("g", "a1", 1, intended("k", "m1", "p", "q")),
	} {
		if err := m.Apply(uint64(i+1), c); err != nil {
			t.Fatalf("command %d: %v", i+1, err)
		}
	}
	return m
}

func TestRefusedCommandsSayWhyAndChangeOnlyTheIndex(t *testing.T) {
	for _, c := range []struct {
		name string
		cmd  *pb.Command
		want error
	}{
		{"command without kind", &pb.Command{}, ErrUnknown},
		{"registration without incarnation", register("a", ""), ErrUnknown},
		{"registration without node", register("", "x"), ErrUnknown},
		{"expire unknown incarnation", expire("nobody", 0), ErrStale},
		{"expire after another grant", expire("a1", 2), ErrStale},
		{"assign unknown group", assign(place("nope", "a", "a1"), 0), ErrStale},
		{"assign owned group", assign(place("g", "b", "b1"), 1), ErrStale},
		{"assign under old epoch", assign(place("idle", "a", "a1"), 7), ErrStale},
		{"assign to ended incarnation", assign(place("idle", "a", "a0"), 0), ErrStale},
		{"assign to another node's incarnation", assign(place("idle", "a", "b1"), 0), ErrStale},
		{"assign to no incarnation", assign(place("idle", "a", ""), 0), ErrStale},
		{"move unknown group", move("nope", "b", 1), ErrUnknown},
		{"move under old epoch", move("g", "b", 0), ErrStale},
		{"move unowned group", move("idle", "b", 0), ErrStale},
		{"release unknown group", release("nope", "a1", 1, nil), ErrFenced},
		{"release by another incarnation", release("g", "b1", 1, nil), ErrFenced},
		{"release under old epoch", release("g", "a1", 0, nil), ErrFenced},
		{"release of an unowned group by nobody", release("idle", "", 0, place("idle", "b", "b1")), ErrFenced},
		{"leave while owning", leave("a1"), ErrStale},
		{"deploy the same version", deploy(1, "g"), ErrStale},
		{"deploy a version too far", deploy(3, "g"), ErrStale},
		{"fates of unknown group", fates("nope", "a1", 1, forgotten("k")), ErrFenced},
		{"fates under old epoch", fates("g", "a1", 0, forgotten("k")), ErrFenced},
		{"fates under epoch to come", fates("g", "a1", 2, forgotten("k")), ErrFenced},
		{"fates of another incarnation", fates("g", "b1", 1, forgotten("k")), ErrFenced},
		{"fates of an unowned group by nobody", fates("idle", "", 0, forgotten("k")), ErrFenced},
		{"change without kind", fates("g", "a1", 1, &pb.FateChange{Location: "in", Key: "k"}), ErrUnknown},
		{"intent without ID", fates("g", "a1", 1, intended("n", "", "p")), ErrIllegal},
		{"intent under another ID", fates("g", "a1", 1, intended("k", "m2", "p")), ErrIllegal},
		{"delivered without intent", fates("g", "a1", 1, deliveredTo("n", "p")), ErrIllegal},
		{"suspended without intent", fates("g", "a1", 1, suspended("n", "r")), ErrIllegal},
		{"suspended after delivery", fates("g", "a1", 1, deliveredTo("k", "p", "q"), suspended("k", "r")), ErrIllegal},
		{"settled without intent", fates("g", "a1", 1, settledAt("n")), ErrIllegal},
		{"settled before every port has it", fates("g", "a1", 1, deliveredTo("k", "p"), settledAt("k")), ErrIllegal},
		{"settled while suspended", fates("g", "a1", 1, suspended("k", "r"), settledAt("k")), ErrIllegal},
		{"last of many changes is illegal", fates("g", "a1", 1, intended("n", "m9", "p"), forgotten("k"), settledAt("x")), ErrIllegal},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := running(t)
			before := bytesOf(t, m)
			if err := m.Apply(50, c.cmd); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if bytesOf(t, m) != before {
				t.Errorf("the refused command left a trace:\n%v", m.State())
			}
			if m.State().Index != 50 {
				t.Errorf("index %d, want 50", m.State().Index)
			}
		})
	}
}

func TestCommandsSaidTwiceAreTakenAsSaidOnce(t *testing.T) {
	for name, c := range map[string]*pb.Command{
		"register":            register("a", "a1"),
		"leave of a stranger": leave("nobody"),
		"grant to a stranger": grant("nobody"),
		"intend":              fates("g", "a1", 1, intended("k", "m1", "p", "q")),
		"forget the unknown":  fates("g", "a1", 1, forgotten("n")),
	} {
		m := running(t)
		before := bytesOf(t, m)
		if err := m.Apply(50, c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if bytesOf(t, m) != before {
			t.Errorf("%s changed the state:\n%v", name, m.State())
		}
	}
}

func do(t *testing.T, m *Machine, cs ...*pb.Command) {
	t.Helper()
	for _, c := range cs {
		if err := m.Apply(m.State().Index+1, c); err != nil {
			t.Fatalf("%v: %v", c, err)
		}
	}
}

func wantGroup(t *testing.T, m *Machine, name, owner, incarnation string, epoch uint64) {
	t.Helper()
	g := m.State().Groups[name]
	if g == nil {
		t.Fatalf("no group %q", name)
	}
	if g.Owner != owner || g.Incarnation != incarnation || g.Epoch != epoch {
		t.Errorf("group %q: owner %q (%s), epoch %d; want %q (%s), %d", name, g.Owner, g.Incarnation, g.Epoch, owner, incarnation, epoch)
	}
}

func TestExpireGivesTheGroupsAwayInTheSameEntry(t *testing.T) {
	m := running(t)
	do(t, m, assign(place("idle", "a", "a1"), 0), expire("a1", 3, place("g", "b", "b1")))
	wantGroup(t, m, "g", "b", "b1", 2)
	wantGroup(t, m, "idle", "", "", 2) // no placement was given
	if s := m.State().Sessions["a1"]; !s.Expired || s.Left || s.ExpiredReason == "" {
		t.Errorf("session after expiry: %v", s)
	}
	if err := m.Apply(20, fates("g", "a1", 1, deliveredTo("k", "p"))); !errors.Is(err, ErrFenced) {
		t.Errorf("old owner: %v, want fenced", err)
	}
	do(t, m, fates("g", "b1", 2, deliveredTo("k", "p")))
}

func TestExpireLeavesGroupsUnownedWhenTheChosenOwnerHasEnded(t *testing.T) {
	m := running(t)
	do(t, m, leave("b1"), expire("a1", 3, place("g", "b", "b1")))
	wantGroup(t, m, "g", "", "", 2)
}

func TestAnExpiredIncarnationIsNotGrantedAgain(t *testing.T) {
	m := running(t)
	do(t, m, expire("a1", 3), grant("a1", "b1"))
	if got := m.State().Sessions["a1"].Granted; got != 3 {
		t.Errorf("expired incarnation granted at %d", got)
	}
	if got, want := m.State().Sessions["b1"].Granted, m.State().Index; got != want {
		t.Errorf("live incarnation granted at %d, want %d", got, want)
	}
}

func TestReleaseHandsOverInTheSameEntry(t *testing.T) {
	m := running(t)
	do(t, m, move("g", "b", 1))
	if to := m.State().Groups["g"].MovingTo; to != "b" {
		t.Errorf("moving to %q, want b", to)
	}
	do(t, m, release("g", "a1", 1, place("g", "b", "b1")))
	wantGroup(t, m, "g", "b", "b1", 2)
	if g := m.State().Groups["g"]; g.MovingTo != "" || g.Since != m.State().Index {
		t.Errorf("after release: %v", g)
	}
	do(t, m, leave("a1"))
	if s := m.State().Sessions["a1"]; !s.Left {
		t.Errorf("session after leave: %v", s)
	}
}

func TestANewIncarnationDoesNotEndTheOldOneButForgetsThoseThatEnded(t *testing.T) {
	m := running(t)
	do(t, m, register("a", "a2"))
	wantGroup(t, m, "g", "a", "a1", 1)
	do(t, m, expire("a1", 3), register("a", "a3"))
	if m.State().Sessions["a1"] != nil {
		t.Error("the ended incarnation is still there")
	}
	if m.State().Sessions["a2"] == nil || m.State().Sessions["a3"] == nil {
		t.Error("a live incarnation was forgotten")
	}
}

func TestDeploymentKeepsTwentyVersionsAndRetiresGroups(t *testing.T) {
	m := running(t)
	do(t, m, deploy(2, "fresh"))
	wantGroup(t, m, "g", "a", "a1", 1) // its owner still acts
	if m.State().Groups["idle"] != nil {
		t.Error("unowned group outlives its deployment")
	}
	do(t, m, release("g", "a1", 1, place("g", "b", "b1")))
	if m.State().Groups["g"] != nil {
		t.Error("released group outlives its deployment")
	}
	for v := uint64(3); v <= 30; v++ {
		do(t, m, deploy(v, "fresh"))
	}
	ds := m.State().Deployments
	if len(ds) != keptDeployments || ds[0].Version != 11 || ds[len(ds)-1].Version != 30 {
		t.Errorf("%d deployments from %d to %d", len(ds), ds[0].Version, ds[len(ds)-1].Version)
	}
}

func TestARetiredGroupEndsWithItsOwnersLease(t *testing.T) {
	m := running(t)
	do(t, m, deploy(2, "idle"), expire("a1", 3, place("g", "b", "b1")))
	if g := m.State().Groups["g"]; g != nil {
		t.Errorf("group outlives its deployment and its owner: %v", g)
	}
}

func TestAGroupThatComesBackIsNotOpenToItsFormerLife(t *testing.T) {
	m := running(t)
	do(t, m, deploy(2, "idle"), release("g", "a1", 1, nil), deploy(3, "idle", "g"))
	do(t, m, assign(place("g", "a", "a1"), m.State().Groups["g"].Epoch))
	if err := m.Apply(60, fates("g", "a1", 1, deliveredTo("k", "p", "q"))); !errors.Is(err, ErrFenced) {
		t.Errorf("a batch from before the removal: %v, want fenced", err)
	}
}

func TestFatesWayThroughTheLedger(t *testing.T) {
	type step struct {
		what any    // *pb.FateChange of the owner, or *pb.Command
		want string // state pending delivered
	}
	resume := orderOf(pb.OrderItems_RESUME, "n", "m", "")
	for name, steps := range map[string][]step{
		"to the end": {
			{intended("n", "m", "p", "q"), "INTENDED [p q] []"},
			{deliveredTo("n", "q"), "INTENDED [p] [q]"},
			{deliveredTo("n", "q"), "INTENDED [p] [q]"},
			{deliveredTo("n", "p"), "DELIVERED [] [q p]"},
			{intended("n", "m", "p", "q"), "DELIVERED [] [q p]"},
			{settledAt("n"), "SETTLED [] [q p]"},
			{settledAt("n"), "SETTLED [] [q p]"},
			{deliveredTo("n", "p"), "SETTLED [] [q p]"},
			{intended("n", "m", "p", "q"), "SETTLED [] [q p]"},
			{forgotten("n"), "none"},
			{intended("n", "other", "p"), "INTENDED [p] []"},
		},
		"suspended and resumed": {
			{intended("n", "m", "p", "q"), "INTENDED [p q] []"},
			{suspended("n", "full"), "SUSPENDED [p q] [] full"},
			{suspended("n", "fuller"), "SUSPENDED [p q] [] fuller"},
			{deliveredTo("n", "p"), "SUSPENDED [q] [p] fuller"},
			{intended("n", "m", "x"), "SUSPENDED [q] [p] fuller"},
			{orderOf(pb.OrderItems_RESUME, "n", "other", ""), "SUSPENDED [q] [p] fuller"},
			{resume, "INTENDED [q] [p]"},
			{resume, "INTENDED [q] [p]"},
			{deliveredTo("n", "q"), "DELIVERED [] [p q]"},
			{resume, "DELIVERED [] [p q]"},
		},
		"resumed elsewhere": {
			{intended("n", "m", "p", "q"), "INTENDED [p q] []"},
			{suspended("n", "full"), "SUSPENDED [p q] [] full"},
			{orderOf(pb.OrderItems_RESUME, "n", "m", "r"), "INTENDED [r] []"},
			{deliveredTo("n", "p"), "INTENDED [r] []"},
			{deliveredTo("n", "r"), "DELIVERED [] [r]"},
		},
		"resumed where it has arrived": {
			{intended("n", "m", "p", "q"), "INTENDED [p q] []"},
			{deliveredTo("n", "q"), "INTENDED [p] [q]"},
			{suspended("n", "full"), "SUSPENDED [p] [q] full"},
			{orderOf(pb.OrderItems_RESUME, "n", "m", "q"), "DELIVERED [] [q]"},
		},
		"discarded": {
			{intended("n", "m", "p", "q"), "INTENDED [p q] []"},
			{orderOf(pb.OrderItems_DISCARD, "n", "m", ""), "INTENDED [p q] []"},
			{suspended("n", "full"), "SUSPENDED [p q] [] full"},
			{orderOf(pb.OrderItems_DISCARD, "n", "m", ""), "DISCARDED [] []"},
			{intended("n", "m", "p"), "DISCARDED [] []"},
			{resume, "DISCARDED [] []"},
			{settledAt("n"), "SETTLED [] []"},
		},
		"to the backup": {
			{intended("n", "m", "p", "q"), "INTENDED [p q] []"},
			{redirected("n", "p", "r"), "INTENDED [r q] []"},
			{redirected("n", "p", "r"), "INTENDED [r q] []"},
			{deliveredTo("n", "q"), "INTENDED [r] [q]"},
			{redirected("n", "r", "q"), "DELIVERED [] [q]"},
		},
		"matched by no route": {
			{intended("n", "m"), "INTENDED [] []"},
			{suspended("n", "no route"), "SUSPENDED [] [] no route"},
			{resume, "INTENDED [] []"},
			{intended("n", "m", "p"), "INTENDED [p] []"},
			{intended("n", "m", "q"), "INTENDED [p] []"},
		},
		"delivered while suspended": {
			{intended("n", "m", "p"), "INTENDED [p] []"},
			{suspended("n", "full"), "SUSPENDED [p] [] full"},
			{deliveredTo("n", "p"), "SUSPENDED [] [p] full"},
			{resume, "DELIVERED [] [p]"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := running(t)
			for i, s := range steps {
				switch what := s.what.(type) {
				case *pb.FateChange:
					do(t, m, fates("g", "a1", 1, what))
				case *pb.Command:
					do(t, m, what)
				}
				got := "none"
				if f := m.State().Locations["in"].GetFates()["n"]; f != nil {
					got = strings.TrimSpace(fmt.Sprint(f.State, " ", f.Pending, " ", f.Delivered, " ", f.Reason))
				}
				if got != s.want {
					t.Fatalf("step %d: %s, want %s", i+1, got, s.want)
				}
			}
		})
	}
}

func TestABatchIsReadInOrder(t *testing.T) {
	m := running(t)
	do(t, m, fates("g", "a1", 1, intended("n", "m", "p"), deliveredTo("n", "p"), settledAt("n")))
	f := m.State().Locations["in"].Fates["n"]
	if f.State != pb.Fate_SETTLED || f.Epoch != 1 || f.IntendedAtMs != 77 {
		t.Errorf("got %v", f)
	}
	do(t, m, fates("g", "a1", 1, forgotten("n"), forgotten("k")))
	if len(m.State().Locations) != 0 {
		t.Errorf("a location without fates stays: %v", m.State().Locations)
	}
}

func TestSortedKeysAreSorted(t *testing.T) {
	if got := sortedKeys(map[string]int{"c": 1, "a": 2, "b": 3}); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Error(got)
	}
}
