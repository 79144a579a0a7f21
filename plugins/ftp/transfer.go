package main

import (
	"io"

	ftpclient "github.com/jlaffaye/ftp"
	"golang.org/x/text/transform"

	"github.com/fairlead-io/fairlead/sdk/files"
)

// How files travel: the values of the property transfer.
const (
	transferBinary = "binary"
	transferASCII  = "ascii"
)

func (c connection) ascii() bool { return c.Transfer == transferASCII }

// asciiProblems are the properties that compare bytes, which a server changes with ASCII.
func (p sendProperties) asciiProblems() []error {
	if !p.ascii() {
		return nil
	}
	var errs []error
	for property, set := range map[string]bool{
		"verify": p.Verify != verifySize, "resume": p.Resume, "checksum": p.Checksum != files.SumNone,
		"if_exists": p.IfExists == files.ExistsAppend,
	} {
		if set {
			errs = append(errs, problem(property, "counts on the bytes at the server, which change with transfer: ascii; set transfer: binary, or take %s away", property))
		}
	}
	if p.IfExists != files.ExistsReplace && !p.Name.Unique() {
		errs = append(errs, problem("name", "lacks {{fairlead.id}}: with transfer: ascii nothing else tells whether a file that is there is the message's, which if_exists: %s needs to know", p.IfExists))
	}
	return errs
}

// retrieve begins to read a file. If it succeeds, endTransfer must be called at its end.
func (s *session) retrieve(path string) (*ftpclient.Response, error) {
	if err := s.beginTransfer(); err != nil {
		return nil, err
	}
	response, err := s.ftp.Retr(path)
	if err != nil && isRefusal(err) {
		s.endTransfer()
	}
	return response, err
}

// beginTransfer switches to the representation that files travel in. All else is done in
// binary mode: in any other, servers refuse SIZE or count what they would send.
func (s *session) beginTransfer() error {
	if !s.end.props.ascii() {
		return nil
	}
	return s.ftp.Type(ftpclient.TransferTypeASCII)
}

// endTransfer switches back. What was transferred stands; a session that cannot go back
// is given up.
func (s *session) endTransfer() {
	if s.end.props.ascii() && !s.isDead() && s.ftp.Type(ftpclient.TransferTypeBinary) != nil {
		s.kill()
	}
}

// storeFrom uploads a file from the offset on, under the same name at any offset.
func (s *session) storeFrom(target string, r io.Reader, offset int64) error {
	if err := s.beginTransfer(); err != nil {
		return err
	}
	if s.end.props.ascii() {
		r = transform.NewReader(r, &lineEnds{})
	}
	s.upload = true
	err := s.ftp.StorFrom(target, r, uint64(offset)) //nolint:gosec // never negative
	s.upload = false
	if err == nil || isRefusal(err) {
		s.endTransfer()
	}
	return err
}

// lineEnds makes every line end with CR and LF, as RFC 959 has it for ASCII: servers with
// records take nothing else for the end of a line.
type lineEnds struct{ cr bool } // the last byte was a CR

// Reset implements transform.Transformer.
func (l *lineEnds) Reset() { l.cr = false }

// Transform implements transform.Transformer.
func (l *lineEnds) Transform(dst, src []byte, _ bool) (written, read int, err error) {
	for _, b := range src {
		if b == '\n' && !l.cr {
			if written == len(dst) {
				return written, read, transform.ErrShortDst
			}
			dst[written], l.cr = '\r', true
			written++
		}
		if written == len(dst) {
			return written, read, transform.ErrShortDst
		}
		dst[written], l.cr = b, b == '\r'
		written, read = written+1, read+1
	}
	return written, read, nil
}
