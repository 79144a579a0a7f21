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

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

var (
	// ErrNotLeader: this node does not lead, or no longer; nothing was proposed.
	ErrNotLeader = errors.New("this node does not lead the ledger")
	// ErrUnclear: the command may or may not be committed, now or later.
	ErrUnclear = errors.New("unclear whether it is committed")
)

// Timing is raft's share of a profile.
type Timing struct {
	Heartbeat, Election, LeaderLease, Commit time.Duration
}

// Config is what Open needs.
type Config struct {
	// Node is the raft server's ID.
	Node string
	// DataDir holds the log and the snapshots.
	DataDir string
	Stream  raft.StreamLayer
	// Address returns where another node is reached now, or "" to use the address
	// in raft's own configuration.
	Address func(node string) string
	Timing  Timing
	Log     *slog.Logger
	// OnApply is called after each command was applied here, in order. It must not
	// block.
	OnApply func(index uint64, c *pb.Command, err error)
	// OnStuck is called when a proposal of this leader has not come to an end for
	// StuckAfter: its disk hangs, yet raft keeps such a leader (raft#503).
	OnStuck    func(silent time.Duration)
	StuckAfter time.Duration
}

const (
	defaultStuckAfter = 10 * time.Second
	snapshotsKept     = 2
	// raftIO bounds one exchange with a peer that does not answer.
	raftIO = time.Second
)

// Ledger is this node's part of the replicated ledger. Safe for concurrent use.
type Ledger struct {
	cfg    Config
	raft   *raft.Raft
	fsm    *fsm
	store  *store
	net    *raft.NetworkTransport
	leader chan bool
	done   chan struct{}
	watch  sync.WaitGroup
	once   sync.Once
	err    error
}

// Open opens or makes the ledger in its directory and joins the conversation. A
// node without state waits to be bootstrapped or added.
func Open(cfg Config) (l *Ledger, err error) {
	if cfg.StuckAfter == 0 {
		cfg.StuckAfter = defaultStuckAfter
	}
	dir := filepath.Join(cfg.DataDir, "raft")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	l = &Ledger{cfg: cfg, fsm: newFSM(cfg.OnApply), leader: make(chan bool, 1), done: make(chan struct{})}
	if l.store, err = openStore(filepath.Join(dir, "log.db")); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	logger := newHCLog(cfg.Log)
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, logger)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open ledger: %w", err), l.store.close())
	}
	l.net = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: cfg.Stream, MaxPool: 3, Timeout: raftIO, Logger: logger,
		ServerAddressProvider: addresses(cfg.Address),
	})
	notify := make(chan bool, 16)
	rc := raftConfig(cfg, notify)
	rc.Logger = logger
	if l.raft, err = raft.NewRaft(rc, l.fsm, l.store, l.store, snapshots, l.net); err != nil {
		return nil, errors.Join(fmt.Errorf("open ledger: %w", err), l.net.Close(), l.store.close())
	}
	l.watch.Go(func() { l.follow(notify) })
	return l, nil
}

func raftConfig(cfg Config, notify chan<- bool) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(cfg.Node)
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

// addresses tells raft where a node is now: its address may have changed.
type addresses func(node string) string

func (a addresses) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	if a != nil {
		if address := a(string(id)); address != "" {
			return raft.ServerAddress(address), nil
		}
	}
	return "", fmt.Errorf("the address of %s is not known", id)
}

// follow turns raft's notices into the latest state of leadership, so that a slow
// reader never blocks raft and never acts on an old one.
func (l *Ledger) follow(notify <-chan bool) {
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
		}
	}
}

// LeaderCh carries whether this node leads, at every change; only the latest value
// waits. It has one reader.
func (l *Ledger) LeaderCh() <-chan bool { return l.leader }

// Apply proposes a command on the leader and returns when it is committed and
// applied here, with its index. Errors are ErrNotLeader, ErrUnclear, or a refusal
// of the state machine.
func (l *Ledger) Apply(ctx context.Context, c *pb.Command) (uint64, error) {
	data, err := proto.Marshal(c)
	if err != nil {
		return 0, fmt.Errorf("encode command: %w", err)
	}
	limit := l.cfg.StuckAfter
	if d, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(d))
	}
	if limit <= 0 || ctx.Err() != nil {
		return 0, context.DeadlineExceeded
	}
	future := l.raft.Apply(data, limit)
	err = l.await(ctx, future)
	switch {
	case err == nil:
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		return 0, fmt.Errorf("%w: %w", ErrNotLeader, err)
	default:
		return 0, fmt.Errorf("%w: %w", ErrUnclear, err)
	}
	if refused, ok := future.Response().(error); ok {
		return future.Index(), refused
	}
	return future.Index(), nil
}

// await waits for the future or ctx. A future that outlives ctx ends with the
// leadership; if even that does not happen, the disk hangs.
func (l *Ledger) await(ctx context.Context, f raft.Future) error {
	ended := make(chan error, 1)
	began := time.Now()
	go func() { ended <- f.Error() }() // ends when raft answers, at the latest at Shutdown
	stuck := time.NewTimer(l.cfg.StuckAfter)
	defer stuck.Stop()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-stuck.C:
		if l.cfg.OnStuck != nil && l.raft.State() == raft.Leader {
			l.cfg.OnStuck(time.Since(began))
		}
		return errors.New("raft does not answer")
	}
}

// Barrier returns when everything that was committed before is applied here.
func (l *Ledger) Barrier(ctx context.Context) error {
	if err := l.await(ctx, l.raft.Barrier(l.cfg.StuckAfter)); err != nil {
		return fmt.Errorf("ledger barrier: %w", err)
	}
	return nil
}

// View calls look with the replica's state. It must be quick, change nothing and
// keep nothing: the state belongs to the ledger.
func (l *Ledger) View(look func(*pb.State)) { l.fsm.view(look) }

// Changes returns a channel with a signal after the state has changed; several
// changes may give one signal. stop ends it.
func (l *Ledger) Changes() (changes <-chan struct{}, stop func()) { return l.fsm.changes() }

// WaitApplied returns when this replica has applied the index.
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
		}
	}
}

// Leader is the name of the node that leads as far as this one knows, or "".
func (l *Ledger) Leader() string {
	_, id := l.raft.LeaderWithID()
	return string(id)
}

// Leading reports whether this node believes that it leads.
func (l *Ledger) Leading() bool { return l.raft.State() == raft.Leader }

// TransferLeadership hands the leadership to another voter, if this node has it.
func (l *Ledger) TransferLeadership(ctx context.Context) error {
	if !l.Leading() {
		return nil
	}
	return l.await(ctx, l.raft.LeadershipTransfer())
}

// Close ends this node's part, within ctx. It may be called more than once.
func (l *Ledger) Close(ctx context.Context) error {
	l.once.Do(func() {
		l.err = l.await(ctx, l.raft.Shutdown())
		close(l.done)
		l.watch.Wait()
		l.err = errors.Join(l.err, l.net.Close(), l.store.close())
	})
	return l.err
}
