package netns

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// logOf writes a log as the server would: each step is "pid client text", where a
// text that begins with a digit is a reply.
func logOf(steps ...string) string {
	var b strings.Builder
	for _, step := range steps {
		f := strings.SplitN(step, " ", 3)
		line := fmt.Sprintf(`[pid %s] [tester] FTP command: Client "10.77.0.%s", "%s"`, f[0], f[1], f[2])
		switch {
		case f[2] == "CONNECT":
			line = fmt.Sprintf(`[pid %s] CONNECT: Client "10.77.0.%s"`, f[0], f[1])
		case f[2][0] >= '0' && f[2][0] <= '9':
			line = strings.Replace(line, "command", "response", 1)
		}
		fmt.Fprintf(&b, "Mon Nov 23 03:44:01 2026 %s\n", line)
	}
	return b.String()
}

func commandsOf(t *testing.T, steps ...string) []command {
	t.Helper()
	commands, err := readLog(strings.NewReader(logOf(steps...)))
	if err != nil {
		t.Fatal(err)
	}
	return commands
}

func TestTheJudgeSeesTwoOwnersAtATime(t *testing.T) {
	rows := map[string]struct {
		steps            []string
		violations, late int
		owners           string
	}{
		"one after the other": {
			steps:  []string{"1 11 LIST", "1 11 RETR a", "2 12 LIST", "2 12 DELE a", "3 11 LIST"},
			owners: "11 12 11",
		},
		"one command was on its way": {
			steps: []string{"1 11 LIST", "1 11 RETR a", "2 12 LIST", "1 11 DELE a", "2 12 RETR b", "2 12 DELE b"},
			late:  1, owners: "11 12",
		},
		"one command on each of two connections": {
			steps: []string{"1 11 LIST", "2 11 LIST", "3 12 LIST", "1 11 DELE a", "2 11 DELE b", "3 12 RETR c"},
			late:  2, owners: "11 12",
		},
		"the old owner goes on": {
			steps:      []string{"1 11 LIST", "2 12 LIST", "1 11 RETR a", "1 11 DELE a", "2 12 RETR b"},
			violations: 1, owners: "11 12 11 12",
		},
		"the old owner comes back with a new connection": {
			steps:      []string{"1 11 LIST", "2 12 LIST", "3 11 USER", "3 11 LIST", "2 12 RETR a", "2 12 DELE a"},
			violations: 1, owners: "11 12 11 12",
		},
		"the first command of a connection from its own time was on its way": {
			steps: []string{"1 11 LIST", "5 11 CONNECT", "2 12 LIST", "5 11 USER", "2 12 RETR a", "2 12 DELE a"},
			late:  1, owners: "11 12",
		},
		"the first command after a login in its own time was on its way": {
			steps: []string{"1 11 LIST", "4 11 USER", "5 11 230 Login successful", "2 12 LIST", "5 11 FEAT", "2 12 RETR a", "2 12 DELE a"},
			late:  1, owners: "11 12",
		},
		"the first command of another process after a login in its own time": {
			steps: []string{"1 11 LIST", "4 11 USER", "4 11 PASS", "2 12 LIST", "5 11 FEAT", "2 12 RETR a", "2 12 DELE a"},
			late:  1, owners: "11 12",
		},
		"the first commands of two connections from its own time were on their way": {
			steps: []string{
				"1 11 LIST", "5 11 CONNECT", "6 11 CONNECT", "2 12 LIST", "5 11 USER", "6 11 USER", "2 12 RETR a", "2 12 DELE a",
			},
			late: 2, owners: "11 12",
		},
		"a connection from another's time": {
			steps:      []string{"1 11 LIST", "2 12 LIST", "5 11 CONNECT", "5 11 USER", "2 12 RETR a", "2 12 DELE a"},
			violations: 1, owners: "11 12 11 12",
		},
		"two commands on a connection from its own time": {
			steps:      []string{"1 11 LIST", "5 11 CONNECT", "2 12 LIST", "5 11 USER", "5 11 PASS", "2 12 RETR a", "2 12 DELE a"},
			violations: 1, owners: "11 12 11 12",
		},
		"a process number that is used again is another session": {
			steps:  []string{"1 11 LIST", "2 12 LIST", "1 11 CONNECT", "1 11 USER", "1 11 LIST"},
			owners: "11 12 11",
		},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			o := judgeOverlaps(commandsOf(t, row.steps...))
			owners := strings.ReplaceAll(strings.Join(o.owners, " "), "10.77.0.", "")
			if len(o.violations) != row.violations || len(o.late) != row.late || owners != row.owners {
				t.Errorf("%d violations, %d late, owners %s; want %d, %d, %s\n%s", len(o.violations), len(o.late), owners,
					row.violations, row.late, row.owners, strings.Join(o.violations, "\n"))
			}
		})
	}
}

func TestTheJudgeComparesTheServersOwnersWithTheLedgers(t *testing.T) {
	o := judgeOverlaps(commandsOf(t, "1 11 LIST", "2 12 LIST", "3 11 LIST"))
	for ledger, ok := range map[string]bool{"11 12 11": true, "11 13 12 11": true, "11 12": false, "12 11": false} {
		var owners []string
		for _, last := range strings.Fields(ledger) {
			owners = append(owners, "10.77.0."+last)
		}
		if got := judgeOrder(o, owners); (got == "") != ok {
			t.Errorf("ledger %s: %q", ledger, got)
		}
	}
}

func TestTheJudgeSeesAMessageThatWasSentTwice(t *testing.T) {
	found := judgeRenames(commandsOf(t,
		"1 11 RNTO /in/a~1", "1 11 250 ok", "1 11 RNTO /in/b~2", "1 11 550 no",
		"2 12 RNTO /in/b~2", "2 12 250 ok", "2 12 RNTO /in/a~1", "2 12 250 ok"))
	if !slices.Equal(found, []string{"/in/a~1"}) {
		t.Errorf("found %q", found)
	}
}
