// Package ledger is the replicated state machine: deployments, nodes, ownership
// and the fates of items. It answers for what is committed staying committed, in
// one order, on every node. [Machine] says what the commands mean; [Ledger] runs
// it under hashicorp/raft. Who may propose what, and when, is decided elsewhere.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// Timing is raft's share of a profile.
type Timing struct {
	// Heartbeat is how long a follower waits for its leader before it looks for
	// another, Election how long a candidate waits for votes.
	Heartbeat, Election time.Duration
	// LeaderLease is how long a leader goes on without a majority's answers; at
	// most Heartbeat.
	LeaderLease time.Duration
	// Commit is how soon followers learn, at the latest, what is committed.
	Commit time.Duration
}

// Config is what Open needs.
type Config struct {
	// Node is this node's name.
	Node string
	// Disk names this node's disk among all that the node ever had (see DiskID). With
	// it, a node that lost its disk is another server to raft: it cannot break the
	// promises that it has forgotten. Without it, a node must never lose its disk.
	Disk string
	// DataDir holds the log and the snapshots, in its folder raft.
	DataDir string
	// Stream carries raft's conversation. The ledger closes it.
	Stream raft.StreamLayer
	// Address returns where another node is reached now, or "" to use the address
	// in raft's own configuration.
	Address func(node string) string
	Timing  Timing
	Log     *slog.Logger
	// OnApply is called after each command was applied here, in order, with the
	// machine's refusal if there was one. It must not block.
	OnApply func(index uint64, c *pb.Command, err error)
	// OnStuck is called when a proposal of this leader has not come to an end for
	// StuckAfter: its disk hangs, yet raft keeps such a leader (raft#503). Only
	// the end of the process helps.
	OnStuck func(silent time.Duration)
	// StuckAfter is also the longest that Apply and Barrier wait. Default 10 s.
	StuckAfter time.Duration
	// Voters are the times of KeepVoters.
	Voters VoterTimes

	// Logs, Votes, Snapshots and Transport take the place of DataDir and Stream,
	// all four or none: a ledger in memory. Transport must know pre-votes.
	Logs      raft.LogStore
	Votes     raft.StableStore
	Snapshots raft.SnapshotStore
	Transport raft.Transport
}

const (
	defaultStuckAfter = 10 * time.Second
	snapshotsKept     = 2
	// logFile holds raft's log and votes, in the folder raft.
	logFile = "log.db"
	// raftIO bounds one exchange with a peer that does not answer.
	raftIO = time.Second
)

// Ledger is this node's part of the replicated ledger. Safe for concurrent use.
type Ledger struct {
	cfg      Config
	log      *slog.Logger
	raft     *raft.Raft
	fsm      *fsm
	logs     raft.LogStore
	contacts *contacts
	requests *requests
	identity *identity
	closers  []func() error // undo Open, last in, first out; after raft has ended
	leader   chan bool
	pending  *pending
	done     chan struct{}
	watch    sync.WaitGroup
	once     sync.Once
	err      error
}

// Open opens or makes the ledger in its directory and joins the conversation. A
// node without state waits to be bootstrapped or added.
func Open(cfg Config) (*Ledger, error) {
	if cfg.StuckAfter == 0 {
		cfg.StuckAfter = defaultStuckAfter
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &Ledger{
		cfg: cfg, log: cfg.Log, fsm: newFSM(cfg.OnApply), leader: make(chan bool, 1),
		pending: newPending(), done: make(chan struct{}), identity: newIdentity(cfg),
	}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("open ledger: %w", errors.Join(err, l.undo()))
	}
	return l, nil
}

func (l *Ledger) open() error {
	logger := newHCLog(l.log)
	if l.cfg.Transport == nil {
		if err := l.openFiles(logger); err != nil {
			return err
		}
	}
	if err := l.identity.load(l.cfg.Votes); err != nil {
		return err
	}
	if l.cfg.Transport == nil {
		l.cfg.Transport = &named{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: &greeting{l.cfg.Stream, l.identity}, MaxPool: 3, Timeout: raftIO, Logger: logger,
		}), l.cfg.Address}
	}
	votes, ok := l.cfg.Transport.(raft.WithPreVote)
	if !ok {
		return fmt.Errorf("transport %T cannot ask for pre-votes", l.cfg.Transport)
	}
	l.logs = l.cfg.Logs
	l.requests = newRequests(l.cfg.Transport)
	l.contacts = newContacts(l.requests, votes, contactGap(l.cfg.Timing))
	l.closers = append(l.closers, l.contacts.Close)

	notify := make(chan bool, 16)
	rc := raftConfig(l.cfg, notify)
	rc.Logger = logger
	var err error
	l.raft, err = raft.NewRaft(rc, l.fsm, l.cfg.Logs, l.cfg.Votes, l.cfg.Snapshots, l.contacts)
	if err != nil {
		return err
	}
	l.noteCluster()
	l.watch.Go(func() { l.follow(notify) })
	return nil
}

func (l *Ledger) openFiles(logger hclog.Logger) error {
	dir := filepath.Join(l.cfg.DataDir, "raft")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s, err := openStore(filepath.Join(dir, logFile))
	if err != nil {
		return err
	}
	l.closers = append(l.closers, s.close)
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, logger)
	if err != nil {
		return err
	}
	l.cfg.Logs, l.cfg.Votes, l.cfg.Snapshots = s, s, snapshots
	return nil
}

func (l *Ledger) undo() error {
	var errs []error
	for i := len(l.closers) - 1; i >= 0; i-- {
		errs = append(errs, l.closers[i]())
	}
	l.closers = nil
	return errors.Join(errs...)
}

