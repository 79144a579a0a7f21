// Package node is one Fairlead node, embeddable: New, Start, Stop. It wires the
// other packages and decides nothing itself. Several nodes live in one process.
package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fairlead-io/fairlead/runtime/api"
	"github.com/fairlead-io/fairlead/runtime/config"
	"github.com/fairlead-io/fairlead/runtime/exchange"
	"github.com/fairlead-io/fairlead/runtime/handler"
	"github.com/fairlead-io/fairlead/runtime/ledger"
	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
	"github.com/fairlead-io/fairlead/runtime/membership"
	"github.com/fairlead-io/fairlead/runtime/ownership"
	"github.com/fairlead-io/fairlead/runtime/telemetry"
	"github.com/fairlead-io/fairlead/runtime/tracking"
	"github.com/fairlead-io/fairlead/runtime/transport"
	"github.com/fairlead-io/fairlead/runtime/transport/peerpb"
	"github.com/fairlead-io/fairlead/sdk/bootclock"
)

// spoolBudget bounds the content on its way, in bytes, in each of the node's two
// spools: what was read here, and what other nodes send through here.
const spoolBudget = 4 << 30

// Config is what a Node needs.
type Config struct {
	// File is the checked node file.
	File    *config.Node
	Version string
	Log     *slog.Logger
	// Certifier is the SHA-256 of the proof that this process's guardian will give
	// when it has seen everything here dead; empty: there is no guardian.
	Certifier []byte
	// Lock is the data directory's lock, which every adapter process inherits, and
	// LockID its name among all locks (see datadir); nil and empty: there is none.
	Lock   *os.File
	LockID string
	// Steps, if not nil, is called at every step of every message: for tests.
	Steps func(exchange.Step)
	// Peers, if not nil, is told the cluster addresses of the other nodes whenever
	// they change, the leader's first. It must not block.
	Peers func(addresses []string)
}

// Node is one node. Make it with New.
type Node struct {
	cfg     Config
	name    string
	disk    string // that holds this node's part of the ledger
	profile Profile
	log     *slog.Logger

	adapters    []handler.Binary
	transport   *transport.Transport
	membership  *membership.Membership
	ledger      *ledger.Ledger
	coordinator *ownership.Coordinator
	tenant      *ownership.Tenant
	ports       *exchange.Ports
	spool       *exchange.Spool
	remoteSpool *exchange.Spool
	api         *api.Server
	plans       *plans
	works       works
	tally       tally
	history     *tracking.Store
	pool        *handler.Pool // processes of warm standbys
	hurry       chan struct{} // see ownership's TenantConfig

	ctx    context.Context // ends when Stop begins
	cancel context.CancelFunc
	tasks  sync.WaitGroup // end with ctx
	tenure sync.WaitGroup // the tenant, which goes first
	leave  context.CancelFunc

	// closers undo what was opened, last in, first out.
	closers []func(context.Context) error
	started bool
	once    sync.Once
	stopErr error
	done    chan struct{}
	doneErr error
	failed  sync.Once
}

// New checks the settings. Nothing is opened before Start.
func New(cfg Config) (*Node, error) {
	p, err := profile(cfg.File.Cluster.Profile)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	log := cfg.Log
	return &Node{
		cfg: cfg, name: cfg.File.Node.Name, profile: p, log: log,
		ports: exchange.NewPorts(), plans: &plans{log: log}, hurry: make(chan struct{}, 1),
		ctx: ctx, cancel: cancel, done: make(chan struct{}),
	}, nil
}

// Start opens the node and returns when it serves; finding the others and becoming
// a member goes on behind. On an error everything is undone.
func (n *Node) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, n.undo(context.WithoutCancel(ctx)))
		}
	}()
	if err := n.openSpools(); err != nil {
		return err
	}
	if err := n.openHistory(); err != nil {
		return err
	}
	n.adapters = handler.Scan(ctx, n.cfg.File.Node.AdapterDirs, n.log)
	for _, a := range n.adapters {
		if a.Err != nil {
			n.log.Warn("adapter cannot be used", "path", a.Path, "error", a.Err)
		}
	}
	if err := n.openTransport(); err != nil {
		return err
	}
	if err := n.openLedger(); err != nil {
		return err
	}
	if err := n.openMembership(); err != nil {
		return err
	}
	n.openOwnership()
	n.transport.Serve()
	if err := n.openAPI(); err != nil {
		return err
	}
	n.run()
	n.started = true
	return nil
}

