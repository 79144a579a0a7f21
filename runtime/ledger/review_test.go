package ledger

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// apply is what the servers are after a change was committed.
func apply(servers []Server, c change) []Server {
	servers = slices.Clone(servers)
	i := slices.IndexFunc(servers, func(s Server) bool { return s.id() == c.server.id() })
	switch c.what {
	case add:
		return append(servers, c.server)
	case remove:
		return slices.Delete(servers, i, i+1)
	case readdress:
		servers[i].Address = c.server.Address
	default:
		servers[i].Voter = c.what == promote
	}
	return servers
}

// Left alone in whatever situation, the leader comes to rest, with an odd number of
// voters of at most five, and as many as there are nodes for.
func TestTheVotersComeToRestAtAnOddNumber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := situation{
			self: "a", cluster: "one", live: map[string]bool{}, ready: map[string]bool{},
			gone: map[string]time.Duration{}, left: map[string]time.Duration{}, times: VoterTimes{}.withDefaults(),
			even: evenFor,
		}
		voters, live := 0, 0
		for i, r := range "abcdefgh"[:rapid.IntRange(1, 8).Draw(t, "nodes")] {
			n := string(r)
			up := i == 0 || rapid.Bool().Draw(t, "up")
			p := Peer{Node: n, Address: n, Alive: up, Witness: i > 0 && rapid.Bool().Draw(t, "witness")}
			if i == 0 || rapid.Bool().Draw(t, "server") {
				srv := Server{Node: n, Address: n, Voter: i == 0 || rapid.Bool().Draw(t, "votes")}
				if rapid.IntRange(0, 5).Draw(t, "disk") == 5 && i > 0 {
					p.Disk = "new"
				}
				s.servers = append(s.servers, srv)
				s.live[n] = up && p.Disk == ""
				if srv.Voter {
					voters++
					if s.live[n] {
						live++
					}
				}
			}
			s.live[p.id()], s.ready[p.id()] = up, up // once it is added it follows
			if p.Disk != "" {
				s.live[n] = false
			}
			if !up {
				switch rapid.IntRange(0, 2).Draw(t, "fate") {
				case 1:
					s.gone[n] = 1000 * time.Hour
				case 2:
					s.left[n], p.Left = time.Hour, true
				}
			}
			s.peers = append(s.peers, p)
		}
		if 2*live <= voters {
			t.Skip("no leader could be there")
		}
		for step := 0; ; step++ {
			changes := nextChanges(s)
			if len(changes) == 0 {
				break
			}
			if step > 100 {
				t.Fatalf("it never rests: %+v of %+v", changes, s.servers)
			}
			for _, c := range changes {
				s.servers = apply(s.servers, c)
			}
		}
		n := len(s.voters())
		if n%2 == 0 || n > maxVoters {
			t.Errorf("%d voters: %+v", n, s)
		}
		if waiting := len(s.waiting(false)); n < maxVoters && waiting > 1 {
			t.Errorf("%d voters, and %d that wait: %+v", n, waiting, s)
		}
	})
}

// watched is a leader, its servers a, b and c that vote and d that does not, and a
// clock. Raft's own contacts are set by hand.
func watched(t *testing.T) (*reviewer, []Server, *time.Time) {
	t.Helper()
	l, _ := inMemory(t, time.Minute, nil)
	l.identity.set("one")
	now := time.Unix(1_000_000, 0)
	r := newReviewer(l)
	r.now, l.contacts.now = func() time.Time { return now }, func() time.Time { return now }
	return r, serversOf("ABCd"), &now
}

// hears has raft hear of those servers for some time, while gossip shows the peers.
func (r *reviewer) hears(now *time.Time, servers []Server, d time.Duration, names string, peers func(i int) []Peer) (changes []change) {
	for i := range int(d / reviewEvery) {
		*now = now.Add(reviewEvery)
		for _, n := range names {
			r.contacts.note(Server{Node: string(n)}.id(), 1<<40)
		}
		changes = append(changes, nextChanges(r.observe(servers, peers(i)))...)
	}
	return changes
}

// consul#1212: members flap between alive and failed, because gossip does not get
// through where other traffic does.
func TestAMemberThatFlapsInTheGossipKeepsItsVote(t *testing.T) {
	r, servers, now := watched(t)
	changes := r.hears(now, servers, time.Hour, "bcd", func(i int) []Peer {
		peers := peersOf("abcd")
		peers[2].Alive = i%3 == 0
		return peers
	})
	if len(changes) > 0 {
		t.Errorf("changes %+v", changes)
	}
}

// featurebase#1993: under load the gossip takes nodes for gone that are there.
func TestMembersThatGossipTakesForDeadKeepTheirVotes(t *testing.T) {
	r, servers, now := watched(t)
	changes := r.hears(now, servers, time.Hour, "bcd", func(int) []Peer {
		peers := peersOf("abcd")
		peers[1].Alive, peers[2].Alive = false, false
		return peers
	})
	if len(changes) > 0 {
		t.Errorf("changes %+v", changes)
	}
}

