package placement

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	nodeNames  = []string{"a", "b", "c", "d", "e"}
	groupNames = []string{"g0", "g1", "g2", "g3", "g4", "g5", "g6", "g7", "g8", "g9"}
)

// wishes are the kinds of rules that a drawn cluster may have.
type wishes struct{ hard, soft, moving bool }

var allWishes = wishes{hard: true, soft: true, moving: true}

func often(t *rapid.T, one int, label string) bool { return rapid.IntRange(1, one).Draw(t, label) == 1 }

func some(t *rapid.T, of []string, most int, label string) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(of), 0, most, rapid.ID[string]).Draw(t, label)
}

func drawCluster(t *rapid.T, w wishes) Cluster {
	c := Cluster{Now: noon}
	for _, name := range some(t, nodeNames, 5, "nodes") {
		n := Node{
			Name: name, Incarnation: name + "1",
			Witness: often(t, 8, "witness"), Draining: often(t, 6, "draining"), Paused: often(t, 8, "paused"),
		}
		if often(t, 8, "flapping") {
			n.Quarantined = "expired often"
		}
		if often(t, 6, "new") {
			n.Up = noon.Add(-time.Second)
		}
		for _, a := range some(t, []string{"file", "ftp"}, 2, "adapters") {
			n.Adapters = append(n.Adapters, Adapter{Name: a, Version: "1", SHA256: rapid.SampledFrom([]string{"11", "22"}).Draw(t, "sum")})
		}
		c.Nodes = append(c.Nodes, n)
	}
	for _, name := range some(t, groupNames, 10, "groups") {
		c.Groups = append(c.Groups, drawGroup(t, name, w))
	}
	return c
}

func drawGroup(t *rapid.T, name string, w wishes) Group {
	g := Group{
		Name: name, Owner: rapid.SampledFrom([]string{"", "", "a", "b", "c", "c", "gone"}).Draw(t, "owner"),
		Preferred: some(t, nodeNames, 3, "preferred"),
		Failback:  Failback{Mode: rapid.SampledFrom([]string{"", "", FailbackImmediate, FailbackWindow}).Draw(t, "failback"), From: 10 * time.Hour, To: time.Duration(rapid.IntRange(9, 14).Draw(t, "to")) * time.Hour},
	}
	if often(t, 3, "bound") {
		g.Possible = some(t, nodeNames, 4, "possible")
	}
	for _, a := range some(t, []string{"file", "ftp"}, 1, "needs") {
		need := Need{Name: a}
		if often(t, 3, "pinned binary") {
			need.SHA256 = []string{"11"}
		}
		g.Adapters = append(g.Adapters, need)
	}
	for _, other := range some(t, groupNames, 3, "apart") {
		if isHard := often(t, 2, "hard"); isHard && w.hard || !isHard && w.soft {
			g.AntiAffinity = append(g.AntiAffinity, Affinity{other, isHard})
		}
	}
	if often(t, 5, "avoid") {
		g.Avoid = []Avoid{{Node: rapid.SampledFrom(nodeNames).Draw(t, "avoided")}}
	}
	if often(t, 6, "pinned") {
		g.Pinned = rapid.SampledFrom(nodeNames).Draw(t, "pin")
	}
	if often(t, 8, "stopped") {
		g.Stopped = "stopped"
	}
	if often(t, 8, "failed") {
		g.FailedUntil = noon.Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, "until")) * time.Minute)
	}
	if w.moving && g.Owner != "" && often(t, 8, "moving") {
		g.Moving = rapid.SampledFrom([]string{"a", "d", "*", "-"}).Draw(t, "to")
	}
	return g
}

func shuffled(t *rapid.T, c Cluster) Cluster {
	c.Nodes = rapid.Permutation(c.Nodes).Draw(t, "nodes")
	c.Groups = rapid.Permutation(c.Groups).Draw(t, "groups")
	for i := range c.Nodes {
		c.Nodes[i].Adapters = rapid.Permutation(c.Nodes[i].Adapters).Draw(t, "adapters")
	}
	for i := range c.Groups {
		g := &c.Groups[i]
		g.Possible = rapid.Permutation(g.Possible).Draw(t, "possible")
		g.Adapters = rapid.Permutation(g.Adapters).Draw(t, "needs")
		g.AntiAffinity = rapid.Permutation(g.AntiAffinity).Draw(t, "apart")
	}
	return c
}

