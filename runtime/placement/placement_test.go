package placement

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func node(name string, adapters ...string) Node {
	return Node{Name: name, Incarnation: name + "1", Adapters: adapters}
}

func witness(name string) Node { return Node{Name: name, Incarnation: name + "1", Witness: true} }

func TestPlaceSaysWhoAndWhy(t *testing.T) {
	for _, c := range []struct {
		name   string
		c      Cluster
		want   string // node, "" for none
		reason string
	}{
		{"nobody is there", Cluster{Groups: []Group{{Name: "g"}}}, "", "no node can own it: no node holds a lease"},
		{"only a witness", Cluster{[]Node{witness("w")}, []Group{{Name: "g"}}}, "", "no node can own it: w: is a witness"},
		{"the only node", Cluster{[]Node{node("a")}, []Group{{Name: "g"}}}, "a", "the only node that can"},
		{"the only one beside a witness", Cluster{[]Node{witness("w"), node("z")}, []Group{{Name: "g"}}}, "z", "the only node that can"},
		{"equal nodes: the first by name", Cluster{[]Node{node("b"), node("a")}, []Group{{Name: "g"}}}, "a", "fewest groups (0)"},
		{"the one with fewer groups", Cluster{[]Node{node("a"), node("b"), node("c")}, []Group{
			{Name: "o1", Owner: "a"}, {Name: "o2", Owner: "a"}, {Name: "o3", Owner: "b"}, {Name: "o4", Owner: "c"}, {Name: "o5", Owner: "c"}, {Name: "g"}}},
			"b", "fewest groups (1)"},
		{"the preferred one, loaded or not", Cluster{[]Node{node("a"), node("b")}, []Group{
			{Name: "o", Owner: "b"}, {Name: "g", Preferred: []string{"b", "a"}}}}, "b", "preferred owner"},
		{"the second preferred", Cluster{[]Node{node("a"), node("b"), node("c")}, []Group{
			{Name: "g", Preferred: []string{"x", "c"}}}}, "c", "preferred owner number 2, the ones before cannot"},
		{"preferred, yet not possible", Cluster{[]Node{node("a"), node("b"), node("c")}, []Group{
			{Name: "g", Possible: []string{"a", "c"}, Preferred: []string{"b"}}}}, "a", "fewest groups (0)"},
		{"adapters decide", Cluster{[]Node{node("a", "file"), node("b", "file", "ftp")}, []Group{
			{Name: "g", Adapters: []string{"file", "ftp"}}}}, "b", "the only node that can"},
		{"every refusal is told, by name", Cluster{[]Node{node("c", "ftp"), witness("w"), node("a", "file")}, []Group{
			{Name: "g", Possible: []string{"a", "w"}, Adapters: []string{"ftp"}}}},
			"", "no node can own it: a: adapter ftp is missing; c: is not a possible owner; w: is a witness"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ds := Place(c.c)
			if len(ds) != 1 {
				t.Fatalf("%d decisions: %v", len(ds), ds)
			}
			d := ds[0]
			if d.Group != "g" || d.Node != c.want || d.Reason != c.reason {
				t.Errorf("got %+v, want %q because %q", d, c.want, c.reason)
			}
			if want := strings.TrimPrefix(c.want+"1", "1"); c.want != "" && d.Incarnation != want || c.want == "" && d.Incarnation != "" {
				t.Errorf("incarnation %q", d.Incarnation)
			}
		})
	}
}

