package tracking

import "sync"

const (
	// enough is how many bytes of steps the writer writes at once without waiting, and
	// maxBuffered how many wait for it at most.
	enough      = 256 << 10
	maxBuffered = 2 << 20
)

// buffer holds the frames that were noted and are not yet written.
type buffer struct {
	first chan struct{} // tells the writer that there is something
	full  chan struct{} // tells it that there is enough

	mu     sync.Mutex
	frames []byte
	steps  int
	closed bool
}

func newBuffer() buffer {
	return buffer{first: make(chan struct{}, 1), full: make(chan struct{}, 1)}
}

// add appends the step, and says whether there was room for it.
func (b *buffer) add(st *Step) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := len(b.frames)
	if b.closed || before+frameHeader+maxPayload > maxBuffered {
		return false
	}
	b.frames = appendFrame(b.frames, st)
	b.steps++
	if before == 0 {
		tell(b.first)
	}
	if before < enough && len(b.frames) >= enough {
		tell(b.full)
	}
	return true
}

func tell(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// swap takes all frames and leaves an empty buffer that reuses spare.
func (b *buffer) swap(spare []byte) (frames []byte, steps int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	frames, steps = b.frames, b.steps
	b.frames, b.steps = spare[:0], 0
	return frames, steps
}

// shut refuses further steps.
func (b *buffer) shut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// Note adds a step to the history. It never waits for the disk, and never fails: what
// finds no room in the buffer, or cannot be written, is counted in [Store.Lost], and
// logged at most once a minute. The step, with its context, may be changed afterwards.
func (s *Store) Note(st Step) {
	if now := s.cfg.Now(); st.At.IsZero() || st.At.After(now) {
		st.At = now
	}
	if st.Message == "" || !s.buf.add(&st) {
		s.lost.Add(1)
	}
}
