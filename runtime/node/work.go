package node

import (
	"context"
	"errors"
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
	// failed receives once why the group should go to another node.
	failed chan string

	mu   sync.Mutex
	crew *crew // what runs now
	err  error // what could not be ended
}

// crew is one generation of a group's exchange and hosts.
type crew struct {
	exchange *exchange.Exchange // nil where there are no locations
	hosts    map[string]*host.Host
	draining atomic.Bool
	// tasks watch over the hosts; they end with cancel.
	cancel context.CancelFunc
	tasks  sync.WaitGroup
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
		failed: make(chan string, 1),
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
			w.awaitPlanChange(watch, plan)
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
		w.note(c.drain(ctx))
		return false
	case <-changed:
		if w.ctx.Err() == nil {
			w.log.Info("the deployment has changed, or an order was given: its hosts are started anew")
			ctx, cancel := context.WithTimeout(w.ctx, drainTimeout)
			defer cancel()
			err := c.drain(ctx)
			w.note(err)
			return err == nil && w.ctx.Err() == nil
		}
	}
	w.note(c.kill())
	return false
}

// note keeps what could not be ended, for whoever asks for the end.
func (w *work) note(err error) {
	if err == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = errors.Join(w.err, err)
}

// Drain implements ownership.Work.
func (w *work) Drain(ctx context.Context) error {
	select {
	case w.drain <- ctx:
	default: // asked before
	}
	select {
	case <-w.done:
	case <-ctx.Done():
	}
	return w.Kill()
}

// Kill implements ownership.Work.
func (w *work) Kill() error {
	w.cancel()
	w.mu.Lock()
	c := w.crew
	w.mu.Unlock()
	w.note(c.kill())
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Failed implements ownership.Work.
func (w *work) Failed() <-chan string { return w.failed }

// current is what runs now, nil before the first.
func (w *work) current() *crew {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.crew
}

func (w *work) set(c *crew) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.crew = c
}

// start builds a crew.
func (w *work) start(plan *groupPlan) *crew {
	ctx, cancel := context.WithCancel(context.Background())
	c := &crew{hosts: map[string]*host.Host{}, cancel: cancel}
	if w.tenure.Group != ownership.Local {
		c.exchange = w.newExchange(plan)
	}
	for _, h := range plan.hosts {
		c.hosts[h.name] = w.startHost(ctx, c, h)
	}
	if w.tenure.Group != ownership.Local {
		c.tasks.Go(func() { w.watchStalls(ctx, c) })
		c.tasks.Go(func() { w.followOrders(ctx, c, plan.locationNames()) })
	}
	return c
}

func (w *work) newExchange(plan *groupPlan) *exchange.Exchange {
	n := w.n
	return exchange.New(exchange.Config{
		Tenure:    exchange.Tenure{Group: w.tenure.Group, Incarnation: w.tenure.Incarnation, Epoch: w.tenure.Epoch},
		Locations: plan.locations, Ports: plan.ports, Fates: n.fatesOf(plan.locationNames()), Fate: n.fateOf,
		Propose: n.propose, Delivery: n, Spool: n.spool, NewID: newID, Tell: n.tell, Keep: n.keep, Steps: n.cfg.Steps, Log: w.log,
	})
}

// startHost starts one host of a crew.
func (w *work) startHost(ctx context.Context, c *crew, plan hostPlan) *host.Host {
	failed := make(chan string, 1)
	h := host.Start(host.Config{
		Name: plan.name, Handlers: w.n.handlers(plan, w.tenure.Epoch, w.lease), Exchange: c.exchange, Ports: w.n.ports,
		Lease: w.lease, Log: w.log, Restart: plan.restart,
		Failed: func(reason string) { failed <- reason }, // called once
	})
	if w.tenure.Group == ownership.Local {
		return h // it runs everywhere: there is no elsewhere
	}
	c.tasks.Go(func() {
		select {
		case <-ctx.Done():
		case reason := <-failed:
			w.fail(ctx, "host "+plan.name+": "+reason, func() bool { return !allRun(h) })
		}
	})
	return h
}

func allRun(h *host.Host) bool {
	for _, s := range h.States() {
		if s.State != "running" {
			return false
		}
	}
	return true
}

// drain ends the crew in order: first what is under way, then the handlers. An
// error says which process is left.
func (c *crew) drain(ctx context.Context) error {
	if c.exchange != nil {
		c.exchange.Drain(ctx)
	}
	return c.end(func(h *host.Host) error { return h.Stop(ctx) })
}

// kill ends the crew at once: the processes first, for they are what acts.
func (c *crew) kill() error {
	if c == nil {
		return nil
	}
	return c.end((*host.Host).Kill)
}

// end ends all hosts at the same time, then the exchange and what else it runs.
func (c *crew) end(end func(*host.Host) error) error {
	errs := make(chan error, len(c.hosts))
	for _, h := range c.hosts {
		go func() { errs <- end(h) }()
	}
	var err error
	for range c.hosts {
		err = errors.Join(err, <-errs)
	}
	if c.exchange != nil {
		c.exchange.Close()
	}
	c.cancel()
	c.tasks.Wait()
	return err
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
