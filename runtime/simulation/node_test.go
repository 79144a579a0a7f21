package simulation

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/ownership"
	"github.com/fairlead-io/fairlead/sdk/bootclock"
)

// node is a machine: its clock, its disk, the runtime's process and the adapters.
type node struct {
	w    *world
	id   int
	name string
	rate float64 // of its clock
	boot bootclock.Time
	// guarded: a guardian watches over the runtime, and its lock is inherited.
	// Without, plugins live on when the runtime dies.
	guarded bool

	// What is held stands still: the whole machine, the runtime, the plugins.
	machine, runtime, plugins latch

	// The world's lock guards these.
	p         *process
	disk      *disk
	slowDisk  time.Duration
	works     []*work // that have not ended, also of dead processes
	starts    int
	starting  bool
	suspended time.Duration // in all, by the machine's clock
	asleep    time.Time     // since when it is suspended; zero: it is not
}

func newNode(w *world, id int) *node {
	n := &node{w: w, id: id, name: fmt.Sprintf("n%02d", id), disk: newDisk()}
	// Two clocks differ by less than the tenth that the leader allows for.
	n.rate = 0.955 + 0.09*float64(w.draw(streamClock, id, 0)%1e6)/1e6
	n.boot = bootclock.Time(span(w.draw(streamClock, id, 0), time.Hour, 1000*time.Hour))
	n.guarded = w.draw(streamClock, id, 0)%3 > 0
	return n
}

// clock is the node's boot clock. It goes on while the node stands still.
func (n *node) clock() bootclock.Time {
	return n.boot.Add(time.Duration(float64(n.w.now()) * n.rate))
}

// uptime is the clock that a lease must not be measured with: it stops while the
// machine is suspended.
func (n *node) uptime() bootclock.Time {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.uptimeLocked()
}

func (n *node) uptimeLocked() bootclock.Time {
	away := n.suspended
	if !n.asleep.IsZero() {
		away += time.Since(n.asleep)
	}
	return n.clock().Add(-time.Duration(float64(away) * n.rate))
}

func (n *node) diskDelay() time.Duration {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if n.slowDisk == 0 {
		return 0
	}
	return span(n.w.drawLocked(streamDisk, n.id, 0), time.Millisecond, n.slowDisk)
}

// process is one life of the runtime on a node.
type process struct {
	n      *node
	name   string
	proof  []byte // of its death, which its guardian keeps
	wire   *wire
	ledger *ledger.Ledger
	coord  *ownership.Coordinator
	tenant *ownership.Tenant
	hurry  chan struct{}

	ctx    context.Context // ends with the process
	cancel context.CancelFunc
	leave  context.CancelFunc // asks the tenant to leave in order
	left   chan struct{}      // closed when the tenant has
	gone   chan struct{}      // closed at the crash
	tasks  sync.WaitGroup
	made   int // incarnations
	// putBack is by how much the tenant's clock is behind, see sabotage.
	putBack atomic.Int64
}

// process is the node's present runtime, nil if it is down.
func (n *node) process() *process {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.p
}

// start boots the runtime with what is on the disk, if it is down.
func (n *node) start() {
	n.w.mu.Lock()
	if n.p != nil || n.starting {
		n.w.mu.Unlock()
		return
	}
	n.starting = true
	n.starts++
	p := &process{
		n: n, name: fmt.Sprintf("%s.%d", n.name, n.starts),
		hurry: make(chan struct{}, 1), left: make(chan struct{}), gone: make(chan struct{}),
	}
	d := n.disk
	n.w.noteLocked("%s starts", p.name)
	n.w.mu.Unlock()
	p.proof = []byte("proof of the death of " + p.name)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.wire = &wire{p: p, consumer: make(chan raft.RPC, 64)}
	s := &store{p, d}
	l, err := ledger.Open(ledger.Config{
		Node: n.name, Timing: timing, Logs: s, Votes: s, Snapshots: raft.NewDiscardSnapshotStore(),
		Transport: p.wire, OnApply: func(index uint64, c *pb.Command, err error) { n.w.check.applied(p, index, c, err) },
		OnStuck: func(silent time.Duration) { n.w.fail("%s: stuck for %v", p.name, silent) },
	})
	if err != nil {
		n.w.fail("%s: %v", p.name, err)
		return
	}
	staying, leave := context.WithCancel(p.ctx)
	p.leave = leave
	n.w.mu.Lock()
	p.ledger, n.p, n.starting = l, p, false
	n.w.mu.Unlock()
	p.wireUp()
	p.tasks.Go(func() { p.coord.Run(p.ctx) })
	p.tasks.Go(p.followLeader)
	p.tasks.Go(func() {
		defer close(p.left)
		p.tenant.Run(staying, 5*time.Second)
	})
}

// What a crash takes with it.
const (
	everything  = iota // the machine loses its power, or its memory
	runtimeOnly        // the plugins live on
)

// crash ends the runtime without a word. What was not on disk is lost.
func (n *node) crash(what int) *process {
	n.w.mu.Lock()
	p := n.p
	if what == everything {
		for _, work := range slices.Clone(n.works) {
			work.endLocked()
		}
	}
	if p == nil {
		n.w.mu.Unlock()
		return nil
	}
	n.p = nil
	n.w.noteLocked("%s crashes%s", p.name, [...]string{"", ", its plugins live on"}[what])
	n.disk = n.disk.clone()
	close(p.gone)
	n.w.mu.Unlock()
	p.cancel()
	n.w.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := p.ledger.Close(ctx); err != nil {
			n.w.fail("%s: close after its end: %v", p.name, err)
		}
		p.tasks.Wait()
	})
	return p
}

// reap ends the plugins that outlived their runtime.
func (n *node) reap(of *process) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	for _, work := range slices.Clone(n.works) {
		if work.p == of {
			work.endLocked()
		}
	}
}

// gate lets through what goes on in the runtime, unless it is frozen; then it waits
// for the thaw, after which its threads go on in any order. It reports whether the
// process lives.
func (p *process) gate() bool {
	for p.frozen() {
		if !p.n.machine.wait(p.gone) || !p.n.runtime.wait(p.gone) {
			return false
		}
		time.Sleep(span(p.n.w.draw(streamThaw, p.n.id, 0), 0, 6*time.Millisecond))
	}
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

func (p *process) frozen() bool { return p.n.machine.held() || p.n.runtime.held() }

// latch holds things up while faults hold it.
type latch struct {
	mu    sync.Mutex
	holds int
	open  chan struct{} // closed when nothing holds it any more
}

func (l *latch) held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holds > 0
}

func (l *latch) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holds++; l.holds == 1 {
		l.open = make(chan struct{})
	}
}

func (l *latch) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holds--; l.holds == 0 {
		close(l.open)
	}
}

// wait returns when nothing holds the latch; false if gone is closed first.
func (l *latch) wait(gone <-chan struct{}) bool {
	l.mu.Lock()
	holds, open := l.holds, l.open
	l.mu.Unlock()
	if holds == 0 {
		return true
	}
	select {
	case <-open:
		return true
	case <-gone:
		return false
	}
}

// find is the number of the node with this name.
func (w *world) find(name string) int {
	return slices.IndexFunc(w.nodes, func(n *node) bool { return n.name == name })
}

// running are the nodes whose runtime is up.
func (w *world) running() (ps []*process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.nodes {
		if n.p != nil {
			ps = append(ps, n.p)
		}
	}
	return ps
}

// leader is the process that believes to lead; the newest if there are several.
func (w *world) leader() *process {
	for _, p := range w.running() {
		if p.ledger.Leading() && !p.frozen() {
			return p
		}
	}
	return nil
}
