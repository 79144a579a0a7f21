package placement

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// large is a cluster of 10,000 groups on 200 nodes with all kinds of wishes: the
// aim is an answer in less than 100 ms.
func large() Cluster {
	const nodes, groups = 200, 10_000
	r := rand.New(rand.NewPCG(1, 2))
	c := Cluster{Now: noon}
	for i := range nodes {
		n := node(fmt.Sprintf("node-%03d", i), "file", "ftp")
		if i%10 == 0 {
			n.Adapters = n.Adapters[:1]
		}
		c.Nodes = append(c.Nodes, n)
	}
	name := func() string { return c.Nodes[r.IntN(nodes)].Name }
	for i := range groups {
		g := Group{Name: fmt.Sprintf("group-%05d", r.IntN(1000)*groups+i), Adapters: needs("file")}
		if i%3 == 0 {
			g.Adapters = []Need{{Name: "file"}, {Name: "ftp", SHA256: []string{"ftp00000000"}}}
		}
		if i%4 == 0 {
			g.Preferred = []string{name(), name(), name()}
		}
		if i%5 == 0 {
			for range 20 {
				g.Possible = append(g.Possible, name())
			}
		}
		if i%2 == 0 {
			g.Failback = immediately
		}
		if i > 0 && i%7 == 0 {
			g.AntiAffinity = []Affinity{{Group: c.Groups[i-1].Name, Hard: i%14 == 0}, {Group: c.Groups[r.IntN(i)].Name}}
		}
		c.Groups = append(c.Groups, g)
	}
	return c
}

func BenchmarkPlaceTenThousandGroupsOnTwoHundredNodes(b *testing.B) {
	c := large()
	for b.Loop() {
		Place(c)
	}
}

func BenchmarkPlaceEqualGroupsFromScratch(b *testing.B) {
	c := large()
	for i := range c.Groups {
		c.Groups[i] = Group{Name: c.Groups[i].Name}
	}
	for b.Loop() {
		Place(c)
	}
}

func BenchmarkPlaceWhereNobodyCan(b *testing.B) {
	c := large()
	for i := range c.Groups {
		c.Groups[i].Possible = []string{"none"}
	}
	for b.Loop() {
		Place(c)
	}
}

// The node that dies owns a thousand groups.
func BenchmarkDeathOfANodeWithAThousandGroups(b *testing.B) {
	c := large()
	c = apply10k(c, Place(c))
	dead, n := c.Nodes[0].Name, 0
	for i := range c.Groups {
		if g := &c.Groups[i]; g.Owner == dead || n < 1000 {
			g.Owner = ""
			n++
		}
	}
	c.Nodes = c.Nodes[1:]
	for b.Loop() {
		Place(c)
	}
}

func BenchmarkMovesOfTenThousandGroupsThatAreWellPlaced(b *testing.B) {
	c := large()
	for range 3 {
		c = apply10k(c, Place(c))
		c = apply10k(c, Moves(c))
	}
	for b.Loop() {
		Moves(c)
	}
}

// Half of the nodes have come back, and half of the groups may fail back.
func BenchmarkMovesToAHundredNewNodes(b *testing.B) {
	c := large()
	all := c.Nodes
	c.Nodes = all[:100]
	c = apply10k(c, Place(c))
	c.Nodes = all
	for b.Loop() {
		Moves(c)
	}
}

func BenchmarkMovesOffTenDrainingNodes(b *testing.B) {
	c := large()
	c = apply10k(c, Place(c))
	for i := range 10 {
		c.Nodes[i].Draining = true
	}
	for b.Loop() {
		Moves(c)
	}
}

func BenchmarkElsewhereAmongTenThousandGroups(b *testing.B) {
	c := large()
	c = apply10k(c, Place(c))
	for b.Loop() {
		Elsewhere(c, c.Groups[77].Name, c.Groups[77].Owner)
	}
}

func apply10k(c Cluster, ds []Decision) Cluster {
	by := map[string]string{}
	for _, d := range ds {
		by[d.Group] = d.Node
	}
	for i := range c.Groups {
		if owner, ok := by[c.Groups[i].Name]; ok {
			c.Groups[i].Owner = owner
		}
	}
	return c
}
