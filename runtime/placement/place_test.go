package placement

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestPlaceSaysWhoAndWhy(t *testing.T) {
	a, b, c := node("a"), node("b"), node("c")
	for _, x := range []struct {
		name   string
		c      Cluster
		want   string // node, "" for none
		reason string
	}{
		{"nobody is there", cluster(nil, Group{Name: "g"}), "", "no node can own it: no node holds a lease"},
		{"only a witness", cluster(nodes(node("w").with(witness)), Group{Name: "g"}), "", "no node can own it: w: is a witness"},
		{"the only node", cluster(nodes(a), Group{Name: "g"}), "a", "the only node that can"},
		{"the only one beside a witness", cluster(nodes(node("w").with(witness), node("z")), Group{Name: "g"}), "z", "the only node that can"},
		{"equal nodes: the first by name", cluster(nodes(b, a), Group{Name: "g"}), "a", "fewest groups (0)"},
		{"the one with fewer groups", cluster(nodes(a, b, c), slices.Concat(owned("a", "o1", "o2"), owned("b", "o3"), owned("c", "o4", "o5"), []Group{{Name: "g"}})...), "b", "fewest groups (1)"},
		{"the preferred one, loaded or not", cluster(nodes(a, b), append(owned("b", "o"), Group{Name: "g", Preferred: []string{"b", "a"}})...), "b", "preferred owner"},
		{"the second preferred", cluster(nodes(a, b, c), Group{Name: "g", Preferred: []string{"x", "c"}}), "c", "preferred owner number 2, the ones before cannot"},
		{"preferred, yet not possible", cluster(nodes(a, b, c), Group{Name: "g", Possible: []string{"c", "a"}, Preferred: []string{"b"}}), "a", "fewest groups (0)"},
		{"adapters decide", cluster(nodes(node("a", "file"), node("b", "file", "ftp")), Group{Name: "g", Adapters: needs("file", "ftp")}), "b", "the only node that can"},
		{"every refusal is told, by name", cluster(nodes(node("c", "ftp"), node("w").with(witness), node("a", "file"), node("d", "ftp").with(draining)),
			Group{Name: "g", Possible: []string{"a", "w", "d"}, Adapters: needs("ftp")}),
			"", "no node can own it: a: adapter ftp is missing; c: is not a possible owner; d: is draining; w: is a witness"},
		{"draining and paused nodes take nothing", cluster(nodes(node("a").with(draining), node("b").with(paused)), Group{Name: "g"}),
			"", "no node can own it: a: is draining; b: is paused"},
		{"a flapping node takes nothing while another can", cluster(nodes(node("a").with(flapping), b), append(owned("b", "o"), Group{Name: "g", Preferred: []string{"a"}})...),
			"b", "the only node that can"},
		{"a flapping node rather than none", cluster(nodes(node("a").with(draining), node("c").with(flapping)), Group{Name: "g"}),
			"c", "the only node that can, although in quarantine: expired 4 times in an hour"},
		{"hard anti-affinity forbids", cluster(nodes(a), append(owned("a", "o"), Group{Name: "g", AntiAffinity: hard("o")})...),
			"", "no node can own it: a: has group o, which must not be on the same node"},
		{"hard anti-affinity, named by the other", cluster(nodes(a, b), Group{Name: "o", Owner: "a", AntiAffinity: hard("g")}, Group{Name: "g", Preferred: []string{"a"}}), "b", "the only node that can"},
		{"hard counts where it is named twice", cluster(nodes(a, b), Group{Name: "o", Owner: "a", AntiAffinity: soft("g")}, Group{Name: "g", AntiAffinity: hard("o")}, Group{Name: "p", Owner: "b"}), "b", "the only node that can"},
		{"hard anti-affinity to where a group is on its way", cluster(nodes(a, b, c), Group{Name: "o", Owner: "a", Moving: "b"}, Group{Name: "g", AntiAffinity: hard("o")}), "c", "the only node that can"},
		{"soft anti-affinity weighs before load", cluster(nodes(a, b), append(owned("b", "x", "y"), Group{Name: "o", Owner: "a"}, Group{Name: "g", AntiAffinity: soft("o")})...),
			"b", "fewest groups (2), a is passed over: group o, to be apart from, is there"},
		{"soft anti-affinity weighs before preference", cluster(nodes(a, b), Group{Name: "o", Owner: "a"}, Group{Name: "g", Preferred: []string{"a", "b"}, AntiAffinity: soft("o")}),
			"b", "preferred owner number 2, a is passed over: group o, to be apart from, is there"},
		{"soft anti-affinity is not forced", cluster(nodes(a), Group{Name: "o", Owner: "a"}, Group{Name: "g", AntiAffinity: soft("o")}), "a", "the only node that can"},
		{"the fewest to be apart from", cluster(nodes(a, b), append(append(owned("a", "o1", "o2"), owned("b", "o3")...), Group{Name: "g", AntiAffinity: []Affinity{{Group: "o1"}, {Group: "o2"}, {Group: "o3"}}})...),
			"b", "fewest groups (1)"},
		{"where it failed comes last", cluster(nodes(a, b), append(owned("b", "o"), Group{Name: "g", Preferred: []string{"a"}, Avoid: []Avoid{{"a", "ftp exited"}}})...),
			"b", "fewest groups (1), a is passed over: it failed there lately: ftp exited"},
		{"where it failed, if nothing else is left", cluster(nodes(a), Group{Name: "g", Avoid: []Avoid{{"a", "ftp exited"}}}), "a", "the only node that can, although it failed there lately: ftp exited"},
		{"failed everywhere", cluster(nodes(a, b), append(owned("a", "o"), Group{Name: "g", Avoid: []Avoid{{"a", ""}, {"b", ""}}})...), "b", "it failed lately on every node that can; here"},
		{"where a person moved it, before all preferences", cluster(nodes(a, b, c), append(owned("c", "o"), Group{Name: "g", Preferred: []string{"a"}, Pinned: "c", AntiAffinity: soft("o")})...), "c", "moved there by a person"},
		{"where a person moved it is gone", cluster(nodes(a, b), Group{Name: "g", Preferred: []string{"b"}, Pinned: "x"}), "b", "preferred owner"},
		{"stopped", cluster(nodes(a), Group{Name: "g", Stopped: "host g is stopped by order"}), "", "host g is stopped by order"},
		{"failed", cluster(nodes(a), Group{Name: "g", FailedUntil: noon.Add(time.Nanosecond)}), "", "has failed, and is tried again at 2026-07-05 12:00:00 UTC"},
		{"failed, and time to try again", cluster(nodes(a), Group{Name: "g", FailedUntil: noon}), "a", "the only node that can"},
	} {
		t.Run(x.name, func(t *testing.T) {
			ds := Place(x.c)
			if len(ds) != 1 {
				t.Fatalf("%d decisions: %v", len(ds), ds)
			}
			wantDecisions(t, ds, to("g", x.want, "", x.reason))
		})
	}
}

