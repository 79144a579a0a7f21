package tracking

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// sample is so many bytes that no other seed gives.
func sample(seed uint64, size int) []byte {
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func (w *world) keep(message string, part int, data []byte) {
	w.t.Helper()
	if err := w.Content(message, part, bytes.NewReader(data)); err != nil {
		w.t.Fatal(err)
	}
}

// kept returns the copy, or the error of opening or reading it.
func (w *world) kept(message string, part int) ([]byte, error) {
	w.t.Helper()
	r, size, err := w.OpenContent(message, part)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err == nil && int64(len(data)) != size {
		w.t.Errorf("%d bytes read, size says %d", len(data), size)
	}
	return data, err
}

func TestContentIsKept(t *testing.T) {
	w := newWorld(t, nil)
	sizes := []int{0, 1, contentChunk - 1, contentChunk, contentChunk + 1, 1 << 20}
	for i, size := range sizes {
		w.keep("../odd/../name\x00", i, sample(uint64(i), size))
	}
	for _, again := range []bool{false, true} {
		if again {
			w.reopen()
		}
		for i, size := range sizes {
			if got, err := w.kept("../odd/../name\x00", i); err != nil || !bytes.Equal(got, sample(uint64(i), size)) {
				t.Errorf("part %d of %d bytes: got %d bytes, %v", i, size, len(got), err)
			}
		}
		if got := w.HasContent("../odd/../name\x00", 9); !slices.Equal(got, []int{0, 1, 2, 3, 4, 5}) {
			t.Errorf("parts %v", got)
		}
		if _, err := w.kept("other", 0); !errors.Is(err, ErrNoContent) {
			t.Errorf("another message: %v", err)
		}
		if st := w.Stats(); st.Contents != len(sizes) || st.ContentBytes < 1<<20 {
			t.Errorf("got %+v", st)
		}
	}
}

func TestContentWrittenAgainReplaces(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 100 {
		w.keep("m", 0, sample(uint64(i), 10_000))
	}
	if got, err := w.kept("m", 0); err != nil || !bytes.Equal(got, sample(99, 10_000)) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if st := w.Stats(); st.Contents != 1 || st.ContentBytes != onDisk(10_000) || len(w.content.order) > 2+roomy {
		t.Errorf("got %+v, %d in order", st, len(w.content.order))
	}
}

func TestContentIsBounded(t *testing.T) {
	w := newWorld(t, small)
	w.fill("m", 2<<20)
	for i := range 40 {
		w.clock.pass(time.Second)
		w.keep(fmt.Sprint("m", i), 0, sample(uint64(i), 50_000))
		if got := w.onDiskBytes(); got > w.cfg.MaxBytes {
			t.Fatalf("%d bytes on the disk after %d copies", got, i+1)
		}
	}
	st := w.Stats()
	if st.ContentBytes > w.cfg.MaxBytes/2 || st.ContentBytes < w.cfg.MaxBytes/3 || st.Bytes < w.cfg.MaxBytes/3 {
		t.Errorf("got %+v", st)
	}
	if _, err := w.kept("m0", 0); !errors.Is(err, ErrNoContent) {
		t.Errorf("the oldest: %v", err)
	}
	if got, err := w.kept("m39", 0); err != nil || !bytes.Equal(got, sample(39, 50_000)) {
		t.Errorf("the newest: %d bytes, %v", len(got), err)
	}
	w.fill("n", 2<<20)
	if got := w.onDiskBytes(); got > w.cfg.MaxBytes {
		t.Errorf("%d bytes on the disk after more steps", got)
	}
	if after := w.Stats(); after.Contents != st.Contents {
		t.Errorf("steps drove content out: %d of %d copies are left", after.Contents, st.Contents)
	}
}

func TestManySmallCopiesAreBounded(t *testing.T) {
	w := newWorld(t, small)
	for i := range 300 {
		w.keep(fmt.Sprint("m", i), 0, []byte("x"))
	}
	if most := int(w.cfg.MaxBytes / 2 / blockSize); w.Stats().Contents != most {
		t.Errorf("%d copies are kept, want %d", w.Stats().Contents, most)
	}
}

func TestContentThatIsTooLarge(t *testing.T) {
	w := newWorld(t, small)
	w.keep("small", 0, sample(1, 1000))
	endless := io.LimitReader(rand.NewChaCha8([32]byte{}), 1<<40)
	if err := w.Content("large", 0, endless); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if names, _ := os.ReadDir(w.contentPath("")); len(names) > 1 {
		t.Errorf("left behind: %v", names)
	}
	if st := w.Stats(); st.ContentBytes != int64(st.Contents)*blockSize {
		t.Errorf("got %+v", st)
	}
}

func TestContentOfAFailingReader(t *testing.T) {
	w := newWorld(t, nil)
	for _, broken := range []error{errors.New("the source is gone"), io.ErrUnexpectedEOF, fmt.Errorf("the source is gone: %w", io.EOF)} {
		err := w.Content("m", 0, io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "part 0 of message m") {
			t.Errorf("%v: got %v", broken, err)
		}
		if _, err := w.kept("m", 0); !errors.Is(err, ErrNoContent) {
			t.Errorf("%v: a half copy: %v", broken, err)
		}
		if names, _ := os.ReadDir(w.contentPath("")); len(names) != 0 || w.Stats().ContentBytes != 0 {
			t.Errorf("%v: left behind: %v, %+v", broken, names, w.Stats())
		}
	}
}

func TestDamagedContentIsNotGivenAsWhole(t *testing.T) {
	w := newWorld(t, nil)
	w.keep("m", 0, sample(1, 1000))
	path := w.contentPath(contentName("m", 0))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		spoil(t, path, int64(i))
		if _, err := w.kept("m", 0); !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d of %d changed: %v", i, len(whole), err)
		}
		spoil(t, path, int64(i))
	}
	for n := range whole {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := w.kept("m", 0); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d of %d bytes: %v", n, len(whole), err)
		}
	}
}

func TestContentAgesAndUnfinishedIsRemoved(t *testing.T) {
	w := newWorld(t, nil)
	w.keep("old", 0, sample(1, 1000))
	w.clock.pass(4 * 24 * time.Hour)
	w.keep("new", 0, sample(2, 1000))
	w.clock.pass(4 * 24 * time.Hour)
	w.settle()
	for _, again := range []bool{false, true} {
		if again {
			if err := os.WriteFile(w.contentPath("x.part.7"+unfinished), []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
			w.reopen()
		}
		if _, err := w.kept("old", 0); !errors.Is(err, ErrNoContent) {
			t.Errorf("old: %v", err)
		}
		if _, err := w.kept("new", 0); err != nil {
			t.Errorf("new: %v", err)
		}
		if names, _ := os.ReadDir(w.contentPath("")); len(names) != 1 || w.Stats().Contents != 1 {
			t.Errorf("there are %v, %+v", names, w.Stats())
		}
	}
}

func TestRemovedContentIsReadToItsEnd(t *testing.T) {
	w := newWorld(t, small)
	w.keep("m", 0, sample(1, 300_000))
	r, _, err := w.OpenContent("m", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range 10 {
		w.keep(fmt.Sprint("n", i), 0, sample(1, 100_000))
	}
	if _, err := w.kept("m", 0); !errors.Is(err, ErrNoContent) {
		t.Errorf("not removed: %v", err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, sample(1, 300_000)) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}
