package ledger

import (
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

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
	c, err := Decode(l.Data)
	if err != nil {
		// Every node refuses it alike, so the replicas stay the same.
		return fmt.Errorf("entry %d: %w", l.Index, err)
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
