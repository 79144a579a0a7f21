package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-io/fairlead/runtime/api"
)

func newStatusCommand(c *cli) *cobra.Command {
	var watch bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what needs attention, who owns what, and how every endpoint fares",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !watch {
				return ask(c, cmd, readTimeout, getStatus, renderStatus)
			}
			if interval < 100*time.Millisecond {
				return &usageError{fmt.Errorf("interval %s: want at least 100ms", interval)}
			}
			return c.watchStatus(cmd, interval)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again until interrupted")
	cmd.Flags().DurationVar(&interval, "interval", 2*time.Second, "time between two looks with --watch")
	return cmd
}

func getStatus(ctx context.Context, client *api.Client) (*api.Status, error) {
	return client.Status(ctx)
}

// watchStatus shows the status until the context ends. A node that does not answer
// is shown as such and asked again: during a failover that is the point.
func (c *cli) watchStatus(cmd *cobra.Command, interval time.Duration) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	whole := c.env.out
	for {
		var frame bytes.Buffer
		c.env.out = &frame
		err := ask(c, cmd, readTimeout, getStatus, renderStatus)
		c.env.out = whole
		if cmd.Context().Err() != nil {
			return nil
		}
		var usage *usageError
		if errors.As(err, &usage) {
			return err
		}
		if err := c.showFrame(frame.Bytes(), err); err != nil {
			return err
		}
		select {
		case <-t.C:
		case <-cmd.Context().Done():
			return nil
		}
	}
}

// showFrame writes one look in one piece, in place of the last on a terminal.
func (c *cli) showFrame(frame []byte, failure error) error {
	var b bytes.Buffer
	if c.env.terminal && c.output == "table" {
		b.WriteString("\x1b[H\x1b[2J")
		fmt.Fprintf(&b, "%s\n", time.Now().Format(time.DateTime))
	}
	b.Write(frame)
	if failure != nil && c.output == "table" {
		fmt.Fprintf(&b, "%s\n", cleanLines(message(failure)))
	} else if failure != nil {
		c.warnf("fairlead: %s", message(failure))
	}
	if c.output == "table" && !c.env.terminal {
		b.WriteByte('\n')
	}
	if c.output == "yaml" && len(frame) > 0 {
		b.WriteString("---\n")
	}
	return c.write(b.Bytes())
}

// renderStatus puts first what somebody who was just woken up has to know.
func renderStatus(p *page, s *api.Status) {
	quorum, st := "quorum", good
	if !s.Cluster.Quorum {
		quorum, st = "NO QUORUM", bad
	}
	p.say(st, "cluster %s: %s, leader %s, deployment %s",
		s.Cluster.Name, quorum, orNone(s.Cluster.Leader), numberOrNone(s.Cluster.Deployment))
	if text := s.Cluster.QuorumText; text != "" {
		p.say(bad, "%s", text)
	}
	renderAttention(p, attention(s))

	rows := make([][]cell, 0, len(s.Nodes))
	for _, n := range s.Nodes {
		rows = append(rows, []cell{{n.Name, bold}, {text: n.Role}, state(n.State), {text: lease(n.LeaseMS)},
			{text: n.Version}, {text: adapterNames(n.Adapters)}, {p.fit(n.Reason, 60), warn}})
	}
	p.section("NODES", []string{"NAME", "ROLE", "STATE", "LEASE", "VERSION", "ADAPTERS", "REASON"}, rows)
	renderHosts(p, s.Hosts)

	rows = nil
	for _, l := range s.ReceiveLocations {
		rows = append(rows, []cell{{l.Name, bold}, {text: l.Host}, {text: l.Adapter}, {text: l.Node}, state(l.State),
			count(l.Received, plain), count(l.InFlight, plain), count(l.InDoubt, warn), count(l.Suspended, warn),
			{text: p.fit(l.LastItem, 32)}, {p.fit(l.LastError, 60), warn}})
	}
	p.section("RECEIVE LOCATIONS", []string{"NAME", "HOST", "ADAPTER", "NODE", "STATE", "RECEIVED", "IN-FLIGHT",
		"IN-DOUBT", "SUSPENDED", "LAST-ITEM", "LAST-ERROR"}, rows)

	rows = nil
	for _, l := range s.SendPorts {
		rows = append(rows, []cell{{l.Name, bold}, {text: l.Host}, {text: l.Adapter}, state(l.State),
			count(l.Sent, plain), count(l.Retrying, warn), {p.fit(l.LastError, 60), warn}})
	}
	p.section("SEND PORTS", []string{"NAME", "HOST", "ADAPTER", "STATE", "SENT", "RETRYING", "LAST-ERROR"}, rows)
}

