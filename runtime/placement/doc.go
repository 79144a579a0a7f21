// Package placement decides which node should own a group. It answers for all
// policy about owners: who may own a group, who should, when an owned group moves,
// and the sentence that says why.
//
// It is a pure function of the facts in [Cluster]: the same facts give the same
// answer on any node, in whatever order they come. It knows no clock but
// Cluster.Now, and keeps nothing between calls, so it is safe for concurrent use.
//
// # Who may own a group
//
// [Refusal] says why a node cannot. Beyond that, a node is not given a group that a
// hard anti-affinity forbids beside one that is there, or is on its way there. A
// node in quarantine is given a group without owner when no other node can take it.
//
// # Who should
//
// Of the nodes that may, the first by this order:
//
//  1. one where the group has not failed lately ([Group.Avoid])
//  2. the one a person moved it to ([Group.Pinned])
//  3. one with fewer groups that it should be apart from (soft anti-affinity), as
//     on a Windows cluster before the preferred owners: two groups with the same
//     preferred owners would never be apart otherwise
//  4. the better preferred owner
//  5. the one with fewer groups
//  6. the first by name
//
// # When an owned group moves
//
//   - It must: its owner is draining, or is refused for what does not pass by itself
//     (witness, possible owners, adapters), or it stands beside a group that a hard
//     anti-affinity forbids. Of two such groups the later by name moves, unless it
//     was moved there by a person and the other was not; if it cannot, the other.
//     A paused or quarantined owner keeps what it has.
//   - It may: its failback is immediate, or its window is open, and nobody moved it
//     by hand. Then it moves to where it should be by the order above, for load only
//     if the owner has at least two groups more than the other node, so that moving
//     makes the difference smaller. It moves only to nodes that have been up for
//     [Settled]. A group with failback never, the default, is never moved for
//     preference or load.
//
// All moves that are made by choice lower one and the same sum over all groups, so
// they come to an end and never go round in circles. A group with nowhere to go
// stays; [Explain] says so.
//
// # Limits
//
// Groups are placed one after the other, those with the fewest nodes to choose from
// first. A set of hard anti-affinities that only a clever arrangement can satisfy
// may leave a group without an owner; its decision names what is in the way.
//
// What it leaves to others: whether a node is dead, carrying decisions out, and
// holding leases. Nodes without a lease are not in [Cluster.Nodes]; groups of such
// an owner are left alone.
package placement
