package ledger

import (
	"strings"
	"testing"
)

func TestTheLossOfAQuorumIsToldInWords(t *testing.T) {
	for _, c := range []struct {
		name, leader, alive string
		voters              []string
		ok                  bool
		want                string
	}{
		{"all is well", "a", "abc", []string{"a", "b", "c"}, true, ""},
		{"one is missing, a leader is there", "a", "ab", []string{"a", "b", "c"}, true, ""},
		{"before the cluster is made", "", "a", nil, false, "waits for the others"},
		{"an election", "", "ab", []string{"a", "b", "c"}, false, "2 of 3 voting nodes are there and elect a leader"},
		{"a majority is missing", "", "a", []string{"a", "c", "b"}, false,
			"2 of 3 voting nodes cannot be reached: b, c. Nothing runs and nothing is taken over until one of them is back; if they are gone for good, see `fairlead cluster recover`"},
		{"one of two is missing", "", "a", []string{"a", "b"}, false, "until it is back"},
		{"four of five are missing", "", "a", []string{"a", "b", "c", "d", "e"}, false, "until 2 of them are back"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := quorum(c.voters, c.leader, func(n string) bool { return strings.Contains(c.alive, n) })
			if q.OK != c.ok || !strings.Contains(q.Text, c.want) || (q.Text == "") != c.ok {
				t.Errorf("got %+v, want %q", q, c.want)
			}
		})
	}
}
