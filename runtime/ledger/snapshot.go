package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

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
	m := NewMachine()
	// Merging keeps the maps that protobuf leaves out when they are empty.
	if err := (proto.UnmarshalOptions{Merge: true}).Unmarshal(data[snapshotHeader:], m.s); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
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
