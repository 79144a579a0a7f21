package node

import (
	"fmt"
	"time"

	"github.com/fairlead-io/fairlead/runtime/ledger"
)

// Profile holds the times that depend on the network between the nodes. They
// belong together: the lease must outlast an election, or a change of leader stops
// every handler of the cluster.
type Profile struct {
	// Lease is the TTL. A node that is cut off or frozen is replaced after
	// Lease × 1.1 at the latest, or an election later if it led the ledger.
	Lease time.Duration
	Raft  ledger.Timing
}

// profiles, by name. An election takes about 2 × Heartbeat in the median and
// 3.5 × at worst (measured), so Lease is 5 × or more.
var profiles = map[string]Profile{
	// One machine: demo, tests.
	"local": {Lease: 1200 * time.Millisecond, Raft: raftTiming(200*time.Millisecond, 10*time.Millisecond)},
	// One site.
	"lan": {Lease: 1500 * time.Millisecond, Raft: raftTiming(300*time.Millisecond, 20*time.Millisecond)},
	// Several sites.
	"wan": {Lease: 8 * time.Second, Raft: raftTiming(1500*time.Millisecond, 50*time.Millisecond)},
}

func raftTiming(heartbeat, commit time.Duration) ledger.Timing {
	// A leader that resigns because its own machine is busy costs an election, and one
	// that stays too long costs nothing but time: its lease is as long as may be.
	return ledger.Timing{Heartbeat: heartbeat, Election: heartbeat, LeaderLease: heartbeat, Commit: commit}
}

func profile(name string) (Profile, error) {
	p, ok := profiles[name]
	if !ok {
		return Profile{}, fmt.Errorf("cluster.profile %q: want local, lan or wan", name)
	}
	return p, nil
}
