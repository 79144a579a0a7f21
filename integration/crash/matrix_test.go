package crash

import (
	"fmt"
	"testing"

	"github.com/fairlead-io/fairlead/runtime/exchange"
)

// times are how often a step is reached before the crash: at the first item, and in
// the middle of a batch, when others are further on or not so far. A short run has the
// latter only.
func times() []int {
	if testing.Short() {
		return []int{3}
	}
	return []int{1, 3}
}

// pairs are all of a source and a destination; in a short run one.
func pairs() (all [][2]string) {
	for _, from := range kinds {
		for _, to := range kinds {
			all = append(all, [2]string{from, to})
		}
	}
	if testing.Short() {
		return all[1:2]
	}
	return append(all, [2]string{claimedFTP, "file"})
}

// A node that dies at any step goes on from its ledger: each item is at the
// destination once.
func TestEachItemArrivesOnceWhereverTheNodeDies(t *testing.T) {
	w := newWorld(t)
	for _, p := range pairs() {
		t.Run(p[0]+" to "+p[1], func(t *testing.T) {
			t.Parallel()
			c := newCampaign(t, w, p[0]+"-"+p[1], p[0], p[1])
			for _, step := range exchange.Steps {
				for _, n := range times() {
					c.crash(step, n)
				}
			}
			c.epilogue()
		})
	}
}

// crash has the node die at the step and judges what the next one makes of it.
func (c *campaign) crash(step exchange.Step, times int) {
	c.t.Helper()
	c.scene(fmt.Sprintf("the node dies at step %q, time %d", step, times), func() {
		c.node.running()
		c.node.arm(step, times, c.node.pid())
		c.put()
		c.node.died(step, times)
		c.node.start()
		c.settled()
	})
}

// epilogue lets one more batch through in peace. What an earlier crash left behind has
// been listed and offered again by then, and would be there twice.
func (c *campaign) epilogue() {
	c.t.Helper()
	c.scene("in peace after all crashes", func() {
		c.put()
		c.settled()
	})
}

// scene names what is done, if it fails.
func (c *campaign) scene(what string, do func()) {
	c.t.Helper()
	done := false
	defer func() {
		if !done {
			c.t.Log("scene: " + what)
		}
	}()
	do()
	done = true
}

// A handler that dies at any step is started again, and the node knows what it cannot
// know: whether that one was sent.
func TestEachItemArrivesOnceWhereverAHandlerDies(t *testing.T) {
	if testing.Short() {
		t.Skip("the crash of the node stands for it in a short run")
	}
	w := newWorld(t)
	for _, p := range [][2]string{{"ftp", "file"}, {"queue", "queue"}, {"file", "ftp"}} {
		for _, host := range []string{sourceHost, sinkHost} {
			t.Run(fmt.Sprintf("%s to %s, %s", p[0], p[1], host), func(t *testing.T) {
				t.Parallel()
				c := newCampaign(t, w, p[0]+"-"+p[1]+"-"+host, p[0], p[1])
				for i, step := range exchange.Steps {
					c.crashHandler(host, step, 1+2*(i%2))
				}
				c.epilogue()
			})
		}
	}
}

// maxHandlerCrashes is how often a handler is killed in one run of a node: the pause
// before it is started again doubles each time.
const maxHandlerCrashes = 3

// crashHandler has the host's handler die at the step, and judges what the node makes
// of it.
func (c *campaign) crashHandler(host string, step exchange.Step, times int) {
	c.t.Helper()
	c.scene(fmt.Sprintf("the handler of %s dies at step %q, time %d", host, step, times), func() {
		if c.handlerCrashes++; c.handlerCrashes%maxHandlerCrashes == 0 {
			c.node.kill()
			c.node.start()
		}
		c.node.arm(step, times, c.node.handler(host))
		c.put()
		c.node.expect(saysStruck)
		c.settled()
	})
}
