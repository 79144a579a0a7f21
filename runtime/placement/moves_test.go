package placement

import (
	"fmt"
	"slices"
	"testing"
	"time"
	_ "time/tzdata" // the tests need Paris on any machine
)

func TestMovesSayWhoGoesWhereAndWhy(t *testing.T) {
	a, b, c := node("a"), node("b"), node("c")
	drainedA := a.with(draining)
	for _, x := range []struct {
		name string
		c    Cluster
		want []Decision
	}{
		{"well placed groups stay", cluster(nodes(a, b), append(owned("a", "g1", "g2", "g3", "g4"), Group{Name: "p", Owner: "a", Preferred: []string{"b"}})...), nil},
		{"a draining owner gives away what it has", cluster(nodes(drainedA, b, c), append(owned("a", "g1", "g2"), owned("b", "o")...)...), []Decision{
			to("g1", "c", CauseDrain, "a: is draining; fewest groups (0)"), to("g2", "b", CauseDrain, "a: is draining; fewest groups (1)")}},
		{"a draining owner gives away what a person moved there", cluster(nodes(drainedA, b), Group{Name: "g", Owner: "a", Pinned: "a"}), []Decision{
			to("g", "b", CauseDrain, "a: is draining; the only node that can")}},
		{"a draining owner with nobody to take it keeps it", cluster(nodes(drainedA, b.with(paused)), owned("a", "g")...), nil},
		{"a paused or flapping owner keeps what it has", cluster(nodes(a.with(paused), b.with(flapping), c), append(owned("a", "g"), owned("b", "h")...)...), nil},
		{"an owner that is not possible any more", cluster(nodes(a, b), Group{Name: "g", Owner: "a", Possible: []string{"b"}}), []Decision{
			to("g", "b", CausePolicy, "a: is not a possible owner; the only node that can")}},
		{"an owner that has become a witness", cluster(nodes(a.with(witness), b), owned("a", "g")...), []Decision{
			to("g", "b", CausePolicy, "a: is a witness; the only node that can")}},
		{"an owner without the adapter, although paused", cluster(nodes(a.with(paused), node("b", "ftp")), Group{Name: "g", Owner: "a", Adapters: needs("ftp")}), []Decision{
			to("g", "b", CausePolicy, "a: adapter ftp is missing; the only node that can")}},
		{"an owner with another binary", cluster(nodes(node("a", "ftp"), Node{Name: "b", Incarnation: "b1", Adapters: []Adapter{{"ftp", "2.0.0", "22"}}}), Group{Name: "g", Owner: "a", Adapters: []Need{{"ftp", []string{"22"}}}}), []Decision{
			to("g", "b", CausePolicy, "a: adapter ftp 1.2.0 has checksum ftp00000, the deployment wants 22; the only node that can")}},
		{"an owner that is not heard of is left alone", cluster(nodes(b), Group{Name: "g", Owner: "a", Possible: []string{"b"}}), nil},
		{"what is moving already is not moved again", cluster(nodes(drainedA, b, c), Group{Name: "g", Owner: "a", Moving: "b"}, Group{Name: "h", Owner: "a", Moving: "*"}), nil},
		{"hard anti-affinity: the later by name moves", cluster(nodes(a, b), Group{Name: "g1", Owner: "a", AntiAffinity: hard("g2")}, Group{Name: "g2", Owner: "a"}), []Decision{
			to("g2", "b", CausePolicy, "a: has group g1, which must not be on the same node; the only node that can")}},
		{"hard anti-affinity: the later cannot", cluster(nodes(a, b), Group{Name: "g1", Owner: "a"}, Group{Name: "g2", Owner: "a", AntiAffinity: hard("g1"), Possible: []string{"a"}}), []Decision{
			to("g1", "b", CausePolicy, "a: has group g2, which must not be on the same node; the only node that can")}},
		{"hard anti-affinity: a person moved the later there", cluster(nodes(a, b), Group{Name: "g1", Owner: "a"}, Group{Name: "g2", Owner: "a", AntiAffinity: hard("g1"), Pinned: "a"}), []Decision{
			to("g1", "b", CausePolicy, "a: has group g2, which must not be on the same node; the only node that can")}},
		{"hard anti-affinity: neither can", cluster(nodes(a), Group{Name: "g1", Owner: "a", AntiAffinity: hard("g2")}, Group{Name: "g2", Owner: "a"}), nil},
		{"hard anti-affinity of three on three nodes", cluster(nodes(a, b, c), Group{Name: "g1", Owner: "a", AntiAffinity: []Affinity{{"g2", true}, {"g3", true}}}, Group{Name: "g2", Owner: "a", AntiAffinity: hard("g3")}, Group{Name: "g3", Owner: "a"}), []Decision{
			to("g2", "c", CausePolicy, "a: has group g1, which must not be on the same node; the only node that can"),
			to("g3", "b", CausePolicy, "a: has group g1, which must not be on the same node; fewest groups (0)")}},
		{"hard anti-affinity to where the other still is", cluster(nodes(drainedA, b), Group{Name: "g", Owner: "a", AntiAffinity: hard("h")}, Group{Name: "h", Owner: "b", Possible: []string{"a", "b"}}), nil},
		{"soft anti-affinity moves nothing without failback", cluster(nodes(a, b), Group{Name: "g1", Owner: "a", AntiAffinity: soft("g2")}, Group{Name: "g2", Owner: "a"}), nil},
		{"failback immediate", cluster(nodes(a, b), Group{Name: "g", Owner: "a", Preferred: []string{"b", "a"}, Failback: immediately}), []Decision{
			to("g", "b", CauseFailback, "failback is immediate; preferred owner")}},
		{"failback to a better one, though not the best", cluster(nodes(a, b, c), Group{Name: "g", Owner: "a", Preferred: []string{"x", "c"}, Failback: immediately}), []Decision{
			to("g", "c", CauseFailback, "failback is immediate; preferred owner number 2, the ones before cannot")}},
		{"failback in the window", cluster(nodes(a, b), Group{Name: "g", Owner: "a", Preferred: []string{"b"}, Failback: Failback{Mode: FailbackWindow, From: 12 * time.Hour, To: 13 * time.Hour}}), []Decision{
			to("g", "b", CauseFailback, "the failback window 12:00-13:00 UTC is open; preferred owner")}},
		{"failback outside of the window", cluster(nodes(a, b), Group{Name: "g", Owner: "a", Preferred: []string{"b"}, Failback: Failback{Mode: FailbackWindow, From: 13 * time.Hour, To: 12 * time.Hour}}), nil},
		{"failback never", cluster(nodes(a, b), Group{Name: "g", Owner: "a", Preferred: []string{"b"}, Failback: Failback{Mode: FailbackNever}}), nil},
		{"no failback of what a person moved", cluster(nodes(a, b), Group{Name: "g", Owner: "a", Preferred: []string{"b"}, Pinned: "a", Failback: immediately}), nil},
		{"no failback by itself to where a person moved it", cluster(nodes(a, b), Group{Name: "g", Owner: "a", Pinned: "b", Failback: immediately}), nil},
		{"no failback to where it failed", cluster(nodes(a, b), Group{Name: "g", Owner: "a", Preferred: []string{"b"}, Failback: immediately, Avoid: []Avoid{{"b", ""}}}), nil},
		{"a group that runs again where it failed stays", cluster(nodes(a, b), Group{Name: "g", Owner: "a", Preferred: []string{"a"}, Failback: immediately, Avoid: []Avoid{{"a", ""}}}), nil},
		{"no failback to a node that has just come up", cluster(nodes(a, b.with(func(n *Node) { n.Up = noon.Add(time.Second - Settled) })), Group{Name: "g", Owner: "a", Preferred: []string{"b"}, Failback: immediately}), nil},
		{"failback to a node that has settled", cluster(nodes(a, b.with(func(n *Node) { n.Up = noon.Add(-Settled) })), Group{Name: "g", Owner: "a", Preferred: []string{"b"}, Failback: immediately}), []Decision{
			to("g", "b", CauseFailback, "failback is immediate; preferred owner")}},
		{"a drain does not wait for a node to settle", cluster(nodes(drainedA, b.with(func(n *Node) { n.Up = noon })), owned("a", "g")...), []Decision{
			to("g", "b", CauseDrain, "a: is draining; the only node that can")}},
		{"no failback to a node that takes nothing", cluster(nodes(a, b.with(flapping)), Group{Name: "g", Owner: "a", Preferred: []string{"b"}, Failback: immediately}), nil},
		{"no failback beside a group to be apart from", cluster(nodes(a, b), Group{Name: "g", Owner: "a", Preferred: []string{"b"}, Failback: immediately, AntiAffinity: soft("h")}, Group{Name: "h", Owner: "b"}), nil},
		{"load is balanced with failback only", cluster(nodes(a, b), append(owned("a", "g1", "g2", "g3"), Group{Name: "m1", Owner: "a", Failback: immediately}, Group{Name: "m2", Owner: "a", Failback: immediately}, Group{Name: "m3", Owner: "a", Failback: immediately})...), []Decision{
			to("m1", "b", CauseBalance, "a: has 6 groups; the only node that can"), to("m2", "b", CauseBalance, "a: has 5 groups; the only node that can"), to("m3", "b", CauseBalance, "a: has 4 groups; the only node that can")}},
		{"a difference of one is no reason to move", cluster(nodes(a, b), Group{Name: "g", Owner: "a", Failback: immediately}), nil},
		{"apart when there is a choice again", cluster(nodes(a, b, c), Group{Name: "g1", Owner: "a", Failback: immediately, AntiAffinity: soft("g2")}, Group{Name: "g2", Owner: "a"}), []Decision{
			to("g1", "b", CauseBalance, "a: has group g2, to be apart from; fewest groups (0)")}},
		{"preference before load", cluster(nodes(a, b), Group{Name: "g1", Owner: "a", Preferred: []string{"a"}, Failback: immediately}, Group{Name: "g2", Owner: "a", Preferred: []string{"a"}, Failback: immediately}), nil},
		{"what has no owner is placed first and counts", cluster(nodes(a, b), Group{Name: "g1", Owner: "a", Failback: immediately}, Group{Name: "g2", Owner: "a", Failback: immediately}, Group{Name: "new"}), nil},
		{"a stopped group is released", cluster(nodes(a, b), Group{Name: "g", Owner: "a", Stopped: "host g is stopped by order", Pinned: "a"}), []Decision{
			to("g", "", CausePolicy, "host g is stopped by order")}},
		{"a stopped group without owner stays so", cluster(nodes(a, b), Group{Name: "g", Stopped: "host g is stopped by order"}), nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			wantDecisions(t, Moves(x.c), x.want...)
		})
	}
}

