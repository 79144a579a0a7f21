package ledger

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestFirstVoters(t *testing.T) {
	p := func(name string) Peer { return Peer{Node: name, Address: name + ":1", Alive: true, Expect: 3} }
	with := func(p Peer, change func(*Peer)) Peer { change(&p); return p }
	for _, c := range []struct {
		name   string
		peers  []Peer
		expect int
		want   []string
	}{
		{"nobody", nil, 3, nil},
		{"too few", []Peer{p("a"), p("b")}, 3, nil},
		{"all there, by name", []Peer{p("c"), p("a"), p("b")}, 3, []string{"a", "b", "c"}},
		{"more than expected", []Peer{p("d"), p("c"), p("a"), p("b")}, 3, []string{"a", "b", "c"}},
		{"alone by choice", []Peer{with(p("a"), func(p *Peer) { p.Expect = 1 })}, 1, []string{"a"}},
		{"nothing is expected here", []Peer{with(p("a"), func(p *Peer) { p.Expect = 0 })}, 0, nil},
		{"others expect another number", []Peer{p("a"), p("b"), with(p("c"), func(p *Peer) { p.Expect = 5 })}, 3, nil},
		{"one has state", []Peer{p("a"), p("b"), with(p("c"), func(p *Peer) { p.HasState = true })}, 3, nil},
		{"the dead do not count", []Peer{p("a"), p("b"), with(p("c"), func(p *Peer) { p.Alive = false })}, 3, nil},
		{"a dead one has state", []Peer{p("a"), p("b"), p("c"), with(p("d"), func(p *Peer) { p.Alive, p.HasState = false, true })}, 3, nil},
		{"a member that does not expect anything has state", []Peer{p("a"), p("b"), p("c"), with(p("d"), func(p *Peer) { p.Expect, p.HasState = 0, true })}, 3, nil},
		{"one has no address", []Peer{p("a"), p("b"), with(p("c"), func(p *Peer) { p.Address = "" })}, 3, nil},
		{"plain members do not count", []Peer{p("a"), p("b"), with(p("c"), func(p *Peer) { p.Expect = 0 })}, 3, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 2 { // and in the other order
				var got []string
				for _, s := range FirstVoters(c.peers, c.expect) {
					got = append(got, s.Node)
					if !s.Voter || s.Address != s.Node+":1" {
						t.Errorf("server %+v", s)
					}
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("got %v, want %v", got, c.want)
				}
				slices.Reverse(c.peers)
			}
		})
	}
}

