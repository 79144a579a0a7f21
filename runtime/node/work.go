package node

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-io/fairlead/runtime/exchange"
	"github.com/fairlead-io/fairlead/runtime/host"
	"github.com/fairlead-io/fairlead/runtime/ownership"
)

// work is a group at work on this node: its exchange and its hosts, built from the
// current deployment, and built again when a new one changes them.
type work struct {
	n      *Node
	tenure ownership.Tenure
	lease  *ownership.Lease
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	// drain holds the context of the drain that was asked for, if one was.
	drain chan context.Context
	done  chan struct{}

	mu   sync.Mutex
	crew *crew // what runs now
}

// crew is one generation of a group's exchange and hosts.
type crew struct {
	exchange *exchange.Exchange // nil where there are no locations
	hosts    map[string]*host.Host
	draining atomic.Bool
}

// begin implements ownership's TenantConfig.Begin.
func (n *Node) begin(t ownership.Tenure, lease *ownership.Lease) ownership.Work {
	ctx, cancel := context.WithCancel(context.Background())
	log := n.log
	if t.Group != ownership.Local {
		log = log.With("group", t.Group, "epoch", t.Epoch)
	}
	w := &work{
		n: n, tenure: t, lease: lease, log: log,
		ctx: ctx, cancel: cancel, drain: make(chan context.Context, 1), done: make(chan struct{}),
	}
	n.works.add(w)
	go w.run() // ends with Kill, at the latest when the lease does
	return w
}

// run keeps the current deployment's crew at work until it is drained or killed.
func (w *work) run() {
	defer close(w.done)
	defer w.n.works.remove(w)
	for {
		plan := w.n.planFor(w.tenure.Group)
		c := w.start(plan)
		w.set(c)
		watch, stop := context.WithCancel(w.ctx)
		changed := make(chan struct{})
		go func() { // ends with watch
			defer close(changed)
			w.n.awaitPlanChange(watch, w.tenure.Group, plan)
		}()
		again := w.attend(c, changed, plan.drainTimeout)
		stop()
		<-changed
		if !again {
			return
		}
	}
}

// attend waits for the end of a crew, and reports whether another is to follow.
func (w *work) attend(c *crew, changed <-chan struct{}, drainTimeout time.Duration) bool {
	select {
	case <-w.ctx.Done():
	case ctx := <-w.drain:
		c.draining.Store(true)
		c.drain(ctx)
		return false
	case <-changed:
		if w.ctx.Err() == nil {
			w.log.Info("the deployment has changed: its hosts are started anew")
			ctx, cancel := context.WithTimeout(w.ctx, drainTimeout)
			defer cancel()
			c.drain(ctx)
			return w.ctx.Err() == nil
		}
	}
	c.kill()
	return false
}

// Drain implements ownership.Work.
func (w *work) Drain(ctx context.Context) {
	select {
	case w.drain <- ctx:
	default: // asked before
	}
	select {
	case <-w.done:
	case <-ctx.Done():
	}
	w.Kill()
}

// Kill implements ownership.Work.
func (w *work) Kill() {
	w.cancel()
	w.mu.Lock()
	c := w.crew
	w.mu.Unlock()
	c.kill()
	<-w.done
}

func (w *work) set(c *crew) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.crew = c
}

// start builds a crew.
func (w *work) start(plan *groupPlan) *crew {
	c := &crew{hosts: map[string]*host.Host{}}
	if w.tenure.Group != ownership.Local {
		c.exchange = exchange.New(exchange.Config{
			Tenure:    exchange.Tenure{Group: w.tenure.Group, Incarnation: w.tenure.Incarnation, Epoch: w.tenure.Epoch},
			Locations: plan.locations, Ports: plan.ports, Fates: w.n.fatesOf(plan.locations), Fate: w.n.fateOf,
			Propose: w.n.propose, Delivery: w.n, Spool: w.n.spool, NewID: newID, Log: w.log,
		})
	}
	for _, h := range plan.hosts {
		c.hosts[h.name] = host.Start(host.Config{
			Name: h.name, Handlers: w.n.handlers(h, w.lease), Exchange: c.exchange, Ports: w.n.ports,
			Lease: w.lease, Log: w.log,
		})
	}
	return c
}

// drain ends the crew in order: first what is under way, then the handlers.
func (c *crew) drain(ctx context.Context) {
	if c.exchange != nil {
		c.exchange.Drain(ctx)
	}
	var wg sync.WaitGroup
	for _, h := range c.hosts {
		wg.Go(func() { h.Stop(ctx) })
	}
	wg.Wait()
	if c.exchange != nil {
		c.exchange.Close()
	}
}

// kill ends the crew at once: the processes first, for they are what acts.
func (c *crew) kill() {
	if c == nil {
		return
	}
	var wg sync.WaitGroup
	for _, h := range c.hosts {
		wg.Go(h.Kill)
	}
	wg.Wait()
	if c.exchange != nil {
		c.exchange.Close()
	}
}

// works are the groups at work on the node.
type works struct {
	mu  sync.Mutex
	set map[*work]bool
}

func (ws *works) add(w *work) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.set == nil {
		ws.set = map[*work]bool{}
	}
	ws.set[w] = true
}

func (ws *works) remove(w *work) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.set, w)
}

func (ws *works) list() []*work {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	var list []*work
	for w := range ws.set {
		list = append(list, w)
	}
	return list
}