func TestGroupsThatMustSwapNodesAreNeverTogether(t *testing.T) {
	c := cluster(nodes(node("a"), node("b"), node("c")),
		Group{Name: "g", Owner: "a", Possible: []string{"b"}, AntiAffinity: hard("h")}, Group{Name: "h", Owner: "b", Possible: []string{"b", "c"}})
	// g can only go where h is; h must not be pushed out for it, so g stays.
	wantDecisions(t, Moves(c))
	c.Groups[1].Possible = []string{"c"}
	first := Moves(c)
	wantDecisions(t, first, to("h", "c", CausePolicy, "b: is not a possible owner; the only node that can"))
	wantDecisions(t, Moves(apply(c, first)), to("g", "b", CausePolicy, "a: is not a possible owner; the only node that can"))
}

func TestAMoveIsTheSameWhenOthersOfItsKindAreDone(t *testing.T) {
	var groups []Group
	for i := range 10 {
		groups = append(groups, Group{Name: fmt.Sprintf("g%d", i), Owner: "a", Failback: immediately})
	}
	c := cluster(nodes(node("a"), node("b")), groups...)
	ds := Moves(c)
	if len(ds) != 5 {
		t.Fatalf("got %d moves, want 5:\n%s", len(ds), written(ds))
	}
	for i := range ds {
		rest := Moves(apply(c, ds[i:i+1]))
		want := slices.Concat(ds[:i], ds[i+1:])
		if !slices.EqualFunc(rest, want, func(a, b Decision) bool { return a.Group == b.Group && a.Node == b.Node }) {
			t.Errorf("after %s:\n%s\nwant the others of\n%s", ds[i].Group, written(rest), written(ds))
		}
	}
}

