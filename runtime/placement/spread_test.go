package placement

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func loadsOf(c Cluster) map[string]int {
	load := map[string]int{}
	for _, n := range c.Nodes {
		load[n.Name] = 0
	}
	for _, g := range c.Groups {
		load[g.Owner]++
	}
	return load
}

func TestEqualGroupsAreSpreadEvenlyWithTheFewestMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "nodes")
		c := Cluster{Now: noon}
		for _, name := range nodeNames[:n] {
			c.Nodes = append(c.Nodes, node(name))
		}
		owners := append([]string{""}, nodeNames[:n]...)
		for i := range rapid.IntRange(0, 40).Draw(t, "groups") {
			c.Groups = append(c.Groups, Group{Name: fmt.Sprintf("g%02d", i), Owner: rapid.SampledFrom(owners).Draw(t, "owner"), Failback: immediately})
		}
		c = apply(c, Place(c))
		loads := slices.Sorted(maps.Values(loadsOf(c)))
		slices.Reverse(loads)
		fewest := 0
		for i, load := range loads {
			share := len(c.Groups) / n
			if i < len(c.Groups)%n {
				share++
			}
			fewest += max(0, load-share)
		}
		ds := Moves(c)
		if len(ds) != fewest {
			t.Fatalf("%d moves, %d are enough, from %v:\n%s", len(ds), fewest, loads, written(ds))
		}
		loads = slices.Collect(maps.Values(loadsOf(apply(c, ds))))
		if slices.Max(loads)-slices.Min(loads) > 1 {
			t.Fatalf("uneven: %v", loads)
		}
	})
}

func TestTheGroupsOfADeadNodeAreSpreadEvenly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 5).Draw(t, "nodes")
		c := Cluster{Now: noon}
		for _, name := range nodeNames[:n] {
			c.Nodes = append(c.Nodes, node(name))
		}
		for i := range rapid.IntRange(0, 40).Draw(t, "groups") {
			c.Groups = append(c.Groups, Group{Name: fmt.Sprintf("g%02d", i)})
		}
		c = apply(c, Place(c))
		dead := c.Nodes[0].Name
		c.Nodes = c.Nodes[1:]
		for i := range c.Groups {
			if c.Groups[i].Owner == dead {
				c.Groups[i].Owner = ""
			}
		}
		kept := c
		c = apply(c, Place(c))
		for i, g := range kept.Groups {
			if g.Owner != "" && g.Owner != c.Groups[i].Owner {
				t.Fatalf("%s moved from %s to %s", g.Name, g.Owner, c.Groups[i].Owner)
			}
		}
		loads := slices.Collect(maps.Values(loadsOf(c)))
		if slices.Max(loads)-slices.Min(loads) > 1 {
			t.Fatalf("uneven: %v", loads)
		}
	})
}
