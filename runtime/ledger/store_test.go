package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func newStore(t *testing.T) (*store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log.db")
	s, err := openStore(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return s, path
}

func entries(from, to uint64) []*raft.Log {
	var logs []*raft.Log
	for i := from; i <= to; i++ {
		logs = append(logs, &raft.Log{Index: i, Term: 1 + i/10, Type: raft.LogCommand, Data: fmt.Appendf(nil, "entry %d %s", i, strings.Repeat("x", int(i%97)))})
	}
	return logs
}

func wantRange(t *testing.T, s *store, first, last uint64) {
	t.Helper()
	if got, err := s.FirstIndex(); err != nil || got != first {
		t.Errorf("FirstIndex = %d, %v; want %d", got, err, first)
	}
	if got, err := s.LastIndex(); err != nil || got != last {
		t.Errorf("LastIndex = %d, %v; want %d", got, err, last)
	}
	for _, i := range []uint64{first - 1, last + 1} {
		var l raft.Log
		if err := s.GetLog(i, &l); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("GetLog(%d) outside the log = %v, want ErrLogNotFound", i, err)
		}
	}
	for i := first; i <= last && first > 0; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil {
			t.Fatalf("GetLog(%d): %v", i, err)
		}
		want := entries(i, i)[0]
		if l.Index != i || l.Term != want.Term || !bytes.Equal(l.Data, want.Data) {
			t.Fatalf("GetLog(%d) = %+v, want %+v", i, l, want)
		}
	}
}

func TestEmptyStore(t *testing.T) {
	s, _ := newStore(t)
	var l raft.Log
	if first, err := s.FirstIndex(); err != nil || first != 0 {
		t.Errorf("FirstIndex = %d, %v", first, err)
	}
	if last, err := s.LastIndex(); err != nil || last != 0 {
		t.Errorf("LastIndex = %d, %v", last, err)
	}
	if err := s.GetLog(1, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("GetLog = %v", err)
	}
	// Raft compares with this text.
	if _, err := s.Get([]byte("k")); err == nil || err.Error() != "not found" {
		t.Errorf("Get = %v", err)
	}
	if _, err := s.GetUint64([]byte("k")); err == nil || err.Error() != "not found" {
		t.Errorf("GetUint64 = %v", err)
	}
	if has, err := raft.HasExistingState(s, s, raft.NewInmemSnapshotStore()); err != nil || has {
		t.Errorf("HasExistingState = %v, %v", has, err)
	}
}

func TestLogKeepsEverythingOfAnEntry(t *testing.T) {
	s, _ := newStore(t)
	want := raft.Log{
		Index: 7, Term: 1 << 40, Type: raft.LogConfiguration, Data: []byte{0, 1, 255}, Extensions: []byte("more"),
		AppendedAt: time.Unix(1_800_000_000, 123456789),
	}
	if err := s.StoreLog(&want); err != nil {
		t.Fatal(err)
	}
	var got raft.Log
	if err := s.GetLog(7, &got); err != nil {
		t.Fatal(err)
	}
	if got.Index != want.Index || got.Term != want.Term || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) ||
		!bytes.Equal(got.Extensions, want.Extensions) || !got.AppendedAt.Equal(want.AppendedAt) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestLogIsCutAtBothEnds(t *testing.T) {
	s, _ := newStore(t)
	const n = 5000 // many pages
	if err := s.StoreLogs(entries(1, n)); err != nil {
		t.Fatal(err)
	}
	wantRange(t, s, 1, n)
	if err := s.DeleteRange(1, 1234); err != nil { // after a snapshot
		t.Fatal(err)
	}
	wantRange(t, s, 1235, n)
	if err := s.DeleteRange(4000, n+10); err != nil { // entries that another leader does not have
		t.Fatal(err)
	}
	wantRange(t, s, 1235, 3999)
	if err := s.StoreLogs(entries(4000, 4100)); err != nil {
		t.Fatal(err)
	}
	wantRange(t, s, 1235, 4100)
	if err := s.DeleteRange(1, n); err != nil {
		t.Fatal(err)
	}
	if last, _ := s.LastIndex(); last != 0 {
		t.Errorf("LastIndex of an emptied log = %d", last)
	}
}

func TestEntryIsOverwritten(t *testing.T) {
	s, _ := newStore(t)
	for _, data := range []string{"old and long", "new"} {
		if err := s.StoreLog(&raft.Log{Index: 3, Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
	var l raft.Log
	if err := s.GetLog(3, &l); err != nil || string(l.Data) != "new" {
		t.Errorf("GetLog = %q, %v", l.Data, err)
	}
}

func TestStoreSurvivesReopening(t *testing.T) {
	s, path := newStore(t)
	if err := s.StoreLogs(entries(1, 300)); err != nil {
		t.Fatal(err)
	}
	if err := s.Set([]byte("CandidateID"), []byte("node-a")); err != nil {
		t.Fatal(err)
	}
	if err := s.SetUint64([]byte("CurrentTerm"), 42); err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	again, err := openStore(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	wantRange(t, again, 1, 300)
	if v, err := again.Get([]byte("CandidateID")); err != nil || string(v) != "node-a" {
		t.Errorf("Get = %q, %v", v, err)
	}
	if v, err := again.GetUint64([]byte("CurrentTerm")); err != nil || v != 42 {
		t.Errorf("GetUint64 = %d, %v", v, err)
	}
}

func TestStoredNumberOfWrongSizeIsAnError(t *testing.T) {
	s, _ := newStore(t)
	if err := s.Set([]byte("CurrentTerm"), []byte("abc")); err != nil {
		t.Fatal(err)
	}
	if v, err := s.GetUint64([]byte("CurrentTerm")); err == nil {
		t.Errorf("GetUint64 = %d", v)
	}
}

func TestSecondProcessOnADirectoryIsToldSo(t *testing.T) {
	_, path := newStore(t)
	_, err := openStore(path)
	if err == nil || !strings.Contains(err.Error(), "another process uses this data directory") {
		t.Errorf("openStore = %v", err)
	}
}

// What raft has been told is stored must survive the end of the machine, which no
// test here can bring about.
func TestEveryWriteIsSynced(t *testing.T) {
	s, _ := newStore(t)
	if s.db.NoSync || s.db.NoGrowSync {
		t.Error("bbolt does not sync its writes")
	}
}

func FuzzDecodeLog(f *testing.F) {
	f.Add(encodeLog(&raft.Log{Index: 1, Term: 2, Type: raft.LogCommand, Data: []byte("d"), Extensions: []byte("e"), AppendedAt: time.Unix(1, 2)}))
	f.Add([]byte{0x08})
	f.Fuzz(func(t *testing.T, data []byte) {
		var l, again raft.Log
		if decodeLog(data, &l) != nil {
			return
		}
		if err := decodeLog(encodeLog(&l), &again); err != nil {
			t.Fatalf("what was decoded cannot be decoded again: %v", err)
		}
		if again.Index != l.Index || again.Term != l.Term || !bytes.Equal(again.Data, l.Data) {
			t.Fatalf("got %+v, want %+v", again, l)
		}
	})
}