func (n *Node) onStop(f func(context.Context) error) { n.closers = append(n.closers, f) }

func (n *Node) openSpools() (err error) {
	dir := n.cfg.File.Node.DataDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("node.data_dir: %w", err)
	}
	if err := os.MkdirAll(n.runDir(), 0o700); err != nil {
		return fmt.Errorf("node.data_dir: %w", err)
	}
	if n.spool, err = exchange.OpenSpool(filepath.Join(dir, "spool"), spoolBudget); err != nil {
		return err
	}
	n.remoteSpool, err = exchange.OpenSpool(filepath.Join(dir, "spool-remote"), spoolBudget)
	return err
}

// runDir holds the sockets to the adapter processes.
func (n *Node) runDir() string { return filepath.Join(n.cfg.File.Node.DataDir, "run") }

func (n *Node) openTransport() error {
	secured, err := tlsConfig(n.cfg.File.TLS)
	if err != nil {
		return err
	}
	n.transport, err = transport.Listen(transport.Config{Address: n.cfg.File.Listen.Cluster, TLS: secured, Log: n.log})
	if err != nil {
		return err
	}
	n.onStop(n.transport.Close)
	peerpb.RegisterPeerServer(n.transport.Server(), &peers{n: n})
	return nil
}

func tlsConfig(t config.TLSSection) (*tls.Config, error) {
	if !t.Enabled() {
		return nil, nil
	}
	return transport.LoadTLS(t.CA, t.Cert, t.Key)
}

func (n *Node) openLedger() (err error) {
	if n.disk, err = ledger.DiskID(n.cfg.File.Node.DataDir); err != nil {
		return err
	}
	n.ledger, err = ledger.Open(ledger.Config{
		Node: n.name, Disk: n.disk, DataDir: n.cfg.File.Node.DataDir, Stream: n.transport.StreamLayer(),
		Address: n.addressOf, Timing: n.profile.Raft, Log: n.log,
		OnStuck: func(silent time.Duration) {
			n.fail(fmt.Errorf("the ledger's disk has not answered for %v: the node ends so that another can lead", silent))
		},
	})
	if err != nil {
		return err
	}
	n.onStop(n.ledger.Close)
	return nil
}

func (n *Node) openMembership() error {
	hasState, err := n.ledger.HasState()
	if err != nil {
		return err
	}
	f := n.cfg.File
	n.membership, err = membership.Start(membership.Config{
		Node: n.name, Cluster: f.Cluster.Name, Address: f.Listen.Gossip, Join: f.Cluster.Join,
		Key: []byte(f.Cluster.GossipKey.Reveal()), Profile: f.Cluster.Profile, Log: n.log,
		Meta: membership.Meta{
			ClusterAddress: f.Listen.Cluster, Role: f.Node.Role, Version: n.cfg.Version,
			Expect: f.Cluster.BootstrapExpect, HasState: hasState, ClusterID: n.ledger.ClusterID(), Disk: n.disk,
		},
	})
	if err != nil {
		return err
	}
	n.onStop(n.membership.Stop)
	return nil
}

func (n *Node) openOwnership() {
	n.pool = handler.NewPool(handler.PoolConfig{RuntimeDir: n.runDir(), Inherit: n.inherit(), Log: n.log})
	n.onStop(func(context.Context) error { n.pool.Close(); return nil })
	n.coordinator = ownership.NewCoordinator(ownership.CoordinatorConfig{
		Log: n.ledger, TTL: n.profile.Lease, Plan: n.cluster, Heard: n.ledger.Heard, Now: bootclock.Now, Logger: n.log,
	})
	n.tenant = ownership.NewTenant(ownership.TenantConfig{
		Replica: n.ledger, Session: n.session, NewIncarnation: newID,
		Renew: n.renew, Hurry: n.hurry, Propose: n.propose, Begin: n.begin, Successor: n.successor,
		DrainTimeout: func(group string) time.Duration { return n.planFor(group).drainTimeout },
		Announce: func(incarnation string) {
			if err := n.membership.Update(func(m *membership.Meta) { m.Incarnation = incarnation }); err != nil {
				n.log.Debug("incarnation not spread yet", "error", err)
			}
		},
		GiveUp: n.fail,
		TTL:    n.profile.Lease, Now: bootclock.Now, Logger: n.log,
	})
}

