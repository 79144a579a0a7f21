package tracking

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

// step is a step so many milliseconds after noon.
func step(ms int, node, kind, port string) Step {
	return Step{At: noon.Add(time.Duration(ms) * time.Millisecond), Message: "m", Location: "orders", Node: node, Kind: kind, Port: port}
}

func TestStateFollowsTheSteps(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []Step
		want  string
		ports map[string]string
	}{
		{"nothing known", []Step{step(0, "a", "polished", "")}, "", nil},
		{"received", []Step{step(0, "a", Received, "")}, StateIntended, nil},
		{"routed", []Step{step(0, "a", Received, ""), step(1, "a", Routed, "p")}, StateIntended, map[string]string{"p": Routed}},
		{"failed once", []Step{step(0, "a", Received, ""), step(1, "a", Failed, "p")}, StateIntended, map[string]string{"p": Failed}},
		{"one of two", []Step{step(0, "a", Routed, "p"), step(1, "a", Routed, "q"), step(2, "a", Sent, "q")}, StateIntended, map[string]string{"p": Routed, "q": Sent}},
		{"both", []Step{step(0, "a", Routed, "p"), step(1, "a", Routed, "q"), step(2, "a", Sent, "q"), step(3, "a", Sent, "p")}, StateDelivered, map[string]string{"p": Sent, "q": Sent}},
		{"suspended at one", []Step{step(0, "a", Routed, "p"), step(1, "a", Suspended, "p"), step(2, "a", Sent, "q")}, StateSuspended, map[string]string{"p": Suspended, "q": Sent}},
		{"resumed", []Step{step(0, "a", Suspended, ""), step(1, "a", Resumed, "")}, StateIntended, nil},
		{"discarded", []Step{step(0, "a", Suspended, ""), step(1, "a", Discarded, ""), step(2, "a", Settled, "")}, StateDiscarded, nil},
		{"settled by a fast clock", []Step{step(0, "b", Settled, ""), step(1, "a", Sent, "p"), step(2, "a", Failed, "p")}, StateSettled, map[string]string{"p": Failed}},
		{"discarded, settled before by a fast clock", []Step{step(0, "b", Settled, ""), step(1, "a", Discarded, "")}, StateDiscarded, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRecord(slices.Clone(c.steps), 0)
			if r.State != c.want || !reflect.DeepEqual(r.Ports, c.ports) {
				t.Errorf("got %s, %v", r.State, r.Ports)
			}
		})
	}
}

func TestMergeAfterATakeover(t *testing.T) {
	a := newWorld(t, nil)
	b := newWorld(t, func(c *Config) { c.Now = a.clock.Now })
	b.clock = a.clock
	a.note("m1", Received, func(st *Step) { st.Name, st.Context = "one.xml", map[string]string{"by": "a"} })
	a.note("m1", Routed, at("erp"))
	a.note("m1", Failed, at("erp"))
	a.travel("m0")
	b.note("m1", Received, func(st *Step) { st.Node, st.Name, st.Context = "node-b", "one.xml", map[string]string{"by": "b"} })
	b.note("m1", Sent, at("erp"), func(st *Step) { st.Node = "node-b" })
	b.note("m1", Settled, func(st *Step) { st.Node = "node-b" })
	b.clock.pass(time.Millisecond)
	ofA, ofB := a.query(Query{}), b.query(Query{})
	before := []string{kinds(ofA[0]), kinds(ofA[1]), kinds(ofB[0])}
	for _, lists := range [][][]Record{{ofA, ofB}, {ofB, ofA}, {ofA, ofB, ofA, nil}} {
		got := Merge(lists...)
		if messages(got) != "m1 m0" {
			t.Fatalf("got %s", messages(got))
		}
		m1 := got[0]
		if kinds(m1) != "received routed failed received sent settled" || m1.Steps[4].Node != "node-b" {
			t.Errorf("got %s", kinds(m1))
		}
		if m1.State != StateSettled || m1.Ports["erp"] != Sent || m1.Context["by"] != "a" || m1.Name != "one.xml" || m1.Key != "/in/m1" {
			t.Errorf("got %+v", m1)
		}
		if !m1.First.Equal(ofA[1].First) || !m1.Last.Equal(ofB[0].Last) {
			t.Errorf("from %v to %v", m1.First, m1.Last)
		}
	}
	if after := []string{kinds(ofA[0]), kinds(ofA[1]), kinds(ofB[0])}; !slices.Equal(before, after) {
		t.Errorf("the answers were changed: %v, before %v", after, before)
	}
}

func TestMergeOrdersEqualTimesByTheWay(t *testing.T) {
	one := []Record{newRecord([]Step{step(5, "a", Settled, ""), step(5, "a", Routed, "p")}, 0)}
	two := []Record{newRecord([]Step{step(5, "b", Sent, "p"), step(5, "b", Received, "")}, 7)}
	got := Merge(one, two)
	if len(got) != 1 || kinds(got[0]) != "received routed sent settled" || got[0].Omitted != 7 {
		t.Errorf("got %+v", got)
	}
}

func TestMergeOfNothing(t *testing.T) {
	if got := Merge(); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	if got := Merge(nil, []Record{}); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}
