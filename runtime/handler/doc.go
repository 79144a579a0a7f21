// Package handler runs one adapter plugin process and speaks with it.
//
// It is answerable for the process: that the file it starts is the one whose
// checksum was pinned, that the process gets a reduced environment and no secret
// in argv or environ, that it is in a process group of its own, that it dies when
// this process dies, when its lease ends, when it stops answering and when it is
// told to, and that every end is reported with its reason. It promises that
// [Handler.Kill] is bounded in time whatever the plugin does (stopped, frozen, hung
// in the kernel, full of grandchildren that hold its pipes), that nothing a plugin
// writes can crash or block the runtime, and that a finished handler leaves no
// process, no goroutine and no file behind, or says which process it leaves
// ([ErrSurvives]).
//
// It leaves to others: what is said on the stream (exchange), when to restart or
// give up (host), and when the node may act at all (ownership). It never decides
// that a lease is valid; it only ends the process before the lease does.
//
// # Starting
//
// [Scan] finds the binaries and asks each what it is. [Start] launches one for a
// host and returns when it has said Ready. Starting takes some 70 ms, most of it
// for the keys of mutual TLS, and up to [StartTimeout] if the plugin is silent:
// never start from a goroutine that serves raft, or while holding a lock.
//
// [Prepare] does the most of that ahead: it launches a process, shakes hands, checks
// what it is, and leaves it unconfigured. It knows no endpoint, no secret and no
// lease, so it cannot act. A Start that is given it has only to configure it, which
// takes 1 to 2 ms instead of some 100 (BenchmarkStart). A [Pool] keeps such processes.
//
// The file is opened once, checked, and executed through that open descriptor, so
// that on Linux a file renamed into its place between check and start is not run.
// What no check can exclude is writing into the very same file: binaries must not
// be writable by others than their owner.
//
// # Environment
//
// A plugin gets PATH, HOME, TMPDIR, TZ, LANG, LC_ALL, SSL_CERT_FILE and
// SSL_CERT_DIR if the runtime has them, the level it is to log at, what the handshake
// needs, and FAIRLEAD_HANDLER, by which its descendants are known. Nothing else.
//
// # Ends of a process
//
// On Linux the kernel kills the plugin with the thread that started it, which is
// kept for that purpose. On every system the plugin's standard input is a pipe that
// the runtime holds open: the SDK exits when it closes.
//
// A process is ended in steps. Stop asks it to. SIGKILL goes to the process and its
// group. When it is gone, or does not go, descendants that have left the group are
// looked for in /proc (Linux), killed, and looked for again. What is still there
// [KillWithin] after the first SIGKILL hangs in the kernel: Kill, Stop and Err then
// return a [SurvivesError] with its number and state, for the node to give up its
// lease. A descendant that left the group and dropped FAIRLEAD_HANDLER, and on other
// systems any that left the group, is out of reach here; the guardian and the service
// manager's control group sweep those.
package handler
