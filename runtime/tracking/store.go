package tracking

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// segmentShare and ageShare are the parts of the room, and of the age, that one segment
// may take: what is deleted at once.
const (
	segmentShare = 64
	ageShare     = 16
	leastSegment = 64 << 10
	mostSegment  = 8 << 20
)

// ErrClosed is returned by a store that was closed.
var ErrClosed = errors.New("the history is closed")

// Store is the history of one node. All methods may be called at the same time.
type Store struct {
	cfg          Config
	segmentBytes int64

	buf     buffer
	flushes chan chan struct{} // asks the writer to write all that was noted
	ending  chan struct{}      // closed by Close: the writer writes what there is, and ends
	ended   chan struct{}      // closed by the writer
	queries chan struct{}      // a slot for each query that may run

	mu       sync.Mutex
	segments []*segment // by id; the last one grows, unless it is closed
	nextID   uint64
	writing  int64 // bytes that the writer is about to write
	content  contents
	calls    int           // of Query, Content and OpenContent, under way
	closed   bool          // no new calls
	idle     chan struct{} // closed when closed and no calls are left

	lost    atomic.Uint64
	damaged atomic.Uint64
	seldom  seldom
}

// maxQueries bounds how many queries run at once, and so the memory that they take.
const maxQueries = 4

// Open opens the history in cfg.Dir and starts its writer, which [Store.Close] ends.
// What an earlier end has left half-written is cut off; what cannot be read is passed
// over, with a line in the log. It fails if cfg is wrong or the directory cannot be
// used.
func Open(cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg:          cfg,
		segmentBytes: min(max(cfg.MaxBytes/segmentShare, leastSegment), mostSegment),
		buf:          newBuffer(),
		flushes:      make(chan chan struct{}),
		ending:       make(chan struct{}),
		ended:        make(chan struct{}),
		queries:      make(chan struct{}, maxQueries),
		idle:         make(chan struct{}),
		seldom:       seldom{log: cfg.Log, now: cfg.Now},
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the history: %w", err)
	}
	if err := errors.Join(s.loadSegments(), s.loadContent()); err != nil {
		return nil, fmt.Errorf("open the history: %w", errors.Join(err, s.closeFiles()))
	}
	s.housekeep()
	go s.write()
	return s, nil
}

const segmentSuffix = ".steps"

func (s *Store) segmentPath(id uint64) string {
	return filepath.Join(s.cfg.Dir, fmt.Sprintf("%08d%s", id, segmentSuffix))
}

// loadSegments opens all segments of the directory.
func (s *Store) loadSegments() error {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	var ids []uint64
	for _, e := range entries {
		name, ours := strings.CutSuffix(e.Name(), segmentSuffix)
		if id, err := strconv.ParseUint(name, 10, 64); ours && err == nil && filepath.Base(s.segmentPath(id)) == e.Name() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	s.nextID = 1
	for i, id := range ids {
		s.segments = append(s.segments, s.load(id, i == len(ids)-1))
		s.nextID = id + 1
	}
	return nil
}

// load opens one segment, the last of which goes on growing.
func (s *Store) load(id uint64, last bool) *segment {
	path := s.segmentPath(id)
	g, damaged, err := openSegment(id, path)
	if err != nil {
		s.cfg.Log.Warn("a part of the history cannot be read and is passed over; its file goes when its time has come, or may be deleted now",
			"file", path, "error", err)
		return foreignSegment(id, path)
	}
	if damaged > 0 {
		s.damaged.Add(uint64(damaged))
		s.cfg.Log.Warn("some steps of the history are damaged and are passed over", "file", path, "steps", damaged, "whole", g.n)
	}
	if g.closed {
		return g
	}
	if cutOff := g.trim(); cutOff > 0 {
		s.cfg.Log.Info("the end of the history was not written completely and is cut off", "file", path, "bytes", cutOff)
	}
	if !last {
		s.finish(g)
	}
	return g
}

// finish closes a segment that was left open by an earlier process.
func (s *Store) finish(g *segment) {
	messages, locations, filter, err := g.writeTables()
	if err != nil {
		s.cfg.Log.Warn("a part of the history could not be closed and takes more memory until the next start: free space on its disk", "file", g.path, "error", err)
		messages, locations = memoryTable(g.messages), memoryTable(g.locations)
	}
	g.close(messages, locations, filter)
}

// trim cuts off what is behind the last whole frame, and returns how much that was.
func (g *segment) trim() int64 {
	info, err := g.file.Stat()
	if err != nil || info.Size() <= g.size {
		return 0
	}
	// If this fails, the next frames are written over it all the same.
	_ = g.file.Truncate(g.size)
	return info.Size() - g.size
}

// Stats are the numbers of a history.
type Stats struct {
	// Bytes is the disk that the steps take, ContentBytes that of the content.
	Bytes, ContentBytes int64
	// Steps and Segments are how many steps are kept, in how many files.
	Steps, Segments int
	// Contents is how many copies of parts are kept.
	Contents int
	// Oldest is the time of the oldest step; zero if there is none.
	Oldest time.Time
	// Lost counts the steps that were noted since Open and are not kept, because the
	// disk was too slow, full or broken.
	Lost uint64
	// Damaged counts how often since Open a step could not be read.
	Damaged uint64
}

// Stats returns the numbers at this moment. Steps that were noted in the last
// moments are not in them yet.
func (s *Store) Stats() Stats {
	st := Stats{Lost: s.lost.Load(), Damaged: s.damaged.Load()}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.ContentBytes, st.Contents = s.content.bytes, len(s.content.copies)
	st.Bytes, st.Segments = s.stepBytesLocked(), len(s.segments)
	var oldest int64
	for _, g := range s.segments {
		if g.n > 0 && (st.Steps == 0 || g.oldest < oldest) {
			oldest = g.oldest
		}
		st.Steps += g.n
	}
	if st.Steps > 0 {
		st.Oldest = time.Unix(0, oldest).UTC()
	}
	return st
}

// Lost is how many steps since Open are not kept.
func (s *Store) Lost() uint64 { return s.lost.Load() }

// Close writes what was noted, waits for the calls that are under way, and closes the
// files. It may be called more than once. When ctx ends first, Close returns its error,
// and another call goes on with the rest. What is noted afterwards is counted
// as lost; other methods return [ErrClosed].
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		s.buf.shut()
		close(s.ending)
		s.endCallsLocked()
	}
	s.mu.Unlock()
	for _, done := range []chan struct{}{s.ended, s.idle} {
		select {
		case <-done:
		case <-ctx.Done():
			return fmt.Errorf("close the history: the disk of %s does not answer, or a query or copy does not end: %w", s.cfg.Dir, ctx.Err())
		}
	}
	return s.closeFiles()
}

func (s *Store) closeFiles() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, g := range s.segments {
		if g.file != nil {
			errs = append(errs, g.file.Close())
		}
	}
	s.segments = nil
	return errors.Join(errs...)
}

// begin announces a call that uses files; end must follow if there is no error.
func (s *Store) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.calls++
	return nil
}

func (s *Store) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls--
	s.endCallsLocked()
}

// endCallsLocked lets Close go on once nobody uses the files.
func (s *Store) endCallsLocked() {
	if s.closed && s.calls == 0 {
		close(s.idle)
	}
}