func TestPlacementIsAFunctionOfTheFactsAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t, allWishes)
		other := shuffled(t, c)
		kept := slices.Clone(other.Groups)
		type answers struct {
			Place, Moves []Decision
			Explain      [][]string
			Elsewhere    []Decision
			Standbys     map[string]Decision
		}
		ask := func(c Cluster) (as answers) {
			as.Place, as.Moves, as.Standbys = Place(c), Moves(c), Standbys(c)
			for _, g := range groupNames {
				as.Explain = append(as.Explain, Explain(c, g))
				as.Elsewhere = append(as.Elsewhere, Elsewhere(c, g, "a"))
			}
			return as
		}
		if first, second := ask(c), ask(other); !reflect.DeepEqual(first, second) {
			t.Fatalf("another order, another answer:\n%+v\n%+v", first, second)
		}
		if !reflect.DeepEqual(kept, other.Groups) {
			t.Fatal("the caller's groups were changed")
		}
	})
}

// clashes are the pairs of groups that a hard anti-affinity keeps apart and that
// are on the same node.
func clashes(c Cluster) map[[2]string]bool {
	on := map[string]string{}
	for _, g := range c.Groups {
		on[g.Name] = g.Owner
	}
	pairs := map[[2]string]bool{}
	for _, g := range c.Groups {
		for _, a := range g.AntiAffinity {
			if a.Hard && a.Group != g.Name && on[g.Name] != "" && on[g.Name] == on[a.Group] {
				pairs[[2]string{min(g.Name, a.Group), max(g.Name, a.Group)}] = true
			}
		}
	}
	return pairs
}

func checkNoNewClash(t *rapid.T, before, after Cluster) {
	t.Helper()
	old := clashes(before)
	for pair := range clashes(after) {
		if !old[pair] {
			t.Fatalf("%v were brought together:\n%+v", pair, after.Groups)
		}
	}
}

func find[T any](all []T, is func(T) bool) (found T, ok bool) {
	if i := slices.IndexFunc(all, is); i >= 0 {
		return all[i], true
	}
	return found, false
}

func (c Cluster) nodeOf(name string) (Node, bool) {
	return find(c.Nodes, func(n Node) bool { return n.Name == name })
}

func (c Cluster) groupOf(name string) Group {
	g, _ := find(c.Groups, func(g Group) bool { return g.Name == name })
	return g
}

// checkDestination fails if the decided node cannot have the group.
func checkDestination(t *rapid.T, c Cluster, d Decision) {
	t.Helper()
	n, ok := c.nodeOf(d.Node)
	if strings.Contains(d.Reason, "although in quarantine") {
		n.Quarantined = "" // better than none
	}
	if !ok || n.Incarnation != d.Incarnation || Refusal(n, c.groupOf(d.Group)) != "" {
		t.Fatalf("%+v for %+v", d, c.groupOf(d.Group))
	}
}

func TestPlaceGivesEveryUnownedGroupOneNodeThatMayHaveIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t, allWishes)
		ds := Place(c)
		seen := map[string]bool{}
		after := apply(c, ds)
		checkNoNewClash(t, c, after)
		for _, d := range ds {
			g := c.groupOf(d.Group)
			if seen[d.Group] || g.Owner != "" || d.Reason == "" || d.Cause != "" {
				t.Fatalf("decision %+v of\n%+v", d, c.Groups)
			}
			seen[d.Group] = true
			idle := g.Stopped != "" || noon.Before(g.FailedUntil)
			if d.Node != "" {
				checkDestination(t, c, d)
				if idle {
					t.Fatalf("%+v is not to run, and got %+v", g, d)
				}
				continue
			}
			for _, n := range c.Nodes {
				try := apply(after, []Decision{{Group: g.Name, Node: n.Name}})
				atRest := !slices.ContainsFunc(c.Groups, func(g Group) bool { return g.Moving != "" })
				n.Quarantined = ""
				if !idle && Refusal(n, g) == "" && atRest && len(clashes(try)) == len(clashes(after)) {
					t.Fatalf("%s could have %+v, decided %+v", n.Name, g, d)
				}
			}
		}
		for _, g := range c.Groups {
			if g.Owner == "" && !seen[g.Name] {
				t.Fatalf("nothing was decided about %+v", g)
			}
		}
		for _, d := range Place(after) { // what is placed stays
			if d.Node != "" {
				t.Fatalf("placed again: %+v", d)
			}
		}
	})
}

