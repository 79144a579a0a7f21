package api

import (
	"context"
	"encoding/json"
	"time"
)

// Status is the answer of GET /v1/status. Scripts rely on its fields.
type Status struct {
	Cluster          ClusterStatus    `json:"cluster"`
	Nodes            []NodeStatus     `json:"nodes"`
	Hosts            []HostStatus     `json:"hosts"`
	ReceiveLocations []LocationStatus `json:"receive_locations"`
	SendPorts        []PortStatus     `json:"send_ports"`
}

// ClusterStatus says whether the cluster can decide anything.
type ClusterStatus struct {
	Name       string `json:"name"`
	Leader     string `json:"leader"`
	Quorum     bool   `json:"quorum"`
	Deployment uint64 `json:"deployment"`
	// ID is the cluster's identity, given once when it was founded; empty before.
	ID string `json:"id"`
	// QuorumText says in words what is missing; empty while Quorum is true.
	QuorumText string `json:"quorum_text"`
	// Voters are the names of the nodes whose majority decides.
	Voters []string `json:"voters"`
}

// NodeStatus is one node as the answering node sees it.
type NodeStatus struct {
	Name string `json:"name"`
	Role string `json:"role"`
	// State is alive, suspect, dead, left, draining, paused or quarantined.
	State       string          `json:"state"`
	Incarnation string          `json:"incarnation"`
	Version     string          `json:"version"`
	LeaseMS     int64           `json:"lease_ms"`
	Adapters    []AdapterStatus `json:"adapters"`
	// Reason says why State is not alive.
	Reason string `json:"reason"`
	// Voter says that the node counts for a majority.
	Voter bool `json:"voter"`
	// Owns are the groups that the node owns.
	Owns []string `json:"owns"`
}

// AdapterStatus is one adapter that a node offers.
type AdapterStatus struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// HostStatus is one host. For a host that is not clustered, Owner is empty.
type HostStatus struct {
	Name      string `json:"name"`
	Group     string `json:"group"`
	Clustered bool   `json:"clustered"`
	Owner     string `json:"owner"`
	Epoch     uint64 `json:"epoch"`
	// State is running, starting, draining, stopped, failed or unowned.
	State    string          `json:"state"`
	Reason   string          `json:"reason"`
	Handlers []HandlerStatus `json:"handlers,omitempty"`
	// Pinned is the node that a person moved the group to: it stays there until the
	// host is resumed. Empty: none.
	Pinned string `json:"pinned"`
	// Failures is how often the group failed over within its policy's time.
	Failures int `json:"failures"`
	// FailedUntil is when a failed host is tried again; nil unless it failed.
	FailedUntil *time.Time `json:"failed_until,omitempty"`
	// Standby is the node that would take over, with "(warm)" after it where the
	// handlers are started there already. Empty: no node could, or not clustered.
	Standby string `json:"standby"`
	// Since is when the present owner, or the lack of one, began.
	Since *time.Time `json:"since,omitempty"`
	// LastOwner is who owned the group before; empty if nobody did.
	LastOwner string `json:"last_owner"`
}

// HandlerStatus is one adapter process of a running host.
type HandlerStatus struct {
	Adapter  string `json:"adapter"`
	Node     string `json:"node"`
	PID      int    `json:"pid"`
	State    string `json:"state"`
	Restarts int    `json:"restarts"`
	Error    string `json:"last_error"`
}

// LocationStatus is one receive location.
type LocationStatus struct {
	Name    string `json:"name"`
	Host    string `json:"host"`
	Adapter string `json:"adapter"`
	Node    string `json:"node"`
	// State is idle, polling, backing-off, stopped, outside-window or
	// waiting-for-spool.
	State     string `json:"state"`
	Received  uint64 `json:"received"`
	InFlight  int    `json:"in_flight"`
	InDoubt   int    `json:"in_doubt"`
	Suspended int    `json:"suspended"`
	LastItem  string `json:"last_item"`
	LastError string `json:"last_error"`
	// Settling are the messages that have arrived, or were given up, and whose source
	// has yet to confirm that they are done with.
	Settling int `json:"settling"`
	// Held are the items that wait behind a suspended one, in a location with order.
	Held int `json:"held"`
	// NextPoll is when the source is looked at next; nil if that is not known or not
	// planned.
	NextPoll *time.Time `json:"next_poll,omitempty"`
	// Window says in words when it opens or closes, such as "closes at 22:00
	// (Europe/Paris)"; empty without one.
	Window string `json:"window"`
	// Stopped says that it was stopped by order, and not by the deployment.
	Stopped bool `json:"stopped"`
}

