package mail

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fairlead-io/fairlead/sdk"
)

// What a message consists of: the values of the property content.
const (
	ContentRaw   = "raw"
	ContentParts = "parts"
)

// rawType is the content type of a mail that travels whole.
const rawType = "message/rfc822"

// memoryMax is how much of a mail is held in memory to be taken apart; more goes
// into a temporary file.
const memoryMax = 2 << 20

// Open makes a message of the mail that r yields. It closes r, at once if it
// fails. An error of r, also of its Close after its end, means that the mail was
// not read whole.
//
// With ContentRaw the mail is the only part and is streamed. With ContentParts it
// is read whole first and taken apart by MIME: the body comes first, then the
// other parts in their order. Whether a mail can be taken apart depends on
// nothing but its bytes; one that cannot be travels whole, with the reason in
// the context property mail.parse_error.
func Open(r io.ReadCloser, content, uid string) (*sdk.Content, error) {
	br := bufio.NewReaderSize(r, 32<<10)
	head, err := readHead(br)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	fields := parseFields(head)
	out := &sdk.Content{Context: properties(fields, uid)}
	whole := io.MultiReader(bytes.NewReader(head), br)
	if content != ContentParts {
		out.Parts, out.Close = onePart(whole), r.Close
		return out, nil
	}

	m, err := store(whole)
	if closeErr := r.Close(); err == nil && closeErr != nil {
		err = closeErr
	}
	if err != nil {
		if m != nil {
			_ = m.Close()
		}
		return nil, err
	}
	out.Close = m.Close
	leaves, err := m.scan(fields, len(head))
	if err != nil {
		var reading *os.PathError
		if errors.As(err, &reading) {
			return nil, errors.Join(err, m.Close()) // the disk's fault, not the mail's
		}
		out.Context["mail.parse_error"] = cut(oneLine(err.Error()), valueMax)
		out.Parts = onePart(m.reader(0))
		return out, nil
	}
	out.Parts = m.parts(fields, len(head), bodyOf(leaves))
	return out, nil
}

func onePart(r io.Reader) func(func(sdk.Part, error) bool) {
	return func(yield func(sdk.Part, error) bool) { yield(sdk.Part{ContentType: rawType, Reader: r}, nil) }
}

// stored is a mail that can be read several times.
type stored struct {
	at   io.ReaderAt
	size int64
	file *os.File // nil if it is in memory
}

// store reads a mail to its end. On error it may return what is to be closed.
func store(r io.Reader) (*stored, error) {
	var memory bytes.Buffer
	n, err := io.Copy(&memory, io.LimitReader(r, memoryMax+1))
	if err != nil {
		return nil, err
	}
	if n <= memoryMax {
		return &stored{at: bytes.NewReader(memory.Bytes()), size: n}, nil
	}
	f, err := os.CreateTemp("", "fairlead-mail-")
	if err != nil {
		return nil, fmt.Errorf("temporary file for a mail: %w", err)
	}
	// Where an open file can lose its name it does now: a process that is killed
	// leaves nothing behind.
	_ = os.Remove(f.Name())
	m := &stored{at: f, file: f}
	m.size, err = io.Copy(f, io.MultiReader(&memory, r))
	return m, err
}

func (m *stored) reader(from int) io.Reader {
	return io.NewSectionReader(m.at, int64(from), m.size-int64(from))
}

func (m *stored) Close() error {
	if m.file == nil {
		return nil
	}
	err := m.file.Close()
	_ = os.Remove(m.file.Name())
	return err
}

// errEnough ends a walk early.
var errEnough = errors.New("enough")

// scan reads all parts once, so that every fault is found before the first is
// handed out.
func (m *stored) scan(fields []field, from int) ([]leaf, error) {
	var leaves []leaf
	err := walk(fields, m.reader(from), func(l leaf) error {
		if _, err := io.Copy(io.Discard, l.content); err != nil {
			return err
		}
		l.content = nil
		leaves = append(leaves, l)
		return nil
	})
	if err == nil && len(leaves) == 0 {
		err = errors.New("multipart without parts")
	}
	return leaves, err
}

// parts yields the body, then the others in their order.
func (m *stored) parts(fields []field, from, body int) func(func(sdk.Part, error) bool) {
	return func(yield func(sdk.Part, error) bool) {
		pass := func(wanted func(int) bool) bool {
			n := -1
			err := walk(fields, m.reader(from), func(l leaf) error {
				if n++; !wanted(n) {
					return nil
				}
				if !yield(sdk.Part{Name: l.name, ContentType: l.contentType, Reader: l.content}, nil) {
					return errEnough
				}
				return nil
			})
			if err != nil && !errors.Is(err, errEnough) {
				yield(sdk.Part{}, err)
			}
			return err == nil
		}
		if pass(func(n int) bool { return n == body }) {
			pass(func(n int) bool { return n != body })
		}
	}
}

// bodyOf chooses the body as BizTalk's POP3 adapter does when it is told nothing:
// the first part described as "body", else the first text/xml, else the first
// text/plain, else the first text, else the first part.
func bodyOf(leaves []leaf) int {
	for _, fits := range []func(leaf) bool{
		func(l leaf) bool { return l.described },
		func(l leaf) bool { return l.mediaType == "text/xml" },
		func(l leaf) bool { return l.mediaType == "text/plain" && !l.attached },
		func(l leaf) bool { return l.mediaType == "text/plain" },
		func(l leaf) bool { return len(l.mediaType) > 5 && l.mediaType[:5] == "text/" },
	} {
		for i, l := range leaves {
			if fits(l) {
				return i
			}
		}
	}
	return 0
}
