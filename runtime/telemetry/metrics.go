package telemetry

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes bounds the scrapes under way: each takes a snapshot.
const maxScrapes = 4

// NewMetrics returns the handler of GET /metrics, in the formats of Prometheus and
// OpenMetrics: what snapshot says, and the Go runtime and the process. snapshot is
// called once for each scrape, by several goroutines at a time; it must be cheap,
// and not wait for the network or the disk. What it returns is not changed.
//
// The registry is the handler's own: nothing that a library registers globally
// appears, and several nodes live in one process.
func NewMetrics(snapshot func() Snapshot) http.Handler {
	return promhttp.HandlerFor(newRegistry(snapshot), promhttp.HandlerOpts{
		// One sample that cannot be told must not hide all others.
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
		EnableOpenMetrics:   true,
	})
}

func newRegistry(snapshot func() Snapshot) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{snapshot: snapshot},
	)
	return r
}

// states of nodes and locations have a series each, so that one which ends reads 0
// and does not merely vanish. The words are those of the API.
var (
	nodeStates     = []string{"alive", "suspect", "dead", "left", "draining", "paused", "quarantined"}
	locationStates = []string{"idle", "polling", "backing-off", "stopped", "outside-window", "waiting-for-spool"}
)

// metric is one family of this package.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func gauge(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("fairlead_"+name, help, labels, nil), prometheus.GaugeValue}
}

func counter(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("fairlead_"+name, help, labels, nil), prometheus.CounterValue}
}

var (
	nodeInfo = gauge("node_info",
		"Always 1; the label says which node this target is.", "node")
	nodeLeader = gauge("node_leader",
		"1 if this node leads the ledger. The sum over the nodes is 1 but for the moments of an election.")
	nodeLease = gauge("node_lease_seconds",
		"What is left of this node's lease; at 0 it acts for nothing. Swings between three quarters of the lease and the whole when all is well; lower means a slow network, disk or leader.")
	nodeRenewals = counter("node_lease_renewals_total",
		"Renewals of this node's lease that succeeded.")
	nodeRenewalFailures = counter("node_lease_renewal_failures_total",
		"Renewals of this node's lease that failed. Some are normal at a change of leader.")
	nodeLeasesLost = counter("node_leases_lost_total",
		"How often this node lost its lease while it wanted it, and ended what it ran. More than 0 without a fault means that the machine is too busy for the profile's times.")
	nodeState = gauge("node_state",
		"1 for the state that each node of the cluster is in, as this node sees it, 0 for all others.", "node", "state")
	clusterQuorum = gauge("cluster_quorum",
		"1 if the cluster can decide, as far as this node knows. At 0 nothing is owned here once the lease has run out.")

	groupOwners = gauge("group_owners",
		"How many nodes own the group, as this node's replica shows it: 0 or 1, never anything else.", "group")
	groupOwnerInfo = gauge("group_owner_info",
		"Always 1; the label node says who owns the group. Not there while nobody does.", "group", "node")
	groupActing = gauge("group_acting",
		"1 if this node acts for the group now. The sum over the nodes is at most 1, but for targets that were scraped at different times around a change of owner.", "group")
	groupEpoch = gauge("group_epoch",
		"The group's epoch: it grows by one at every change of owner. Nodes that disagree for long do not follow the ledger.", "group")
	groupUnowned = gauge("group_unowned_seconds",
		"Time since the group was last owned; 0 while it is.", "group")
	groupChanges = counter("group_changes_total",
		"Changes of the group's owner that this node has seen since it started, by cause: deploy, move, drain, leave, failback, balance, policy, failure, death, lease or start. Each node counts all of them: take the maximum over the nodes, not the sum.", "group", "cause")
	groupFailed = gauge("group_failed",
		"1 if the group's failovers are used up: nobody runs it until it is tried again, or reset by hand.", "group")
	groupTakeover = gauge("group_last_takeover_seconds",
		"How long the group was without an owner before this node last took it over.", "group")

	locationState = gauge("location_state",
		"1 for the state that the receive location is in on this node, 0 for all others.", "location", "state")
	locationReceived = counter("location_received_total",
		"Items that this node has received from the location and delivered.", "location")
	locationInFlight = gauge("location_in_flight",
		"Items of the location that are on their way now.", "location")
	locationInDoubt = gauge("location_in_doubt",
		"Items of the location that an earlier owner had begun to send, and of which it is not known yet whether they arrived.", "location")
	locationSuspended = gauge("location_suspended",
		"Items of the location that used up their retries or match no route: they wait for a person.", "location")
	locationHeld = gauge("location_held",
		"Items of the location that wait behind a suspended one, to keep the order.", "location")
	locationSettling = gauge("location_settling",
		"Items of the location that have arrived everywhere, and whose source has yet to confirm that they are done with.", "location")

	portSent = counter("port_sent_total",
		"Messages that this node has sent through the port and whose receipt was confirmed.", "port")
	portRetrying = gauge("port_retrying",
		"Messages that wait on this node to be sent through the port again.", "port")
	portDown = gauge("port_down",
		"1 while nothing is sent through the port from this node, because its destination does not answer.", "port")
)

// families are all of the above, in the order of the page.
var families = []metric{
	nodeInfo, nodeLeader, nodeLease, nodeRenewals, nodeRenewalFailures, nodeLeasesLost, nodeState, clusterQuorum,
	groupOwners, groupOwnerInfo, groupActing, groupEpoch, groupUnowned, groupChanges, groupFailed, groupTakeover,
	locationState, locationReceived, locationInFlight, locationInDoubt, locationSuspended, locationHeld, locationSettling,
	portSent, portRetrying, portDown,
}
