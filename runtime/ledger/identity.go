package ledger

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// clusterKey is where the cluster's ID is stored beside the votes: after a restart
// the state, which has it too, is there only when a leader has been found.
var clusterKey = []byte("ClusterID")

// successorKey is where the ID of the cluster is stored that goes on in the place of
// this disk's one.
var successorKey = []byte("Successor")

// diskFile lies in the ledger's own directory, so that it is lost with it.
const diskFile = "disk"

// DiskID returns the name of the disk that holds the ledger in the data directory
// (see Config.Disk); it makes one if the directory is new. A directory that is older
// than such names has none, and goes on without. Node metadata in the gossip and
// Config.Disk have to say the same.
func DiskID(dataDir string) (string, error) {
	dir := filepath.Join(dataDir, "raft")
	path := filepath.Join(dir, diskFile)
	data, err := os.ReadFile(path)
	if err == nil {
		id := strings.TrimSpace(string(data))
		if _, err := hex.DecodeString(id); err != nil || id == "" {
			return "", fmt.Errorf("%s is damaged: stop the node, remove %s and let the node join again", path, dir)
		}
		return id, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("name of the ledger's disk: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, logFile)); err == nil {
		return "", nil
	}
	id := make([]byte, 6)
	_, _ = rand.Read(id) // never fails
	if err := writeDiskID(dir, hex.EncodeToString(id)); err != nil {
		return "", fmt.Errorf("name the ledger's disk: %w", err)
	}
	return hex.EncodeToString(id), nil
}

// writeDiskID stores the name so that it is there, whole, before anything is
// promised under it.
func writeDiskID(dir, id string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, diskFile+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.WriteString(id + "\n")
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, diskFile)); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename in the directory durable. Windows does not know the notion.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// identity is who this node is: its server ID, and the cluster that it belongs to
// once it knows.
type identity struct {
	self raft.ServerID
	log  *slog.Logger

	mu      sync.Mutex
	cluster string
	refused map[string]bool // what the log has already
}

func newIdentity(cfg Config) *identity {
	return &identity{self: serverID(cfg.Node, cfg.Disk), log: cfg.Log, refused: map[string]bool{}}
}

// load reads what was stored earlier.
func (i *identity) load(store raft.StableStore) error {
	id, err := stored(store, clusterKey)
	if err != nil {
		return fmt.Errorf("cluster's ID: %w", err)
	}
	successor, err := stored(store, successorKey)
	if err != nil {
		return fmt.Errorf("cluster's successor: %w", err)
	}
	if successor != "" {
		return givenUp(id, successor)
	}
	i.set(id)
	return nil
}

func stored(store raft.StableStore, key []byte) (string, error) {
	v, err := store.Get(key)
	if err != nil && err.Error() != errKeyNotFound.Error() {
		return "", err
	}
	return string(v), nil
}

// ErrGivenUp: this disk's cluster was given up, and recovered from another disk. What
// only this one has is lost to it; the node joins again with an empty data directory.
var ErrGivenUp = errors.New("this node's cluster was given up with `fairlead cluster recover`, and goes on elsewhere")

func givenUp(id, successor string) error {
	return fmt.Errorf("%w (%s, this disk belongs to %s): empty this node's data directory, and it joins that one", ErrGivenUp, successor, id)
}

// A cluster's ID is the UUID that it was founded with. Each recovery adds its number,
// and something that tells it from another recovery of the same cluster: UUID.1-0a1b2c3d.

// successorID is a new ID for what is recovered of the cluster.
func successorID(id string) string {
	base, generation := lineage(id)
	if base == "" {
		base = uuid.NewString()
	}
	tag := make([]byte, 4)
	_, _ = rand.Read(tag) // never fails
	return fmt.Sprintf("%s.%d-%s", base, generation+1, hex.EncodeToString(tag))
}

func lineage(id string) (base string, generation int) {
	base, rest, _ := strings.Cut(id, ".")
	number, _, _ := strings.Cut(rest, "-")
	generation, err := strconv.Atoi(number)
	if err != nil {
		return base, 0
	}
	return base, generation
}

// Succeeds reports whether the cluster was recovered from what the other one was, or
// from one that was. Then that one must not go on beside it.
func Succeeds(cluster, other string) bool {
	base, generation := lineage(cluster)
	former, before := lineage(other)
	return base != "" && base == former && generation > before
}

// GiveUp notes that the cluster of that ID goes on in the place of this one, if that
// is so: this disk is not opened again. It returns the ErrGivenUp that the node ends
// with, or nil.
func (l *Ledger) GiveUp(successor string) error {
	mine := l.ClusterID()
	if !Succeeds(successor, mine) {
		return nil
	}
	if err := l.cfg.Votes.Set(successorKey, []byte(successor)); err != nil {
		return errors.Join(givenUp(mine, successor), fmt.Errorf("note it: %w", err))
	}
	return givenUp(mine, successor)
}

func (i *identity) set(cluster string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cluster = cluster
}

func (i *identity) get() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.cluster
}

// refuse says once for each peer and reason why raft's conversation with it is cut.
func (i *identity) refuse(h hello, why string) {
	key := h.from + " " + why
	i.mu.Lock()
	told := i.refused[key]
	i.refused[key] = true
	i.mu.Unlock()
	if !told {
		from, _ := splitID(raft.ServerID(h.from))
		i.log.Error("ledger: a node's messages are refused", "node", from, "reason", why)
	}
}

func (l *Ledger) self() raft.ServerID { return l.identity.self }

// ClusterID is the identity of the cluster that this node belongs to, or "" while
// it does not know any. It is made once, by the cluster's first leader, and again
// by Recover.
func (l *Ledger) ClusterID() string { return l.identity.get() }

// Founded waits until the cluster is founded, as far as this replica knows, and returns
// what its ID began as: unlike the ID, it outlasts a recovery.
func (l *Ledger) Founded(ctx context.Context) (string, error) {
	changes, stop := l.Changes()
	defer stop()
	for {
		var id string
		l.View(func(s *pb.State) { id = s.GetClusterId() })
		if base, _ := lineage(id); base != "" {
			return base, nil
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return "", fmt.Errorf("the cluster has no ID yet: %w", ctx.Err())
		case <-l.done:
			return "", errClosed
		}
	}
}

// noteCluster stores the cluster's ID as soon as the state has it.
func (l *Ledger) noteCluster() {
	var id string
	l.View(func(s *pb.State) { id = s.GetClusterId() })
	if id == "" || id == l.identity.get() {
		return
	}
	if err := l.cfg.Votes.Set(clusterKey, []byte(id)); err != nil {
		l.log.Warn("the cluster's ID is not stored yet; it is tried again", "error", err)
		return
	}
	l.identity.set(id)
}
