package ledger

import (
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// MachineVersion is the highest version of the state machine that this program can
// apply. It grows by one with every release that adds a kind of command, or gives
// one another meaning: such a command may be proposed only while State.version is
// at least the version that brought it.
//
//	1  the first
//	2  OrderItems, SetEndpoint; intents without ports, Redirect
const MachineVersion = 2

// nextVersion is the highest version that every server's live sessions, and this
// program, can apply; 0 if it is not above the current one, or if a server has no
// live session to speak for it.
func nextVersion(s *pb.State, servers []Server) uint32 {
	lowest := map[string]uint32{} // by node, of its live sessions
	for _, session := range s.GetSessions() {
		if session.GetExpired() {
			continue
		}
		if v, ok := lowest[session.GetNode()]; !ok || session.GetMachine() < v {
			lowest[session.GetNode()] = session.GetMachine()
		}
	}
	next := uint32(MachineVersion)
	for _, server := range servers {
		v, ok := lowest[server.Node]
		if !ok {
			return 0
		}
		next = min(next, v)
	}
	// Who has a session may come back as a server: the machine asks for it, too.
	for _, v := range lowest {
		next = min(next, v)
	}
	if next <= s.GetVersion() {
		return 0
	}
	return next
}
