package ledger

import (
	"context"
	"testing"
	"time"
)

// patient does not look for another leader by itself within the time of a test.
var patient = Timing{Heartbeat: time.Minute, Election: time.Minute, LeaderLease: time.Minute, Commit: 10 * time.Millisecond}

func TestAFollowerThatKnowsTheLeaderDeadIsElectedAtOnce(t *testing.T) {
	c := &cluster{t: t, addrs: map[string]string{}, nodes: map[string]*node{}, timing: patient}
	names := []string{"a", "b", "c"}
	for _, name := range names {
		c.start(name, t.TempDir())
	}
	for _, n := range c.nodes {
		if err := n.Bootstrap(c.servers(names...)); err != nil {
			t.Fatal(err)
		}
	}
	var stood time.Time
	waitFor(t, "a to lead", func() bool {
		if time.Since(stood) > time.Second { // again: b and c may not have been listening yet
			stood = time.Now()
			if err := c.nodes["a"].Elect(); err != nil {
				t.Fatal(err)
			}
		}
		return c.nodes["a"].Leading()
	})
	if l := c.leader(); l.name != "a" {
		t.Fatalf("%s leads; a stood for election", l.name)
	}
	changes, stop := c.nodes["c"].LeaderChanges()
	defer stop()
	c.kill("a")
	if err := c.nodes["b"].Elect(); err != nil {
		t.Fatal(err)
	}
	if l := c.leader(); l.name != "b" {
		t.Fatalf("%s leads; b stood for election", l.name)
	}
	select {
	case <-changes:
	case <-time.After(longest):
		t.Error("c was not told of its new leader")
	}
	if _, err := c.nodes["b"].Apply(within(t), deploy(1, "g")); err != nil {
		t.Error(err)
	}
	if err := c.nodes["b"].Elect(); err != nil || !c.nodes["b"].Leading() {
		t.Errorf("a leader that is to stand for election: %v, leads: %v", err, c.nodes["b"].Leading())
	}
}

func TestNeedlessElectionsHarmNothing(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	leader := c.leader()
	if _, err := leader.Apply(within(t), deploy(1, "g")); err != nil {
		t.Fatal(err)
	}
	for name, n := range c.nodes {
		if name != leader.name {
			if err := n.Elect(); err != nil {
				t.Error(err)
			}
		}
	}
	now := c.leader()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	if _, err := now.Apply(ctx, deploy(2, "g")); err != nil {
		t.Errorf("after needless elections: %v", err)
	}
	c.wantSame()
}