func TestAGroupThatIsBoundIsPlacedBeforeOneThatIsFree(t *testing.T) {
	ds := Place(cluster(nodes(node("a"), node("b")), Group{Name: "free", AntiAffinity: hard("only-a")}, Group{Name: "only-a", Possible: []string{"a"}}))
	wantDecisions(t, ds, to("free", "b", "", "the only node that can"), to("only-a", "a", "", "the only node that can"))
}

func TestALoadedNodeGetsNothingUntilTheOthersHaveAsMuch(t *testing.T) {
	ds := Place(cluster(nodes(node("a"), node("b")), append(owned("a", "o1", "o2"), Group{Name: "g1"}, Group{Name: "g2"}, Group{Name: "g3"})...))
	wantDecisions(t, ds, to("g1", "b", "", "fewest groups (0)"), to("g2", "b", "", "fewest groups (1)"), to("g3", "a", "", "fewest groups (2)"))
}

func TestARefusalByManyNodesStaysShort(t *testing.T) {
	c := cluster(nil, Group{Name: "g"})
	for i := range 200 {
		c.Nodes = append(c.Nodes, node(fmt.Sprintf("n%03d", i)).with(paused))
	}
	want := "no node can own it: n000: is paused; n001: is paused; n002: is paused; n003: is paused; n004: is paused; " +
		"n005: is paused; n006: is paused; n007: is paused; n008: is paused; n009: is paused; 190 more nodes"
	wantDecisions(t, Place(c), to("g", "", "", want))
}

