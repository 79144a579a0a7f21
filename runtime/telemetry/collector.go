package telemetry

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// collector makes samples of one snapshot a scrape, so that they belong to one
// moment. It keeps nothing: what is gone from the snapshot is gone from the page.
type collector struct {
	snapshot func() Snapshot
}

var _ prometheus.Collector = (*collector)(nil)

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range families {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.snapshot()
	out := page{ch}
	out.node(&s)
	for _, g := range s.Groups {
		out.group(g)
	}
	for group, seconds := range s.LastTakeoverSeconds {
		out.add(groupTakeover, seconds, group)
	}
	for _, l := range s.Locations {
		out.location(l)
	}
	for _, p := range s.Ports {
		out.add(portSent, float64(p.Sent), p.Name)
		out.add(portRetrying, float64(p.Retrying), p.Name)
		out.flag(portDown, p.Down, p.Name)
	}
}

// page is where the samples of one scrape go.
type page struct {
	ch chan<- prometheus.Metric
}

func (p page) add(m metric, value float64, labels ...string) {
	sample, err := prometheus.NewConstMetric(m.desc, m.kind, value, labels...)
	if err != nil {
		// A name that is no UTF-8. It is told as an error of the scrape; a panic here
		// would end the node.
		sample = prometheus.NewInvalidMetric(m.desc, err)
	}
	p.ch <- sample
}

func (p page) flag(m metric, on bool, labels ...string) {
	value := 0.0
	if on {
		value = 1
	}
	p.add(m, value, labels...)
}

// state adds a series for each state that there is, and for one that is new.
func (p page) state(m metric, name, state string, known []string) {
	for _, s := range known {
		p.flag(m, s == state, name, s)
	}
	if state != "" && !slices.Contains(known, state) {
		p.flag(m, true, name, state)
	}
}

func (p page) node(s *Snapshot) {
	p.add(nodeInfo, 1, s.Node)
	p.flag(nodeLeader, s.Leader)
	p.add(nodeLease, s.LeaseSeconds)
	p.add(nodeRenewals, float64(s.LeaseRenewals))
	p.add(nodeRenewalFailures, float64(s.LeaseRenewalFailures))
	p.add(nodeLeasesLost, float64(s.LeaseLost))
	p.flag(clusterQuorum, s.Quorum)
	for name, state := range s.Nodes {
		p.state(nodeState, name, state, nodeStates)
	}
}

func (p page) group(g GroupSample) {
	p.add(groupOwners, float64(g.Owners), g.Name)
	if g.Owner != "" {
		p.add(groupOwnerInfo, 1, g.Name, g.Owner)
	}
	p.flag(groupActing, g.Acting, g.Name)
	p.add(groupEpoch, float64(g.Epoch), g.Name)
	p.add(groupUnowned, g.SinceOwnedSeconds, g.Name)
	p.flag(groupFailed, g.Failed, g.Name)
	for cause, n := range g.Changes {
		p.add(groupChanges, float64(n), g.Name, cause)
	}
}

func (p page) location(l LocationSample) {
	p.state(locationState, l.Name, l.State, locationStates)
	p.add(locationReceived, float64(l.Received), l.Name)
	p.add(locationInFlight, float64(l.InFlight), l.Name)
	p.add(locationInDoubt, float64(l.InDoubt), l.Name)
	p.add(locationSuspended, float64(l.Suspended), l.Name)
	p.add(locationHeld, float64(l.Held), l.Name)
	p.add(locationSettling, float64(l.Settling), l.Name)
}
