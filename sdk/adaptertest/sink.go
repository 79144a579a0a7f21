package adaptertest

import (
	"bytes"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/wire"
)

// port is the send port's name in all checks.
const port = "conformance-port"

// Sink checks the sending side of an adapter in subtests, each with a fixture of
// its own.
func Sink(t *testing.T, c SinkCase) {
	t.Helper()
	if c.Adapter.Send == nil || c.New == nil {
		t.Fatal("adaptertest: SinkCase needs an Adapter with Send, and New")
	}
	if c.Sizes == nil {
		c.Sizes = defaultSizes
	}
	checks := []struct {
		name  string
		check func(*sinkCheck)
	}{
		{"describes itself", (*sinkCheck).describes},
		{"sends every size whole and once", (*sinkCheck).sendsSizes},
		{"sends many at once", (*sinkCheck).sendsMany},
		{"the same message twice arrives once", (*sinkCheck).deduplicates},
		{"probe tells what has arrived", (*sinkCheck).probes},
		{"does nothing without a lease", (*sinkCheck).idleWithoutLease},
		{"stops when the lease ends", (*sinkCheck).stopsAtLeaseEnd},
		{"drain takes up nothing new", (*sinkCheck).drains},
		{"says that it is disconnected, and recovers", (*sinkCheck).disconnects},
		{"leaves no goroutines", (*sinkCheck).leavesNothing},
	}
	for _, check := range checks {
		t.Run(check.name, func(t *testing.T) {
			check.check(&sinkCheck{SinkCase: c, t: t, f: c.New(t)})
		})
	}
}

// sinkCheck is one subtest.
type sinkCheck struct {
	SinkCase
	t *testing.T
	f SinkFixture
}

func (c *sinkCheck) startWithoutLease() *Handler {
	c.t.Helper()
	h := StartWithoutLease(c.t, c.Adapter, Endpoint{
		Name: port, Properties: c.f.Properties, MaxInFlight: c.MaxInFlight,
	})
	h.timeout = orDefault(c.Timeout, defaultTimeout)
	return h
}

func (c *sinkCheck) start() *Handler {
	c.t.Helper()
	h := c.startWithoutLease()
	h.Lease(time.Hour)
	return h
}

func (c *sinkCheck) newMessage(size int) Message {
	c.t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		c.t.Fatal(err)
	}
	context := map[string]string{"fairlead.id": id.String()}
	maps.Copy(context, c.Context)
	return Message{ID: id.String(), Context: context, Parts: []Part{{
		ContentType: "application/octet-stream", Content: randomBytes(size)}}}
}

func (c *sinkCheck) send(h *Handler, m Message) {
	c.t.Helper()
	if err := h.Send(port, m); err != nil {
		c.t.Fatalf("send of %d bytes: %v", len(m.Parts[0].Content), err)
	}
}

// arrived checks that these messages, once each, and nothing else are at the
// destination.
func (c *sinkCheck) arrived(want ...Message) {
	c.t.Helper()
	counts := map[string]int{}
	for _, r := range c.f.Received(c.t) {
		id := ""
		for _, m := range want {
			if bytes.Equal(m.Parts[0].Content, r.Content) {
				id = m.ID
			}
		}
		if id == "" {
			c.t.Errorf("%q arrived with %d bytes (%s...) that nobody sent whole", r.Name, len(r.Content), head(r.Content))
		}
		counts[id]++
	}
	for _, m := range want {
		if n := counts[m.ID]; n != 1 {
			c.t.Errorf("message %s of %d bytes arrived %d times", m.ID, len(m.Parts[0].Content), n)
		}
	}
}

func (c *sinkCheck) describes() {
	d := describes(c.t, c.Adapter, false, c.f.Properties)
	if c.Probes && !d.GetSend().GetProbes() {
		c.t.Error("SinkCase.Probes is set, but the adapter does not say sdk.Probes()")
	}
}

func (c *sinkCheck) sendsSizes() {
	h := c.start()
	var all []Message
	for _, size := range c.Sizes {
		m := c.newMessage(size)
		c.send(h, m)
		all = append(all, m)
	}
	c.arrived(all...)
}