func TestElsewhereIsNeverWhereTheGroupIs(t *testing.T) {
	for _, c := range []struct {
		name       string
		c          Cluster
		group, not string
		want       Decision
	}{
		{"no such group", Cluster{Nodes: []Node{node("a")}}, "g", "a", Decision{Group: "g", Reason: "no such group in the deployment"}},
		{"the other", Cluster{[]Node{node("a"), node("b")}, []Group{{Name: "g", Owner: "a"}}}, "g", "a", Decision{"g", "b", "b1", "the only node that can"}},
		{"not even if it is preferred", Cluster{[]Node{node("a"), node("b")}, []Group{{Name: "g", Owner: "a", Preferred: []string{"a"}}}}, "g", "a",
			Decision{"g", "b", "b1", "the only node that can"}},
		{"nowhere else", Cluster{[]Node{node("a"), witness("w")}, []Group{{Name: "g", Owner: "a"}}}, "g", "a",
			Decision{Group: "g", Reason: "no node can own it: a: has it now; w: is a witness"}},
		{"the less loaded", Cluster{[]Node{node("a"), node("b"), node("c")}, []Group{{Name: "g", Owner: "a"}, {Name: "h", Owner: "b"}}}, "g", "a",
			Decision{"g", "c", "c1", "fewest groups (0)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Elsewhere(c.c, c.group, c.not); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestRefusalNamesTheFirstObstacle(t *testing.T) {
	for _, c := range []struct {
		name string
		n    Node
		g    Group
		want string
	}{
		{"able", node("a", "file", "ftp"), Group{Possible: []string{"b", "a"}, Adapters: []string{"ftp"}}, ""},
		{"no demands", node("a"), Group{}, ""},
		{"witness", Node{Name: "a", Witness: true}, Group{Possible: []string{"b"}}, "is a witness"},
		{"not possible", node("a"), Group{Possible: []string{"b"}, Adapters: []string{"ftp"}}, "is not a possible owner"},
		{"preferred is not possible", node("a"), Group{Possible: []string{"b"}, Preferred: []string{"a"}}, "is not a possible owner"},
		{"adapter", node("a", "file"), Group{Adapters: []string{"file", "ftp", "imap"}}, "adapter ftp is missing"},
	} {
		if got := Refusal(c.n, c.g); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func drawCluster(t *rapid.T) Cluster {
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}), 0, 5, rapid.ID[string])
	adapters := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"file", "ftp"}), 0, 2, rapid.ID[string])
	var c Cluster
	for _, name := range names.Draw(t, "nodes") {
		n := node(name, adapters.Draw(t, "offered")...)
		n.Witness = rapid.IntRange(0, 5).Draw(t, "witness") == 0
		c.Nodes = append(c.Nodes, n)
	}
	for _, name := range rapid.SliceOfNDistinct(rapid.StringMatching("[g-k][0-9]"), 0, 12, rapid.ID[string]).Draw(t, "groups") {
		c.Groups = append(c.Groups, Group{
			Name: name, Owner: rapid.SampledFrom([]string{"", "", "a", "b", "gone"}).Draw(t, "owner"),
			Possible: names.Draw(t, "possible"), Preferred: names.Draw(t, "preferred"), Adapters: adapters.Draw(t, "needed"),
		})
	}
	return c
}

func TestPlacementIsAFunctionOfTheFactsAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		ds := Place(c)
		shuffled := Cluster{rapid.Permutation(c.Nodes).Draw(t, "nodes"), rapid.Permutation(c.Groups).Draw(t, "groups")}
		groups := slices.Clone(shuffled.Groups)
		if again := Place(shuffled); !reflect.DeepEqual(ds, again) {
			t.Fatalf("another order, another answer:\n%v\n%v", ds, again)
		}
		if !reflect.DeepEqual(groups, shuffled.Groups) {
			t.Fatal("the caller's groups were changed")
		}
	})
}

func TestPlacementTouchesOnlyUnownedGroupsAndOnlyAbleNodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		decided := map[string]Decision{}
		for _, d := range Place(c) {
			decided[d.Group] = d
		}
		for i, g := range c.Groups {
			d, ok := decided[g.Name]
			if ok == (g.Owner != "") {
				t.Fatalf("group %+v: decided %t", g, ok)
			}
			if !ok {
				continue
			}
			if d.Reason == "" {
				t.Fatalf("no reason: %+v", d)
			}
			able := slices.ContainsFunc(c.Nodes, func(n Node) bool { return Refusal(n, g) == "" })
			if able != (d.Node != "") {
				t.Fatalf("somebody can: %t, decision %+v", able, d)
			}
			for _, n := range c.Nodes {
				if n.Name == d.Node && (Refusal(n, g) != "" || n.Incarnation != d.Incarnation) {
					t.Fatalf("%+v for %+v", d, g)
				}
			}
			c.Groups[i].Owner = d.Node
		}
		for _, d := range Place(c) { // what is placed stays
			if d.Node != "" {
				t.Fatalf("placed again: %+v", d)
			}
		}
		for _, g := range c.Groups {
			if d := Elsewhere(c, g.Name, g.Owner); d.Node == g.Owner && g.Owner != "" {
				t.Fatalf("elsewhere is the same place: %+v", d)
			}
		}
	})
}

func TestGroupsWithoutWishesAreSpreadEvenly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "nodes")
		var c Cluster
		load := map[string]int{}
		for _, name := range []string{"a", "b", "c", "d", "e"}[:n] {
			c.Nodes = append(c.Nodes, node(name))
			load[name] = 0
		}
		for _, name := range rapid.SliceOfNDistinct(rapid.StringMatching("[g-z][0-9]"), 0, 30, rapid.ID[string]).Draw(t, "groups") {
			c.Groups = append(c.Groups, Group{Name: name})
		}
		for _, d := range Place(c) {
			load[d.Node]++
		}
		loads := slices.Collect(maps.Values(load))
		if len(load) != n || slices.Max(loads)-slices.Min(loads) > 1 {
			t.Fatalf("uneven: %v", load)
		}
	})
}

func TestALoadedNodeGetsNothingUntilTheOthersHaveAsMuch(t *testing.T) {
	c := Cluster{Nodes: []Node{node("a"), node("b")}, Groups: []Group{
		{Name: "o1", Owner: "a"}, {Name: "o2", Owner: "a"}, {Name: "g1"}, {Name: "g2"}, {Name: "g3"},
	}}
	var got []string
	for _, d := range Place(c) {
		got = append(got, d.Group+" "+d.Node)
	}
	if want := []string{"g1 b", "g2 b", "g3 a"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
