package ledger

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// Few names, so that commands meet.
var (
	someNodes        = rapid.SampledFrom([]string{"a", "b", "c"})
	someIncarnations = rapid.SampledFrom([]string{"a1", "a2", "b1", "b2", "c1", ""})
	someGroups       = rapid.SampledFrom([]string{"g", "h", "i"})
	someKeys         = rapid.SampledFrom([]string{"k", "l", "m"})
	somePorts        = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"p", "q", "r"}), 0, 3, rapid.ID[string])
)

// drawCommand draws a command that is likely to be accepted: numbers are mostly
// those of the state.
func drawCommand(t *rapid.T, s *pb.State) *pb.Command {
	c := &pb.Command{AtMs: rapid.Int64Range(0, 9).Draw(t, "at")}
	group := someGroups.Draw(t, "group")
	g := s.Groups[group]
	epoch, incarnation := g.GetEpoch(), g.GetIncarnation()
	if rapid.IntRange(0, 4).Draw(t, "wrong") == 0 {
		epoch = rapid.Uint64Range(0, 4).Draw(t, "epoch")
		incarnation = someIncarnations.Draw(t, "incarnation")
	}
	switch rapid.IntRange(0, 13).Draw(t, "kind") {
	case 12:
		c.Kind = drawItemOrder(t, s)
	case 13:
		c.Kind = &pb.Command_SetEndpoint{SetEndpoint: &pb.SetEndpoint{
			Name: rapid.SampledFrom([]string{"in", "out", ""}).Draw(t, "endpoint"), Receive: rapid.Bool().Draw(t, "receive"), Stopped: rapid.Bool().Draw(t, "stopped"),
		}}
	case 0:
		i := someIncarnations.Draw(t, "new")
		node := "x"
		if i != "" {
			node = i[:1]
		}
		c.Kind = register(node, i).Kind
	case 1:
		c.Kind = grant(rapid.SliceOfN(someIncarnations, 0, 3).Draw(t, "granted")...).Kind
	case 2:
		i := someIncarnations.Draw(t, "expired")
		granted := s.Sessions[i].GetGranted()
		if rapid.IntRange(0, 4).Draw(t, "old") == 0 {
			granted++
		}
		c.Kind = expire(i, granted, drawPlacement(t, "g"), drawPlacement(t, "h")).Kind
	case 3, 4:
		c.Kind = assign(drawPlacement(t, group), epoch).Kind
	case 5:
		c.Kind = move(group, someNodes.Draw(t, "to"), epoch).Kind
	case 6:
		var next *pb.Placement
		if rapid.Bool().Draw(t, "next") {
			next = drawPlacement(t, group)
		}
		c.Kind = release(group, incarnation, epoch, next).Kind
	case 7:
		c.Kind = leave(someIncarnations.Draw(t, "leaver")).Kind
	case 8:
		version := rapid.Uint64Range(0, 2).Draw(t, "skip")
		if n := len(s.Deployments); n > 0 {
			version += s.Deployments[n-1].Version
		}
		c.Kind = deploy(version, rapid.SliceOfNDistinct(someGroups, 0, 3, rapid.ID[string]).Draw(t, "groups")...).Kind
	default:
		c.Kind = fates(group, incarnation, epoch, rapid.SliceOfN(rapid.Custom(drawChange), 0, 4).Draw(t, "changes")...).Kind
	}
	return c
}

func drawPlacement(t *rapid.T, group string) *pb.Placement {
	i := someIncarnations.Draw(t, "placed")
	node := someNodes.Draw(t, "node")
	if i != "" && rapid.IntRange(0, 4).Draw(t, "mixed") > 0 {
		node = i[:1]
	}
	return place(group, node, i)
}

func drawItemOrder(t *rapid.T, s *pb.State) *pb.Command_OrderItems {
	o := &pb.OrderItems{
		Order: rapid.SampledFrom([]pb.OrderItems_Order{pb.OrderItems_RESUME, pb.OrderItems_DISCARD, pb.OrderItems_NONE}).Draw(t, "order"),
		Port:  rapid.SampledFrom([]string{"", "", "p", "s"}).Draw(t, "instead"),
	}
	for _, key := range rapid.SliceOfNDistinct(someKeys, 1, 3, rapid.ID[string]).Draw(t, "items") {
		id := s.Locations["in"].GetFates()[key].GetMessageId()
		o.Items = append(o.Items, &pb.ItemRef{Location: "in", Key: key, MessageId: id})
	}
	return &pb.Command_OrderItems{OrderItems: o}
}

