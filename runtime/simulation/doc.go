// Package simulation tries to break the rules of ownership. It has no code of its
// own but tests: clusters of the real ledger (raft included), coordinators, tenants
// and placement, on networks, disks and clocks that are simulated, in virtual time.
//
// A schedule is made of one number, its seed. From it come the cluster, the faults
// and when they strike, the delay of every message and the speed of every clock.
// Checkers watch every act, every commit and every lease, and at the end that all
// that went in came out once.
//
// What it promises: a fault that a schedule shows is a fault of the code, or of what
// this package says of the world. What it leaves to others: real processes, networks
// and disks (package integration), and the ledger's own histories (package ledger).
package simulation
