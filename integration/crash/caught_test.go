package crash

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fairlead-io/fairlead/runtime/exchange"
)

// The other tests are worth something only if this one finds a duplicate: at a
// destination that neither remembers an ID for as long as the node is away, nor can be
// asked for it, a message is sent twice if the node dies after it was sent.
func TestADuplicateIsSeenWhereNothingPreventsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	from := w.source(t, "file", "forgetful")
	// The smallest window, and a retention under which a search would itself count as
	// consuming, so that the adapter answers "unknown" and the port sends again.
	to := w.outbox(t, "forgetful", jetstream.StreamConfig{
		Duplicates: 100 * time.Millisecond, Retention: jetstream.WorkQueuePolicy,
	})
	c := between(t, from, to)
	c.node.deploy(plan("file", from.endpoint(), polled("file"), "queue", to.endpoint(), "in_doubt: resend"))
	c.node.arm(exchange.StepSent, 1, c.node.pid())
	c.put()
	c.node.died(exchange.StepSent, 1)
	c.node.start()
	c.rests()
	v := c.verdict()
	if v.Duplicated == 0 || v.Lost > 0 {
		t.Errorf("the verdict is %v, want something duplicated and nothing lost", v)
	}
	if v.OK() {
		t.Errorf("the verdict %v passes for good", v)
	}
}

// A loss is seen as well: an item that somebody else takes from the source before the
// node has it.
func TestALossIsSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCampaign(t, w, "items", "file", "file")
	c.put()
	c.settled()
	c.all = append(c.all, c.batch()[0])
	c.rests()
	if v := c.verdict(); v.Lost != 1 || v.OK() {
		t.Errorf("the verdict is %v, want one lost", v)
	}
}

// What a node has still to do is seen: a message whose destination is away.
func TestAnUnfinishedMessageIsSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCampaign(t, w, "items", "file", "ftp")
	if err := w.ftp.Stop(); err != nil {
		t.Fatal(err)
	}
	c.put()
	eventually(t, settledWithin, func() string {
		if c.node.unfinished(false) == "" {
			return "messages without a destination count as done"
		}
		return ""
	})
	if left := c.from.left(t); left == "" {
		t.Error("a source whose items were not delivered counts as empty")
	}
}
