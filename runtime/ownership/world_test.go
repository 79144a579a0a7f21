package ownership

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/placement"
	"github.com/fairlead-io/fairlead/sdk/bootclock"
)

const ttl = time.Second

// world is a cluster of real coordinators and tenants around a simulated log that
// keeps raft's promises: what is committed stays, in one order; a leader needs a
// majority; followers apply late. It runs inside a synctest bubble.
type world struct {
	t   *testing.T
	rng *rand.Rand

	mu      sync.Mutex
	log     []*pb.Command // committed
	leader  int           // -1: none
	term    int
	nodes   []*simNode
	next    int
	doubles int // moments at which two nodes acted for one group
}

type simNode struct {
	w        *world
	id       int
	name     string
	rate     float64 // of its clock
	up       bool
	cut      bool // from everybody else
	deaf     bool // its replica does not say when it changes
	mute     bool // its renewals get no answer at all
	refused  bool // its renewals are refused
	machine  *ledger.Machine
	leaderCh chan bool
	subs     map[chan struct{}]bool
	works    map[string]*simWork
	boot     int    // counts its processes
	proof    []byte // of its present process's death
	gaveUp   error
	tenant   *Tenant
	coord    *Coordinator
	stop     context.CancelFunc
	leave    context.CancelFunc // asks the tenant to leave in order
	done     sync.WaitGroup
}

// simWork acts from Begin until Kill or Drain, while the lease is valid, as a
// handler does that checks the lease itself.
type simWork struct {
	n      *simNode
	tenure Tenure
	lease  *Lease
	failed chan string
	// stubborn: Kill says that it could not.
	stubborn bool
	ended    bool
}

func newWorld(t *testing.T, seed uint64, nodes int, groups ...string) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 0)), leader: -1}
	w.log = append(w.log, &pb.Command{Kind: &pb.Command_Deploy{Deploy: &pb.Deploy{Version: 1, Groups: groups}}})
	for i := range nodes {
		w.nodes = append(w.nodes, &simNode{w: w, id: i, name: fmt.Sprintf("node-%c", 'a'+i), rate: 0.96 + 0.08*w.rng.Float64()})
	}
	for _, n := range w.nodes {
		n.start()
	}
	w.elect()
	return w
}

func (n *simNode) now() bootclock.Time {
	return bootclock.Time(float64(time.Now().UnixNano()) * n.rate)
}

// start boots the node with an empty replica, which catches up from the log.
func (n *simNode) start() {
	ctx, stop := context.WithCancel(context.Background())
	staying, leave := context.WithCancel(ctx)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	n.w.mu.Lock()
	n.up, n.stop, n.leave = true, stop, leave
	n.machine, n.subs, n.works = ledger.NewMachine(), map[chan struct{}]bool{}, map[string]*simWork{}
	n.leaderCh, n.gaveUp = make(chan bool, 1), nil
	n.boot++
	boot := n.boot
	n.proof = fmt.Appendf(nil, "%s died as process %d", n.name, boot)
	certifier := ledger.Certifier(n.proof)
	n.w.mu.Unlock()
	n.coord = NewCoordinator(CoordinatorConfig{Log: n, TTL: ttl, Plan: n.plan, Now: n.now, Logger: log})
	n.tenant = NewTenant(TenantConfig{
		Replica: n, TTL: ttl, Now: n.now, Logger: log,
		Session: func(id string) *pb.Session {
			return &pb.Session{Incarnation: id, Node: n.name, Certifier: certifier}
		},
		NewIncarnation: func() string {
			n.w.mu.Lock()
			defer n.w.mu.Unlock()
			n.w.next++
			return fmt.Sprintf("%s#%d", n.name, n.w.next)
		},
		Announce: func(string) {},
		// What is left of a process that was killed reaches nobody.
		Renew: func(ctx context.Context, incarnation string) error {
			if !n.runs(boot) {
				return errNoLeader
			}
			return n.renew(ctx, incarnation)
		},
		Propose: func(ctx context.Context, c *pb.Command) error {
			if !n.runs(boot) {
				return errNoLeader
			}
			return n.propose(ctx, c)
		},
		Begin: func(t Tenure, l *Lease) Work { return n.begin(t, l, boot) },
		Successor: func(h Handover) (*pb.Placement, int64) {
			var d placement.Decision
			n.View(func(s *pb.State) { d = placement.Elsewhere(n.plan(s), h.Group, n.name) })
			return &pb.Placement{Group: h.Group, Node: d.Node, Incarnation: d.Incarnation, Reason: d.Reason}, 0
		},
		GiveUp: func(err error) {
			n.w.mu.Lock()
			defer n.w.mu.Unlock()
			n.gaveUp = err
		},
		DrainTimeout: func(string) time.Duration { return 100 * time.Millisecond },
	})
	n.done.Go(func() { n.coord.Run(ctx) })
	n.done.Go(func() { n.tenant.Run(staying, 5*time.Second) })
	n.done.Go(func() { n.replicate(ctx, boot) })
}

