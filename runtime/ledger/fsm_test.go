package ledger

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	pb "github.com/fairlead-io/fairlead/runtime/ledger/ledgerpb"
)

func entry(t *testing.T, index uint64, c *pb.Command) *raft.Log {
	t.Helper()
	data, err := proto.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return &raft.Log{Index: index, Type: raft.LogCommand, Data: data}
}

// memorySink is a snapshot store of one.
type memorySink struct {
	bytes.Buffer
	fail              error
	closed, cancelled bool
}

func (s *memorySink) ID() string    { return "one" }
func (s *memorySink) Close() error  { s.closed = true; return nil }
func (s *memorySink) Cancel() error { s.cancelled = true; return nil }
func (s *memorySink) Write(p []byte) (int, error) {
	if s.fail != nil {
		return 0, s.fail
	}
	return s.Buffer.Write(p)
}

func TestFSMTellsOutcomesInOrderAndSkipsWhatIsNotACommand(t *testing.T) {
	var told []uint64
	f := newFSM(func(index uint64, _ *pb.Command, _ error) { told = append(told, index) })
	got := f.ApplyBatch([]*raft.Log{
		entry(t, 1, register("a", "a1")),
		{Index: 2, Type: raft.LogConfiguration, Data: []byte("not a command")},
		entry(t, 3, leave("a1")),
		{Index: 4, Type: raft.LogCommand, Data: []byte{0xff}},
		entry(t, 5, expire("a1", 0)),
	})
	if got[0] != nil || got[1] != nil || got[2] != nil {
		t.Errorf("accepted commands answered %v", got)
	}
	if err, _ := got[3].(error); !errors.Is(err, ErrUnknown) {
		t.Errorf("unreadable entry: %v", got[3])
	}
	if err, _ := got[4].(error); !errors.Is(err, ErrStale) {
		t.Errorf("refused entry: %v", got[4])
	}
	if len(told) != 3 || told[0] != 1 || told[1] != 3 || told[2] != 5 {
		t.Errorf("told of %v", told)
	}
}

func TestSubscribersGetOneSignalForManyChangesAndNoneAfterStop(t *testing.T) {
	f := newFSM(nil)
	changes, stop := f.changes()
	for i := range uint64(3) {
		f.Apply(entry(t, i+1, register("a", "a1")))
	}
	<-changes
	select {
	case <-changes:
		t.Error("a second signal")
	default:
	}
	stop()
	f.Apply(entry(t, 9, register("a", "a1")))
	select {
	case <-changes:
		t.Error("a signal after stop")
	default:
	}
}

func TestSnapshotIsOfTheMomentItWasTakenAndRestores(t *testing.T) {
	f := newFSM(nil)
	f.Apply(entry(t, 1, register("a", "a1")))
	s, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	f.Apply(entry(t, 2, register("b", "b1")))
	sink := &memorySink{}
	if err := s.Persist(sink); err != nil || !sink.closed {
		t.Fatalf("persist: %v, closed %t", err, sink.closed)
	}
	s.Release()

	next := newFSM(nil)
	changes, stop := next.changes()
	defer stop()
	if err := next.Restore(io.NopCloser(&sink.Buffer)); err != nil {
		t.Fatal(err)
	}
	<-changes
	next.view(func(s *pb.State) {
		if s.Index != 1 || s.Sessions["a1"] == nil || s.Sessions["b1"] != nil {
			t.Errorf("restored %v", s)
		}
	})
}

func TestSnapshotThatCannotBeWrittenIsCancelled(t *testing.T) {
	s, err := newFSM(nil).Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	sink := &memorySink{fail: full}
	if err := s.Persist(sink); !errors.Is(err, full) || !sink.cancelled || sink.closed {
		t.Errorf("got %v, cancelled %t, closed %t", err, sink.cancelled, sink.closed)
	}
}

func TestRestoreRefusesWhatItCannotTrustAndKeepsItsState(t *testing.T) {
	m := running(t)
	good, err := encodeSnapshot(m.State())
	if err != nil {
		t.Fatal(err)
	}
	with := func(i int, b byte) []byte { c := bytes.Clone(good); c[i] = b; return c }
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":          {nil, "too short"},
		"short":          {good[:4], "too short"},
		"cut":            {good[:len(good)-1], "damaged"},
		"other format":   {with(0, 2), "format 2"},
		"other checksum": {with(1, good[1]+1), "damaged"},
		"flipped bit":    {with(len(good)-3, good[len(good)-3]^1), "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFSM(nil)
			f.Apply(entry(t, 1, register("a", "a1")))
			err := f.Restore(io.NopCloser(bytes.NewReader(c.data)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
			f.view(func(s *pb.State) {
				if s.Sessions["a1"] == nil {
					t.Error("a failed restore changed the state")
				}
			})
		})
	}
}

func TestAnEmptyStateSurvivesItsSnapshot(t *testing.T) {
	data, err := encodeSnapshot(NewMachine().State())
	if err != nil {
		t.Fatal(err)
	}
	m, err := decodeSnapshot(data)
	if err != nil {
		t.Fatal(err)
	}
	do(t, m, register("a", "a1"), deploy(1, "g"), assign(place("g", "a", "a1"), 0), fates("g", "a1", 1, intended("k", "m", "p")))
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestRestoreReportsAReaderThatFails(t *testing.T) {
	if err := newFSM(nil).Restore(io.NopCloser(brokenReader{})); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}
