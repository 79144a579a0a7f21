package mail

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"mime/quotedprintable"
	"path"
	"strings"

	mimeproto "github.com/emersion/go-message/textproto"
)

const (
	// depthMax and leavesMax bound how a mail may be nested.
	depthMax  = 20
	leavesMax = 1000
	// partHeadMax bounds what may stand between two parts: the header of the next.
	partHeadMax = 256 << 10
	nameMax     = 255
)

// leaf is a part that is not itself made of parts. An attached mail is one.
type leaf struct {
	name, contentType string
	mediaType         string // lower case, without parameters
	// described: Content-Description is "body"; attached: Content-Disposition is
	// "attachment".
	described, attached bool
	// content has its transfer encoding undone. Its charset is what contentType
	// says: XML declares its own, and recoding would make that wrong.
	content io.Reader
}

// walk visits the leaves in their order. Every error is about the mail or comes
// from the visitor or the reader.
func walk(fields []field, body io.Reader, visit func(leaf) error) error {
	limited := &headLimit{r: body, left: math.MaxInt64}
	w := &walker{limit: limited, visit: visit}
	return w.entity(func(name string) string { return first(fields, name) }, limited, 0)
}

type walker struct {
	limit *headLimit
	visit func(leaf) error
	seen  int
}

// entity walks one entity whose header fields are given by get, under their
// canonical names.
func (w *walker) entity(get func(string) string, body io.Reader, depth int) error {
	contentType := get("Content-Type")
	if contentType == "" {
		contentType = "text/plain"
	}
	mediaType, params, err := mime.ParseMediaType(contentType)
	if strings.HasPrefix(mediaType, "multipart/") || err != nil && strings.Contains(strings.ToLower(contentType), "multipart/") {
		if err != nil {
			return fmt.Errorf("content type %q: %w", cut(contentType, 100), err)
		}
		return w.multipart(params["boundary"], body, depth)
	}
	if w.seen++; w.seen > leavesMax {
		return fmt.Errorf("more than %d parts", leavesMax)
	}
	content, err := decode(get("Content-Transfer-Encoding"), body)
	if err != nil {
		return err
	}
	disposition, dispositionParams, _ := mime.ParseMediaType(get("Content-Disposition"))
	name := dispositionParams["filename"]
	if name == "" {
		name = params["name"]
	}
	return w.visit(leaf{
		name: fileName(name), contentType: text(contentType), mediaType: mediaType,
		described: strings.EqualFold(strings.TrimSpace(get("Content-Description")), "body"),
		attached:  disposition == "attachment",
		content:   content,
	})
}

func (w *walker) multipart(boundary string, body io.Reader, depth int) error {
	if boundary == "" {
		return errors.New("multipart without a boundary")
	}
	if depth == depthMax {
		return fmt.Errorf("parts are nested more than %d deep", depthMax)
	}
	mr := mimeproto.NewMultipartReader(body, boundary)
	for {
		w.limit.left = partHeadMax
		p, err := mr.NextPart()
		w.limit.left = math.MaxInt64
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := w.entity(p.Header.Get, p, depth+1); err != nil {
			return err
		}
		// NextPart would do this, but under the limit for headers.
		if _, err := io.Copy(io.Discard, p); err != nil {
			return err
		}
	}
}

// headLimit keeps a header that never ends out of memory.
type headLimit struct {
	r    io.Reader
	left int64
}

func (l *headLimit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("header of a part has more than %d bytes", partHeadMax)
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	if l.left != math.MaxInt64 {
		l.left -= int64(n)
	}
	return n, err
}

// fileName makes a part's name of what the mail says. It is never more than one
// element of a path: whoever sent the mail chose it.
func fileName(name string) string {
	name = text(name)
	name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	if name == "." || name == ".." || name == "/" {
		return ""
	}
	return cut(name, nameMax)
}

// decode undoes the transfer encoding (RFC 2045, 6).
func decode(encoding string, r io.Reader) (io.Reader, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "7bit", "8bit", "binary":
		return r, nil
	case "quoted-printable":
		return quotedprintable.NewReader(r), nil
	case "base64":
		return base64.NewDecoder(base64.RawStdEncoding, &base64Digits{r: r}), nil
	}
	return nil, fmt.Errorf("unknown transfer encoding %q", cut(text(encoding), 40))
}

// base64Digits takes white space and padding out. RFC 2045 allows to skip other
// bytes too, but they mean that something happened to the mail on its way.
type base64Digits struct {
	r     io.Reader
	ended bool // padding was seen
}

func (d *base64Digits) Read(p []byte) (int, error) {
	for {
		n, err := d.r.Read(p)
		kept := 0
		for _, c := range p[:n] {
			switch {
			case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			case c == '=':
				d.ended = true
			case d.ended:
				return 0, errors.New("base64: content after the padding")
			case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '+', c == '/':
				p[kept] = c
				kept++
			default:
				return 0, fmt.Errorf("base64: byte %#02x", c)
			}
		}
		if kept > 0 || err != nil || len(p) == 0 {
			return kept, err
		}
	}
}