func drawChange(t *rapid.T) *pb.FateChange {
	key := someKeys.Draw(t, "key")
	switch rapid.IntRange(0, 8).Draw(t, "change") {
	case 8:
		return redirected(key, rapid.SampledFrom([]string{"p", "q"}).Draw(t, "from"), rapid.SampledFrom([]string{"q", "s", ""}).Draw(t, "to"))
	case 0, 1:
		return intended(key, rapid.SampledFrom([]string{"m1", "m1", "m1", "m2", ""}).Draw(t, "id"), somePorts.Draw(t, "ports")...)
	case 2, 3:
		return deliveredTo(key, somePorts.Draw(t, "ports")...)
	case 4:
		return suspended(key, "full")
	case 5, 6:
		return settledAt(key)
	default:
		return forgotten(key)
	}
}

// drawMachine brings a machine near the interesting states, which random commands
// alone find slowly.
func drawMachine(t *rapid.T) (*Machine, uint64) {
	m := NewMachine()
	if !rapid.Bool().Draw(t, "prepared") {
		return m, 0
	}
	for i, c := range []*pb.Command{
		register("a", "a1"), register("b", "b1"), grant("a1", "b1"), deploy(1, "g", "h"),
		assign(place("g", "a", "a1"), 0), assign(place("h", "b", "b1"), 0),
		fates("g", "a1", 1, intended("k", "m1", "p")),
	} {
		if err := m.Apply(uint64(i+1), c); err != nil {
			t.Fatal(err)
		}
	}
	return m, m.State().Index
}

func TestMachineKeepsItsPromisesUnderRandomCommands(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, index := drawMachine(t)
		twin := restored(t, m)
		highest := map[string]uint64{} // epochs ever seen of a group that has gone
		for range rapid.IntRange(1, 40).Draw(t, "length") {
			index++
			c := drawCommand(t, m.State())
			before := proto.Clone(m.State()).(*pb.State)
			text := bytesOf(t, m)
			err := m.Apply(index, c)
			checkRefusal(t, m, c, err, text)
			checkEpochs(t, before, m.State(), highest)
			checkFates(t, before, m.State(), c)
			checkState(t, m)

			twinErr := twin.Apply(index, c)
			if fmt.Sprint(err) != fmt.Sprint(twinErr) {
				t.Fatalf("a restored machine answers %v, the other %v", twinErr, err)
			}
			if m.State().Index != index || bytesOf(t, m) != bytesOf(t, twin) {
				t.Fatalf("the machines differ after %v:\n%v\n%v", c, m.State(), twin.State())
			}
			twin = restored(t, twin)
		}
	})
}

// restored is the machine after a snapshot and its restoration.
func restored(t *rapid.T, m *Machine) *Machine {
	data, err := encodeSnapshot(m.State())
	if err != nil {
		t.Fatal(err)
	}
	next, err := decodeSnapshot(data)
	if err != nil {
		t.Fatal(err)
	}
	again, err := encodeSnapshot(next.State())
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != string(data) {
		t.Fatalf("snapshot of a restored machine differs:\n%v\n%v", m.State(), next.State())
	}
	return next
}

func checkRefusal(t *rapid.T, m *Machine, c *pb.Command, err error, before string) {
	if b := c.GetFates(); b != nil && err == nil {
		// Not written with the machine's own check: who may speak is the owner, now.
		g := m.State().Groups[b.Group]
		if g.GetOwner() == "" || g.Incarnation != b.Incarnation || g.Epoch != b.Epoch || m.State().Sessions[b.Incarnation].GetExpired() {
			t.Fatalf("fates were accepted from somebody else: %v, group %v", b, g)
		}
	}
	if err == nil {
		return
	}
	known := false
	for _, want := range []error{ErrFenced, ErrStale, ErrUnknown, ErrIllegal} {
		known = known || errors.Is(err, want)
	}
	if !known {
		t.Fatalf("refusal of no known kind: %v", err)
	}
	if bytesOf(t, m) != before {
		t.Fatalf("refused (%v), yet changed: %v", err, c)
	}
}