// PortStatus is one send port, summed over the nodes that run it.
type PortStatus struct {
	Name      string `json:"name"`
	Host      string `json:"host"`
	Adapter   string `json:"adapter"`
	State     string `json:"state"`
	Sent      uint64 `json:"sent"`
	Retrying  int    `json:"retrying"`
	LastError string `json:"last_error"`
	// Down says that the destination as a whole does not answer: nothing is sent
	// there, and no message uses up its attempts, until one trial succeeds.
	Down bool `json:"down"`
	// DownSince is since when, and RetryAt when the next trial is; nil while it is not
	// down. Of several nodes it is the earliest.
	DownSince *time.Time `json:"down_since,omitempty"`
	RetryAt   *time.Time `json:"retry_at,omitempty"`
	// Window says in words when it opens or closes; empty without one.
	Window string `json:"window"`
	// Rate is the most that it may send, as in the deployment, such as "50/s"; empty
	// without a limit.
	Rate string `json:"rate"`
	// Stopped says that it was stopped by order.
	Stopped bool `json:"stopped"`
}

// Message is one item on its way or, with history, one that was.
type Message struct {
	// ID is the same for every attempt, on whichever node. Empty: held, and not read
	// yet.
	ID       string `json:"id"`
	Location string `json:"location"`
	// Key is the item's at its source, as the adapter made it.
	Key string `json:"key"`
	// Name is what people call it, such as the file's name.
	Name string `json:"name"`
	// State is one of MessageStates.
	State string `json:"state"`
	// Node is the node that carries it, or was the last to; empty if none does.
	Node string `json:"node"`
	// Size is the content's, in bytes; 0 where it is not known.
	Size int64 `json:"size"`
	// Pending are the send ports that have not confirmed it, Delivered those that
	// have.
	Pending   []string `json:"pending"`
	Delivered []string `json:"delivered"`
	// Reason says why it is suspended or held.
	Reason string `json:"reason"`
	// Since is when it came into its state or, where that is not known, when it was
	// first taken up.
	Since time.Time `json:"since"`
	// Received is when it was taken from its source, Settled when the source confirmed
	// that it is done with; nil if that is not known or was not yet.
	Received *time.Time `json:"received,omitempty"`
	Settled  *time.Time `json:"settled,omitempty"`
	// Attempts are those that failed, as far as they are kept, the newest last.
	Attempts []Attempt `json:"attempts"`
	// Where says in words where the content lies, such as "at its source: file
	// /out/a.edi, unchanged".
	Where string `json:"where,omitempty"`
	// Context are its properties, and History what happened to it, oldest first. Both
	// come with a single message only, as far as the location's track keeps them.
	Context map[string]string `json:"context,omitempty"`
	History []Step            `json:"history,omitempty"`
}

// Event is one thing that happened in the cluster, as this node's replica of the
// ledger shows it. Events of one ledger entry have the same Index.
type Event struct {
	Index uint64    `json:"index"`
	At    time.Time `json:"at"`
	// Kind is one of EventKinds.
	Kind  string `json:"kind"`
	Node  string `json:"node,omitempty"`
	Group string `json:"group,omitempty"`
	Host  string `json:"host,omitempty"`
	// From and To are the nodes of a change of owner.
	From  string `json:"from,omitempty"`
	To    string `json:"to,omitempty"`
	Epoch uint64 `json:"epoch,omitempty"`
	// Cause is why the owner changed: deploy, move, drain, leave, failback, balance,
	// policy, failure, death (certified), lease (run out) or start.
	Cause string `json:"cause,omitempty"`
	// GapMS is how long nobody can have acted for the group, in milliseconds: from
	// the earlier owner's last grant, or its release, to the assignment. Nil: there
	// was no earlier owner, or the event is not about taking over.
	GapMS *int64 `json:"gap_ms,omitempty"`
	Text  string `json:"text"`
}

