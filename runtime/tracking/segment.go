package tracking

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"time"
)

// A segment's file:
//
//	segmentMagic           8 bytes
//	frames                 see encode.go
//	and, once it is closed:
//	tableMark              4 bytes, which no frame begins with
//	table of messages      n entries of 8 bytes
//	table of locations     n entries of 8 bytes
//	end of the frames      8 bytes, an offset
//	n                      8 bytes
//	oldest, newest step    8 bytes each, nanoseconds since 1970
//	CRC-32C of all behind the frames up to here, 4 bytes
//	tableMagic             8 bytes
const (
	segmentMagic = "FLSTEPS1"
	tableMagic   = "FLTABLE1"
	tableMark    = 0xffffffff
	tailSize     = 8 + 8 + 8 + 8 + 4 + 8
	tablesFixed  = 4 + tailSize
	// largestSegment is more than any segment that this package writes.
	largestSegment = 64 << 20
)

// errForeign: the file is not a segment, or one of another version.
var errForeign = errors.New("not a segment that this version knows")

// segment is one file of steps. The store's mutex guards what changes.
type segment struct {
	id   uint64
	path string
	file *os.File // nil if the file cannot be read: it only takes room
	size int64    // end of the frames
	span

	// While it grows: when it was begun, or its oldest step if that is not known any
	// more.
	born int64
	// And its entries, in the order of the steps. Only appended to.
	messages, locations []uint64
	// Once it is closed.
	closed        bool
	messageTable  table
	locationTable table
	filter        bloom

	refs    int   // views that read it
	dropped bool  // to be removed by the last of them
	foreign int64 // size of a file that cannot be read
}

// disk is the room that it takes once it is closed.
func (g *segment) disk() int64 {
	if g.file == nil {
		return g.foreign
	}
	return g.size + tablesSize(g.n)
}

func tablesSize(n int) int64 { return tablesFixed + 2*entrySize*int64(n) }

// span is a number of steps and their times, in nanoseconds since 1970.
type span struct {
	n              int
	oldest, newest int64
}

// add takes n more steps from that time to that.
func (s *span) add(n int, oldest, newest int64) {
	if s.n == 0 || oldest < s.oldest {
		s.oldest = oldest
	}
	if s.n == 0 || newest > s.newest {
		s.newest = newest
	}
	s.n += n
}

// createSegment begins a new file.
func createSegment(id uint64, path string, now time.Time) (*segment, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteString(segmentMagic); err != nil {
		f.Close()
		os.Remove(path)
		return nil, err
	}
	return &segment{id: id, path: path, file: f, size: int64(len(segmentMagic)), born: now.UnixNano()}, nil
}

// openSegment opens a file that was there before. One that was closed is ready to
// read. Of another the whole steps are found again, and damaged says how many of those
// between them could not be read; what is behind the last is left for the caller to cut.
func openSegment(id uint64, path string) (g *segment, damaged int, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	g = &segment{id: id, path: path, file: f}
	var magic [len(segmentMagic)]byte
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if _, err := f.ReadAt(magic[:], 0); err != nil || string(magic[:]) != segmentMagic || info.Size() > largestSegment {
		return nil, 0, errForeign
	}
	if err := g.readTables(info.Size()); err == nil {
		return g, 0, nil
	}
	if damaged, err = g.scan(); err != nil {
		return nil, 0, err
	}
	return g, damaged, nil
}

// scan reads all frames, and leaves g as one that grows, with its end behind the last
// whole frame.
func (g *segment) scan() (damaged int, err error) {
	start := int64(len(segmentMagic))
	r := bufio.NewReaderSize(io.NewSectionReader(g.file, start, largestSegment), 4*maxPayload)
	g.size = start
	defer func() { g.born = g.oldest }()
	skipped := 0
	for at := start; ; {
		b, err := peekFrame(r)
		if err != nil {
			return damaged, err
		}
		payload, length, err := frame(b)
		if length == 0 {
			return damaged, nil
		}
		var h head
		if err == nil {
			h, err = decodeHead(payload)
		}
		if err != nil {
			skipped++ // and only of interest if a whole one follows
		} else {
			g.enter(h, at)
			g.size = at + int64(length)
			damaged += skipped
			skipped = 0
		}
		at += int64(length)
		if _, err := r.Discard(length); err != nil {
			return damaged, err
		}
	}
}

