package ledger

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

// encodedState is the state in one fixed encoding.
func encodedState(t *testing.T, s *pb.State) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzDecode(f *testing.F) {
	for _, c := range []*pb.Command{
		register("c", "c1"), grant("a1"), deploy(2, "g"), assign(place("idle", "b", "b1"), 0), move("g", "b", 1), leave("b1"),
		fates("g", "a1", 1, intended("n", "m", "p")), expire("a1", 3), release("g", "a1", 1, nil),
	} {
		data, err := Encode(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Decode(data)
		if err != nil {
			return
		}
		one, two := running(t), running(t)
		before := proto.CloneOf(one.State())
		err = one.Apply(99, c)
		if err2 := two.Apply(99, c); (err == nil) != (err2 == nil) {
			t.Fatalf("one machine says %v, another %v", err, err2)
		}
		if !bytes.Equal(encodedState(t, one.State()), encodedState(t, two.State())) {
			t.Fatal("the same command gave two states")
		}
		before.Index = 99
		if err != nil && !proto.Equal(before, one.State()) {
			t.Fatalf("refused (%v), yet the state changed", err)
		}
	})
}

func FuzzDecodeSnapshot(f *testing.F) {
	m := NewMachine()
	for i, c := range []*pb.Command{deploy(1, "g"), register("a", "a1"), grant("a1"), assign(place("g", "a", "a1"), 0)} {
		if err := m.Apply(uint64(i+1), c); err != nil {
			f.Fatal(err)
		}
	}
	data, err := encodeSnapshot(m.State())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte{snapshotFormat, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeSnapshot(data)
		if err == nil && (m.State().Groups == nil || m.State().Sessions == nil || m.State().Locations == nil) {
			t.Error("a restored machine lacks a map")
		}
	})
}
