package membership

import (
	"time"

	"github.com/hashicorp/memberlist"
)

// timing is the gossip's share of a profile.
type timing struct {
	// probe is how often a node asks another for an answer, and answer how long it
	// waits before it asks others to try.
	probe, answer time.Duration
	// suspicion times probe is the least time between suspecting a node and calling
	// it dead in a small cluster, and doubt times that the longest.
	suspicion, doubt int
	gossip           time.Duration
	// reclaim is how long after its death a node may come back under another
	// address.
	reclaim time.Duration
}

// timings, by profile. Measured, a dead node is noticed in about 1, 3 and 15 s.
// That is slower than a lease runs out; only the display waits for it.
var timings = map[string]timing{
	"local": {probe: 250 * time.Millisecond, answer: 150 * time.Millisecond, suspicion: 3, doubt: 2, gossip: 100 * time.Millisecond, reclaim: time.Second},
	"lan":   {probe: 500 * time.Millisecond, answer: 250 * time.Millisecond, suspicion: 4, doubt: 3, gossip: 100 * time.Millisecond, reclaim: 5 * time.Second},
	"wan":   {probe: 3 * time.Second, answer: 1500 * time.Millisecond, suspicion: 4, doubt: 3, gossip: 300 * time.Millisecond, reclaim: 5 * time.Second},
}

func (t timing) config() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.ProbeInterval, c.ProbeTimeout = t.probe, t.answer
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = t.suspicion, t.doubt
	c.GossipInterval = t.gossip
	c.DeadNodeReclaimTime = t.reclaim
	// Fewer repetitions have left single nodes uninformed for 20 s.
	c.RetransmitMult = 4
	c.PushPullInterval = 15 * time.Second
	c.TCPTimeout = 5 * time.Second
	c.GossipToTheDeadTime = time.Minute
	return c
}
