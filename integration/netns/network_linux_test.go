package netns

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// toolTimeout bounds every call of ip, tc and bridge.
const toolTimeout = 10 * time.Second

// hubAddress is where the nodes reach the servers.
const hubAddress = "10.77.0.1"

// network is a bridge with one cable per node. This end of node i's cable is hub(i)
// in the test's own namespace, the other end eth0 in the namespace space(i).
type network struct {
	nodes int
	slow  map[int]*relay
}

func space(i int) string   { return fmt.Sprintf("n%d", i) }
func hub(i int) string     { return fmt.Sprintf("hub%d", i) }
func address(i int) string { return fmt.Sprintf("10.77.0.%d", 11+i) }

// run runs one of the tools.
func run(command string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), toolTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, command, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", command, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// runAll runs command lines in turn until one fails.
func runAll(lines ...string) error {
	for _, line := range lines {
		words := strings.Fields(line)
		if err := run(words[0], words[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// newNetwork lays the cables. They vanish with the test's namespace.
func newNetwork(nodes int) (*network, error) {
	err := runAll(
		"ip link set lo up",
		// Without an address of its own the bridge has the lowest of its ports', and
		// nobody would find it any more after a port was added.
		"ip link add br0 address 02:00:0a:4d:00:01 type bridge",
		"ip addr add "+hubAddress+"/24 dev br0",
		"ip link set br0 up",
	)
	for i := 0; i < nodes && err == nil; i++ {
		err = runAll(
			"ip netns add "+space(i),
			fmt.Sprintf("ip link add %s type veth peer name eth0 netns %s", hub(i), space(i)),
			fmt.Sprintf("ip link set %s master br0 up", hub(i)),
			fmt.Sprintf("ip -n %s link set lo up", space(i)),
			fmt.Sprintf("ip -n %s addr add %s/24 dev eth0", space(i), address(i)),
			fmt.Sprintf("ip -n %s link set eth0 up", space(i)),
		)
	}
	return &network{nodes: nodes, slow: map[int]*relay{}}, err
}

// wrap runs a command in node i's namespace. ip becomes the command by exec.
func (n *network) wrap(i int, command []string) []string {
	return append([]string{"ip", "netns", "exec", space(i)}, command...)
}

// unplug pulls node i's cable: both ends see that there is no link.
func (n *network) unplug(i int) error { return run("ip", "link", "set", hub(i), "down") }

// plug puts it back.
func (n *network) plug(i int) error { return run("ip", "link", "set", hub(i), "up") }

// tc changes what leaves an interface: node i's own, or the hub's end, by which the
// node receives.
func (n *network) tc(i int, outgoing bool, what string) string {
	if outgoing {
		return fmt.Sprintf("tc -n %s %s", space(i), strings.ReplaceAll(what, "DEV", "eth0"))
	}
	return "tc " + strings.ReplaceAll(what, "DEV", hub(i))
}

// lose loses all that node i sends, or all that is sent to it, without a sign: a
// queue of one byte takes no packet.
func (n *network) lose(i int, outgoing bool) error {
	return runAll(n.tc(i, outgoing, "qdisc replace dev DEV root bfifo limit 1"))
}

// found makes lose good.
func (n *network) found(i int, outgoing bool) error {
	return runAll(n.tc(i, outgoing, "qdisc del dev DEV root"))
}

// estrange loses all between node i and the other nodes, in both directions; the
// servers stay in reach.
func (n *network) estrange(i int) error {
	for _, outgoing := range []bool{true, false} {
		end := "src" // at the hub's end the packets come from the peers
		if outgoing {
			end = "dst"
		}
		lines := []string{
			n.tc(i, outgoing, "qdisc add dev DEV root handle 1: htb default 10"),
			n.tc(i, outgoing, "class add dev DEV parent 1: classid 1:10 htb rate 10gbit quantum 60000"),
			n.tc(i, outgoing, "class add dev DEV parent 1: classid 1:20 htb rate 10gbit quantum 60000"),
			n.tc(i, outgoing, "qdisc add dev DEV parent 1:20 handle 20: bfifo limit 1"),
		}
		for peer := range n.nodes {
			if peer != i {
				lines = append(lines, n.tc(i, outgoing, fmt.Sprintf(
					"filter add dev DEV parent 1: protocol ip u32 match ip %s %s/32 flowid 1:20", end, address(peer))))
			}
		}
		if err := runAll(lines...); err != nil {
			return err
		}
	}
	return nil
}

// reconcile makes estrange good.
func (n *network) reconcile(i int) error {
	return errors.Join(n.found(i, true), n.found(i, false))
}

// slowDown puts a relay between node i's cable and the bridge.
func (n *network) slowDown(i int, q quality) error {
	near, far := fmt.Sprintf("near%d", i), fmt.Sprintf("far%d", i)
	err := runAll(
		fmt.Sprintf("ip link add %s type veth peer name %s", near, far),
		fmt.Sprintf("ip link set %s nomaster", hub(i)),
		fmt.Sprintf("ip link set %s master br0 up", far),
		fmt.Sprintf("ip link set %s up", near),
	)
	if err != nil {
		return err
	}
	r, err := startRelay(hub(i), near, q)
	if err != nil {
		return err
	}
	n.slow[i] = r
	return nil
}

// speedUp makes slowDown good.
func (n *network) speedUp(i int) error {
	r := n.slow[i]
	if r == nil {
		return fmt.Errorf("node %d has no slow link", i)
	}
	delete(n.slow, i)
	return errors.Join(r.stop(), runAll(
		fmt.Sprintf("ip link del near%d", i),
		fmt.Sprintf("ip link set %s master br0", hub(i)),
	))
}

// remove takes everything away again.
func (n *network) remove() error {
	var errs []error
	for i := range n.slow {
		errs = append(errs, n.speedUp(i))
	}
	for i := range n.nodes {
		errs = append(errs, run("ip", "link", "del", hub(i)), run("ip", "netns", "del", space(i)))
	}
	return errors.Join(append(errs, run("ip", "link", "del", "br0"))...)
}

// addresses of all nodes.
func (n *network) addresses() []string {
	var all []string
	for i := range n.nodes {
		all = append(all, address(i))
	}
	return slices.Clip(all)
}
