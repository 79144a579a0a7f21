package simulation

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// nemesis breaks things and mends them. Everything it does comes from its own
// numbers.
type nemesis struct {
	w   *world
	rng *rand.Rand
	// strikes are the faults that have not been mended.
	strikes sync.WaitGroup
}

// fault is one kind of fault. It breaks something now and returns what mends it, and
// how long until then; nil if it mends itself.
type fault struct {
	name   string
	inject func(*nemesis) (mend func(), after time.Duration)
}

var faults = []fault{
	{"power", (*nemesis).power},
	{"runtime dies", (*nemesis).runtimeDies},
	{"stop", (*nemesis).stop},
	{"freeze", (*nemesis).freeze},
	{"freeze runtime", (*nemesis).freezeRuntime},
	{"freeze plugins", (*nemesis).freezePlugins},
	{"suspend", (*nemesis).suspend},
	{"partition", (*nemesis).partition},
	{"one-way", (*nemesis).oneWay},
	{"shatter", (*nemesis).shatter},
	{"slow link", (*nemesis).slowLink},
	{"loss", (*nemesis).loss},
	{"slow disk", (*nemesis).slowDisk},
	{"transfer", (*nemesis).transfer},
	{"move", (*nemesis).move},
	{"order", (*nemesis).orders},
	{"failure", (*nemesis).failure},
	{"straggler", (*nemesis).straggler},
	{"trap", (*nemesis).trap},
}

// rage strikes for some time with some of the faults, and returns when all is mended.
func (m *nemesis) rage(d time.Duration) {
	var chosen []fault
	for len(chosen) < 3 { // not all: what hides one fault may show another
		chosen = []fault{{"trap", (*nemesis).trap}}
		for _, f := range faults {
			if m.rng.IntN(2) == 0 {
				chosen = append(chosen, f)
			}
		}
	}
	pause := m.between(300*time.Millisecond, 3*ttl) // some schedules are calmer
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(m.between(10*time.Millisecond, pause))
		mend, after := chosen[m.rng.IntN(len(chosen))].inject(m)
		if mend != nil {
			m.strikes.Go(func() {
				time.Sleep(after)
				mend()
			})
		}
	}
	m.strikes.Wait()
}

// between favours short times.
func (m *nemesis) between(least, most time.Duration) time.Duration {
	lo, hi := math.Log(float64(least)), math.Log(float64(most))
	return time.Duration(math.Exp(lo + (hi-lo)*m.rng.Float64()))
}

func (m *nemesis) node() *node { return m.w.nodes[m.rng.IntN(len(m.w.nodes))] }

// victim is a leader or an owner more often than another node.
func (m *nemesis) victim() *node {
	n, kind := m.node(), m.rng.IntN(4)
	if kind == 0 {
		if p := m.w.leader(); p != nil {
			return p.n
		}
	}
	if kind > 1 {
		if o := m.w.owner(m.w.groups[n.id%len(m.w.groups)]); o != nil {
			return o
		}
	}
	return n
}

// lapse is how long something stands still: half of the time longer than a lease.
func (m *nemesis) lapse() time.Duration {
	if m.rng.IntN(2) == 0 {
		return m.between(30*time.Millisecond, ttl)
	}
	return ttl + time.Duration(m.rng.Int64N(int64(3*ttl/2)))
}

func (m *nemesis) power() (func(), time.Duration) {
	n := m.victim()
	n.crash(everything)
	m.w.changed("power of %s fails", n.name)
	return func() { n.start(); m.w.changed("%s is up", n.name) }, m.between(50*time.Millisecond, 5*ttl/2)
}

// runtimeDies kills the runtime alone. Its guardian reaps the plugins, tells a peer,
// and starts it again, at times before the peer has told the leader. Without a
// guardian the plugins live on.
func (m *nemesis) runtimeDies() (func(), time.Duration) {
	n := m.victim()
	reaped, told := m.between(time.Millisecond, 80*time.Millisecond), m.between(time.Millisecond, 3*ttl/2)
	again := m.between(5*time.Millisecond, 2*ttl)
	to := (n.id + 1 + m.rng.IntN(len(m.w.nodes)-1)) % len(m.w.nodes)
	dead := n.crash(runtimeOnly)
	m.w.changed("runtime of %s dies", n.name)
	if dead == nil {
		return nil, 0
	}
	if !n.guarded {
		return func() { n.start(); m.w.changed("%s is up", n.name) }, again
	}
	m.strikes.Go(func() {
		time.Sleep(reaped)
		n.reap(dead)
		time.Sleep(told)
		if m.w.nodes[n.id].machine.held() || !m.w.open(n.id, to) {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), ttl)
		defer cancel()
		m.w.note("death of %s told to %s: %v", dead.name, m.w.nodes[to].name, m.w.certify(ctx, to, dead))
	})
	return func() { n.start(); m.w.changed("%s is up", n.name) }, reaped + again
}