func raftConfig(cfg Config, notify chan<- bool) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = serverID(cfg.Node, cfg.Disk)
	c.HeartbeatTimeout = cfg.Timing.Heartbeat
	c.ElectionTimeout = cfg.Timing.Election
	c.LeaderLeaseTimeout = cfg.Timing.LeaderLease
	c.CommitTimeout = cfg.Timing.Commit
	c.MaxAppendEntries = 64
	c.BatchApplyCh = true
	c.SnapshotInterval = time.Minute
	c.SnapshotThreshold = 4096
	c.TrailingLogs = 4096
	// A node that was removed stays, and says so, instead of going silent.
	c.ShutdownOnRemove = false
	c.NoLegacyTelemetry = true
	c.NotifyCh = notify
	return c
}

// follow turns raft's notices into the latest state of leadership, so that a slow
// reader never blocks raft and never acts on an old one; and it watches over the
// proposals.
func (l *Ledger) follow(notify <-chan bool) {
	tick := time.NewTicker(l.cfg.StuckAfter / stuckTicks)
	defer tick.Stop()
	for {
		select {
		case <-l.done:
			return
		case leading := <-notify:
			select {
			case <-l.leader:
			default:
			}
			l.leader <- leading
		case <-tick.C:
			if silent := l.pending.stuck(l.Leading()); silent > 0 && l.cfg.OnStuck != nil {
				l.cfg.OnStuck(silent)
			}
		}
	}
}

// LeaderCh carries whether this node leads, at every change; only the latest value
// waits. It has one reader.
func (l *Ledger) LeaderCh() <-chan bool { return l.leader }

// View calls look with the replica's state. It must be quick, for commands wait;
// it must change nothing and keep nothing: the state belongs to the ledger.
func (l *Ledger) View(look func(*pb.State)) { l.fsm.view(look) }

// Changes returns a channel with a signal after the state has changed; several
// changes may give one signal. stop ends it.
func (l *Ledger) Changes() (changes <-chan struct{}, stop func()) { return l.fsm.changes() }

// WaitApplied returns when this replica has applied the command at the index.
func (l *Ledger) WaitApplied(ctx context.Context, index uint64) error {
	changes, stop := l.Changes()
	defer stop()
	for {
		var at uint64
		l.View(func(s *pb.State) { at = s.GetIndex() })
		if at >= index {
			return nil
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return fmt.Errorf("wait for ledger index %d (now %d): %w", index, at, ctx.Err())
		case <-l.done:
			return fmt.Errorf("wait for ledger index %d (now %d): %w", index, at, errClosed)
		}
	}
}

// Leader is the name of the node that leads as far as this one knows, or "".
func (l *Ledger) Leader() string {
	_, id := l.raft.LeaderWithID()
	node, _ := splitID(id)
	return node
}

// LeaderAddress is the address that the leader gave itself, or "". A node that
// listens on every interface gives one that is of no use elsewhere: prefer Leader.
func (l *Ledger) LeaderAddress() string {
	address, _ := l.raft.LeaderWithID()
	return string(address)
}

// Leading reports whether this node believes that it leads. Only a committed
// command proves it.
func (l *Ledger) Leading() bool { return l.raft.State() == raft.Leader }

// LeaderChanges returns a channel with a signal after another node has become the
// leader, as far as this one knows. stop ends it.
func (l *Ledger) LeaderChanges() (changes <-chan struct{}, stop func()) {
	seen := make(chan raft.Observation, 1)
	o := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		leader, ok := o.Data.(raft.LeaderObservation)
		return ok && leader.LeaderID != ""
	})
	signal := make(chan struct{}, 1)
	ended := make(chan struct{})
	l.raft.RegisterObserver(o)
	l.watch.Go(func() {
		for {
			select {
			case <-seen:
				select {
				case signal <- struct{}{}:
				default:
				}
			case <-ended:
				return
			case <-l.done:
				return
			}
		}
	})
	var once sync.Once
	return signal, func() {
		once.Do(func() { l.raft.DeregisterObserver(o); close(ended) })
	}
}

// TransferLeadership hands the leadership to another voter, if this node has it. If
// there is no other, it gives its vote to a node that has kept up.
func (l *Ledger) TransferLeadership(ctx context.Context) error {
	if !l.Leading() {
		return nil
	}
	if heir, ok := l.heir(); ok {
		return l.bequeath(ctx, heir)
	}
	err := l.propose(ctx, func() raft.Future { return l.raft.LeadershipTransfer() })
	if err != nil {
		return fmt.Errorf("transfer leadership: %w", err)
	}
	return nil
}

// settleTime is how long Close lets proposals under way come to an end.
const settleTime = time.Second

// Close ends this node's part, within ctx. If the disk hangs it returns ctx's
// error and leaves the files to the end of the process. It may be called more
// than once.
func (l *Ledger) Close(ctx context.Context) error {
	l.once.Do(func() { l.err = l.close(ctx) })
	return l.err
}

func (l *Ledger) close(ctx context.Context) (err error) {
	settled := l.pending.close()
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-settled:
	case <-timer.C:
	case <-ctx.Done():
	}
	ended := make(chan error, 1)
	go func() { // outlives Close only if the disk hangs
		shutdown := l.raft.Shutdown()
		// Raft waits for its exchanges with peers: cut them short.
		err := l.contacts.Close()
		err = errors.Join(err, shutdown.Error())
		ended <- errors.Join(err, l.undo())
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = fmt.Errorf("close ledger: raft has not ended: %w", ctx.Err())
	}
	close(l.done)
	l.watch.Wait()
	return err
}
