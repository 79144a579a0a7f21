package ledger

import (
	"cmp"
	"slices"
	"time"
)

// VoterTimes are the times by which the leader keeps its voters.
type VoterTimes struct {
	// Steady is how long a node must have followed without a gap before it votes.
	// Default 5 s.
	Steady time.Duration
	// Left is how long a node that left in order is waited for: most come back at
	// once, with a new version. Default 15 s.
	Left time.Duration
	// Dead is how long neither raft nor gossip must have heard of a voter before it is
	// replaced, if there is a node that can replace it. Default 10 min.
	Dead time.Duration
	// Forgotten is the same for a node without a vote, which needs no replacement.
	// Default 72 h.
	Forgotten time.Duration
}

func (t VoterTimes) withDefaults() VoterTimes {
	t.Steady = cmp.Or(t.Steady, 5*time.Second)
	t.Left = cmp.Or(t.Left, 15*time.Second)
	t.Dead = cmp.Or(t.Dead, 10*time.Minute)
	t.Forgotten = cmp.Or(t.Forgotten, 72*time.Hour)
	return t
}

const (
	// maxVoters bounds the voters: more make commits slower, not safer.
	maxVoters = 5
	// evenFor is how long an even number of voters waits for one more to come, before
	// one has to go.
	evenFor = 30 * time.Second
)

// The changes.
const (
	add       = "add"       // a replica without a vote
	readdress = "readdress" // another address for the same server
	promote   = "promote"   // give it a vote
	demote    = "demote"    // take its vote
	remove    = "remove"
)

// change is one step towards the wanted servers.
type change struct {
	server Server
	what   string
	why    string
}

// ofVoters reports whether the step changes who votes.
func (c change) ofVoters() bool {
	return c.what == promote || c.what == demote || c.what == remove && c.server.Voter
}

// situation is what the leader decides by. Its maps are by server ID.
type situation struct {
	self    string
	cluster string // its ID
	servers []Server
	peers   []Peer
	// live servers answer raft now, this one among them; ready ones have kept up for
	// long enough to vote.
	live, ready map[string]bool
	// gone is for how long neither raft nor gossip has heard of a server, left for how
	// long it has said that it left.
	gone, left map[string]time.Duration
	// ordered are the nodes, by name, that a person has removed.
	ordered map[string]bool
	even    time.Duration // for how long the number of voters has been even
	times   VoterTimes
}

// nextChanges decides on the next steps. Nodes are added as soon as they are there
// and vote when they are ready. The number of voters is odd, at most maxVoters; a
// voter goes when it left, when its disk was replaced, or when it is dead for long
// and another can take its place, never because gossip alone does not see it. There
// is at most one change of voters at a time, and none after which those that live
// would not be a majority. Every other step can fail without harm to the rest.
func nextChanges(s situation) []change {
	changes := s.replicas()
	if c, ok := s.votes(); ok {
		changes = append(changes, c)
	}
	return changes
}

// foreign reports whether a node says that it belongs to another cluster.
func (s situation) foreign(p Peer) bool {
	return p.ClusterID != "" && s.cluster != "" && p.ClusterID != s.cluster
}

// replicas are the steps that change no vote.
func (s situation) replicas() (changes []change) {
	for _, p := range s.peers {
		if !p.Alive || p.Address == "" || s.foreign(p) {
			continue
		}
		i := slices.IndexFunc(s.servers, func(srv Server) bool { return srv.Node == p.Node })
		switch {
		case i < 0 && s.welcome(p):
			changes = append(changes, change{Server{Node: p.Node, Address: p.Address, Disk: p.Disk}, add, "new"})
		case i >= 0 && s.servers[i].Disk == p.Disk && s.servers[i].Address != p.Address:
			srv := s.servers[i]
			srv.Address = p.Address
			changes = append(changes, change{srv, readdress, "it moved"})
		}
	}
	for _, srv := range s.servers {
		if srv.Voter || string(srv.id()) == s.self {
			continue
		}
		why := s.obsolete(srv)
		if why == "" && s.gone[string(srv.id())] >= s.times.Forgotten {
			why = "dead for long"
		}
		if why != "" {
			changes = append(changes, change{srv, remove, why})
		}
	}
	return changes
}