func TestElsewhereIsNeverWhereTheGroupIs(t *testing.T) {
	a, b, c := node("a"), node("b"), node("c")
	for _, x := range []struct {
		name       string
		c          Cluster
		group, not string
		want       Decision
	}{
		{"no such group", cluster(nodes(a)), "g", "a", to("g", "", "", "no such group in the deployment")},
		{"the other", cluster(nodes(a, b), owned("a", "g")...), "g", "a", to("g", "b", "", "the only node that can")},
		{"not even if it is preferred", cluster(nodes(a, b), Group{Name: "g", Owner: "a", Preferred: []string{"a"}}), "g", "a", to("g", "b", "", "the only node that can")},
		{"not even if a person moved it there", cluster(nodes(a, b), Group{Name: "g", Owner: "a", Pinned: "a"}), "g", "a", to("g", "b", "", "the only node that can")},
		{"nowhere else", cluster(nodes(a, node("w").with(witness)), owned("a", "g")...), "g", "a", to("g", "", "", "no node can own it: a: has it now; w: is a witness")},
		{"the less loaded", cluster(nodes(a, b, c), append(owned("a", "g"), owned("b", "h")...)...), "g", "a", to("g", "c", "", "fewest groups (0)")},
		{"it does not count where it is", cluster(nodes(a, b, c), append(owned("a", "g"), owned("b", "h")...)...), "g", "c", to("g", "a", "", "fewest groups (0)")},
		{"apart from others", cluster(nodes(a, b, c), Group{Name: "g", Owner: "a", AntiAffinity: hard("h")}, Group{Name: "h", Owner: "b"}), "g", "a", to("g", "c", "", "the only node that can")},
		{"stopped", cluster(nodes(a, b), Group{Name: "g", Owner: "a", Stopped: "host g is stopped by order"}), "g", "a", to("g", "", "", "host g is stopped by order")},
	} {
		t.Run(x.name, func(t *testing.T) {
			wantDecisions(t, []Decision{Elsewhere(x.c, x.group, x.not)}, x.want)
		})
	}
}

func TestStandbysAreWhoWouldTakeOver(t *testing.T) {
	c := cluster(nodes(node("a"), node("b"), node("c")),
		Group{Name: "g", Owner: "a", Preferred: []string{"a", "c"}}, Group{Name: "free"}, Group{Name: "bound", Owner: "b", Possible: []string{"b"}}, Group{Name: "other", Owner: "a"})
	got := Standbys(c)
	if len(got) != 2 || got["g"].Node != "c" || got["other"].Node != "c" {
		t.Errorf("got %v, want c for g and for other", got)
	}
}

