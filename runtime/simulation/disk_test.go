package simulation

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// disk is what is left of a node when it crashes: what was written to the end.
type disk struct {
	mu   sync.Mutex
	logs []*raft.Log // the one of index i at i-1
	kv   map[string][]byte
	ints map[string]uint64
}

func newDisk() *disk { return &disk{kv: map[string][]byte{}, ints: map[string]uint64{}} }

// clone is the disk as the next process finds it. What the dead one still writes
// goes nowhere.
func (d *disk) clone() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &disk{logs: slices.Clone(d.logs), kv: maps.Clone(d.kv), ints: maps.Clone(d.ints)}
}

// store is a process's way to its disk.
type store struct {
	p *process
	d *disk
}

var (
	_ raft.LogStore    = (*store)(nil)
	_ raft.StableStore = (*store)(nil)

	errNotFound = errors.New("not found") // raft looks for these words
)

func (s *store) FirstIndex() (uint64, error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	return uint64(min(len(s.d.logs), 1)), nil
}

func (s *store) LastIndex() (uint64, error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	return uint64(len(s.d.logs)), nil
}

func (s *store) GetLog(index uint64, log *raft.Log) error {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if index == 0 || index > uint64(len(s.d.logs)) {
		return raft.ErrLogNotFound
	}
	*log = *s.d.logs[index-1]
	return nil
}

func (s *store) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

func (s *store) StoreLogs(logs []*raft.Log) error {
	s.p.gate()
	if slow := s.p.n.diskDelay(); slow > 0 {
		time.Sleep(slow)
		s.p.gate()
	}
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	for _, l := range logs {
		s.d.logs = append(s.d.logs[:l.Index-1], l)
	}
	return nil
}

// DeleteRange is called for the end of the log only: there are no snapshots.
func (s *store) DeleteRange(from, to uint64) error {
	s.p.gate()
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if to != uint64(len(s.d.logs)) {
		return errors.New("not the end of the log")
	}
	s.d.logs = slices.Clone(s.d.logs[:from-1])
	return nil
}

func (s *store) Set(key, value []byte) error {
	s.p.gate()
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.kv[string(key)] = slices.Clone(value)
	return nil
}

func (s *store) Get(key []byte) ([]byte, error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	v, ok := s.d.kv[string(key)]
	if !ok {
		return nil, errNotFound
	}
	return v, nil
}

func (s *store) SetUint64(key []byte, value uint64) error {
	s.p.gate()
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.ints[string(key)] = value
	return nil
}

func (s *store) GetUint64(key []byte) (uint64, error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	return s.d.ints[string(key)], nil
}