func (c *sinkCheck) sendsMany() {
	h := c.start()
	all := make([]Message, 30)
	var wg sync.WaitGroup
	for i := range all {
		all[i] = c.newMessage(2000 + i)
		wg.Go(func() {
			if err := h.Send(port, all[i]); err != nil {
				c.t.Errorf("send: %v", err)
			}
		})
	}
	wg.Wait()
	c.arrived(all...)
}

func (c *sinkCheck) deduplicates() {
	if !c.Deduplicates {
		c.t.Skip("SinkCase.Deduplicates is not set")
	}
	m := c.newMessage(1000)
	h := c.start()
	c.send(h, m)
	again := m
	again.Redelivered = true
	c.send(h, again)
	// After a failover as well.
	h.Kill()
	c.send(c.start(), again)
	c.arrived(m)
}

func (c *sinkCheck) probes() {
	if !c.Probes {
		c.t.Skip("SinkCase.Probes is not set")
	}
	h := c.start()
	m, other := c.newMessage(1000), c.newMessage(1000)
	c.probe(h, "before the send", m, false)
	c.send(h, m)
	c.probe(h, "after the send", m, true)
	c.probe(h, "of another message", other, false)
	h.Kill()
	c.probe(c.start(), "by the next owner", m, true)
}

func (c *sinkCheck) probe(h *Handler, when string, m Message, want bool) {
	c.t.Helper()
	m.Redelivered = true
	got, err := h.Probe(port, m)
	if err != nil {
		c.t.Errorf("probe %s: %v", when, err)
	} else if (got == sdk.Arrived) != want {
		c.t.Errorf("probe %s says arrived: %v, want %v (answer %d)", when, got == sdk.Arrived, want, got)
	}
}

func (c *sinkCheck) idleWithoutLease() {
	h := c.startWithoutLease()
	m := c.newMessage(500)
	if err := h.Send(port, m); !sdk.IsDisconnected(err) {
		c.t.Errorf("send without a lease: %v, want a refusal as Disconnected", err)
	}
	c.arrived()
	h.Lease(time.Hour)
	c.send(h, m)
	c.arrived(m)
}

func (c *sinkCheck) stopsAtLeaseEnd() {
	h := c.start()
	first := c.newMessage(500)
	c.send(h, first)
	h.Lease(20 * time.Millisecond)
	if code := h.WaitExit(); code != wire.ExitLeaseEnded {
		c.t.Errorf("exit status %d, want %d", code, wire.ExitLeaseEnded)
	}
	h.tell(sendMessage(h.number(), h.message(c.newMessage(500))))
	h.Kill()
	c.arrived(first)
}

func (c *sinkCheck) drains() {
	h := c.start()
	first := c.newMessage(500)
	c.send(h, first)
	h.Drain()
	if err := h.Send(port, c.newMessage(500)); !sdk.IsDisconnected(err) {
		c.t.Errorf("send after the drain: %v, want a refusal as Disconnected", err)
	}
	c.arrived(first)
}

func (c *sinkCheck) disconnects() {
	if c.f.Down == nil || c.f.Up == nil {
		c.t.Skip("SinkFixture.Down and Up are not set")
	}
	h := c.start()
	m := c.newMessage(500)
	c.send(h, m)
	c.f.Down(c.t)
	second := c.newMessage(600)
	// The first failure on a connection that broke may leave things open; the next
	// one finds no connection at all, and has to say that.
	err := h.Send(port, second)
	if err == nil {
		c.t.Fatal("send succeeded although the destination is down")
	}
	if err := h.Send(port, second); !sdk.IsDisconnected(err) {
		c.t.Errorf("second send while down: %v, want Disconnected", err)
	}
	h.WaitBackingOff(port)
	c.f.Up(c.t)
	deadline := time.Now().Add(h.timeout)
	for err = h.Send(port, second); err != nil; err = h.Send(port, second) {
		if time.Now().After(deadline) {
			c.t.Fatalf("send does not recover: %v", err)
		}
		h.within(quietTime, func() bool { return false }) // a pause, as the policy's
	}
	h.WaitWorking(port)
	c.arrived(m, second)
}

func (c *sinkCheck) leavesNothing() {
	noLeaks(c.t, c.Timeout, c.Goroutines, func() {
		h := c.start()
		c.send(h, c.newMessage(1000))
		h.Kill()
	})
}
