package tracking

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A copy's file:
//
//	contentMagic       8 bytes
//	the part's bytes
//	their number       8 bytes
//	their CRC-32C      4 bytes
//
// Its name is made of the message ID's hash and the part's number, since a message ID
// need not be a file's name. Its modification time is the copy's age.
const (
	contentMagic  = "FLCOPY01"
	contentTail   = 8 + 4
	contentFixed  = int64(len(contentMagic) + contentTail)
	contentDir    = "content"
	contentSuffix = ".part"
	unfinished    = ".unfinished"
	contentChunk  = 64 << 10
	// blockSize is what the smallest file takes, so that many small copies are bounded,
	// too, on the disk and in memory.
	blockSize = 4 << 10
)

// The errors of content.
var (
	// ErrNoContent: there is no copy of that part: none was made, or it had to go.
	ErrNoContent = errors.New("no copy of the content is kept")
	// ErrTooLarge: the part is larger than all copies together may be.
	ErrTooLarge = errors.New("the content is larger than the history may keep")
	// ErrDamaged: the copy is not what was once written.
	ErrDamaged = errors.New("the copy of the content is damaged")
)

// contents are the copies that there are. The store's mutex guards it.
type contents struct {
	copies map[string]copied // by file name
	order  []aged            // the oldest first; may name copies that are gone or newer
	bytes  int64             // on the disk, unfinished ones included
	budget int64
	nextID uint64
}

// copied is one copy: the room that it takes, its time in nanoseconds, and a number
// that no other copy has had.
type copied struct {
	bytes, at int64
	id        uint64
}

type aged struct {
	name string
	id   uint64
}

func onDisk(size int64) int64 { return (size + blockSize - 1) / blockSize * blockSize }

// contentName is the file name of a part's copy.
func contentName(message string, part int) string {
	sum := sha256.Sum256([]byte(message))
	return hex.EncodeToString(sum[:16]) + "-" + strconv.Itoa(part) + contentSuffix
}

func (s *Store) contentPath(name string) string {
	return filepath.Join(s.cfg.Dir, contentDir, name)
}

