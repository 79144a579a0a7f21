package tracking

import (
	"os"
	"time"
)

const (
	// flushEvery is how long a step may wait in memory.
	flushEvery = 200 * time.Millisecond
	// keepHouseEvery is how often old segments and content are looked for while
	// nothing is noted.
	keepHouseEvery = time.Minute
)

// write is the writer: the only goroutine that changes segments' files.
func (s *Store) write() {
	defer close(s.ended)
	due := time.NewTimer(flushEvery)
	defer due.Stop()
	house := time.NewTicker(keepHouseEvery)
	defer house.Stop()
	w := writer{Store: s}
	for {
		select {
		case <-s.buf.first:
			due.Reset(flushEvery)
			continue
		case <-s.buf.full:
		case <-due.C:
		case <-house.C:
		case done := <-s.flushes:
			w.flush()
			close(done)
			continue
		case <-s.ending:
			w.flush()
			return
		}
		w.flush()
	}
}

// writer has what only the writing goroutine needs.
type writer struct {
	*Store
	spare               []byte
	messages, locations []uint64
	told                uint64 // lost steps that the log knows of
}

// flush writes what was noted, and keeps house.
func (w *writer) flush() {
	frames, steps := w.buf.swap(w.spare)
	w.spare = frames
	for len(frames) > 0 {
		n, written, err := w.writeSome(frames)
		if err != nil {
			w.lost.Add(uint64(steps))
			w.unwritable(err)
			break
		}
		frames, steps = frames[n:], steps-written
	}
	w.housekeep()
	lost := w.lost.Load()
	if lost != w.told && w.seldom.warn("steps are missing in the history: its disk is too slow for them or cannot be written, or they had no message ID",
		"dir", w.cfg.Dir, "steps_since_start", lost) {
		w.told = lost
	}
}

func (s *Store) unwritable(err error) {
	s.seldom.warn("the history cannot be written: free space on its disk, or see what is wrong with it; messages are not held up",
		"dir", s.cfg.Dir, "error", err)
}

// writeSome writes as many frames as the present segment takes, and returns their
// bytes and number.
func (w *writer) writeSome(frames []byte) (n, steps int, err error) {
	g, err := w.growing(frames)
	if err != nil {
		return 0, 0, err
	}
	w.messages, w.locations = w.messages[:0], w.locations[:0]
	var times span
	for n < len(frames) {
		length := stamp(frames[n:])
		if g.size+int64(n+length) > w.segmentBytes && n > 0 {
			break
		}
		h, err := decodeHead(frames[n+frameHeader : n+length])
		if err != nil {
			return 0, 0, err
		}
		w.messages = append(w.messages, entry(hashOf(h.message), g.size+int64(n)))
		w.locations = append(w.locations, entry(hashOf(h.location), g.size+int64(n)))
		times.add(1, h.at, h.at)
		n += length
	}
	w.makeRoom(int64(n) + 2*entrySize*int64(times.n))
	defer w.makeRoom(0)
	// At a place of its own: what an earlier attempt left half-written is written over.
	if _, err := g.file.WriteAt(frames[:n], g.size); err != nil {
		return 0, 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	g.messages = append(g.messages, w.messages...)
	g.locations = append(g.locations, w.locations...)
	g.add(times.n, times.oldest, times.newest)
	g.size += int64(n)
	return n, times.n, nil
}

// growing returns the segment that takes the first of the frames: the present one, or
// a new one if there is none or it is full or ripe.
func (w *writer) growing(frames []byte) (*segment, error) {
	g := w.last()
	if g != nil && !w.ripe(g) && g.size+int64(stamp(frames)) <= w.segmentBytes {
		return g, nil
	}
	if g != nil {
		if err := w.closeGrowing(g); err != nil {
			return nil, err
		}
	}
	w.makeRoom(int64(len(segmentMagic)) + tablesSize(0))
	if err := os.MkdirAll(w.cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	g, err := createSegment(w.nextID, w.segmentPath(w.nextID), w.cfg.Now())
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nextID++
	w.segments = append(w.segments, g)
	return g, nil
}

// last returns the segment that grows, or nil.
func (s *Store) last() *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.segments); n > 0 && !s.segments[n-1].closed {
		return s.segments[n-1]
	}
	return nil
}

func (s *Store) closeGrowing(g *segment) error {
	messages, locations, filter, err := g.writeTables()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.close(messages, locations, filter)
	return nil
}

// ripe says whether the segment has to be closed for its age, so that it can be deleted
// in good time. It goes by its own age: steps may be noted long after their time, and
// each of those must not make a file of its own.
func (s *Store) ripe(g *segment) bool {
	return g.n > 0 && s.cfg.Now().UnixNano()-g.born > int64(s.cfg.MaxAge/ageShare)
}

// housekeep deletes what is too old.
func (s *Store) housekeep() {
	if g := s.last(); g != nil && s.ripe(g) {
		if err := s.closeGrowing(g); err != nil {
			s.unwritable(err)
		}
	}
	now := s.cfg.Now()
	expired := now.Add(-s.cfg.MaxAge).UnixNano()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.segments) > 0 && s.segments[0].closed && s.segments[0].newest < expired {
		s.dropOldestLocked()
	}
	s.content.expireLocked(s, expired)
	s.boundLocked(0)
}

// makeRoom deletes the oldest segments until so many bytes more may be written, and
// keeps that room until it is called again.
func (s *Store) makeRoom(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = bytes
	s.boundLocked(0)
}

// boundLocked deletes the oldest segments until there is room for so many bytes more.
func (s *Store) boundLocked(more int64) {
	for len(s.segments) > 0 && s.segments[0].closed && s.stepBytesLocked()+s.writing+s.content.bytes+more > s.cfg.MaxBytes {
		s.dropOldestLocked()
	}
}

func (s *Store) stepBytesLocked() int64 {
	var sum int64
	for _, g := range s.segments {
		sum += g.disk()
	}
	return sum
}

// dropOldestLocked forgets the oldest segment. Its file goes at once, or with the last
// query that reads it.
func (s *Store) dropOldestLocked() {
	g := s.segments[0]
	s.segments = s.segments[1:]
	if g.refs > 0 {
		g.dropped = true
		return
	}
	s.removeLocked(g)
}

func (s *Store) removeLocked(g *segment) {
	if err := g.remove(); err != nil {
		s.seldom.warn("a file of the history cannot be deleted: delete it by hand", "file", g.path, "error", err)
	}
}