func TestMovesKeepAllRulesInWhateverOrderTheyAreMade(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t, allWishes)
		ds := Moves(c)
		seen := map[string]bool{}
		for _, d := range ds {
			g := c.groupOf(d.Group)
			owner, listed := c.nodeOf(g.Owner)
			if seen[d.Group] || !listed || g.Moving != "" || d.Reason == "" || d.Node == g.Owner {
				t.Fatalf("decision %+v about %+v", d, g)
			}
			seen[d.Group] = true
			if (d.Node == "") != (g.Stopped != "") {
				t.Fatalf("released or moved: %+v about %+v", d, g)
			}
			if d.Node != "" {
				checkDestination(t, c, d)
			}
			switch d.Cause {
			case CauseDrain:
				if !owner.Draining {
					t.Fatalf("%+v: %+v is not draining", d, owner)
				}
			case CausePolicy:
				// A group on its way here may be what must not be here.
				coming := slices.ContainsFunc(c.Groups, func(o Group) bool { return o.Owner != "" && o.Moving == g.Owner })
				if g.Stopped == "" && unfit(owner, g) == "" && len(clashes(c)) == 0 && !coming {
					t.Fatalf("%+v: nothing is wrong with %+v", d, owner)
				}
			case CauseFailback, CauseBalance:
				to, _ := c.nodeOf(d.Node)
				if !g.Failback.Open(noon) || g.Pinned != "" || !to.Up.IsZero() || slices.ContainsFunc(g.Avoid, func(a Avoid) bool { return a.Node == d.Node }) {
					t.Fatalf("%+v about %+v", d, g)
				}
			default:
				t.Fatalf("cause of %+v", d)
			}
		}
		at := c
		for _, d := range rapid.Permutation(ds).Draw(t, "order") {
			next := apply(at, []Decision{d})
			checkNoNewClash(t, at, next)
			at = next
		}
	})
}

func TestMovesComeToAnEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t, wishes{hard: true, soft: true})
		for range 10 {
			c = apply(c, Place(c))
			ds := Moves(c)
			if len(ds) == 0 {
				return
			}
			c = apply(c, ds)
		}
		t.Fatalf("still moving: %v\n%+v", Moves(c), c)
	})
}

// Where no hard anti-affinity makes one group wait for another, once is enough,
// and what is under way is not decided again.
func TestAfterTheMovesNothingIsLeftToMove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t, wishes{soft: true})
		c = apply(c, Place(c))
		ds := Moves(c)
		partly := c
		partly.Groups = slices.Clone(c.Groups)
		for _, d := range ds {
			i := slices.IndexFunc(c.Groups, func(g Group) bool { return g.Name == d.Group })
			if rapid.Bool().Draw(t, "done") || d.Node == "" {
				partly = apply(partly, []Decision{d})
			} else {
				partly.Groups[i].Moving = d.Node
			}
		}
		for _, then := range []Cluster{apply(c, ds), partly} {
			if again := Moves(then); len(again) > 0 {
				t.Fatalf("moves:\n%safter them:\n%s%+v", written(ds), written(again), c)
			}
		}
	})
}

func TestWithoutFailbackOnlyWhatMustMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t, wishes{soft: true})
		for i := range c.Groups {
			c.Groups[i].Failback = Failback{}
		}
		for _, d := range Moves(c) {
			g := c.groupOf(d.Group)
			if owner, _ := c.nodeOf(g.Owner); !owner.Draining && unfit(owner, g) == "" && g.Stopped == "" {
				t.Fatalf("moved: %+v of %+v on %+v", d, g, owner)
			}
		}
	})
}
