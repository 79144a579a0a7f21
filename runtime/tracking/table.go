package tracking

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"slices"
)

// A table says where in a segment the steps of a message, or of a location, are: a
// sorted list of entries, each a hash in the high and an offset in the low 32 bits.
// That of a closed segment stays on the disk, and every stride-th entry in memory:
// to find something takes one read.
type table struct {
	all    []uint64 // of the segment that still grows
	file   io.ReaderAt
	off    int64
	n      int
	sparse []uint64 // entries 0, stride, 2*stride, …
}

const (
	stride    = 128
	entrySize = 8
	// blockBytes is what is read at once.
	blockBytes = stride * entrySize
)

func entry(hash uint32, offset int64) uint64 { return uint64(hash)<<32 | uint64(uint32(offset)) }

// memoryTable sorts the entries and returns their table.
func memoryTable(entries []uint64) table {
	slices.Sort(entries)
	return table{all: entries, n: len(entries)}
}

// fileTable returns the table whose entries are in data, which was read at off.
func fileTable(data []byte, file io.ReaderAt, off int64) table {
	t := table{file: file, off: off, n: len(data) / entrySize}
	for i := 0; i < t.n; i += stride {
		t.sparse = append(t.sparse, binary.LittleEndian.Uint64(data[i*entrySize:]))
	}
	return t
}

func appendTable(b []byte, entries []uint64) []byte {
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint64(b, e)
	}
	return b
}

// find returns the offsets that belong to the hash, the lowest first. They are
// appended to into; block is where it reads to.
func (t *table) find(hash uint32, into []int64, block *[blockBytes]byte) ([]int64, error) {
	low := entry(hash, 0)
	if t.file == nil {
		from, _ := slices.BinarySearch(t.all, low)
		return take(t.all[from:], hash, into), nil
	}
	first, found := slices.BinarySearch(t.sparse, low)
	if !found && first > 0 {
		first--
	}
	for from := first * stride; from < t.n; from += stride {
		entries := block[:min(stride, t.n-from)*entrySize]
		if _, err := t.file.ReadAt(entries, t.off+int64(from)*entrySize); err != nil {
			return into, fmt.Errorf("read table: %w", err)
		}
		for i := 0; i < len(entries); i += entrySize {
			e := binary.LittleEndian.Uint64(entries[i:])
			if e >= low && uint32(e>>32) != hash {
				return into, nil
			}
			if e >= low {
				into = append(into, int64(uint32(e)))
			}
		}
	}
	return into, nil
}

// take returns the offsets of the entries at the front that have the hash.
func take(entries []uint64, hash uint32, into []int64) []int64 {
	for _, e := range entries {
		if uint32(e>>32) != hash {
			break
		}
		into = append(into, int64(uint32(e)))
	}
	return into
}

// load returns the table as one in memory.
func (t *table) load() (table, error) {
	if t.file == nil {
		return *t, nil
	}
	data := make([]byte, t.n*entrySize)
	if _, err := t.file.ReadAt(data, t.off); err != nil {
		return table{}, fmt.Errorf("read table: %w", err)
	}
	all := make([]uint64, t.n)
	for i := range all {
		all[i] = binary.LittleEndian.Uint64(data[i*entrySize:])
	}
	return table{all: all, n: t.n}, nil
}

// offsets returns all offsets of a table in memory, the lowest first.
func (t *table) offsets() []int64 {
	all := make([]int64, len(t.all))
	for i, e := range t.all {
		all[i] = int64(uint32(e))
	}
	slices.Sort(all)
	return all
}

// bloom is a set of hashes that sometimes, one time in a hundred, says yes wrongly,
// and never no. A nil one says always yes.
type bloom []uint64

const (
	bloomBits  = 10 // for each hash
	bloomTries = 7
)

// newBloom returns the set of the hashes of sorted entries.
func newBloom(n int, entry func(i int) uint64) bloom {
	distinct := 0
	for i := range n {
		if i == 0 || entry(i)>>32 != entry(i-1)>>32 {
			distinct++
		}
	}
	b := make(bloom, distinct*bloomBits/64+1)
	for i := range n {
		b.each(uint32(entry(i)>>32), func(word, bit uint64) bool {
			b[word] |= bit
			return true
		})
	}
	return b
}

func (b bloom) has(hash uint32) bool {
	if b == nil {
		return true
	}
	yes := true
	b.each(hash, func(word, bit uint64) bool {
		yes = b[word]&bit != 0
		return yes
	})
	return yes
}

// each calls f for the bits of the hash, until f returns false.
func (b bloom) each(hash uint32, f func(word, bit uint64) bool) {
	mixed := uint64(hash) * 0x9e3779b97f4a7c15
	step := mixed>>32 | mixed<<32 | 1
	for range bloomTries {
		place, _ := bits.Mul64(mixed, uint64(len(b))*64)
		if !f(place/64, 1<<(place%64)) {
			return
		}
		mixed += step
	}
}
