// Package tracking keeps the recent history of each message on the node: when it was
// received, where it was routed, what was sent, what went wrong, when it was settled;
// and, where a location asks for it, copies of its content.
//
// It is answerable for staying small: the disk that it takes is bounded by
// [Config.MaxBytes], the age of what it keeps by [Config.MaxAge], and its memory to a
// few MiB. It never holds up a message: [Store.Note] neither waits nor fails, and what
// it has to drop is counted.
//
// # What it promises, and what not
//
// History is for people. Whether a message has arrived is in the ledger, and nothing
// in the runtime decides by what is kept here. Therefore nothing is forced to the disk
// (no fsync): a process that dies loses at most the last [flushEvery], a machine that
// loses its power what the kernel had not yet written. What such an end leaves
// behind is cut off or passed over at the next [Open], with a line in the log.
//
// A message that changed its owner has steps on several nodes. Each node keeps its
// own; [Merge] puts the answers of several nodes together.
//
// # On the disk
//
//	DIR/00000001.steps    segments: the steps in the order they were noted
//	DIR/00000002.steps
//	DIR/content/…         one file for each part of which a copy was made
//
// The newest segment grows. When it is full it is closed with two sorted tables, of
// its messages and of its locations, so that a query reads only what it needs; in
// memory stays a Bloom filter for each segment. The oldest segment is deleted when room
// is needed, or when its newest step is too old. An own format instead of a database:
// steps are only ever added at one end and dropped at the other, and that is what a
// file can do.
package tracking
