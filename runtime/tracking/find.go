package tracking

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// place is where a step is.
type place struct {
	part   int
	offset int64
}

// finder is one query at work.
type finder struct {
	s            *Store
	q            Query
	parts        []part
	since, until int64

	found     []Record
	bytes     int // of the steps in found
	truncated bool

	buf     [frameHeader + maxPayload]byte
	block   [blockBytes]byte
	offsets []int64
	places  []place
}

func newFinder(s *Store, q Query, parts []part) *finder {
	f := &finder{s: s, q: q, parts: parts, until: math.MaxInt64}
	f.since = s.cfg.Now().Add(-s.cfg.MaxAge).UnixNano()
	if !q.Since.IsZero() {
		f.since = max(f.since, nanoseconds(q.Since))
	}
	if !q.Until.IsZero() {
		f.until = nanoseconds(q.Until)
	}
	// As they were noted.
	f.q.Message, f.q.Location = within(q.Message, maxName), within(q.Location, maxName)
	if f.q.Limit <= 0 {
		f.q.Limit = DefaultLimit
	}
	f.q.Limit = min(f.q.Limit, MaxLimit)
	return f
}

// nanoseconds is UnixNano for any time: one far away is the nearest that there is.
func nanoseconds(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// one looks for the message that is asked for.
func (f *finder) one() error {
	_, err := f.gather([]byte(f.q.Message))
	return err
}

// list goes from the newest step to the oldest. A message is taken at its newest step
// that is wanted, so it needs no memory of those that it has taken.
func (f *finder) list(ctx context.Context) error {
	for i := len(f.parts) - 1; i >= 0; i-- {
		p := &f.parts[i]
		if p.newest < f.since || p.oldest >= f.until {
			continue
		}
		if full, err := f.search(ctx, i); full || err != nil {
			return err
		}
	}
	return nil
}

// search goes through one part.
func (f *finder) search(ctx context.Context, i int) (full bool, err error) {
	p := &f.parts[i]
	stored := p.messages
	defer func() { p.messages, p.all = stored, nil }()
	offsets, err := f.candidates(p)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", p.path, err)
	}
	for _, offset := range slices.Backward(offsets) {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if full, err := f.candidate(place{i, offset}); full || err != nil {
			return full, err
		}
	}
	return false, nil
}

