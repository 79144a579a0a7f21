// Package ownership answers for the rule that at any instant at most one node
// acts for a group. It has two parts: the [Coordinator], which the ledger's
// leader runs, and the [Tenant], which every node runs.
//
// # The argument
//
// Why no two nodes act for a group at the same time:
//
//  1. A node acts only between the moment its own replica has applied "the group
//     is owned by this incarnation under this epoch" and the end of its lease, or
//     its own Release, whichever comes first ([Tenant]).
//  2. A lease ends at the time its request was sent plus TTL, on the boot clock
//     of the node ([Lease]). It is extended only after the grant was committed.
//  3. An owner changes in four ways. Release is said by the owner itself, after it
//     has stopped acting. Expire is said by the leader, when TTL × 1.1 has passed
//     on its own clock since it applied the last grant of that incarnation. Expire
//     with a proof passes on the word of the incarnation's guardian (7). Register
//     under the same lock shows that nothing of the earlier incarnation is left (8).
//  4. The grant was committed after it was asked for, so the lease it extended
//     ended at the latest TTL after the commit, on the node's clock. The leader
//     applied it after the commit, and waited longer by the tenth that two clocks
//     may differ. So when Expire is proposed, the lease is over.
//  5. No grant can slip in between: one loop on the leader proposes both grants
//     and expiries and waits for each; a new leader first applies everything that
//     was committed before it (barrier) and counts from then, never from what an
//     earlier leader saw; and an Expire names the grant it knows of, so that the
//     state machine refuses it if there is a later one.
//  6. After Expire the incarnation is refused every grant and every fate. It
//     stops what it runs and comes back as a new incarnation.
//  7. The proof is a secret of which the ledger has the SHA-256 from the
//     registration on. Only the guardian knows it, the parent of the runtime and the
//     reaper of all its descendants, and it tells it only when the kernel has no
//     descendant left to report. The state machine checks the proof, so it does not
//     matter who brings it, or how often.
//  8. The lock is a flock on a file of the data directory. Its open file is
//     inherited by every process of the incarnation, and the kernel releases it when
//     the last of them is gone. Its name in the ledger holds the machine's boot and
//     the file's identity: the same name cannot be held elsewhere. A registration
//     that is repeated or late does not pass for a newer one: it carries the index
//     that its node had seen, and is refused if the node has registered since.
//  9. A node that cannot end what it runs does not say that it has: it gives up its
//     lease ([TenantConfig.GiveUp]), and its process ends.
//
// What this cannot exclude is one effect that had left the process before it was
// frozen; docs/guarantees.md says what happens to it.
package ownership