// stop has a node leave in order, and come back.
func (m *nemesis) stop() (func(), time.Duration) {
	n := m.node()
	p := n.process()
	if p == nil {
		return nil, 0
	}
	m.w.note("%s is stopped", p.name)
	p.leave()
	return func() {
		select {
		case <-p.left:
		case <-time.After(ttl):
		}
		if n.process() == p {
			n.crash(everything)
			m.w.changed("%s has stopped", n.name)
		}
		time.Sleep(100 * time.Millisecond)
		n.start()
		m.w.changed("%s is up", n.name)
	}, 100 * time.Millisecond
}

// stand returns what has a part of a node stand still, and what lets it go on.
func (m *nemesis) stand(n *node, what string, l *latch) (stop, goOn func()) {
	return func() { l.hold(); m.w.changed("%s of %s stands still", what, n.name) },
		func() { l.release(); m.w.changed("%s of %s goes on", what, n.name) }
}

func (m *nemesis) hold(n *node, what string, l *latch) (func(), time.Duration) {
	stop, goOn := m.stand(n, what, l)
	stop()
	return goOn, m.lapse()
}

func (m *nemesis) freeze() (func(), time.Duration) {
	n := m.victim()
	return m.hold(n, "everything", &n.machine)
}

func (m *nemesis) freezeRuntime() (func(), time.Duration) {
	n := m.victim()
	return m.hold(n, "the runtime", &n.runtime)
}

func (m *nemesis) freezePlugins() (func(), time.Duration) {
	n := m.victim()
	return m.hold(n, "every plugin", &n.plugins)
}

// suspend stops a machine and the clocks of its timers, but not its boot clock. The
// runtime's timers are late by up to the time that was slept.
func (m *nemesis) suspend() (func(), time.Duration) {
	n, slept := m.victim(), m.lapse()
	late := time.Duration(m.rng.Int64N(int64(min(slept, ttl))))
	m.w.mu.Lock()
	already := !n.asleep.IsZero()
	if !already {
		n.asleep = time.Now()
	}
	m.w.mu.Unlock()
	if already {
		return nil, 0
	}
	n.machine.hold()
	m.w.changed("%s is suspended", n.name)
	return func() {
		m.w.mu.Lock()
		n.suspended += time.Since(n.asleep)
		n.asleep = time.Time{}
		m.w.mu.Unlock()
		n.runtime.hold()
		n.machine.release()
		m.w.changed("%s wakes up, its timers are late by %v", n.name, late)
		time.Sleep(late)
		n.runtime.release()
		m.w.changed("%s is awake", n.name)
	}, slept
}

// block closes links, and opens them again.
func (m *nemesis) block(name string, closed func(from, to int) bool) (func(), time.Duration) {
	add := func(n int) {
		m.w.mu.Lock()
		defer m.w.mu.Unlock()
		for from := range m.w.nodes {
			for to := range m.w.nodes {
				if from != to && closed(from, to) {
					m.w.net.blocked[from][to] += n
				}
			}
		}
	}
	add(1)
	m.w.changed("network: %s", name)
	return func() { add(-1); m.w.changed("network: %s mended", name) }, m.lapse()
}

func (m *nemesis) partition() (func(), time.Duration) {
	side := make([]bool, len(m.w.nodes))
	side[m.victim().id] = true
	if len(side) > 3 && m.rng.IntN(2) == 0 {
		side[m.node().id] = true
	}
	return m.block("partition", func(from, to int) bool { return side[from] != side[to] })
}

// oneWay closes links in one direction: of one pair, or all from or to a node.
func (m *nemesis) oneWay() (func(), time.Duration) {
	a, b := m.victim().id, m.node().id
	switch m.rng.IntN(3) {
	case 0:
		return m.block("nothing from one", func(from, _ int) bool { return from == a })
	case 1:
		return m.block("nothing to one", func(_, to int) bool { return to == a })
	}
	return m.block("one link in one direction", func(from, to int) bool { return from == a && to == b })
}

func (m *nemesis) shatter() (func(), time.Duration) {
	return m.block("everybody alone", func(int, int) bool { return true })
}

