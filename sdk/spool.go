package sdk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// inlineCap bounds what one message carries inline, whatever the runtime asks for:
// it has to fit into a message in the other direction, too.
const inlineCap = 8 << 20

// reading is how an item is to be read.
type reading struct {
	key string
	// size in bytes that is expected, -1 if it is not known.
	size int64
	// dir is where parts go that have no room among the inlineMax bytes in memory.
	dir       string
	inlineMax int64
	// max is the most bytes that are read; 0: no limit.
	max int64
}

func readingOf(t *adapterpb.Take, size int64) reading {
	return reading{key: t.GetKey(), size: size, dir: t.GetSpoolDir(), inlineMax: t.GetInlineMax(), max: t.GetMaxBytes()}
}

// read opens an item and reads it whole, into memory or into the spool.
func (e *endpoint) read(ctx context.Context, how reading, open func(context.Context) (*Content, error)) (*adapterpb.Content, error) {
	sp := &spooler{dir: how.dir, inlineLeft: min(how.inlineMax, inlineCap), max: how.max, expected: how.size}
	out := &adapterpb.Content{Location: e.name, Key: how.key}
	err := e.call(ctx, "read", readLimit, func(ctx context.Context) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		sp.ctx = ctx
		defer sp.watch(cancel)()

		c, err := open(ctx)
		if err != nil {
			return withCause(ctx, err)
		}
		if c == nil || c.Parts == nil {
			return errors.New("the adapter returned no content and no error")
		}
		out.Parts, err = sp.parts(c)
		out.Context = wireContext(c.Context)
		return withCause(ctx, err)
	})
	if err != nil {
		sp.discard()
		return nil, err
	}
	return out, nil
}

// spooler reads the parts of one item.
type spooler struct {
	ctx        context.Context // of this reading
	dir        string
	inlineLeft int64
	max        int64 // 0: no limit
	expected   int64 // of the body, if it is known
	read       int64
	files      []string
	// progress is when something was read last, as time since the reading began.
	progress atomic.Int64
	began    time.Time
}

// watch cancels a reading that makes no progress, until it is stopped. The timer runs
// out and looks, rather than being set anew at every read.
func (s *spooler) watch(cancel context.CancelCauseFunc) (stop func()) {
	s.began = time.Now()
	var mu sync.Mutex
	var timer *time.Timer
	stopped := false
	look := func() {
		mu.Lock()
		defer mu.Unlock()
		left := stallLimit - (time.Since(s.began) - time.Duration(s.progress.Load()))
		switch {
		case stopped:
		case left > 0:
			timer.Reset(left)
		default:
			cancel(fmt.Errorf("reading made no progress for %s", stallLimit))
		}
	}
	mu.Lock()
	timer = time.AfterFunc(stallLimit, look)
	mu.Unlock()
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}

func (s *spooler) parts(c *Content) (parts []*adapterpb.Part, err error) {
	defer func() {
		// Also when reading panicked. Its error tells of truncation: all was read
		// when Close says so and not before.
		if c.Close == nil {
			return
		}
		if closeErr := c.Close(); err == nil && closeErr != nil {
			parts, err = nil, fmt.Errorf("end of content: %w", closeErr)
		}
	}()
	for p, err := range c.Parts {
		if err != nil {
			return nil, err
		}
		part, err := s.part(p, len(parts))
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return nil, errors.New("content without parts: the adapter has to yield at least a body")
	}
	return parts, nil
}

func (s *spooler) part(p Part, n int) (*adapterpb.Part, error) {
	if p.Reader == nil {
		return nil, fmt.Errorf("part %d has no reader", n)
	}
	out := &adapterpb.Part{Name: escapeInvalid(p.Name), ContentType: escapeInvalid(p.ContentType)}
	r := &meter{r: p.Reader, s: s}
	var head bytes.Buffer
	if n == 0 && s.expected >= 0 && s.expected <= s.inlineLeft {
		head.Grow(int(s.expected) + bytes.MinRead) // no growing in steps
	}
	size, err := head.ReadFrom(io.LimitReader(r, s.inlineLeft+1))
	if err != nil {
		return nil, err
	}
	if size <= s.inlineLeft {
		s.inlineLeft -= size
		sum := sha256.Sum256(head.Bytes())
		out.Size, out.Sha256, out.Content = size, sum[:], &adapterpb.Part_Inline{Inline: head.Bytes()}
		return out, nil
	}
	hash := sha256.New()
	path, size, err := s.spool(n, io.TeeReader(io.MultiReader(&head, r), hash))
	if err != nil {
		return nil, err
	}
	out.Size, out.Sha256, out.Content = size, hash.Sum(nil), &adapterpb.Part_Spooled{Spooled: path}
	return out, nil
}

func (s *spooler) spool(n int, r io.Reader) (path string, size int64, err error) {
	if s.dir == "" {
		return "", 0, errors.New("content too large to be held in memory, and no spool directory was given")
	}
	path = filepath.Join(s.dir, fmt.Sprintf("part-%d", n))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", 0, spoolFailed(err)
	}
	s.files = append(s.files, path)
	size, err = io.Copy(spoolFile{f}, r)
	if closeErr := f.Close(); err == nil && closeErr != nil {
		err = spoolFailed(closeErr)
	}
	return path, size, err
}

// spoolFailed marks an error of the node's own disk, such as a full one: the endpoint
// backs off until there is room again. No item is to blame, so none is suspended.
func spoolFailed(err error) error { return Disconnected(fmt.Errorf("spool: %w", err)) }

// spoolFile tells errors of writing to the spool from those of reading the source.
type spoolFile struct{ f *os.File }

func (s spoolFile) Write(b []byte) (int, error) {
	n, err := s.f.Write(b)
	if err != nil {
		err = spoolFailed(err)
	}
	return n, err
}

// discard removes what a failed reading left, so that the next may use the same
// directory. The runtime removes the directory in any case.
func (s *spooler) discard() {
	for _, f := range s.files {
		_ = os.Remove(f)
	}
}

// errTooMuch says that there is more content than may be read.
var errTooMuch = errors.New("raise the limit for messages")

// meter counts what is read and stops at the limit and at the context's end.
type meter struct {
	r io.Reader
	s *spooler
}

func (m *meter) Read(b []byte) (int, error) {
	if m.s.ctx.Err() != nil {
		return 0, context.Cause(m.s.ctx)
	}
	n, err := m.r.Read(b)
	if n > 0 {
		m.s.progress.Store(int64(time.Since(m.s.began)))
	}
	m.s.read += int64(n)
	if m.s.max > 0 && m.s.read > m.s.max {
		return n, fmt.Errorf("content has more than %d bytes: %w", m.s.max, errTooMuch)
	}
	return n, err
}
