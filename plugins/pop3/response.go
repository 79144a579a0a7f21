package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	// lineMax bounds one line of an answer that is not a mail. RFC 2449 allows 512.
	lineMax = 8 << 10
	// linesMax bounds a listing.
	linesMax = 2_000_000
	// uidlMax bounds a UIDL. RFC 1939 allows 70.
	uidlMax = 512
)

// refusal is the server's -ERR.
type refusal struct {
	// code is the response code (RFC 2449, RFC 3206) in upper case, such as IN-USE,
	// or empty.
	code string
	text string
}

func (r *refusal) Error() string {
	if r.code != "" {
		return fmt.Sprintf("server says [%s] %s", r.code, r.text)
	}
	if r.text == "" {
		return "server refuses without a reason"
	}
	return "server says " + r.text
}

// locked reports whether another session holds the maildrop. Servers without
// response codes say it in words.
func (r *refusal) locked() bool {
	text := strings.ToLower(r.text)
	return r.code == "IN-USE" || r.code == "" && (strings.Contains(text, "lock") || strings.Contains(text, "in use"))
}

// isRefusal reports whether err is an answer of the server: the connection is in
// step and can go on.
func isRefusal(err error) bool {
	var r *refusal
	return errors.As(err, &r)
}

// parseReply takes a status line apart. A refusal is returned as *refusal; a line
// that is neither is an error, too.
func parseReply(line string) (text string, err error) {
	switch {
	case line == "+OK" || strings.HasPrefix(line, "+OK "):
		return strings.TrimPrefix(line[3:], " "), nil
	case line == "-ERR" || strings.HasPrefix(line, "-ERR "):
		r := &refusal{text: strings.TrimSpace(line[4:])}
		if rest, ok := strings.CutPrefix(r.text, "["); ok {
			if code, text, ok := strings.Cut(rest, "]"); ok {
				r.code, r.text = strings.ToUpper(strings.TrimSpace(code)), strings.TrimSpace(text)
			}
		}
		return "", r
	}
	return "", fmt.Errorf("no POP3 answer: %.80q", line)
}

// readLine reads a line of at most lineMax bytes, without its end.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("line of more than %d bytes in an answer", lineMax)
	case errors.Is(err, io.EOF):
		return "", io.ErrUnexpectedEOF
	case err != nil:
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r"), nil
}

// readLines reads a multi-line answer after its status line.
func readLines(r *bufio.Reader, each func(line string) error) error {
	for range linesMax {
		line, err := readLine(r)
		if err != nil {
			return err
		}
		if line == "." {
			return nil
		}
		if err := each(strings.TrimPrefix(line, ".")); err != nil {
			return err
		}
	}
	return fmt.Errorf("more than %d lines in an answer", linesMax)
}

// parseEntry takes a line of LIST or UIDL apart.
func parseEntry(line string) (number int, value string, err error) {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return 0, "", fmt.Errorf("listing has a line %.80q", line)
	}
	number, err = strconv.Atoi(fields[0])
	if err != nil || number < 1 {
		return 0, "", fmt.Errorf("listing has a line %.80q", line)
	}
	return number, fields[1], nil
}

// checkUIDL refuses what cannot be an identity.
func checkUIDL(uidl string) error {
	if len(uidl) > uidlMax {
		return fmt.Errorf("UIDL of %d bytes", len(uidl))
	}
	for i := range len(uidl) {
		if uidl[i] <= ' ' || uidl[i] > '~' {
			return fmt.Errorf("UIDL %.80q has characters that RFC 1939 forbids", uidl)
		}
	}
	return nil
}

// mailReader undoes the dot-stuffing of a mail and leaves every other byte as it
// is, also line feeds and carriage returns that stand alone. Only "\r\n" ends a
// line here: a mail could end itself early with anything more lenient.
type mailReader struct {
	r *bufio.Reader
	// state: what was seen of a line's end or beginning.
	state lineState
	// done: the end was seen.
	done bool
}

type lineState int

const (
	lineBegin lineState = iota // at the beginning of a line
	lineInner
	lineCR    // after a CR
	lineDot   // after a dot at the beginning, which is not handed out
	lineDotCR // after that and a CR, which is not handed out either
)

func (m *mailReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) && !m.done {
		// What is there is taken without waiting for more once there is something.
		if n > 0 && m.r.Buffered() == 0 {
			break
		}
		c, err := m.r.ReadByte()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return n, err
		}
		switch m.state {
		case lineDotCR:
			if c == '\n' {
				m.done = true
				continue
			}
			// It was no end: the CR belongs to the line, and so does c.
			p[n] = '\r'
			n++
			m.state = lineCR
			_ = m.r.UnreadByte()
			continue
		case lineBegin:
			if c == '.' {
				m.state = lineDot
				continue
			}
		case lineDot:
			if c == '\r' {
				m.state = lineDotCR
				continue
			}
		}
		p[n] = c
		n++
		m.state = m.after(c)
	}
	if m.done && n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// after is the state after a byte that was handed out.
func (m *mailReader) after(c byte) lineState {
	switch {
	case c == '\r':
		return lineCR
	case c == '\n' && m.state == lineCR:
		return lineBegin
	}
	return lineInner
}
