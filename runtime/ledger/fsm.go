package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// fsm lets raft drive the machine, and everybody else look at it. Raft calls its
// methods from one goroutine.
type fsm struct {
	applied func(index uint64, c *pb.Command, err error)

	mu      sync.RWMutex
	machine *Machine

	subsMu sync.Mutex
	subs   map[chan struct{}]bool
}

var _ raft.BatchingFSM = (*fsm)(nil)

func newFSM(applied func(uint64, *pb.Command, error)) *fsm {
	if applied == nil {
		applied = func(uint64, *pb.Command, error) {}
	}
	return &fsm{applied: applied, machine: NewMachine(), subs: map[chan struct{}]bool{}}
}

// Apply implements raft.FSM. The response is the machine's error, or nil.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	responses := make([]any, len(logs))
	for i, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		if err := f.applyOne(l); err != nil {
			responses[i] = err
		}
	}
	f.notify()
	return responses
}

func (f *fsm) applyOne(l *raft.Log) error {
	c := &pb.Command{}
	err := proto.Unmarshal(l.Data, c)
	if err != nil {
		// Every node refuses it alike, so the replicas stay the same.
		return fmt.Errorf("%w: entry %d cannot be read: %w", ErrUnknown, l.Index, err)
	}
	f.mu.Lock()
	err = f.machine.Apply(l.Index, c)
	f.mu.Unlock()
	f.applied(l.Index, c, err)
	return err
}

func (f *fsm) view(look func(*pb.State)) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	look(f.machine.State())
}

func (f *fsm) notify() {
	f.subsMu.Lock()
	defer f.subsMu.Unlock()
	for sub := range f.subs {
		select {
		case sub <- struct{}{}:
		default: // a signal is waiting already
		}
	}
}

func (f *fsm) changes() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	f.subsMu.Lock()
	defer f.subsMu.Unlock()
	f.subs[ch] = true
	return ch, func() {
		f.subsMu.Lock()
		defer f.subsMu.Unlock()
		delete(f.subs, ch)
	}
}

// Snapshot implements raft.FSM. The state is encoded at once: it changes with the
// next entry.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	data, err := encodeSnapshot(f.machine.State())
	if err != nil {
		return nil, err
	}
	return snapshot(data), nil
}

// Restore implements raft.FSM.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	m, err := decodeSnapshot(data)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.machine = m
	f.mu.Unlock()
	f.notify()
	return nil
}

// A snapshot is one byte of format, the CRC-32C of the rest, and the state.
const (
	snapshotFormat = 1
	snapshotHeader = 5
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeSnapshot(s *pb.State) ([]byte, error) {
	data, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(make([]byte, snapshotHeader), s)
	if err != nil {
		return nil, fmt.Errorf("encode snapshot: %w", err)
	}
	data[0] = snapshotFormat
	binary.BigEndian.PutUint32(data[1:], crc32.Checksum(data[snapshotHeader:], castagnoli))
	return data, nil
}

func decodeSnapshot(data []byte) (*Machine, error) {
	switch {
	case len(data) < snapshotHeader:
		return nil, errors.New("snapshot: too short")
	case data[0] != snapshotFormat:
		return nil, fmt.Errorf("snapshot: format %d, this version reads %d; run the version that wrote it or a later one", data[0], snapshotFormat)
	case binary.BigEndian.Uint32(data[1:]) != crc32.Checksum(data[snapshotHeader:], castagnoli):
		return nil, errors.New("snapshot: damaged (checksum differs); remove this node's raft directory and let it join again")
	}
	s := emptyState()
	if err := proto.Unmarshal(data[snapshotHeader:], s); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	m := NewMachine()
	proto.Merge(m.s, s) // keeps the maps that protobuf leaves out when empty
	return m, nil
}

type snapshot []byte

// Persist implements raft.FSMSnapshot.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		return errors.Join(fmt.Errorf("write snapshot: %w", err), sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (snapshot) Release() {}
