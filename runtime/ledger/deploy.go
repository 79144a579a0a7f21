package ledger

import (
	"fmt"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// keptDeployments is how many versions stay for `deployments list`.
const keptDeployments = 20

func (m *Machine) deploy(d *pb.Deploy) error {
	if d.GetVersion() != m.version()+1 {
		return fmt.Errorf("deploy version %d over %d: %w", d.GetVersion(), m.version(), ErrStale)
	}
	m.s.Deployments = appendBounded(m.s.Deployments, &pb.Deployment{
		Version: d.GetVersion(), Name: d.GetName(), Source: d.GetSource(), Parsed: d.GetParsed(),
		AtMs: m.at, Groups: d.GetGroups(), Locations: d.GetLocations(),
	}, keptDeployments)
	m.event(&pb.Event{Kind: "deployed", Text: fmt.Sprintf("deployment %d from %s", d.GetVersion(), d.GetName())})
	// A group of this name may have been here before, and late commands of that life
	// may still come. An epoch grows at most once per entry, so the index is above
	// every epoch it ever had.
	born := m.index
	if d.GetVersion() == 1 {
		born = 0
	}
	for _, name := range d.GetGroups() {
		if m.s.Groups[name] == nil {
			m.s.Groups[name] = &pb.Group{Name: name, Epoch: born, Reason: "new in the deployment", SinceMs: m.at}
		}
	}
	for location, group := range d.GetLocations() {
		if m.s.Holders[location] == "" {
			m.s.Holders[location] = group
		}
	}
	// An owned group that is gone from the deployment stays until its owner has
	// stopped acting and released it.
	for _, name := range sortedKeys(m.s.Groups) {
		if m.s.Groups[name].Owner == "" {
			m.forgetRetired(name)
		}
	}
	return nil
}

// yield takes the word of a group's owner that it follows the newest deployment.
func (m *Machine) yield(y *pb.Yield) error {
	g := m.s.Groups[y.GetGroup()]
	if g == nil || g.Owner == "" || g.Incarnation != y.GetIncarnation() || g.Epoch != y.GetEpoch() {
		return fmt.Errorf("yield of group %q under epoch %d: %w", y.GetGroup(), y.GetEpoch(), ErrFenced)
	}
	if y.GetVersion() != m.version() {
		return fmt.Errorf("yield of group %q at deployment %d: it is %d: %w", g.Name, y.GetVersion(), m.version(), ErrStale)
	}
	m.passOn(g.Name)
	return nil
}

// passOn gives the locations that the group held, and that the deployment no
// longer gives to it, to the groups that they belong to.
func (m *Machine) passOn(group string) {
	belongs := m.current().GetLocations()
	for _, location := range sortedKeys(m.s.Holders) {
		switch to := belongs[location]; {
		case m.s.Holders[location] != group || to == group:
		case to == "":
			delete(m.s.Holders, location)
		default:
			m.s.Holders[location] = to
			m.event(&pb.Event{Kind: "location-moved", Group: to, GapMs: -1, Text: fmt.Sprintf("location %s goes from group %s to %s", location, group, to)})
		}
	}
}

func (m *Machine) current() *pb.Deployment {
	if len(m.s.Deployments) == 0 {
		return nil
	}
	return m.s.Deployments[len(m.s.Deployments)-1]
}

func (m *Machine) version() uint64 { return m.current().GetVersion() }
