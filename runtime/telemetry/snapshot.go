package telemetry

// Snapshot is what a node knows of itself and of the cluster at one moment: the
// source of its metrics. Counts begin at zero when the node starts.
type Snapshot struct {
	// Node is the name of this node.
	Node string
	// Leader says that this node leads the ledger.
	Leader bool
	// Quorum says that the cluster can decide, as far as this node knows.
	Quorum bool
	// LeaseSeconds is what is left of this node's lease; 0 without one.
	LeaseSeconds float64
	// Groups are those of the running deployment.
	Groups []GroupSample
	// Nodes are the states of all nodes by name, as in the API's NodeStatus.
	Nodes map[string]string
	// Locations are those that run on this node.
	Locations []LocationSample
	// Ports are those that run on this node.
	Ports []PortSample
	// LeaseRenewals and LeaseRenewalFailures count attempts to renew the lease.
	LeaseRenewals, LeaseRenewalFailures uint64
	// LeaseLost counts how often the lease ran out while this node wanted it.
	LeaseLost uint64
	// LastTakeoverSeconds is, by group, how long the group was without an owner before
	// this node last took it over.
	LastTakeoverSeconds map[string]float64
}

// GroupSample is a group of clustered hosts as this node's replica shows it.
type GroupSample struct {
	Name string
	// Owner is the node that owns it; empty: none.
	Owner string
	// Owners is how many nodes own it: 0 or 1, anything else is a broken promise.
	Owners int
	// Acting says that this node acts for it now: its hosts run here, under a valid
	// lease.
	Acting bool
	Epoch  uint64
	// SinceOwnedSeconds is how long ago it was last owned; 0 while it is.
	SinceOwnedSeconds float64
	// Changes counts changes of its owner by cause, as the ledger names causes.
	Changes map[string]uint64
	// Failed says that its failovers are used up and it waits to be tried again.
	Failed bool
}

// LocationSample is one receive location that runs on this node.
type LocationSample struct {
	Name string
	// State is as in the API's LocationStatus.
	State    string
	Received uint64
	// The others are numbers of items now.
	InFlight, InDoubt, Suspended, Held, Settling int
}

// PortSample is one send port that runs on this node.
type PortSample struct {
	Name string
	Sent uint64
	// Retrying is the number of messages that wait to be sent again.
	Retrying int
	// Down says that the destination does not answer.
	Down bool
}