// candidates returns where the steps of the location are, the lowest first. Where they
// are many, the part is read as a whole for what follows.
func (f *finder) candidates(p *part) (offsets []int64, err error) {
	if f.q.Location != "" {
		offsets, err = p.locations.find(hashOf(f.q.Location), nil, &f.block)
		if err != nil || len(offsets) < wholeFrom {
			return offsets, err
		}
	}
	if p.messages, err = p.messages.load(); err != nil {
		return nil, err
	}
	p.all = make([]byte, p.end)
	n, err := p.file.ReadAt(p.all, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	p.all = p.all[:n] // shorter if somebody has cut the file
	if f.q.Location == "" {
		offsets = p.messages.offsets()
	}
	return offsets, nil
}

// candidate takes the message whose step is there, if it is its newest one that is
// wanted.
func (f *finder) candidate(at place) (full bool, err error) {
	payload, err := f.payload(at)
	if payload == nil || err != nil {
		return false, err
	}
	h, err := decodeHead(payload)
	if err != nil || !f.wanted(h) {
		return false, nil
	}
	message := append([]byte(nil), h.message...) // the payload is overwritten by the next read
	if newest, err := f.isNewest(message, at); !newest || err != nil {
		return false, err
	}
	return f.gather(message)
}

// isNewest says whether the message has no newer wanted step than that at the place.
// Most candidates end here, so it looks at the newer parts only.
func (f *finder) isNewest(message []byte, at place) (bool, error) {
	if err := f.locate(message, at.part); err != nil {
		return false, err
	}
	for _, p := range f.places {
		payload, err := f.payload(p)
		if err != nil {
			return false, err
		}
		if h, err := decodeHead(payload); err == nil && string(h.message) == string(message) && f.wanted(h) {
			return p == at, nil
		}
	}
	return false, nil
}

// wanted says whether a step selects its message.
func (f *finder) wanted(h head) bool {
	return h.at >= f.since && h.at < f.until && (f.q.Location == "" || string(h.location) == f.q.Location)
}

// gather takes the message's steps together, and adds its record to those found if one
// of them is wanted. full says that nothing more fits.
func (f *finder) gather(message []byte) (full bool, err error) {
	if err := f.locate(message, 0); err != nil {
		return false, err
	}
	// Of very many the newest and the first, which tells what the message is.
	omitted := max(len(f.places)-maxSteps, 0)
	if omitted > 0 {
		f.places = slices.Delete(f.places, maxSteps-1, len(f.places)-1)
	}
	steps := make([]Step, 0, len(f.places))
	selected, bytes := false, 0
	for _, p := range slices.Backward(f.places) {
		payload, err := f.payload(p)
		if err != nil {
			return false, err
		}
		h, err := decodeHead(payload)
		if err != nil || string(h.message) != string(message) {
			continue
		}
		st, err := decodeStep(payload)
		if err != nil {
			f.s.damage(f.parts[p.part].path, p.offset)
			continue
		}
		selected = selected || f.wanted(h)
		bytes += len(payload)
		steps = append(steps, st)
	}
	if !selected {
		return false, nil
	}
	return f.take(newRecord(steps, omitted), bytes), nil
}

// locate sets f.places to where the steps of a message are, the newest first, from
// the newest part down to the oldest that is asked for. With them may be some of other
// messages that have the same hash.
func (f *finder) locate(message []byte, oldest int) (err error) {
	f.places = f.places[:0]
	hash := hashOf(message)
	for i := len(f.parts) - 1; i >= oldest; i-- {
		p := &f.parts[i]
		if !p.filter.has(hash) {
			continue
		}
		if f.offsets, err = p.messages.find(hash, f.offsets[:0], &f.block); err != nil {
			return fmt.Errorf("read %s: %w", p.path, err)
		}
		for _, off := range slices.Backward(f.offsets) {
			f.places = append(f.places, place{i, off})
		}
	}
	return nil
}

// payload reads a step. It is valid until the next call; nil if the step is damaged.
func (f *finder) payload(at place) ([]byte, error) {
	b, err := f.read(at)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.parts[at.part].path, err)
	}
	payload, _, err := frame(b)
	if err != nil {
		f.s.damage(f.parts[at.part].path, at.offset)
		return nil, nil
	}
	return payload, nil
}

// read returns what begins at the place: a whole frame, if there is one.
func (f *finder) read(at place) ([]byte, error) {
	p := &f.parts[at.part]
	if at.offset >= p.end {
		return nil, nil
	}
	if p.all != nil {
		return p.all[min(at.offset, int64(len(p.all))):], nil
	}
	most := min(p.end-at.offset, int64(len(f.buf)))
	b, err := f.readAt(p, at.offset, min(most, firstRead))
	if err != nil || len(b) < frameHeader {
		return b, err
	}
	whole := frameHeader + int64(binary.LittleEndian.Uint32(b))
	if whole <= int64(len(b)) {
		return b, nil
	}
	return f.readAt(p, at.offset, min(most, whole))
}

// readAt reads so many bytes, or fewer if somebody has cut the file.
func (f *finder) readAt(p *part, offset, bytes int64) ([]byte, error) {
	n, err := p.file.ReadAt(f.buf[:bytes], offset)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return f.buf[:n], err
}

// take adds the record if it matches, and says whether the answer is full.
func (f *finder) take(r Record, bytes int) (full bool) {
	if f.q.Match != nil && !f.q.Match(&r) {
		return false
	}
	if len(f.found) == f.q.Limit || len(f.found) > 0 && f.bytes+bytes > maxAnswer {
		f.truncated = true
		return true
	}
	f.found, f.bytes = append(f.found, r), f.bytes+bytes
	return false
}

// damage counts a step that cannot be read.
func (s *Store) damage(path string, offset int64) {
	s.damaged.Add(1)
	s.seldom.warn("a step of the history is damaged and is left out: see whether the disk is sound", "file", path, "offset", offset)
}
