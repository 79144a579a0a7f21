// Package netns holds the test of a cluster that is really hurt: five node processes,
// each in a network namespace of its own behind a virtual cable, a real FTP server as
// source and destination, a nemesis, and a judge that stands outside and believes
// nothing but the server's log and the files that arrived.
//
// The test binary starts itself again in new network and mount namespaces, so that
// whatever it makes vanishes with it and nothing outside can be touched. That needs
// root, Linux and the programs ip, tc and bridge (Debian: iproute2). Where it is not
// possible the test is skipped with a loud line, or fails if FAIRLEAD_REQUIRE_NETNS=1,
// as continuous integration has it.
//
// Faults on the network need nothing but what every kernel has: a queue without room
// (bfifo) loses everything that leaves an interface, a class of htb leads what goes
// to some addresses into such a queue, and the slow link is a relay of frames in
// this process. netem is not needed.
//
//	FAIRLEAD_SEED=n          repeats a run's random choices
//	CHAOS_ROUNDS=n           so many random faults after those that always come
//	FAIRLEAD_BIN=dir         other binaries than the repository's bin/
//	FAIRLEAD_SERVERS=dir     where the servers' scripts are
package netns
