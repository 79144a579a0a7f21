package crash

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/demo/cluster"
)

// campaign is one node between one source and one destination that goes from crash to
// crash.
type campaign struct {
	t    testing.TB
	node *victim
	from source
	to   destination
	// pushed: the source offers its items by itself.
	pushed bool
	// all is what was put into the source so far.
	all []cluster.Item
	rng *rand.Rand
	// handlerCrashes are those so far.
	handlerCrashes int
}

// Names in the campaigns' deployment. Source and destination have hosts of their own,
// so that each has a process of its own, also where both are of one kind.
const (
	sourceHost = "intake"
	sinkHost   = "delivery"
)

// plan is a deployment of one location and one port. location and port are further
// lines of theirs.
func plan(from, fromEndpoint, location, to, toEndpoint, port string) string {
	return fmt.Sprintf(`
hosts:
  intake: {clustered: true, restart: {max: 1000, within: 1m}}
  delivery: {clustered: true, restart: {max: 1000, within: 1m}}
receive_locations:
  items:
    host: intake
    adapter: %s
    endpoint: %s
    to: [partner]
%s
send_ports:
  partner:
    host: delivery
    adapter: %s
    endpoint: %s
    retry: {attempts: 100, interval: 200ms}
%s
`, from, fromEndpoint, indented(location), to, toEndpoint, indented(port))
}

func indented(lines string) string {
	if lines == "" {
		return ""
	}
	return "    " + strings.ReplaceAll(strings.TrimSpace(lines), "\n", "\n    ")
}

// polled has a listing source asked as often as may be.
func polled(kind string) string {
	if kind == "queue" {
		return ""
	}
	return "schedule: {every: 100ms}"
}

// newCampaign deploys to a node of its own. The name tells its places from others of
// the world.
func newCampaign(t testing.TB, w *world, name, from, to string) *campaign {
	t.Helper()
	c := between(t, w.source(t, from, name), w.destination(t, to, name))
	c.pushed = from == "queue"
	adapter := strings.TrimSuffix(from, "-claimed")
	c.node.deploy(plan(adapter, c.from.endpoint(), polled(adapter), to, c.to.endpoint(), ""))
	return c
}

// between starts a node to which nothing is deployed yet.
func between(t testing.TB, from source, to destination) *campaign {
	t.Helper()
	return &campaign{t: t, node: newVictim(t), from: from, to: to, rng: rand.New(rand.NewPCG(1, 2))}
}

// sizes of a batch: inline, empty, through the spool, and in between.
var sizes = []int{1 << 10, 0, 300 << 10, 70 << 10, 10 << 10}

// batch makes the next items, no two alike but the empty ones.
func (c *campaign) batch() []cluster.Item {
	items := make([]cluster.Item, len(sizes))
	for i, size := range sizes {
		content := make([]byte, size)
		for j := range content {
			content[j] = byte(c.rng.Uint32())
		}
		items[i] = cluster.Item{Name: fmt.Sprintf("item-%04d.edi", len(c.all)+i), Content: content}
	}
	return items
}

// put gives the source one batch more.
func (c *campaign) put() {
	c.t.Helper()
	items := c.batch()
	c.all = append(c.all, items...)
	c.from.put(c.t, items...)
}

// settled waits until the node rests, and judges what has arrived in the whole
// campaign.
func (c *campaign) settled() {
	c.t.Helper()
	c.rests()
	if v := c.verdict(); !v.OK() {
		c.t.Fatalf("%v\n%s", v, strings.Join(v.Problems, "\n"))
	}
}

// rests waits until the source is empty and nothing is left to do.
func (c *campaign) rests() {
	c.t.Helper()
	eventually(c.t, settledWithin, func() string {
		if left := c.from.left(c.t); left != "" {
			return left
		}
		return c.node.unfinished(c.pushed)
	})
}

// verdict compares all that went in with all that came out.
func (c *campaign) verdict() cluster.Verdict {
	c.t.Helper()
	return cluster.Judge(c.all, c.to.hashes(c.t))
}