func TestAVoterIsReplacedOnlyWhenNothingWasHeardOfItForLong(t *testing.T) {
	silent := func(int) []Peer {
		peers := peersOf("abcd")
		peers[2].Alive = false
		return peers
	}
	r, servers, now := watched(t)
	if c := r.hears(now, servers, 9*time.Minute, "bd", silent); len(c) > 0 {
		t.Errorf("too soon: %+v", c)
	}
	// One sign of life, and the time begins again.
	r.hears(now, servers, reviewEvery, "bcd", silent)
	if c := r.hears(now, servers, 9*time.Minute, "bd", silent); len(c) > 0 {
		t.Errorf("it was heard of in between: %+v", c)
	}
	// So does it when the leader itself was away: it may have missed the sign.
	*now = now.Add(time.Hour)
	if c := r.hears(now, servers, 9*time.Minute, "bd", silent); len(c) > 0 {
		t.Errorf("the leader was away: %+v", c)
	}
	c := r.hears(now, servers, 2*time.Minute, "bd", silent)
	if len(c) == 0 || c[0].what != remove || c[0].server.Node != "c" {
		t.Errorf("after more than ten minutes: %+v", c)
	}
}

func TestAVoterThatRaftCannotReachButThatGossipsIsNotReplaced(t *testing.T) {
	r, servers, now := watched(t)
	changes := r.hears(now, servers, time.Hour, "bd", func(int) []Peer { return peersOf("abcd") })
	if len(changes) > 0 {
		t.Errorf("changes %+v", changes)
	}
}

func TestTheMachinesVersionIsTheHighestThatAllCanApply(t *testing.T) {
	session := func(node string, machine uint32, expired bool) *pb.Session {
		return &pb.Session{Node: node, Machine: machine, Expired: expired}
	}
	for _, c := range []struct {
		name     string
		sessions []*pb.Session
		now      uint32
		want     uint32
	}{
		{"all can", []*pb.Session{session("a", 1, false), session("b", 1, false)}, 0, 1},
		{"some can more than this program", []*pb.Session{session("a", 9, false), session("b", 9, false)}, 0, MachineVersion},
		{"one is too old", []*pb.Session{session("a", 1, false), session("b", 0, false)}, 0, 0},
		{"one is not there", []*pb.Session{session("a", 1, false)}, 0, 0},
		{"one has ended", []*pb.Session{session("a", 1, false), session("b", 1, true)}, 0, 0},
		{"an earlier incarnation is not known to be dead", []*pb.Session{session("a", 1, false), session("b", 1, false), session("b", 0, false)}, 0, 0},
		{"one without a replica is too old", []*pb.Session{session("a", 1, false), session("b", 1, false), session("x", 0, false)}, 0, 0},
		{"it is that already", []*pb.Session{session("a", 1, false), session("b", 1, false)}, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &pb.State{Version: c.now, Sessions: map[string]*pb.Session{}}
			for i, session := range c.sessions {
				s.Sessions[fmt.Sprint(i)] = session
			}
			if got := nextVersion(s, serversOf("Ab")); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestTheLeaderNamesItsClusterAndRaisesTheVersion(t *testing.T) {
	l, _ := inMemory(t, time.Minute, nil)
	r := newReviewer(l)
	r.review(t.Context(), peersOf("a"))
	id := l.ClusterID()
	if id == "" {
		t.Fatal("the cluster has no ID")
	}
	stored, err := l.cfg.Votes.Get(clusterKey)
	if err != nil || string(stored) != id {
		t.Errorf("stored %q, %v; want %q", stored, err, id)
	}
	version := func() (v uint32) { l.View(func(s *pb.State) { v = s.GetVersion() }); return v }
	if version() != 0 {
		t.Error("upgraded although no session says that its node can follow")
	}
	reg := register("a", "a1")
	reg.GetRegister().Session.Machine = MachineVersion
	if _, err := l.Apply(t.Context(), reg); err != nil {
		t.Fatal(err)
	}
	r.review(t.Context(), peersOf("a"))
	if version() != MachineVersion || l.ClusterID() != id {
		t.Errorf("version %d, cluster %s", version(), l.ClusterID())
	}
	if _, err := l.Apply(t.Context(), register("b", "b1")); err == nil || !strings.Contains(err.Error(), "older than the cluster") {
		t.Errorf("a node of an older version: %v", err)
	}
}

func TestALeaderThatIsTheOnlyVoterHandsItsVoteOver(t *testing.T) {
	c := named3(t)
	leader := c.leader()
	servers := c.servers("a", "b", "c")
	for _, s := range servers {
		if s.Node != leader.name {
			if err := leader.demote(within(t), s); err != nil {
				t.Fatal(err)
			}
		}
	}
	if v := voting(leader.Ledger); !slices.Equal(v, idsOf(c, leader.name)) {
		t.Fatalf("voters %v", v)
	}
	if _, err := leader.Apply(within(t), deploy(1, "g")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "somebody to hand over to", func() bool { _, ok := leader.heir(); return ok })
	if err := leader.TransferLeadership(within(t)); err != nil {
		t.Fatal(err)
	}
	c.kill(leader.name)
	var next *node
	waitFor(t, "the heir to lead", func() bool {
		for _, n := range c.nodes {
			if n.Leading() && n.Barrier(within(t)) == nil {
				next = n
			}
		}
		return next != nil
	})
	if _, err := next.Apply(within(t), deploy(2, "g")); err != nil {
		t.Error(err)
	}
	if v := voting(next.Ledger); !slices.Equal(v, idsOf(c, next.name)) {
		t.Errorf("voters %v", v)
	}
}