func TestRefusalNamesTheFirstObstacle(t *testing.T) {
	ftp := func(version, sum string) Node {
		return Node{Name: "a", Adapters: []Adapter{{"file", "1.0.0", ""}, {"ftp", version, sum}}}
	}
	wants := func(sums ...string) Group { return Group{Adapters: []Need{{Name: "ftp", SHA256: sums}}} }
	for _, c := range []struct {
		name string
		n    Node
		g    Group
		want string
	}{
		{"able", node("a", "file", "ftp"), Group{Possible: []string{"b", "a"}, Adapters: needs("ftp")}, ""},
		{"no demands", node("a"), Group{}, ""},
		{"witness", node("a").with(witness), Group{Possible: []string{"b"}}, "is a witness"},
		{"draining", node("a").with(draining), Group{}, "is draining"},
		{"paused", node("a").with(paused), Group{}, "is paused"},
		{"quarantined", node("a").with(flapping), Group{}, "is in quarantine: expired 4 times in an hour"},
		{"not possible", node("a"), Group{Possible: []string{"b"}, Adapters: needs("ftp")}, "is not a possible owner"},
		{"preferred is not possible", node("a"), Group{Possible: []string{"b"}, Preferred: []string{"a"}}, "is not a possible owner"},
		{"adapter, the first by name", node("a", "file"), Group{Adapters: needs("pop3", "imap", "file", "ftp")}, "adapter ftp is missing"},
		{"checksum", ftp("1.2.0", "ab12cd34ef"), wants("99ffaa00bb"), "adapter ftp 1.2.0 has checksum ab12cd34, the deployment wants 99ffaa00"},
		{"one of several checksums", ftp("1.2.0", "ab12cd34ef"), wants("99ffaa00bb", "AB12CD34EF"), ""},
		{"none of several checksums", ftp("", "ab12cd34ef"), wants("99ffaa00bb", "00ffaa00bb"), "adapter ftp has checksum ab12cd34, the deployment wants 00ffaa00 or 99ffaa00"},
		{"the same beginning is not the same", ftp("1.2.0", "99ffaa00"), wants("99ffaa00bb"), "adapter ftp 1.2.0 has checksum 99ffaa00, the deployment wants 99ffaa00"},
		{"no checksum known", ftp("1.2.0", ""), wants("99ffaa00bb"), "adapter ftp 1.2.0 has no checksum, the deployment wants 99ffaa00"},
		{"two versions of an adapter, one is right", Node{Name: "a", Adapters: []Adapter{{"ftp", "1.0.0", "11"}, {"ftp", "1.1.0", "22"}}}, wants("22"), ""},
	} {
		if got := Refusal(c.n, c.g); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestExplainSaysWhyOfEveryNode(t *testing.T) {
	c := cluster(nodes(node("a", "ftp"), node("b", "ftp").with(paused), node("c"), node("d", "ftp"), node("e", "ftp"), node("f", "ftp").with(func(n *Node) { n.Up = noon })),
		Group{Name: "g", Owner: "a", Preferred: []string{"a", "e"}, Adapters: needs("ftp"), AntiAffinity: []Affinity{{"h", true}, {"s", false}}, Avoid: []Avoid{{"e", "exit status 1"}}},
		Group{Name: "h", Owner: "d"}, Group{Name: "s", Owner: "e"}, Group{Name: "new", Possible: []string{"a", "e"}},
		Group{Name: "off", Owner: "b", Stopped: "host off is stopped by order"}, Group{Name: "lost", Owner: "x"}, Group{Name: "going", Owner: "a", Moving: "e"},
		Group{Name: "stuck", Owner: "c", Possible: []string{"b"}}, Group{Name: "wrong", Owner: "c", Possible: []string{"a"}})
	for group, want := range map[string][]string{
		"g": {"a: owns it, and keeps it: failback is never", "b: is paused", "c: adapter ftp is missing", "d: has group h, which must not be on the same node",
			"e: can own it: preferred owner number 2, has 2 groups, among them s, to be apart from, the group failed there lately: exit status 1",
			"f: can own it: has 0 groups, has not been up for long"},
		"new": {"a: is chosen: fewest groups (1)", "b: is paused", "c: is not a possible owner", "d: is not a possible owner", "e: can own it: has 2 groups", "f: is not a possible owner"},
		"off": {"nobody is to own it: host off is stopped by order", "a: can own it: has 1 group", "b: owns it, and is to release it", "c: can own it: has 2 groups",
			"d: can own it: has 1 group", "e: can own it: has 2 groups", "f: can own it: has 0 groups, has not been up for long"},
		"lost":  {"x: owns it, and is not heard of now", "a: can own it: has 1 group", "b: is paused", "c: can own it: has 2 groups", "d: can own it: has 1 group", "e: can own it: has 2 groups", "f: can own it: has 0 groups, has not been up for long"},
		"going": {"a: owns it, and has been asked to hand it over", "b: is paused", "c: can own it: has 2 groups", "d: can own it: has 1 group", "e: is about to take it over", "f: can own it: has 0 groups, has not been up for long"},
		"stuck": {"a: is not a possible owner", "b: is paused", "c: owns it, as no other node can take it: is not a possible owner", "d: is not a possible owner", "e: is not a possible owner", "f: is not a possible owner"},
		"wrong": {"a: is chosen: c: is not a possible owner; the only node that can", "b: is paused", "c: owns it, and is to hand it over to a: c: is not a possible owner; the only node that can",
			"d: is not a possible owner", "e: is not a possible owner", "f: is not a possible owner"},
		"none": {"no such group in the deployment"},
	} {
		if got := Explain(c, group); !slices.Equal(got, want) {
			t.Errorf("%s:\ngot  %q\nwant %q", group, got, want)
		}
	}
}
