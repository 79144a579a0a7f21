package ledger

import (
	"errors"
	"strings"
	"testing"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

func TestOneOfThreeDisksBecomesAClusterWithAllThatItHas(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	leader := c.leader()
	for _, cmd := range []*pb.Command{
		{Kind: &pb.Command_Found{Found: &pb.Found{ClusterId: "old"}}}, register("a", "a1"), grant("a1"),
		deploy(1, "g"), assign(place("g", "a", "a1"), 0), fates("g", "a1", 1, intended("k", "m1", "p")),
	} {
		if _, err := leader.Apply(within(t), cmd); err != nil {
			t.Fatal(err)
		}
	}
	c.wantSame()
	dir, before := c.nodes["c"].dir, stateOf(c.nodes["c"].Ledger)
	if _, err := Inspect("c", dir); err == nil {
		t.Error("a node that runs was inspected")
	}
	for name := range c.nodes {
		c.kill(name)
	}

	remains, err := Inspect("c", dir)
	if err != nil {
		t.Fatal(err)
	}
	if remains.ClusterID != "old" || len(remains.Servers) != 3 || len(remains.Others("c")) != 2 || remains.Deployment != 1 {
		t.Errorf("remains %+v", remains)
	}
	recovered, err := Recover("c", dir, "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if recovered.ClusterID == "old" || recovered.ClusterID == "" {
		t.Errorf("the recovered cluster is %q: a disk of the old one could come back", recovered.ClusterID)
	}

	n := c.start("c", dir)
	waitFor(t, "the recovered node to lead", func() bool { return n.Leading() && n.Barrier(within(t)) == nil })
	voters, err := n.Voters()
	if err != nil || len(voters) != 1 || voters[0] != "c" {
		t.Errorf("voters %v (%v)", voters, err)
	}
	if n.ClusterID() != recovered.ClusterID {
		t.Errorf("cluster %s, want %s", n.ClusterID(), recovered.ClusterID)
	}
	n.View(func(s *pb.State) {
		old, err := decodeSnapshot(before)
		if err != nil {
			t.Fatal(err)
		}
		if f := s.GetLocations()["in"].GetFates()["k"]; f.GetMessageId() != "m1" || s.GetGroups()["g"].GetOwner() != "a" {
			t.Errorf("fate %v, group %v", f, s.GetGroups()["g"])
		}
		// Who held a lease still counts as live: the new leader waits it out.
		if s.GetSessions()["a1"].GetExpired() {
			t.Error("a session expired without waiting")
		}
		es := s.GetEvents()
		if len(es) != len(old.State().GetEvents())+1 || es[len(es)-1].GetKind() != "cluster-recovered" {
			t.Errorf("last event %v", es[len(es)-1])
		}
	})
	if _, err := n.Apply(within(t), deploy(2, "g")); err != nil {
		t.Errorf("the recovered cluster decides nothing: %v", err)
	}
}

func TestADirectoryWithoutALedgerIsNotRecovered(t *testing.T) {
	if _, err := Recover("a", t.TempDir(), "127.0.0.1:1"); !errors.Is(err, ErrNoRemains) || !strings.Contains(err.Error(), "raft") {
		t.Errorf("got %v", err)
	}
}
