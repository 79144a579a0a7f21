// Package datadir locks a node's data directory for all processes of one
// incarnation: the runtime that opens it, and every adapter process, which inherits
// the open file.
//
// # What getting the lock proves
//
// The lock is a flock(2) on DIR/lock. It belongs to the open file, not to a process:
// the kernel gives it to somebody else only when every descriptor of that open file
// is closed, in whatever process it was inherited. A process that was killed keeps
// its descriptors until none of its threads can run any more; one that is stopped or
// frozen keeps them. So whoever gets the lock knows that the runtime that had it
// before, and every process that inherited it (adapters, and what these started in
// turn), can run no further instruction. What they gave to the kernel or the network
// earlier may still be on its way; no lock can call that back.
//
// [Lock.ID] names the lock, so that "I have the lock that you had" can be said to the
// rest of the cluster. As long as anybody holds a file open, its inode number and its
// device number are not given to another file of the same kernel, and the kernel's
// boot ID tells kernels apart. An equal ID therefore means: either the same file, or
// one that nobody has open any more. Both make the sentence above true.
//
// # Where it proves nothing
//
//   - The file was deleted or replaced while it was locked. The new file is another
//     inode, with another ID: nothing is claimed. [Open] checks after locking that the
//     path still leads to the file that it locked, and tries again if it does not.
//   - File systems that keep locks elsewhere (NFS, SMB, FUSE, cluster file systems)
//     may lose or share them. Only file systems of the kernel itself are trusted; on
//     others the lock is taken, but ID is empty, and a warning says so.
//   - Platforms other than Linux: the lock keeps a second runtime away, but ID is empty.
//   - A process that closes its inherited descriptor on purpose, as daemons do, no
//     longer holds the lock. The guardian still finds such a process, see its package.
//   - Two machines that were resumed from one memory image have the same boot ID. Such
//     copies of a running node share its incarnation, too, and must not be made.
//
// With an empty ID a node's death is believed when its lease has run out, or when its
// guardian certifies it.
package datadir