func renderHosts(p *page, hosts []api.HostStatus) {
	p.section("HOSTS", hostHeader, hostRows(hosts))
}

var hostHeader = []string{"NAME", "GROUP", "OWNER", "EPOCH", "STATE", "REASON"}

func hostRows(hosts []api.HostStatus) [][]cell {
	rows := make([][]cell, 0, len(hosts))
	for i := range hosts {
		h := &hosts[i]
		owner, epoch := cell{text: h.Owner}, cell{text: fmt.Sprint(h.Epoch)}
		if !h.Clustered {
			owner, epoch = cell{"(all)", dim}, cell{}
		}
		rows = append(rows, []cell{{h.Name, bold}, {text: h.Group}, owner, epoch, state(h.State), {text: hostReason(h)}})
	}
	return rows
}

func renderAttention(p *page, lines []string) {
	switch len(lines) {
	case 0:
		p.say(good, "nothing needs attention")
		return
	case 1:
		p.say(bad, "1 thing needs attention:")
	default:
		p.say(bad, "%d things need attention:", len(lines))
	}
	for _, l := range lines {
		p.say(plain, "  %s", l)
	}
}

// attention lists what is not as it should be, the widest trouble first.
func attention(s *api.Status) []string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if !s.Cluster.Quorum {
		add("no quorum: nothing is owned until a majority of the nodes is back")
	}
	for _, n := range s.Nodes {
		if look(n.State) != good && n.State != "left" {
			add("node %s is %s%s", n.Name, n.State, because(n.Reason))
		}
	}
	for i := range s.Hosts {
		if h := &s.Hosts[i]; look(h.State) == bad {
			add("%s", hostLine(h))
		}
	}
	for _, l := range s.ReceiveLocations {
		if l.Stopped {
			add("location %s is stopped by order: fairlead location start %s", l.Name, l.Name)
		}
		if l.State == "backing-off" || l.State == "rejected" || l.State == "waiting-for-spool" {
			add("location %s is %s%s", l.Name, l.State, because(l.LastError))
		}
		if l.Suspended > 0 {
			add("location %s has %s: fairlead message list --state suspended", l.Name, plural(l.Suspended, "suspended message"))
		}
		if l.InDoubt > 0 {
			add("location %s has %s: fairlead message list --state in-doubt", l.Name, plural(l.InDoubt, "message")+" in doubt")
		}
		if l.Held > 0 {
			add("location %s has %s held behind a suspended one: fairlead message list --location %s", l.Name, plural(l.Held, "item"), l.Name)
		}
	}
	for i := range s.SendPorts {
		port := &s.SendPorts[i]
		if port.Stopped {
			add("port %s is stopped by order: fairlead port start %s", port.Name, port.Name)
			continue
		}
		if look(port.State) == bad || look(port.State) == warn && port.LastError != "" || port.Retrying > 0 || port.Down {
			down := ""
			if port.Down {
				down = downText(port)
			}
			add("port %s is %s%s, %s%s", port.Name, port.State, down, plural(port.Retrying, "message")+" waiting to be sent again", because(port.LastError))
		}
	}
	return lines
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// state is a state with its colour.
func state(s string) cell { return cell{s, look(s)} }

func look(state string) style {
	switch state {
	case "alive", "running", "idle", "polling", "ready":
		return good
	case "dead", "failed", "unowned", "rejected", "quarantined":
		return bad
	default:
		return warn
	}
}

// count is a number that stands out unless it is 0.
func count[T int | uint64](n T, s style) cell {
	if n == 0 {
		s = dim
	}
	return cell{fmt.Sprint(n), s}
}

func lease(ms int64) string {
	if ms <= 0 {
		return ""
	}
	return fmt.Sprintf("%.1fs", float64(ms)/1000)
}

func adapterNames(adapters []api.AdapterStatus) string {
	names := make([]string, 0, len(adapters))
	for _, a := range adapters {
		names = append(names, strings.TrimSpace(a.Name+" "+a.Version))
	}
	return strings.Join(names, ", ")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func numberOrNone(n uint64) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprint(n)
}