func (m *nemesis) slowLink() (func(), time.Duration) {
	n, slow := m.victim(), m.between(10*time.Millisecond, 250*time.Millisecond)
	set := func(d time.Duration) {
		m.w.mu.Lock()
		defer m.w.mu.Unlock()
		m.w.net.slow[n.id] = d
		m.w.noteLocked("links of %s are slower by %v", n.name, d)
	}
	set(slow)
	return func() { set(0) }, m.lapse()
}

func (m *nemesis) loss() (func(), time.Duration) {
	set := func(loss, repeat int) {
		m.w.mu.Lock()
		defer m.w.mu.Unlock()
		m.w.net.loss, m.w.net.repeat = loss, repeat
		m.w.noteLocked("of 1000 messages %d are lost and %d come twice", loss, repeat)
	}
	set(m.rng.IntN(250), m.rng.IntN(250))
	return func() { set(0, 0) }, m.lapse()
}

func (m *nemesis) slowDisk() (func(), time.Duration) {
	n, slow := m.victim(), m.between(5*time.Millisecond, 400*time.Millisecond)
	set := func(d time.Duration) {
		m.w.mu.Lock()
		defer m.w.mu.Unlock()
		n.slowDisk = d
		m.w.noteLocked("disk of %s takes up to %v", n.name, d)
	}
	set(slow)
	return func() { set(0) }, m.lapse()
}

func (m *nemesis) transfer() (func(), time.Duration) {
	p := m.w.leader()
	if p == nil {
		return nil, 0
	}
	m.w.note("%s hands over the leadership", p.name)
	m.strikes.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, ttl)
		defer cancel()
		_ = p.ledger.TransferLeadership(ctx) // may fail: other faults strike
	})
	return nil, 0
}

// move orders the owner of a group to hand it over.
func (m *nemesis) move() (func(), time.Duration) {
	group := m.w.groups[m.rng.IntN(len(m.w.groups))]
	to, at := m.node().name, m.node()
	if m.rng.IntN(2) == 0 {
		to = "*"
	}
	m.strikes.Go(func() {
		p := at.process()
		if p == nil {
			return
		}
		var epoch uint64
		replica{p}.View(func(s *pb.State) { epoch = s.GetGroups()[group].GetEpoch() })
		_ = m.w.order(at, &pb.Command{Kind: &pb.Command_Move{Move: &pb.Move{
			Group: group, To: to, Epoch: epoch, Reason: "moved by hand", Cause: "move", Pin: to != "*",
		}}})
	})
	return nil, 0
}

// orders drains or pauses a node, and resumes it.
func (m *nemesis) orders() (func(), time.Duration) {
	about, order := m.node().name, pb.SetNode_DRAIN
	if m.rng.IntN(2) == 0 {
		order = pb.SetNode_PAUSE
	}
	say := func(at *node, order pb.SetNode_Order) {
		m.w.note("order: %v %s", order, about)
		_ = m.w.order(at, &pb.Command{Kind: &pb.Command_SetNode{SetNode: &pb.SetNode{Node: about, Order: order}}})
	}
	at, later := m.node(), m.node()
	m.strikes.Go(func() { say(at, order) })
	return func() { say(later, pb.SetNode_RESUME) }, m.lapse()
}

// failure has a group's work say that it cannot go on where it is.
func (m *nemesis) failure() (func(), time.Duration) {
	n := m.victim()
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	for _, k := range n.works {
		select {
		case k.failed <- "simulated":
			m.w.noteLocked("%s fails on %s", k.tenure.Group, n.name)
		default: // it has said so already
		}
	}
	return nil, 0
}

// straggler delivers a request again that was sent some time ago: the network, or the
// queue of a process that was frozen, had it. Whoever sent it may be dead.
func (m *nemesis) straggler() (func(), time.Duration) {
	m.w.mu.Lock()
	sent := slices.Clone(m.w.sent)
	m.w.mu.Unlock()
	if m.rng.IntN(2) == 0 {
		sent = slices.DeleteFunc(sent, func(c *pb.Command) bool { return c.GetFates() != nil })
	}
	p, i := m.w.leader(), m.rng.IntN(keptCommands)
	if p == nil || len(sent) == 0 {
		return nil, 0
	}
	slices.SortFunc(sent, func(a, b *pb.Command) int { return strings.Compare(a.String(), b.String()) }) // whatever the order within one instant
	c := sent[i%len(sent)]
	m.w.note("a straggler comes: %T of %v", c.GetKind(), c.GetRegister().GetSession().GetIncarnation())
	m.strikes.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, ttl/2)
		defer cancel()
		_, _ = p.ledger.Apply(ctx, m.w.sabotage.door(p, c))
	})
	return nil, 0
}
