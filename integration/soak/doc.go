// Package soak keeps a cluster of three nodes busy for as long as FAIRLEAD_SOAK says,
// such as 30m, and looks whether it stays the same: nothing is lost or doubled, and
// memory, goroutines, descriptors and spool do not grow.
//
// Files and queue messages go through it at a steady rate, from and to servers that
// live in the test's process and that go down now and then; an owner is killed every
// few minutes. The judgement of growth is a function of the samples and is tested
// without a cluster, always.
//
// It needs `make` to have built the binaries. Without FAIRLEAD_SOAK it is skipped: it
// is too long for every change.
package soak
