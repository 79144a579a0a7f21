package ledger

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
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

// servers for tables: those in capitals vote.
func serversOf(names string) (servers []Server) {
	for _, r := range names {
		n := strings.ToLower(string(r))
		servers = append(servers, Server{Node: n, Address: n + ":1", Voter: n != string(r)})
	}
	return servers
}

func peersOf(names string, change ...func(*Peer)) (peers []Peer) {
	for _, r := range names {
		p := Peer{Node: string(r), Address: string(r) + ":1", Alive: true}
		for _, c := range change {
			c(&p)
		}
		peers = append(peers, p)
	}
	return peers
}

func setOf(names string) map[string]bool {
	m := map[string]bool{}
	for _, r := range names {
		m[string(r)] = true
	}
	return m
}

func longAgo(names string, d time.Duration) map[string]time.Duration {
	m := map[string]time.Duration{}
	for _, r := range names {
		m[string(r)] = d
	}
	return m
}

func TestNextChangesOfServers(t *testing.T) {
	dead := func(p *Peer) { p.Alive = false }
	newDisk := func(p *Peer) { p.Disk = "new" }
	witness := func(p *Peer) { p.Witness = true }
	foreign := func(p *Peer) { p.ClusterID, p.HasState = "another", true }
	moved := func(p *Peer) { p.Address = p.Node + ":2" }
	const day = 24 * time.Hour
	for _, c := range []struct {
		name    string
		servers string
		peers   []Peer
		live    string // of the servers; they are ready as well
		gone    map[string]time.Duration
		left    map[string]time.Duration
		even    time.Duration
		want    string
	}{
		{"all is well", "ABC", peersOf("abc"), "abc", nil, nil, 0, ""},
		{"a new node gets no vote yet", "ABC", peersOf("abcd"), "abc", nil, nil, 0, "add d"},
		{"a stranger that is dead, or has no address", "ABC", append(peersOf("d", dead), Peer{Node: "e", Alive: true}), "abc", nil, nil, 0, ""},
		{"a node of another cluster", "ABC", append(peersOf("abc"), peersOf("d", foreign)...), "abc", nil, nil, 0, ""},
		{"a voter moved", "ABC", append(peersOf("bc"), peersOf("a", moved)...), "abc", nil, nil, 0, "readdress a"},
		{"one waits: votes stay odd", "ABCd", peersOf("abcd"), "abcd", nil, nil, 0, ""},
		{"two wait: the first of the pair", "ABCde", peersOf("abcde"), "abcde", nil, nil, 0, "promote d"},
		{"the second of the pair", "ABCDe", peersOf("abcde"), "abcde", nil, nil, 0, "promote e"},
		{"a witness is the third of two", "Abw", append(peersOf("ab"), peersOf("w", witness)...), "abw", nil, nil, 0, "promote b"},
		{"and gets its vote", "ABw", append(peersOf("ab"), peersOf("w", witness)...), "abw", nil, nil, 0, "promote w"},
		{"five are enough", "ABCDEfg", peersOf("abcdefg"), "abcdefg", nil, nil, 0, ""},
		{"gossip alone removes nobody", "ABCd", append(peersOf("abd"), peersOf("c", dead)...), "abcd", longAgo("c", 0), nil, 0, ""},
		{"gossip has not seen it for long, but raft hears of it", "ABCd", peersOf("abd"), "abcd", longAgo("c", day), nil, 0, ""},
		{"dead, and nobody to take its place", "ABC", peersOf("ab"), "ab", longAgo("c", day), nil, 0, ""},
		{"dead for a short time", "ABCd", peersOf("abd"), "abd", longAgo("c", time.Minute), nil, 0, ""},
		{"dead for long, and replaced", "ABCd", peersOf("abd"), "abd", longAgo("c", day), nil, 0, "remove c"},
		{"a replica dead for a day stays", "ABCd", peersOf("abc"), "abc", longAgo("d", day), nil, 0, ""},
		{"a replica dead for a week goes", "ABCd", peersOf("abc"), "abc", longAgo("d", 7*day), nil, 0, "remove d"},
		{"a voter that left goes", "ABC", peersOf("ab"), "ab", nil, longAgo("c", time.Minute), 0, "remove c"},
		{"a voter that just left may come back", "ABC", peersOf("ab"), "ab", nil, longAgo("c", time.Second), 0, ""},
		{"a dead voter removed by order goes at once", "ABCX", peersOf("abc"), "abc", nil, nil, 0, "remove x"},
		{"a live one stays", "ABX", peersOf("abx"), "abx", nil, nil, 0, ""},
		{"no removal without a majority after it", "ABC", peersOf("a"), "a", nil, longAgo("bc", time.Minute), 0, ""},
		{"two voters wait for a third", "ABc", peersOf("abc"), "ab", nil, nil, 0, ""},
		{"two voters are one too many in the end", "AB", peersOf("ab"), "ab", nil, nil, time.Minute, "demote b"},
		{"an emptied disk has to forget its vote first", "ABC", append(peersOf("ab"), peersOf("c", newDisk)...), "ab", nil, nil, 0, "remove c"},
		{"two nodes of one name do not take turns", "ABC", append(peersOf("ab"), peersOf("c", newDisk)...), "abc", nil, nil, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			for _, ch := range nextChanges(situation{
				self: "a", cluster: "one", servers: serversOf(c.servers), peers: c.peers,
				live: setOf(c.live), ready: setOf(c.live), gone: c.gone, left: c.left, even: c.even, ordered: map[string]bool{"x": true},
				times: VoterTimes{}.withDefaults(),
			}) {
				got += ch.what + " " + ch.server.Node
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// Whatever the situation, at most one step changes who votes, and those that live
// are a majority of the voters after it, if they were before.
func TestNoChangeOfVotersLosesTheMajority(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := situation{
			self: "a", cluster: "one", live: map[string]bool{"a": true}, ready: map[string]bool{},
			gone: map[string]time.Duration{}, left: map[string]time.Duration{}, times: VoterTimes{}.withDefaults(),
			even: rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "even"),
		}
		for i, r := range "abcdefgh"[:rapid.IntRange(1, 8).Draw(t, "servers")] {
			n := string(r)
			s.servers = append(s.servers, Server{Node: n, Address: n, Voter: i == 0 || rapid.Bool().Draw(t, "votes")})
			s.live[n] = i == 0 || rapid.Bool().Draw(t, "lives")
			s.ready[n] = s.live[n] && rapid.Bool().Draw(t, "ready")
			if !s.live[n] {
				s.gone[n] = rapid.SampledFrom([]time.Duration{0, time.Hour, 1000 * time.Hour}).Draw(t, "gone")
				s.left[n] = rapid.SampledFrom([]time.Duration{0, 0, time.Hour}).Draw(t, "left")
			}
			p := Peer{Node: n, Address: n, Alive: rapid.Bool().Draw(t, "gossips"), Witness: rapid.Bool().Draw(t, "witness")}
			s.peers = append(s.peers, p)
		}
		before := len(s.voters())
		votes := 0
		for _, c := range nextChanges(s) {
			if !c.ofVoters() {
				continue
			}
			votes++
			after := s
			after.servers = apply(s.servers, c)
			live := 0
			for _, v := range after.voters() {
				if s.live[v.Node] {
					live++
				}
			}
			if 2*live <= len(after.voters()) {
				t.Errorf("%s %s of %d voters leaves no majority: %+v", c.what, c.server.Node, before, s)
			}
			if c.server.Node == s.self && c.what != promote {
				t.Errorf("the leader takes its own vote")
			}
		}
		if votes > 1 {
			t.Errorf("%d changes of voters at once", votes)
		}
	})
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
	steadyFor := VoterTimes{}.withDefaults().Steady
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
