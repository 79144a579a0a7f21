// Package api is a node's HTTP/JSON interface: the types that travel, the server
// in front of a [Backend], and the client the command line is made of.
//
// It answers for the outside of a request: routes, sizes, time limits, who may
// change something from where, and errors as RFC 9457 problem details. What a
// request means is the Backend's business.
//
// It promises that a slow or hostile peer holds a connection for a bounded time
// and costs a bounded amount of memory, that a web page open in somebody's browser
// cannot change the cluster, and that Stop returns.
//
// There are no accounts. Whoever may write to the unix socket (mode 0660) or
// reach the loopback address may do everything; from other machines only reading
// is allowed unless [Options.RemoteChanges] is set.
package api