// loadContent finds the copies of earlier processes and removes unfinished ones.
func (s *Store) loadContent() error {
	s.content = contents{copies: make(map[string]copied), budget: s.cfg.MaxBytes / 2}
	entries, err := os.ReadDir(s.contentPath(""))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case err != nil || !info.Mode().IsRegular():
		case strings.HasSuffix(e.Name(), unfinished):
			s.removeContent(e.Name())
		case strings.HasSuffix(e.Name(), contentSuffix):
			s.content.put(e.Name(), onDisk(info.Size()), info.ModTime().UnixNano())
		}
	}
	slices.SortFunc(s.content.order, func(a, b aged) int {
		return cmp.Compare(s.content.copies[a.name].at, s.content.copies[b.name].at)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.content.boundLocked(s, 0)
	return nil
}

func (c *contents) put(name string, bytes, at int64) {
	c.nextID++
	c.bytes += bytes - c.copies[name].bytes
	c.copies[name] = copied{bytes, at, c.nextID}
	c.order = append(c.order, aged{name, c.nextID})
	if len(c.order) > 2*len(c.copies)+roomy {
		// The same parts were written again and again.
		c.order = slices.DeleteFunc(c.order, func(a aged) bool { return c.copies[a.name].id != a.id })
	}
}

// boundLocked removes the oldest copies until there is room for so many bytes more.
func (c *contents) boundLocked(s *Store, more int64) {
	c.dropLocked(s, func(copied) bool { return c.bytes+more > c.budget })
}

// expireLocked removes the copies from before the time.
func (c *contents) expireLocked(s *Store, before int64) {
	c.dropLocked(s, func(what copied) bool { return what.at < before })
}

// dropLocked removes copies, the oldest first, as long as due says so.
func (c *contents) dropLocked(s *Store, due func(copied) bool) {
	n := 0
	for ; n < len(c.order); n++ {
		a := c.order[n]
		what := c.copies[a.name]
		if what.id != a.id {
			continue // gone, or written anew later
		}
		if !due(what) {
			break
		}
		c.bytes -= what.bytes
		delete(c.copies, a.name)
		s.removeContent(a.name)
	}
	c.order = slices.Delete(c.order, 0, n)
}

func (s *Store) removeContent(name string) {
	if err := os.Remove(s.contentPath(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.seldom.warn("a file of the history cannot be deleted: delete it by hand", "file", s.contentPath(name), "error", err)
	}
}

// Content keeps a copy of one part of a message: what r gives until io.EOF. It reads
// in the calling goroutine, in pieces of 64 KiB, and ends when r ends, so r's own limits
// are those of the call. A copy of the same part that is there already is replaced.
//
// To make room the oldest copies are removed, then the oldest steps. A part that is
// larger than half of [Config.MaxBytes] is [ErrTooLarge]; an error of r or of the disk
// is returned, too, and after any error no half copy is left. None of them needs to hold
// up the message: the copy is for people.
func (s *Store) Content(message string, part int, r io.Reader) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	if err := s.copyContent(contentName(message, part), r); err != nil {
		return fmt.Errorf("keep a copy of part %d of message %s: %w", part, message, err)
	}
	return nil
}

func (s *Store) copyContent(name string, r io.Reader) (err error) {
	if err := os.MkdirAll(s.contentPath(""), 0o700); err != nil {
		return err
	}
	s.mu.Lock()
	s.content.nextID++
	temporary := s.contentPath(fmt.Sprintf("%s.%d%s", name, s.content.nextID, unfinished))
	s.mu.Unlock()
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := copyWriter{s: s, f: f, crc: crc32.New(castagnoli)}
	defer func() {
		if err != nil {
			f.Close()
			s.removeContent(filepath.Base(temporary))
			w.giveBack()
		}
	}()
	if err := w.copy(r); err != nil {
		return err
	}
	return s.publish(&w, temporary, name)
}

// publish gives the finished file its name, and its room to the copies.
func (s *Store) publish(w *copyWriter, temporary, name string) error {
	if err := w.f.Close(); err != nil {
		return err
	}
	now := s.cfg.Now()
	if err := os.Chtimes(temporary, now, now); err != nil {
		return err
	}
	// Under the lock, so that a copy is in the list exactly while its file is there.
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Rename(temporary, s.contentPath(name)); err != nil {
		return err
	}
	s.content.bytes -= w.room
	s.content.put(name, w.room, now.UnixNano())
	return nil
}

// reserveContent takes room from the budget for a file of that size.
func (s *Store) reserveContent(w *copyWriter, size int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	more := onDisk(size) - w.room
	switch {
	case s.closed:
		return ErrClosed
	case more <= 0:
		return nil
	case onDisk(size) > s.content.budget:
		return ErrTooLarge
	}
	s.content.boundLocked(s, more)
	if s.content.bytes+more > s.content.budget {
		return fmt.Errorf("%w: other copies are being written at the same time and take up the room", ErrTooLarge)
	}
	s.boundLocked(more)
	s.content.bytes += more
	w.room += more
	return nil
}

// OpenContent opens the copy of a part, which the caller must close. Reading ends in
// io.EOF if all that was written is there, else in [ErrDamaged]. size is the part's, in
// bytes. A part without a copy is [ErrNoContent]. A copy that is removed meanwhile to
// make room can be read to its end.
func (s *Store) OpenContent(message string, part int) (content io.ReadCloser, size int64, err error) {
	if err := s.begin(); err != nil {
		return nil, 0, err
	}
	defer s.end()
	f, err := os.Open(s.contentPath(contentName(message, part)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, ErrNoContent
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open the copy of part %d of message %s: %w", part, message, err)
	}
	c, err := openCopy(f)
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("open the copy of part %d of message %s: %w", part, message, err)
	}
	return c, c.left, nil
}

// HasContent says of which parts of a message there are copies, the lowest first.
// It looks at parts from 0 to below parts.
func (s *Store) HasContent(message string, parts int) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var there []int
	for part := range parts {
		if _, ok := s.content.copies[contentName(message, part)]; ok {
			there = append(there, part)
		}
	}
	return there
}