// peekFrame returns the next frame, or what there is of it.
func peekFrame(r *bufio.Reader) ([]byte, error) {
	b, err := r.Peek(frameHeader)
	if err == nil {
		if n := binary.LittleEndian.Uint32(b); n <= maxPayload {
			b, err = r.Peek(frameHeader + int(n))
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// enter adds the step at the offset.
func (g *segment) enter(h head, at int64) {
	g.messages = append(g.messages, entry(hashOf(h.message), at))
	g.locations = append(g.locations, entry(hashOf(h.location), at))
	g.add(1, h.at, h.at)
}

// writeTables writes what closes the segment behind its frames, and returns the tables
// for [segment.close]. Nobody notices until then; it may be tried again.
func (g *segment) writeTables() (messages, locations table, filter bloom, err error) {
	m, l := slices.Clone(g.messages), slices.Clone(g.locations)
	slices.Sort(m)
	slices.Sort(l)
	b := make([]byte, 0, tablesSize(g.n))
	b = binary.LittleEndian.AppendUint32(b, tableMark)
	b = appendTable(b, m)
	b = appendTable(b, l)
	b = binary.LittleEndian.AppendUint64(b, uint64(g.size))
	b = binary.LittleEndian.AppendUint64(b, uint64(g.n))
	b = binary.LittleEndian.AppendUint64(b, uint64(g.oldest))
	b = binary.LittleEndian.AppendUint64(b, uint64(g.newest))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	b = append(b, tableMagic...)
	if err := g.file.Truncate(g.size); err != nil {
		return table{}, table{}, nil, err
	}
	if _, err := g.file.WriteAt(b, g.size); err != nil {
		return table{}, table{}, nil, err
	}
	messages, locations, filter = g.tables(b)
	return messages, locations, filter, nil
}

// tables makes the tables of what is behind the frames.
func (g *segment) tables(b []byte) (messages, locations table, filter bloom) {
	first, second := 4, 4+g.n*entrySize
	m, l := b[first:second], b[second:second+g.n*entrySize]
	messages = fileTable(m, g.file, g.size+int64(first))
	locations = fileTable(l, g.file, g.size+int64(second))
	filter = newBloom(g.n, func(i int) uint64 { return binary.LittleEndian.Uint64(m[i*entrySize:]) })
	return messages, locations, filter
}

// close makes it a closed segment.
func (g *segment) close(messages, locations table, filter bloom) {
	g.messageTable, g.locationTable, g.filter = messages, locations, filter
	g.messages, g.locations, g.closed = nil, nil, true
}

// readTables makes g a closed segment if there are sound tables at its end.
func (g *segment) readTables(fileSize int64) error {
	var tail [tailSize]byte
	if fileSize < int64(len(segmentMagic))+tablesFixed {
		return errDamaged
	}
	if _, err := g.file.ReadAt(tail[:], fileSize-tailSize); err != nil {
		return err
	}
	number := func(i int) int64 { return int64(binary.LittleEndian.Uint64(tail[8*i:])) }
	size, n := number(0), number(1)
	if string(tail[tailSize-8:]) != tableMagic || n < 0 || n > fileSize || size < int64(len(segmentMagic)) ||
		size+tablesSize(int(n)) != fileSize {
		return errDamaged
	}
	b := make([]byte, fileSize-size)
	if _, err := g.file.ReadAt(b, size); err != nil {
		return err
	}
	if crc32.Checksum(b[:len(b)-12], castagnoli) != binary.LittleEndian.Uint32(b[len(b)-12:]) {
		return errDamaged
	}
	g.size, g.n, g.oldest, g.newest = size, int(n), number(2), number(3)
	messages, locations, filter := g.tables(b)
	g.close(messages, locations, filter)
	return nil
}

// foreignSegment stands for a file that cannot be read: it takes room until its time
// has come.
func foreignSegment(id uint64, path string) *segment {
	g := &segment{id: id, path: path, closed: true}
	if info, err := os.Stat(path); err == nil {
		g.foreign, g.newest = info.Size(), info.ModTime().UnixNano()
	}
	return g
}

// remove closes and deletes the file.
func (g *segment) remove() error {
	if g.file != nil {
		if err := g.file.Close(); err != nil {
			return fmt.Errorf("close %s: %w", g.path, err)
		}
	}
	if err := os.Remove(g.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
