// Package guardian vouches for the death of a runtime.
//
// A node that is silent may still act, so others have to wait until its lease has run
// out, unless somebody on the same machine can swear that nothing of it is left. The
// guardian is that somebody: a small process that starts the real runtime as its child
// and does nothing else. When the runtime dies, of whatever cause, the guardian kills
// and reaps every descendant, then tells the other nodes, then starts a new runtime.
//
// # What it promises
//
//   - The notice of death goes out only after the kernel has said that the guardian has
//     no child left (ECHILD of wait4(2)). The guardian is a subreaper, see prctl(2): a
//     process whose parent ends becomes its child, whatever group or session it is in.
//     So no child left means no descendant left. A process that cannot be killed keeps
//     the notice, and the next runtime, back.
//   - The notice cannot be made up by others. Each runtime is started with a secret of
//     its own, of which only the SHA-256, the certifier, leaves the guardian before
//     that runtime is dead. The runtime registers the certifier in the ledger; the
//     notice carries the secret.
//   - A runtime does not outlive its guardian: the kernel kills it (PR_SET_PDEATHSIG),
//     and so does the loss of the link between the two, for binaries with file
//     capabilities, which lose the former. Adapter processes are tied to the runtime in
//     the same way, by package handler.
//   - A runtime that hangs is killed: one that shows no sign of life for a time during
//     which the guardian itself was running.
//
// # What it leaves to others
//
// Descendants that somebody else starts on their behalf (a service manager, a cron
// daemon, a container engine), and ones with the right to enter other PID namespaces,
// are not its descendants any more. When the guardian itself dies, nobody sends a
// notice: then the lock of the data directory is the proof, see package datadir, or
// the lease runs out. What was given to the kernel or the network before a process
// died may still arrive.
//
// It needs Linux, and /proc of its own PID namespace. Elsewhere [Supported] is false,
// the runtime runs without a guardian, and the lease alone protects.
package guardian