// welcome reports whether the node may be added: a new one, or one of this cluster's
// that was removed.
func (s situation) welcome(p Peer) bool {
	return s.cluster != "" && (!p.HasState || p.ClusterID == s.cluster)
}

// obsolete is why a server has to go whoever takes its place, or "".
func (s situation) obsolete(srv Server) string {
	id := string(srv.id())
	switch p := s.peer(srv.Node); {
	case id == s.self:
	case s.ordered[srv.Node] && !s.live[id]:
		return "removed by order"
	case s.left[id] >= s.times.Left:
		return "left"
	// Raft's own word counts, too: two nodes of the same name would take turns here.
	case p.Alive && !s.foreign(p) && p.Disk != srv.Disk && !s.live[id]:
		return "its disk was replaced"
	}
	return ""
}

func (s situation) peer(node string) Peer {
	i := slices.IndexFunc(s.peers, func(p Peer) bool { return p.Node == node })
	if i < 0 {
		return Peer{}
	}
	return s.peers[i]
}

// votes is the next change of voters, if there is one.
func (s situation) votes() (change, bool) {
	for _, c := range slices.Concat(s.removals(), s.promotions(), s.demotions()) {
		if s.safe(c) {
			return c, true
		}
	}
	return change{}, false
}

// safe reports whether the servers that live are a majority of the voters after the
// change.
func (s situation) safe(c change) bool {
	voters, live := 0, 0
	for _, srv := range s.servers {
		votes := srv.Voter
		if srv.id() == c.server.id() {
			votes = c.what == promote
		}
		if votes {
			voters++
			if s.live[string(srv.id())] {
				live++
			}
		}
	}
	return 2*live > voters
}

func (s situation) voters() (voters []Server) {
	for _, srv := range s.servers {
		if srv.Voter {
			voters = append(voters, srv)
		}
	}
	return voters
}

// waiting are the nodes that can be given a vote; unready ones with those that are
// not ready yet.
func (s situation) waiting(unready bool) (waiting []Server) {
	for _, srv := range s.servers {
		p, id := s.peer(srv.Node), string(srv.id())
		if srv.Voter || !p.Alive || p.Disk != srv.Disk || s.foreign(p) || s.obsolete(srv) != "" {
			continue
		}
		if unready || s.ready[id] && s.live[id] {
			waiting = append(waiting, srv)
		}
	}
	return waiting
}

func (s situation) removals() (changes []change) {
	substitutes := len(s.waiting(false))
	for _, srv := range s.voters() {
		id := string(srv.id())
		why := s.obsolete(srv)
		if why == "" && id != s.self && !s.live[id] && s.gone[id] >= s.times.Dead && substitutes > 0 {
			why = "dead for long, and another takes its place"
		}
		if why != "" {
			changes = append(changes, change{srv, remove, why})
		}
	}
	return changes
}

// promotions come in pairs, so that the number of voters is odd again soon.
func (s situation) promotions() []change {
	voters, waiting := len(s.voters()), s.waiting(false)
	odd := voters%2 == 1
	if voters >= maxVoters || len(waiting) == 0 || odd && len(waiting) < 2 {
		return nil
	}
	first := slices.MinFunc(waiting, func(a, b Server) int {
		// A witness is what makes two members three; else members, which also own.
		if wa, wb := s.peer(a.Node).Witness, s.peer(b.Node).Witness; wa != wb {
			if wa == odd {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.Node, b.Node)
	})
	return []change{{first, promote, "it has kept up"}}
}

// demotions take the votes that are too many.
func (s situation) demotions() (changes []change) {
	voters := s.voters()
	why := "more voters than are of use"
	if len(voters) <= maxVoters {
		if len(voters)%2 == 1 || s.even < evenFor && len(s.waiting(true)) > 0 {
			return nil
		}
		why = "an even number of voters bears no more losses than one less"
	}
	slices.SortFunc(voters, func(a, b Server) int {
		return cmp.Or(
			falseFirst(s.live[string(a.id())], s.live[string(b.id())]),
			falseFirst(!s.peer(a.Node).Witness, !s.peer(b.Node).Witness),
			cmp.Compare(b.Node, a.Node))
	})
	for _, srv := range voters {
		if string(srv.id()) != s.self {
			changes = append(changes, change{srv, demote, why})
		}
	}
	return changes
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
