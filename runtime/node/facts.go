package node

import (
	"fmt"
	"time"

	"github.com/fairlead-io/fairlead/runtime/config"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/placement"
)

// cluster is placement's view of the state. It runs under the ledger's lock.
func (n *Node) cluster(s *pb.State) placement.Cluster {
	c := placement.Cluster{Now: time.Now()}
	for _, session := range newestSessions(s) {
		c.Nodes = append(c.Nodes, nodeFacts(session, s.GetNodes()[session.GetNode()], c.Now))
	}
	for _, g := range n.plans.groupsOf(s) {
		c.Groups = append(c.Groups, groupFacts(g, s, c.Now))
	}
	return c
}

func nodeFacts(session *pb.Session, record *pb.Node, now time.Time) placement.Node {
	node := placement.Node{
		Name: session.GetNode(), Incarnation: session.GetIncarnation(), Witness: session.GetRole() == "witness",
		Draining: record.GetOrder() == pb.SetNode_DRAIN, Paused: record.GetOrder() == pb.SetNode_PAUSE,
		Quarantined: flapping(record, now), Up: time.UnixMilli(session.GetRegisteredAtMs()),
	}
	for _, a := range session.GetAdapters() {
		node.Adapters = append(node.Adapters, placement.Adapter{Name: a.GetName(), Version: a.GetVersion(), SHA256: a.GetSha256()})
	}
	return node
}

// avoidFor is how long a node on which a group failed is the last choice for it.
const avoidFor = 30 * time.Minute

func groupFacts(g config.Group, s *pb.State, now time.Time) placement.Group {
	is := s.GetGroups()[g.Name]
	facts := placement.Group{
		Name: g.Name, Owner: is.GetOwner(), Moving: is.GetMovingTo(),
		Possible: g.PossibleOwners, Preferred: g.PreferredOwners, Pinned: is.GetPinned(),
		Stopped: stopped(g, s),
		Failback: placement.Failback{
			Mode: g.Failback.Mode, From: g.Failback.From, To: g.Failback.To, Location: g.Failback.Location,
		},
	}
	for _, a := range g.Adapters {
		facts.Adapters = append(facts.Adapters, placement.Need{Name: a, SHA256: g.Pins[a]})
	}
	for _, a := range g.AntiAffinity {
		facts.AntiAffinity = append(facts.AntiAffinity, placement.Affinity{Group: a.Group, Hard: a.Hard})
	}
	if ms := is.GetFailedUntilMs(); ms != 0 {
		facts.FailedUntil = time.UnixMilli(ms)
	}
	for _, f := range is.GetFailures() {
		if at := time.UnixMilli(f.GetAtMs()); now.Sub(at) < avoidFor {
			facts.Avoid = append(facts.Avoid, placement.Avoid{Node: f.GetNode(), Reason: f.GetReason()})
		}
	}
	return facts
}

// stopped says why a group is not to run: all its hosts are stopped.
func stopped(g config.Group, s *pb.State) string {
	for _, h := range g.Hosts {
		if !s.GetHosts()[h].GetStopped() {
			return ""
		}
	}
	if len(g.Hosts) == 1 {
		return fmt.Sprintf("host %s is stopped by order", g.Hosts[0])
	}
	return fmt.Sprintf("its %d hosts are stopped by order", len(g.Hosts))
}

// newestSessions are the live incarnations, the newest of each node.
func newestSessions(s *pb.State) map[string]*pb.Session {
	newest := map[string]*pb.Session{}
	for _, session := range s.GetSessions() {
		old := newest[session.GetNode()]
		if !session.GetExpired() && (old == nil || old.GetRegistered() < session.GetRegistered()) {
			newest[session.GetNode()] = session
		}
	}
	return newest
}