// EventKinds are the kinds of events. Scripts pass over kinds that they do not know:
// later versions add some.
var EventKinds = []string{
	"node-registered", "node-expired", "node-left", "node-drained", "node-paused", "node-resumed", "node-removed",
	"group-owned", "group-unowned", "group-moving", "group-failed", "group-reset", "group-resumed",
	"host-started", "host-stopped", "deployed", "location-moved",
	// By order, with the name in Text.
	"location-started", "location-stopped", "port-started", "port-stopped",
	// One item by its location's policy; several by one order, with their number in Text.
	"item-suspended", "items-resumed", "items-discarded",
	"cluster-founded", "cluster-recovered", "upgraded",
}

// Adapter is one adapter as this node found it.
type Adapter struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Summary string `json:"summary"`
	Path    string `json:"path"`
	SHA256  string `json:"sha256"`
	// Error says why the file cannot be used; the rest is then empty.
	Error   string       `json:"error,omitempty"`
	Receive *AdapterSide `json:"receive,omitempty"`
	Send    *AdapterSide `json:"send,omitempty"`
}

// Version is the answer of GET /v1/version.
type Version struct {
	Version string `json:"version"`
	// Commit is the source revision, empty if the build does not know it.
	Commit string `json:"commit,omitempty"`
	Go     string `json:"go"`
	// Platform is such as linux/amd64.
	Platform string `json:"platform"`
}

// AdapterSide is what endpoints of one side take.
type AdapterSide struct {
	// Schema is the JSON Schema of the endpoint's properties, as the adapter wrote
	// it: the order of the properties is for people.
	Schema    json.RawMessage `json:"schema"`
	Exclusive bool            `json:"exclusive,omitempty"`
	Probes    bool            `json:"probes,omitempty"`
}

// DeployRequest is the body of POST /v1/deployments.
type DeployRequest struct {
	Name   string `json:"name"`
	Source string `json:"source"`
	DryRun bool   `json:"dry_run"`
}

// DeployReply says what was accepted.
type DeployReply struct {
	Version  uint64   `json:"version"`
	Warnings []string `json:"warnings"`
	// Changed is false if the running deployment is already this one.
	Changed bool `json:"changed"`
}

// MoveRequest is the body of POST /v1/hosts/NAME/move. Without To the cluster
// chooses.
type MoveRequest struct {
	To string `json:"to"`
}

// MoveReply says who owns the host's group now.
type MoveReply struct {
	Group string `json:"group"`
	From  string `json:"from"`
	To    string `json:"to"`
	Epoch uint64 `json:"epoch"`
}

// Backend is the node behind the API. Its errors are *Problem where the caller is
// to learn more than "internal error".
type Backend interface {
	Operator
	Exchange
	Status(ctx context.Context) (*Status, error)
	Host(ctx context.Context, name string) (*HostStatus, error)
	// MoveHost returns when the new owner is committed and has taken over, or ctx
	// ends.
	MoveHost(ctx context.Context, name, to string) (*MoveReply, error)
	Adapters(ctx context.Context) ([]Adapter, error)
	Adapter(ctx context.Context, name string) (*Adapter, error)
	Deploy(ctx context.Context, r DeployRequest) (*DeployReply, error)
	// Events returns those after index, oldest first.
	Events(ctx context.Context, after uint64) ([]Event, error)
	// FollowEvents calls each for every later event until ctx ends or it fails.
	FollowEvents(ctx context.Context, after uint64, each func(Event) error) error
	// Ready reports whether this node could act: it has a leader and a lease.
	Ready(ctx context.Context) error
}