func checkEpochs(t *rapid.T, before, after *pb.State, highest map[string]uint64) {
	for name, g := range after.Groups {
		was := before.Groups[name]
		if was == nil {
			if old, ok := highest[name]; ok && g.Epoch <= old {
				t.Fatalf("group %s came back under epoch %d, it had %d", name, g.Epoch, old)
			}
			highest[name] = g.Epoch
			continue
		}
		switch changed := g.Owner != was.Owner || g.Incarnation != was.Incarnation; {
		case changed && g.Epoch != was.Epoch+1:
			t.Fatalf("owner of %s changed, epoch %d to %d", name, was.Epoch, g.Epoch)
		case !changed && g.Epoch != was.Epoch && (g.Epoch != was.Epoch+1 || g.Owner == ""):
			t.Fatalf("epoch of %s %d to %d without a change of owner", name, was.Epoch, g.Epoch)
		}
		highest[name] = max(highest[name], g.Epoch)
	}
	for name, was := range before.Groups {
		highest[name] = max(highest[name], was.Epoch+1) // a group may end by a release
	}
}

func checkFates(t *rapid.T, before, after *pb.State, c *pb.Command) {
	forgets := map[string]bool{}
	for _, change := range c.GetFates().GetChanges() {
		forgets[change.Key] = forgets[change.Key] || change.GetForget() != nil
	}
	rank := map[pb.Fate_State]int{pb.Fate_INTENDED: 1, pb.Fate_SUSPENDED: 1, pb.Fate_DELIVERED: 2, pb.Fate_DISCARDED: 2, pb.Fate_SETTLED: 3}
	for location, l := range before.Locations {
		for key, was := range l.Fates {
			now := after.Locations[location].GetFates()[key]
			if forgets[key] {
				continue
			}
			if now == nil {
				t.Fatalf("%s lost its fate without being forgotten", key)
			}
			if rank[now.State] < rank[was.State] {
				t.Fatalf("%s went back from %v to %v", key, was.State, now.State)
			}
			if now.MessageId != was.MessageId || len(now.Delivered) < len(was.Delivered) {
				t.Fatalf("%s: %v became %v", key, was, now)
			}
			checkOrders(t, key, was, now, c)
		}
	}
}

// checkOrders: only an order ends a suspension, and orders touch nothing else.
func checkOrders(t *rapid.T, key string, was, now *pb.Fate, c *pb.Command) {
	ordered := c.GetOrderItems() != nil
	switch {
	case !ordered && was.State == pb.Fate_SUSPENDED && now.State != pb.Fate_SUSPENDED:
		t.Fatalf("%s is not suspended any more, without an order: %v", key, c)
	case !ordered && was.State != pb.Fate_DISCARDED && now.State == pb.Fate_DISCARDED:
		t.Fatalf("%s is discarded without an order: %v", key, c)
	case ordered && was.State != pb.Fate_SUSPENDED && !proto.Equal(was, now):
		t.Fatalf("%s was not suspended, and an order changed %v to %v", key, was, now)
	}
}

func checkState(t *rapid.T, m *Machine) {
	s := m.State()
	for name, g := range s.Groups {
		if (g.Owner == "") != (g.Incarnation == "") {
			t.Fatalf("half an owner: %v", g)
		}
		if g.Owner == "" {
			if m.retired(name) {
				t.Fatalf("group %s is in no deployment and has no owner", name)
			}
			continue
		}
		if owner := m.live(g.Incarnation); owner == nil || owner.Node != g.Owner {
			t.Fatalf("owner of %s is not live: %v", name, g)
		}
	}
	for location, l := range s.Locations {
		if len(l.Fates) == 0 {
			t.Fatalf("location %s is empty", location)
		}
		for key, f := range l.Fates {
			over := f.State == pb.Fate_DELIVERED || f.State == pb.Fate_SETTLED || f.State == pb.Fate_DISCARDED
			if over && len(f.Pending) > 0 || f.State == pb.Fate_DELIVERED && len(f.Delivered) == 0 ||
				f.State == pb.Fate_INTENDED && len(f.Pending) == 0 && len(f.Delivered) > 0 {
				t.Fatalf("state and ports of %s do not go together: %v", key, f)
			}
		}
	}
}