// crash ends the node as kill -9 does: all its work with it. It takes no time;
// what is left of the process's goroutines ends by and by.
func (n *simNode) crash() {
	n.w.mu.Lock()
	n.up = false
	for _, work := range n.works {
		work.ended = true
	}
	n.w.mu.Unlock()
	n.stop()
}

// runs reports whether the node is up and still the given process.
func (n *simNode) runs(boot int) bool {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.up && n.boot == boot
}

// replicate applies the log with a delay.
func (n *simNode) replicate(ctx context.Context, boot int) {
	for pause(ctx, n.w.delay(20*time.Millisecond)) && n.runs(boot) {
		n.w.mu.Lock()
		if !n.cut {
			n.applyLocked(len(n.w.log))
		}
		n.w.mu.Unlock()
	}
}

func (n *simNode) applyLocked(to int) (err error) {
	for i := int(n.machine.State().GetIndex()); i < to; i++ {
		err = n.machine.Apply(uint64(i+1), proto.CloneOf(n.w.log[i]))
		for sub := range n.subs {
			if n.deaf {
				break
			}
			select {
			case sub <- struct{}{}:
			default:
			}
		}
	}
	return err
}

func (w *world) delay(most time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.rng.Int64N(int64(most))) + time.Microsecond
}

func (w *world) majorityLocked(of *simNode) bool {
	reach := 0
	for _, n := range w.nodes {
		if n == of && n.up || n.up && !n.cut && !of.cut {
			reach++
		}
	}
	return reach*2 > len(w.nodes)
}

// elect makes some node that can reach a majority the leader.
func (w *world) elect() {
	w.mu.Lock()
	defer w.mu.Unlock()
	var able []*simNode
	for _, n := range w.nodes {
		if n.up && !n.cut && w.majorityLocked(n) {
			able = append(able, n)
		}
	}
	old := w.leader
	w.leader = -1
	w.term++
	if len(able) > 0 {
		w.leader = able[w.rng.IntN(len(able))].id
	}
	for _, id := range []int{old, w.leader} {
		if id < 0 {
			continue
		}
		select { // latest value wins
		case <-w.nodes[id].leaderCh:
		default:
		}
		w.nodes[id].leaderCh <- id == w.leader
	}
}

var errNoLeader = errors.New("no leader")

// Apply is raft's: it fails on a follower, and hangs until the leadership ends
// where there is no majority.
func (n *simNode) Apply(ctx context.Context, c *pb.Command) (uint64, error) {
	if !pause(ctx, n.w.delay(10*time.Millisecond)) {
		return 0, ctx.Err()
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if n.w.leader != n.id || !n.up || !n.w.majorityLocked(n) {
		return 0, ledger.ErrNotLeader
	}
	n.applyLocked(len(n.w.log))
	n.w.log = append(n.w.log, proto.CloneOf(c))
	return uint64(len(n.w.log)), n.applyLocked(len(n.w.log))
}

func (n *simNode) Barrier(ctx context.Context) error {
	_, err := n.Apply(ctx, &pb.Command{Kind: &pb.Command_Grant{Grant: &pb.Grant{}}})
	return err
}

func (n *simNode) LeaderCh() <-chan bool { return n.leaderCh }

func (n *simNode) View(f func(*pb.State)) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	f(n.machine.State())
}

