package ledger

import (
	"fmt"
	"slices"
	"strings"
)

// Quorum says whether the ledger can decide anything now, in words for people.
type Quorum struct {
	// OK: there is a leader, as far as this node knows.
	OK bool
	// Voters counts the nodes that vote, Reachable those of them that are there.
	Voters, Reachable int
	// Missing are the names of the others.
	Missing []string
	// Text says what is wrong and what to do; empty if OK.
	Text string
}

// Quorum looks at what this node knows now; it waits for nothing. alive says what
// gossip sees.
func (l *Ledger) Quorum(alive func(node string) bool) (Quorum, error) {
	voters, err := l.Voters()
	if err != nil {
		return Quorum{}, err
	}
	return quorum(voters, l.Leader(), func(node string) bool { return node == l.cfg.Node || alive(node) }), nil
}

func quorum(voters []string, leader string, alive func(string) bool) Quorum {
	q := Quorum{OK: leader != "", Voters: len(voters)}
	for _, v := range voters {
		if alive(v) {
			q.Reachable++
		} else {
			q.Missing = append(q.Missing, v)
		}
	}
	slices.Sort(q.Missing)
	switch {
	case q.OK:
	case q.Voters == 0:
		q.Text = "this node is not part of a cluster yet: it waits for the others (cluster.bootstrap_expect, cluster.join)"
	case 2*q.Reachable > q.Voters:
		q.Text = fmt.Sprintf("%d of %d voting nodes are there and elect a leader", q.Reachable, q.Voters)
	default:
		q.Text = fmt.Sprintf("%d of %d voting nodes cannot be reached: %s. Nothing runs and nothing is taken over until %s; "+
			"if they are gone for good, see `fairlead cluster recover`",
			len(q.Missing), q.Voters, strings.Join(q.Missing, ", "), needed(q))
	}
	return q
}

// needed says how many have to come back.
func needed(q Quorum) string {
	switch need := q.Voters/2 + 1 - q.Reachable; {
	case need == 1 && len(q.Missing) == 1:
		return "it is back"
	case need == 1:
		return "one of them is back"
	default:
		return fmt.Sprintf("%d of them are back", need)
	}
}
