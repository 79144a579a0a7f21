// Package crash kills a node, or one of its adapter processes, at every step of a
// message's way, and looks whether each item is at its destination exactly once.
//
// The node under test is this test's own binary, started again: it runs
// runtime/node with the built adapters as child processes, and when the exchange has
// come to a given step for the given time, it kills itself or one of the children with
// SIGKILL, before anything else happens there. Servers, sources and destinations live
// in the test's process and outlive it.
//
// What is promised: a step at which a crash loses or doubles an item fails here, for
// every pair of adapters that can probe or deduplicate. What is not: crashes of the
// machine, which take away what was not synced; and several nodes, see the packages
// integration and integration/netns.
//
// The tests need `make` to have built the adapters.
package crash