func (n *simNode) Changes() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.subs[ch] = true
	return ch, func() {
		n.w.mu.Lock()
		defer n.w.mu.Unlock()
		delete(n.subs, ch)
	}
}

// toLeader returns the leader if the network lets this node reach it now.
func (n *simNode) toLeader() *simNode {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if n.w.leader < 0 || !n.up {
		return nil
	}
	l := n.w.nodes[n.w.leader]
	if l != n && (l.cut || n.cut) || !l.up {
		return nil
	}
	return l
}

func (n *simNode) renew(ctx context.Context, incarnation string) error {
	n.w.mu.Lock()
	mute, refused := n.mute, n.refused
	n.w.mu.Unlock()
	switch {
	case mute:
		<-ctx.Done()
		return ctx.Err()
	case refused:
		return ledger.ErrFenced
	}
	l := n.toLeader()
	if l == nil || !pause(ctx, n.w.delay(30*time.Millisecond)) {
		return errNoLeader
	}
	err := l.coord.Renew(ctx, incarnation)
	if !pause(ctx, n.w.delay(30*time.Millisecond)) || n.toLeader() != l {
		return errNoLeader // the answer is lost
	}
	return err
}

func (n *simNode) propose(ctx context.Context, c *pb.Command) error {
	l := n.toLeader()
	if l == nil {
		return errNoLeader
	}
	_, err := l.Apply(ctx, c)
	return err
}

func (n *simNode) plan(s *pb.State) placement.Cluster {
	var c placement.Cluster
	newest := map[string]*pb.Session{}
	for _, session := range s.GetSessions() {
		if old := newest[session.GetNode()]; !session.GetExpired() && (old == nil || old.GetRegistered() < session.GetRegistered()) {
			newest[session.GetNode()] = session
		}
	}
	for name, session := range newest {
		c.Nodes = append(c.Nodes, placement.Node{Name: name, Incarnation: session.GetIncarnation()})
	}
	for name, g := range s.GetGroups() {
		c.Groups = append(c.Groups, placement.Group{Name: name, Owner: g.GetOwner()})
	}
	return c
}

func (n *simNode) begin(t Tenure, l *Lease, boot int) Work {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	work := &simWork{n: n, tenure: t, lease: l, failed: make(chan string, 1)}
	if work.ended = !n.up || n.boot != boot; !work.ended {
		n.works[t.Group] = work
	}
	return work
}

func (s *simWork) Kill() error {
	// Whoever is told to stop may ask what it still holds.
	s.n.tenant.Lease().Valid()
	s.n.tenant.Incarnation()
	s.n.tenant.Counts()
	s.n.w.mu.Lock()
	defer s.n.w.mu.Unlock()
	if s.stubborn {
		return errors.New("process 4711 is in uninterruptible sleep")
	}
	s.ended = true
	return nil
}

func (s *simWork) Drain(ctx context.Context) error {
	pause(ctx, s.n.w.delay(50*time.Millisecond))
	return s.Kill()
}

func (s *simWork) Failed() <-chan string { return s.failed }

// acting returns the nodes that act for the group now.
func (w *world) acting(group string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for _, n := range w.nodes {
		if work := n.works[group]; work != nil && !work.ended && n.up && work.lease.Valid() {
			names = append(names, n.name)
		}
	}
	return names
}

// watch checks the first invariant every few milliseconds for d.
func (w *world) watch(d time.Duration, groups []string) {
	w.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(3 * time.Millisecond)
		for _, g := range groups {
			if who := w.acting(g); len(who) > 1 {
				w.doubles++
			}
		}
	}
}

func (w *world) close() {
	for _, n := range w.nodes {
		if n.up {
			n.crash()
		}
		n.done.Wait()
	}
}
