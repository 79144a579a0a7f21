// Package integration holds the tests with real processes and real servers: node
// processes that are killed and frozen, between FTP, POP3 and queue servers that
// know nothing of it. What went in is compared with what came out, and the
// servers' own logs say who was there when.
//
// They need `make` to have built the binaries, and the server scripts beside the
// repository (FAIRLEAD_SERVERS overrides where).
package integration
