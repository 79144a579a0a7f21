package netns

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// command is one command as the FTP server logged it when it came in. The server's
// processes append to one file under a lock, so the order of lines is the order of
// commands, for all sessions together.
type command struct {
	// line is where it stands in the log, from 1; text the line itself.
	line int
	text string
	// client is the address, which tells the node; session numbers the sessions.
	client  string
	session int
	verb    string
	arg     string
	// connected is the line at which the session's client connected or logged in; 0: not
	// in the log.
	connected int
	// reply is the last reply's code to it, 0 if there was none.
	reply int
}

// logLine is a line of vsftpd's log with log_ftp_protocol=YES:
//
//	Mon Nov 23 03:44:01 2026 [pid 2469] [tester] FTP command: Client "10.77.0.11", "CWD out"
//	Mon Nov 23 03:44:01 2026 [pid 2469] CONNECT: Client "10.77.0.11"
var logLine = regexp.MustCompile(`\[pid (\d+)\] (?:\[[^\]]*\] )?(FTP command|FTP response|CONNECT): Client "([^"]*)"(?:, "(.*)")?$`)

// readLog reads the server's log. Lines that are neither commands nor replies are
// passed over.
func readLog(r io.Reader) ([]command, error) {
	var commands []command
	sessions, open, line := map[string]int{}, map[string]int{}, 0 // both by process
	connected := map[string]int{}                                 // by process
	logins := map[string][]int{}                                  // by client: lines of logins without a session yet
	next := 0
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line++
		m := logLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		pid, what, client, text := m[1], m[2], m[3], m[4]
		code, _ := strconv.Atoi(text[:min(3, len(text))])
		// One process takes the login and another the session after it; either may
		// have the number of one that ended long ago.
		if what == "CONNECT" || sessions[pid] == 0 || what == "FTP response" && code == 230 {
			next++
			sessions[pid] = next
			delete(open, pid)
			delete(connected, pid)
			switch open := logins[client]; {
			case what != "FTP command":
				connected[pid] = line
			case len(open) > 0: // the process after the login has another number
				connected[pid] = open[len(open)-1]
				logins[client] = open[:len(open)-1]
			}
		}
		switch what {
		case "FTP command":
			verb, arg, _ := strings.Cut(text, " ")
			commands = append(commands, command{
				line: line, text: lines.Text(), client: client, session: sessions[pid], verb: verb, arg: arg,
				connected: connected[pid],
			})
			open[pid] = len(commands) - 1
			if verb == "PASS" {
				logins[client] = append(logins[client], line)
			}
		case "FTP response":
			if i, ok := open[pid]; ok {
				commands[i].reply = code
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("the server's log, line %d: %w", line, err)
	}
	return commands, nil
}

// overlaps is what the log says about two owners at a time.
type overlaps struct {
	// late are the commands that are tolerated. Each is the single and last command
	// of a session that comes after another node's first one: it had left its process
	// before that was killed, frozen or cut off, and no lease can call it back
	// (docs/guarantees.md). FTP's client sends one command and waits for its reply, so
	// a session has one such command at most. The first command of a connection that
	// was made while its node owned is of the same kind, if no other followed it: the
	// kernel of a node that is cut off sends it again when the cut is over, whether its
	// process still lives or not.
	late []command
	// violations are told in words, with the lines.
	violations []string
	// owners are the clients in the order in which they acted, without late ones;
	// lines where each began.
	owners []string
	lines  []int
}

// judgeOverlaps finds sessions of different clients that overlap: one session's
// commands go on after the first command of another client's session that began later.
// What a node does after it has lost a group and got it back is a new session, because
// its plugin has been a new process in between.
func judgeOverlaps(commands []command) overlaps {
	var o overlaps
	first := map[int]int{} // by session: index of its first command
	own := map[int][]int{} // by session: indexes of its commands
	for i, c := range commands {
		if _, known := first[c.session]; !known {
			first[c.session] = i
		}
		own[c.session] = append(own[c.session], i)
	}
	isLate := strays(commands, own)
	for session, mine := range own {
		if isLate[mine[0]] {
			continue
		}
		began, ended := first[session], mine[len(mine)-1]
		for i := began + 1; i < ended; i++ {
			if commands[i].client == commands[began].client || first[commands[i].session] <= began || isLate[i] {
				continue
			}
			after := 0
			for _, j := range mine {
				if j > i {
					after++
				}
			}
			if after == 1 {
				isLate[ended] = true
			} else {
				o.violations = append(o.violations, fmt.Sprintf(
					"%s goes on for %d commands after %s began:\n  %d: %s\n  %d: %s\n  %d: %s",
					commands[began].client, after, commands[i].client, commands[began].line, commands[began].text,
					commands[i].line, commands[i].text, commands[ended].line, commands[ended].text))
			}
			break
		}
	}
	for i, c := range commands {
		switch {
		case isLate[i]:
			o.late = append(o.late, c)
		case len(o.owners) == 0 || o.owners[len(o.owners)-1] != c.client:
			o.owners, o.lines = append(o.owners, c.client), append(o.lines, c.line)
		}
	}
	return o
}

// strays finds the sessions of a single command whose client connected, or logged in,
// as the owner, and was not the owner any more when the command came. There may be
// several at a time: they do not speak for each other.
func strays(commands []command, own map[int][]int) map[int]bool {
	isStray := map[int]bool{}
	for i, c := range commands {
		if len(own[c.session]) > 1 || c.connected == 0 {
			continue
		}
		actedLast := func(line int) string { // who did before that line
			for j := i - 1; j >= 0; j-- {
				if !isStray[j] && commands[j].line < line {
					return commands[j].client
				}
			}
			return ""
		}
		if now := actedLast(c.line); now != "" && now != c.client && actedLast(c.connected) == c.client {
			isStray[i] = true
		}
	}
	return isStray
}

// judgeOrder says which change of clients in the log is none of the ledger's: owners
// as the server saw them have to be owners of the ledger, in its order. An owner of
// the ledger that did not get to act does not show in the log.
func judgeOrder(o overlaps, ledger []string) string {
	at := 0
	for i, client := range o.owners {
		for at < len(ledger) && ledger[at] != client {
			at++
		}
		if at == len(ledger) {
			return fmt.Sprintf("the %d. owner at the server, %s from line %d on, was not given the group then; the server saw %v, the ledger's owners were %v",
				i+1, client, o.lines[i], o.owners, ledger)
		}
	}
	return ""
}

// judgeRenames returns the names that were given to an upload more than once: messages
// that were visibly sent twice.
func judgeRenames(commands []command) []string {
	times, found := map[string]int{}, []string(nil)
	for _, c := range commands {
		if c.verb == "RNTO" && c.reply == 250 {
			if times[c.arg]++; times[c.arg] == 2 {
				found = append(found, c.arg)
			}
		}
	}
	return found
}