func TestNextChangesOfVoters(t *testing.T) {
	voter := func(n string) Server { return Server{n, n + ":1", true} }
	waits := func(n string) Server { return Server{n, n + ":1", false} }
	alive := func(names ...string) (ps []Peer) {
		for _, n := range names {
			ps = append(ps, Peer{Node: n, Address: n + ":1", Alive: true})
		}
		return ps
	}
	steady := func(names ...string) map[string]bool {
		m := map[string]bool{}
		for _, n := range names {
			m[n] = true
		}
		return m
	}
	three := []Server{voter("a"), voter("b"), voter("c")}
	for _, c := range []struct {
		name    string
		servers []Server
		peers   []Peer
		steady  map[string]bool
		want    change
	}{
		{"all is well", three, alive("a", "b", "c"), steady("a", "b", "c"), change{}},
		{"a new node is added without a vote", three, alive("a", "b", "c", "d"), nil, change{waits("d"), "add"}},
		{"a dead voter stays", three, alive("a", "b"), steady("a", "b"), change{}},
		{"a dead stranger is not added", three, []Peer{{Node: "d", Address: "d:1"}}, nil, change{}},
		{"a node without address is not added", three, []Peer{{Node: "d", Alive: true}}, nil, change{}},
		{"a voter moved", three, []Peer{{Node: "a", Address: "a:2", Alive: true}}, nil, change{Server{"a", "a:2", true}, "readdress"}},
		{"a waiting node moved", []Server{voter("a"), waits("b")}, []Peer{{Node: "b", Address: "b:2", Alive: true}}, nil, change{Server{"b", "b:2", false}, "readdress"}},
		{"one waits: votes stay odd", append(slices.Clone(three), waits("d")), alive("a", "b", "c", "d"), steady("d"), change{}},
		{"two wait: the first of the pair", append(slices.Clone(three), waits("d"), waits("e")), alive("d", "e"), steady("d", "e"), change{waits("d"), "promote"}},
		{"an even number is made odd by one", []Server{voter("a"), voter("b"), waits("c")}, alive("a", "b", "c"), steady("c"), change{waits("c"), "promote"}},
		{"not steady yet", []Server{voter("a"), voter("b"), waits("c")}, alive("a", "b", "c"), nil, change{}},
		{"a dead one is not promoted", []Server{voter("a"), voter("b"), waits("c")}, []Peer{{Node: "c", Address: "c:1"}}, steady("c"), change{}},
		{"five are enough", append(slices.Clone(three), voter("d"), voter("e"), waits("f"), waits("g")), alive("f", "g"), steady("f", "g"), change{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := nextChanges(c.servers, c.peers, c.steady)
			if (c.want == change{}) && len(got) > 0 || (c.want != change{}) && !slices.Equal(got, []change{c.want}) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestOneHopelessChangeDoesNotHoldUpTheOthers(t *testing.T) {
	servers := []Server{{"a", "a:1", true}, {"b", "b:1", true}, {"c", "c:1", false}}
	peers := []Peer{
		{Node: "x", Address: "a:1", Alive: true}, // raft refuses it: the address is taken
		{Node: "b", Address: "b:2", Alive: true},
		{Node: "c", Address: "c:1", Alive: true},
	}
	want := []change{{Server{"x", "a:1", false}, "add"}, {Server{"b", "b:2", true}, "readdress"}, {servers[2], "promote"}}
	if got := nextChanges(servers, peers, map[string]bool{"c": true}); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestFollowerIsReadyWhenItHasKeptUpForAWhile(t *testing.T) {
	now := time.Unix(1000, 0)
	c := newContacts(nil, nil, time.Second)
	c.now = func() time.Time { return now }
	wantSteady := func(want time.Duration, last uint64) {
		t.Helper()
		if got, at := c.steady("b"); got != want || at != last {
			t.Errorf("steady for %v at %d, want %v at %d", got, at, want, last)
		}
	}
	wantSteady(0, 0)
	for i := range uint64(10) {
		c.note("b", i)
		now = now.Add(500 * time.Millisecond)
	}
	wantSteady(5*time.Second, 9)
	now = now.Add(501 * time.Millisecond) // silent
	wantSteady(0, 0)
	c.note("b", 20)
	wantSteady(0, 20)
	now = now.Add(time.Second)
	wantSteady(time.Second, 20)
}

func TestNewNodesAreAddedAndGetTheirVote(t *testing.T) {
	t.Parallel() // it takes as long as a node must be steady
	c := bootstrapped(t, "a")
	c.start("b", t.TempDir())
	c.start("c", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	var keeping sync.WaitGroup
	peers := func() []Peer {
		var ps []Peer
		for _, name := range []string{"a", "b", "c", "d"} {
			ps = append(ps, Peer{Node: name, Address: c.address(name), Alive: name != "d"})
		}
		return ps
	}
	for _, name := range []string{"a", "b", "c"} { // all run it, the leader acts
		keeping.Go(func() { c.nodes[name].KeepVoters(ctx, peers) })
	}
	defer func() { cancel(); keeping.Wait() }()
	waitFor(t, "three voters", func() bool {
		voters, err := c.nodes["c"].Voters()
		return err == nil && slices.Equal(voters, []string{"a", "b", "c"})
	})
	c.wantSame()
}

func TestFollowerThatLagsIsNotReady(t *testing.T) {
	l, _ := inMemory(t, time.Minute, nil)
	for v := range uint64(2 * slack) {
		if _, err := l.Apply(within(t), deploy(v+1, "g")); err != nil {
			t.Fatal(err)
		}
	}
	committed := l.raft.CommitIndex()
	for _, c := range []struct {
		name   string
		last   uint64
		steady time.Duration
		want   bool
	}{
		{"it has everything", committed, 2 * steadyFor, true},
		{"it lacks little", committed - slack, 2 * steadyFor, true},
		{"it lacks much", committed - slack - 1, 2 * steadyFor, false},
		{"it has only just come", committed, steadyFor / 2, false},
	} {
		now := time.Now()
		l.contacts.seen["b"] = contact{last: c.last, at: now, since: now.Add(-c.steady)}
		if got := l.ready([]Server{{Node: "b"}})["b"]; got != c.want {
			t.Errorf("%s: ready = %v", c.name, got)
		}
	}
}
