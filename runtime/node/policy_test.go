package node

import (
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/runtime/config"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// ago are wall times before noon, in the ledger's milliseconds.
func ago(ds ...time.Duration) (ms []int64) {
	for _, d := range ds {
		ms = append(ms, noon.Add(-d).UnixMilli())
	}
	return ms
}

func TestANodeThatExpiresOftenIsInQuarantineForAWhile(t *testing.T) {
	for _, c := range []struct {
		name string
		at   []int64
		want string
	}{
		{"never", nil, ""},
		{"twice", ago(2*time.Minute, time.Minute), ""},
		{"three times, slowly", ago(30*time.Minute, 20*time.Minute, time.Minute), ""},
		{"three times, quickly", ago(9*time.Minute, 5*time.Minute, time.Minute), "until 2026-11-23T12:09:00Z"},
		{"long ago", ago(40*time.Minute, 39*time.Minute, 11*time.Minute), ""},
		{"only the latest count", ago(50*time.Minute, 3*time.Minute, 2*time.Minute, time.Minute), "until 2026-11-23T12:09:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := flapping(&pb.Node{ExpiredAtMs: c.at}, noon)
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestFailoversAreCountedWithinTheirWindow(t *testing.T) {
	p := failoverPolicy{max: 2, within: time.Hour}
	g := &pb.Group{}
	for i, c := range []struct {
		since time.Duration
		want  bool
	}{{2 * time.Hour, false}, {50 * time.Minute, false}, {time.Minute, true}} {
		g.Failures = append(g.Failures, &pb.Failure{AtMs: noon.Add(-c.since).UnixMilli()})
		if p.usedUp(g, noon) != c.want {
			t.Errorf("after failure %d: used up %v", i+1, !c.want)
		}
	}
	if (failoverPolicy{max: 0, within: time.Hour}).usedUp(&pb.Group{}, noon) != true {
		t.Error("none allowed, yet not used up")
	}
}

func TestAGroupIsStoppedWhenAllItsHostsAre(t *testing.T) {
	g := config.Group{Name: "edi", Hosts: []string{"in", "out"}}
	s := &pb.State{Hosts: map[string]*pb.Host{"in": {Stopped: true}}}
	if why := stopped(g, s); why != "" {
		t.Errorf("stopped although out runs: %s", why)
	}
	s.Hosts["out"] = &pb.Host{Stopped: true}
	if why := stopped(g, s); why != "its 2 hosts are stopped by order" {
		t.Errorf("got %q", why)
	}
}

func TestFactsOfAGroupThatFailedLately(t *testing.T) {
	s := &pb.State{Groups: map[string]*pb.Group{"edi": {
		Owner: "b", MovingTo: "c", Pinned: "b", FailedUntilMs: noon.UnixMilli(),
		Failures: []*pb.Failure{{AtMs: noon.Add(-time.Hour).UnixMilli(), Node: "old"}, {AtMs: noon.Add(-time.Minute).UnixMilli(), Node: "a", Reason: "disk full"}},
	}}}
	g := groupFacts(config.Group{Name: "edi", Hosts: []string{"in"}, Adapters: []string{"ftp"}, Pins: map[string][]string{"ftp": {"ab"}}}, s, noon)
	if g.Owner != "b" || g.Moving != "c" || g.Pinned != "b" || !g.FailedUntil.Equal(noon) {
		t.Errorf("%+v", g)
	}
	if len(g.Avoid) != 1 || g.Avoid[0].Node != "a" || g.Avoid[0].Reason != "disk full" {
		t.Errorf("avoids %+v", g.Avoid)
	}
	if len(g.Adapters) != 1 || g.Adapters[0].Name != "ftp" || len(g.Adapters[0].SHA256) != 1 {
		t.Errorf("needs %+v", g.Adapters)
	}
}

func TestStateOfANodeThatGossips(t *testing.T) {
	session := &pb.Session{Incarnation: "a1"}
	drained := &pb.Node{Order: pb.SetNode_DRAIN, OrderAtMs: noon.UnixMilli()}
	for _, c := range []struct {
		name    string
		session *pb.Session
		record  *pb.Node
		answers bool
		want    string
	}{
		{"well", session, nil, true, "alive"},
		{"not registered", nil, nil, true, "suspect"},
		{"silent", session, drained, false, "suspect"},
		{"drained", session, drained, true, "draining"},
		{"paused", session, &pb.Node{Order: pb.SetNode_PAUSE}, true, "paused"},
		{"flapping", session, &pb.Node{ExpiredAtMs: ago(3*time.Minute, 2*time.Minute, time.Minute)}, true, "quarantined"},
	} {
		t.Run(c.name, func(t *testing.T) {
			state, reason := aliveState(c.session, c.record, c.answers, noon)
			if state != c.want || (reason == "") != (state == "alive") {
				t.Errorf("got %s (%s), want %s", state, reason, c.want)
			}
		})
	}
}

func TestChangesOfOwnerAreCountedByCause(t *testing.T) {
	var count tally
	count.add([]*pb.Event{
		{Kind: "group-owned", Group: "edi", To: "a", Cause: "start", GapMs: -1},
		{Kind: "group-owned", Group: "edi", To: "b", Cause: "death", GapMs: 1500},
		{Kind: "group-unowned", Group: "edi", Cause: "death"},
		{Kind: "group-owned", Group: "edi", To: "a", Cause: "death", GapMs: 40},
	}, "a")
	if c := count.of("edi"); c["start"] != 1 || c["death"] != 2 {
		t.Errorf("%v", c)
	}
	if s := count.takeovers()["edi"]; s != 0.04 {
		t.Errorf("took over after %v s", s)
	}
}
