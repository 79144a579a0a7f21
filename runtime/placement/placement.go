package placement

import "time"

// Causes of moves.
const (
	CauseDrain    = "drain"    // the owner gives away what it has
	CausePolicy   = "policy"   // the owner may not have the group, or the group is stopped
	CauseFailback = "failback" // a better preferred owner is there
	CauseBalance  = "balance"  // load, or soft anti-affinity
)

// Settled is how long a node must have been up before groups that are well where
// they are move to it: one that comes and goes would draw them forth and back.
const Settled = 30 * time.Second

// Cluster is what decisions rest on.
type Cluster struct {
	Nodes  []Node
	Groups []Group
	// Now is the wall clock, for windows of failback, the end of a failure and how
	// long a node has been up. Nothing that keeps owners apart rests on it.
	Now time.Time
}

// Adapter is one adapter that a node offers.
type Adapter struct {
	Name, Version string
	// SHA256 of its binary, in hex.
	SHA256 string
}

// Node is one node that holds a lease. Names are unique.
type Node struct {
	Name, Incarnation string
	// Witness: votes and owns nothing.
	Witness bool
	// Draining: gives away what it has and takes nothing.
	Draining bool
	// Paused: keeps what it has and takes nothing.
	Paused bool
	// Quarantined says why the node takes nothing although it keeps what it has,
	// such as "expired 4 times in an hour". Empty: it is not quarantined.
	Quarantined string
	Adapters    []Adapter
	// Up is when this incarnation came up; see [Settled]. Zero: long ago.
	Up time.Time
}

// Need is an adapter that a group's hosts use.
type Need struct {
	Name string
	// SHA256 are the binaries that may be used, in hex. Empty: any.
	SHA256 []string
}

// Group is what a group asks of its owner. Names are unique.
type Group struct {
	Name string
	// Owner is the node that owns it now. Empty: none.
	Owner string
	// Moving is the node that Owner has been asked to hand the group over to. The
	// group counts as being there, and is not moved again. A name that no node has
	// stands for a place that is not known yet. Empty: it is not moving.
	Moving string
	// Possible owners, in any order. Empty: every member.
	Possible []string
	// Preferred owners, the best first.
	Preferred []string
	Adapters  []Need
	// AntiAffinity are the groups to be apart from. It holds both ways, whichever of
	// the two names the other.
	AntiAffinity []Affinity
	Failback     Failback
	// Pinned is the node that a person moved it to: preferred before all others.
	// Until the pin is taken back nothing moves the group but a must.
	Pinned string
	// Stopped says why the group is not to run at all. Empty: it runs.
	Stopped string
	// FailedUntil: nobody is to own it before that time. Zero: it has not failed.
	FailedUntil time.Time
	// Avoid are the nodes it failed on lately: the last choice, yet a choice. The
	// one that owns it now counts as good.
	Avoid []Avoid
}

// Affinity names a group to be apart from.
type Affinity struct {
	Group string
	// Hard: never on the same node. Otherwise only if there is no other choice.
	Hard bool
}

// Avoid is a node that a group failed on.
type Avoid struct {
	Node string
	// Reason is what failed there.
	Reason string
}

// Decision is the wanted owner of a group; without Node there is none.
type Decision struct {
	Group, Node, Incarnation string
	// Reason is a sentence for operators.
	Reason string
	// Cause is the kind of reason of a move; see the constants. Empty otherwise.
	Cause string
}