func (n *Node) openAPI() error {
	n.api = api.NewServer(n, api.Options{Log: n.log, Version: n.cfg.Version, Metrics: telemetry.NewMetrics(n.snapshot)})
	n.onStop(n.api.Stop)
	return n.api.Start(n.cfg.File.Listen.Socket, n.cfg.File.Listen.HTTP)
}

// run starts what goes on until Stop. The tenant ends before all else, for it
// needs the rest to hand over its groups.
func (n *Node) run() {
	n.tasks.Go(func() { n.coordinator.Run(n.ctx) })
	n.tasks.Go(func() { n.ledger.KeepVoters(n.ctx, n.peerList) })
	n.tasks.Go(n.bootstrap)
	n.tasks.Go(n.followLeader)
	n.tasks.Go(n.followSuccessor)
	n.tasks.Go(func() { n.tally.follow(n.ctx, n) })
	n.tasks.Go(func() { n.keepStandby(n.ctx) })
	if n.cfg.File.Deploy != "" {
		n.tasks.Go(n.followDeployFile)
	}
	tenure, leave := context.WithCancel(context.Background())
	n.leave = leave
	n.tenure.Go(func() { n.tenant.Run(tenure, leaveLimit) })
}

// leaveLimit bounds the draining of a node that stops; Stop's context may end it
// sooner.
const leaveLimit = 45 * time.Second

// Answer returns when every part of the node that others wait for has answered. It
// does not return on a node that hangs: whoever watches over the node calls it to
// find that out. It may be called after Start.
func (n *Node) Answer() {
	n.ledger.View(func(*pb.State) {})
	n.tenant.Lease()
	n.works.list()
	n.membership.Members()
}

// Done is closed when the node has ended; Err then says why.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err is why the node ended by itself; nil if it was stopped.
func (n *Node) Err() error {
	select {
	case <-n.done:
		return n.doneErr
	default:
		return nil
	}
}

// fail ends the node from within.
func (n *Node) fail(err error) {
	n.failed.Do(func() {
		n.log.Error("the node cannot go on", "error", err)
		n.doneErr = err
		close(n.done)
	})
}

// Stop hands over what the node owns, leaves, and closes everything, within ctx.
// It may be called more than once, and on a node that was not started.
func (n *Node) Stop(ctx context.Context) error {
	n.once.Do(func() { n.stopErr = n.stop(ctx) })
	return n.stopErr
}

func (n *Node) stop(ctx context.Context) error {
	var err error
	if n.started {
		n.leave()
		left := make(chan struct{})
		go func() { defer close(left); n.tenure.Wait() }() // bounded by leaveLimit
		select {
		case <-left:
		case <-ctx.Done():
			err = errors.New("the node's groups were not handed over in time; their leases run out")
			n.killAll()
		}
	}
	err = errors.Join(err, n.undo(ctx))
	n.failed.Do(func() { close(n.done) })
	return err
}

// undo closes what Start opened.
func (n *Node) undo(ctx context.Context) error {
	// Also where the context given has ended: closing has to come to an end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
	defer cancel()
	n.cancel()
	var errs []error
	// A leader that goes hands its task over: that is quicker than an election.
	if n.ledger != nil && n.started {
		if err := n.ledger.TransferLeadership(ctx); err != nil {
			n.log.Debug("leadership not transferred", "error", err)
		}
	}
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i](ctx))
	}
	n.closers = nil
	n.tasks.Wait()
	n.ports.Wait()
	return errors.Join(errs...)
}

// closeLimit bounds the closing of everything.
const closeLimit = 10 * time.Second

func (n *Node) killAll() {
	for _, w := range n.works.list() {
		if err := w.Kill(); err != nil {
			n.log.Error("adapter processes are left", "error", err)
		}
	}
}

// session describes this node in the ledger.
func (n *Node) session(incarnation string) *pb.Session {
	s := &pb.Session{
		Incarnation: incarnation, Node: n.name, Role: n.cfg.File.Node.Role, Version: n.cfg.Version,
		Certifier: n.cfg.Certifier, Lock: n.cfg.LockID, Machine: ledger.MachineVersion,
	}
	for _, a := range n.adapters {
		if a.Err == nil {
			s.Adapters = append(s.Adapters, &pb.AdapterInfo{Name: a.Name, Version: a.Version, Sha256: a.SHA256})
		}
	}
	return s
}

func newID() string {
	id, err := uuid.NewV7()
	if err != nil {
		// Without the system's random numbers nothing here is safe.
		panic("node: " + err.Error())
	}
	return id.String()
}
