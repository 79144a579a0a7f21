package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// Remains is what a stopped node's disk holds of the ledger.
type Remains struct {
	// ClusterID is the cluster that the disk belongs to; empty if it knows none.
	ClusterID string
	// Servers are those of the ledger as this disk knows them.
	Servers []Server
	// Index is that of the last entry on this disk, At the time of its newest event.
	Index uint64
	At    time.Time
	// Deployment is the version of the newest deployment in it.
	Deployment uint64
}

// ErrNoRemains: the directory has never been part of a cluster.
var ErrNoRemains = errors.New("this node's data directory holds no ledger")

// offline is a stopped node's part of the ledger, open.
type offline struct {
	node, id  string
	dir       string
	store     *store
	snapshots *raft.FileSnapshotStore
	transport *raft.InmemTransport
}

func openDisk(node, dataDir string) (*offline, error) {
	dir := filepath.Join(dataDir, "raft")
	if _, err := os.Stat(filepath.Join(dir, logFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s does not exist", ErrNoRemains, filepath.Join(dir, logFile))
	}
	id, err := DiskID(dataDir)
	if err != nil {
		return nil, err
	}
	s, err := openStore(filepath.Join(dir, logFile))
	if err != nil {
		return nil, err
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, newHCLog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	_, transport := raft.NewInmemTransport("") // talks to nobody
	return &offline{node: node, id: id, dir: dir, store: s, snapshots: snapshots, transport: transport}, nil
}

func (d *offline) config() *raft.Config {
	c := raftConfig(Config{Node: d.node, Disk: d.id, Timing: Timing{
		Heartbeat: time.Second, Election: time.Second, LeaderLease: time.Second, Commit: time.Second,
	}}, nil)
	c.Logger = newHCLog(slog.New(slog.DiscardHandler))
	return c
}

func (d *offline) close() error { return errors.Join(d.transport.Close(), d.store.close()) }

// Inspect tells what a stopped node's disk holds. It changes nothing, and fails if
// the node runs.
func Inspect(node, dataDir string) (r Remains, err error) {
	d, err := openDisk(node, dataDir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	return d.inspect()
}

func (d *offline) inspect() (r Remains, err error) {
	c, err := raft.GetConfiguration(d.config(), newFSM(nil), d.store, d.store, d.snapshots, d.transport)
	if err != nil {
		return r, fmt.Errorf("read the ledger's servers: %w", err)
	}
	if len(c.Servers) == 0 {
		return r, ErrNoRemains
	}
	for _, s := range c.Servers {
		node, id := splitID(s.ID)
		r.Servers = append(r.Servers, Server{Node: node, Address: string(s.Address), Voter: s.Suffrage == raft.Voter, Disk: id})
	}
	m, err := d.replay()
	if err != nil {
		return r, err
	}
	state := m.State()
	r.ClusterID, r.Index = state.GetClusterId(), state.GetIndex()
	if es := state.GetEvents(); len(es) > 0 {
		r.At = time.UnixMilli(es[len(es)-1].GetAtMs()).UTC()
	}
	r.Deployment = m.version()
	return r, nil
}

// replay is the state after everything that is on the disk, committed or not: on
// recovery nobody is left to say which of the last entries were.
func (d *offline) replay() (*Machine, error) {
	f := newFSM(nil)
	list, err := d.snapshots.List()
	if err != nil {
		return nil, fmt.Errorf("snapshots: %w", err)
	}
	for _, meta := range list {
		_, r, err := d.snapshots.Open(meta.ID)
		if err != nil {
			continue // an older one may do
		}
		if err = f.Restore(r); err == nil {
			break
		}
	}
	last, err := d.store.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("ledger's log: %w", err)
	}
	for i := f.machine.State().GetIndex() + 1; i <= last; i++ {
		var l raft.Log
		if err := d.store.GetLog(i, &l); errors.Is(err, raft.ErrLogNotFound) {
			continue // in the snapshot already
		} else if err != nil {
			return nil, fmt.Errorf("ledger's log, entry %d: %w", i, err)
		}
		f.Apply(&l)
	}
	return f.machine, nil
}

// Recover makes a stopped node a cluster of its own, with all that is on its disk,
// when the majority of the voters is lost for good. The cluster gets a new identity,
// which succeeds the old one: a disk of that which turns up again is refused, and its
// node ends when it hears of this (see GiveUp). What the others had committed and this
// disk has not is lost. Inspect first.
//
// Leases that were granted before are waited out by the new leader like those of any
// earlier one.
func Recover(node, dataDir, address string) (r Remains, err error) {
	d, err := openDisk(node, dataDir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if r, err = d.inspect(); err != nil {
		return r, err
	}
	f := &recovering{fsm: newFSM(nil), cluster: successorID(r.ClusterID), node: node}
	err = raft.RecoverCluster(d.config(), f, d.store, d.store, d.snapshots, d.transport, raft.Configuration{Servers: []raft.Server{
		{ID: serverID(node, d.id), Address: raft.ServerAddress(address), Suffrage: raft.Voter},
	}})
	if err != nil {
		return r, fmt.Errorf("recover: %w", err)
	}
	if err := d.store.Set(clusterKey, []byte(f.cluster)); err != nil {
		return r, fmt.Errorf("recover: store the cluster's new identity: %w", err)
	}
	r.ClusterID = f.cluster
	return r, nil
}

// recovering is the state machine while a cluster is recovered: what it leaves is a
// snapshot of everything, under the new identity.
type recovering struct {
	*fsm
	cluster, node string
}

// Snapshot implements raft.FSM.
func (f *recovering) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	m := f.machine
	m.s.ClusterId = f.cluster
	m.index, m.at = m.s.Index, time.Now().UnixMilli() // wall time, for people
	m.event(&pb.Event{Kind: "cluster-recovered", Node: f.node, Text: "the majority was lost for good: " + f.node + " goes on alone as cluster " + f.cluster})
	f.mu.Unlock()
	return f.fsm.Snapshot()
}

// Others are the servers but the given node, those that vote first.
func (r Remains) Others(node string) []Server {
	others := slices.DeleteFunc(slices.Clone(r.Servers), func(s Server) bool { return s.Node == node })
	slices.SortStableFunc(others, func(a, b Server) int { return falseFirst(!a.Voter, !b.Voter) })
	return others
}
