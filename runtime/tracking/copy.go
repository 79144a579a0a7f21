package tracking

import (
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"os"
)

// copyWriter writes a copy's file and keeps the account of its room.
type copyWriter struct {
	s    *Store
	f    *os.File
	crc  hash.Hash32
	size int64 // of the part
	room int64 // taken from the budget
}

func (w *copyWriter) copy(r io.Reader) error {
	if err := w.write([]byte(contentMagic)); err != nil {
		return err
	}
	// Not io.ReadFull: a source that breaks off with io.ErrUnexpectedEOF would look like
	// one that ends. And without r's own WriteTo, which need not keep to the pieces.
	piece := make([]byte, contentChunk)
	if _, err := io.CopyBuffer(w, struct{ io.Reader }{r}, piece); err != nil {
		return err
	}
	tail := binary.LittleEndian.AppendUint64(nil, uint64(w.size))
	return w.write(binary.LittleEndian.AppendUint32(tail, w.crc.Sum32()))
}

// Write implements [io.Writer] for the part's bytes.
func (w *copyWriter) Write(b []byte) (int, error) {
	w.size += int64(len(b))
	w.crc.Write(b)
	if err := w.write(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (w *copyWriter) write(b []byte) error {
	if err := w.s.reserveContent(w, w.size+contentFixed); err != nil {
		return err
	}
	_, err := w.f.Write(b)
	return err
}

func (w *copyWriter) giveBack() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.content.bytes -= w.room
}

// copyReader reads a copy and compares its checksum at the end.
type copyReader struct {
	f    *os.File
	left int64
	want uint32
	crc  hash.Hash32
}

func openCopy(f *os.File) (*copyReader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size() - contentFixed
	var magic [len(contentMagic)]byte
	var tail [contentTail]byte
	if size < 0 {
		return nil, ErrDamaged
	}
	if _, err := f.ReadAt(tail[:], info.Size()-contentTail); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(f, magic[:]); err != nil {
		return nil, err
	}
	if string(magic[:]) != contentMagic || int64(binary.LittleEndian.Uint64(tail[:])) != size {
		return nil, ErrDamaged
	}
	return &copyReader{f: f, left: size, want: binary.LittleEndian.Uint32(tail[8:]), crc: crc32.New(castagnoli)}, nil
}

// Read implements [io.Reader].
func (c *copyReader) Read(b []byte) (int, error) {
	if c.left == 0 {
		if c.crc.Sum32() != c.want {
			return 0, ErrDamaged
		}
		return 0, io.EOF
	}
	n, err := c.f.Read(b[:min(int64(len(b)), c.left)])
	c.crc.Write(b[:n])
	c.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = ErrDamaged
	}
	return n, err
}

// Close implements [io.Closer].
func (c *copyReader) Close() error { return c.f.Close() }