func TestTheFailbackWindowFollowsTheClockOnTheWall(t *testing.T) {
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	at := func(text string) time.Time {
		when, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	night := Failback{Mode: FailbackWindow, From: 22 * time.Hour, To: 4 * time.Hour, Location: paris}
	hour := Failback{Mode: FailbackWindow, From: 2 * time.Hour, To: 3 * time.Hour, Location: paris}
	for _, c := range []struct {
		name string
		f    Failback
		now  string
		want bool
	}{
		{"never", Failback{}, "2026-07-05T12:00:00Z", false},
		{"immediate", immediately, "2026-07-05T12:00:00Z", true},
		{"summer, before it opens", night, "2026-07-05T19:59:59Z", false},
		{"summer, as it opens", night, "2026-07-05T20:00:00Z", true},
		{"midnight", night, "2026-07-05T22:00:00Z", true},
		{"summer, to the last moment", night, "2026-07-06T01:59:59.999999999Z", true},
		{"summer, as it closes", night, "2026-07-06T02:00:00Z", false},
		{"winter, an hour later by UTC", night, "2026-01-05T20:00:00Z", false},
		{"winter, as it opens", night, "2026-01-05T21:00:00Z", true},
		{"winter, as it closes", night, "2026-01-06T03:00:00Z", false},
		// 29 March 2026: 02:00 is 03:00.
		{"spring, before the change", night, "2026-03-29T00:59:59Z", true},
		{"spring, after the change", night, "2026-03-29T01:00:00Z", true},
		{"spring, closes an hour earlier by UTC", night, "2026-03-29T02:00:00Z", false},
		{"spring, just before the hour that is left out", hour, "2026-03-29T00:59:59Z", false},
		{"spring, the hour that is left out", hour, "2026-03-29T01:00:00Z", false},
		{"the day before, that hour is there", hour, "2026-03-28T01:30:00Z", true},
		// 25 October 2026: 03:00 is 02:00.
		{"autumn, the hour for the first time", hour, "2026-10-25T00:30:00Z", true},
		{"autumn, the hour for the second time", hour, "2026-10-25T01:30:00Z", true},
		{"autumn, after it", hour, "2026-10-25T02:00:00Z", false},
		{"autumn, the night is an hour longer", night, "2026-10-25T02:59:59Z", true},
		{"autumn, as it closes", night, "2026-10-25T03:00:00Z", false},
		{"whole day, the first moment", Failback{Mode: FailbackWindow, To: 24 * time.Hour}, "2026-07-05T00:00:00Z", true},
		{"whole day, the last moment", Failback{Mode: FailbackWindow, To: 24 * time.Hour}, "2026-07-05T23:59:59Z", true},
		{"ends when it begins", Failback{Mode: FailbackWindow, From: time.Hour, To: time.Hour}, "2026-07-05T01:00:00Z", false},
		{"half an hour from UTC", Failback{Mode: FailbackWindow, From: 12 * time.Hour, To: 13 * time.Hour, Location: time.FixedZone("IST", 5*3600+1800)}, "2026-07-05T06:30:00Z", true},
	} {
		if got := c.f.Open(at(c.now)); got != c.want {
			t.Errorf("%s: at %s (%s): got %t, want %t", c.name, c.now, at(c.now).In(paris).Format("15:04"), got, c.want)
		}
	}
}
