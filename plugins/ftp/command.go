package main

import (
	"bufio"
	"fmt"
	"io"
	"net/textproto"
	"strings"
)

// replyMax bounds a reply, in bytes.
const replyMax = 256 << 10

// command sends a command that the library does not have, and returns the reply. The
// error of one that refuses is a [textproto.Error], as the library's.
//
// The session must be in step: then the library's own reader holds nothing back, and
// what comes next on the connection is the reply. Of commands that were sent ahead, either
// all or none may be sent by command, for the same reason. The reply is read byte by byte, so that
// nothing of what follows it is taken from the library.
func (s *session) command(format string, args ...any) (code int, text string, err error) {
	line := fmt.Sprintf(format, args...)
	if unsendable(line) {
		return 0, "", found("a command must not contain a line break or a NUL: %q", line)
	}
	if len(s.control.said) > 0 {
		return 0, "", errOutOfStep
	}
	send := s.control.Conn.Write // what answers the library's commands may be our caller
	if len(s.control.ahead) > 0 {
		send = s.control.Write
	} else if err := s.control.begin(); err != nil {
		return 0, "", err
	}
	if _, err := send([]byte(line + "\r\n")); err != nil {
		return 0, "", fmt.Errorf("send command: %w", err)
	}
	reply := textproto.NewReader(bufio.NewReader(&byteReader{io.LimitReader(s.control, replyMax)}))
	code, text, err = reply.ReadResponse(0)
	if err != nil {
		return 0, "", fmt.Errorf("read reply: %w", err)
	}
	if code < 200 {
		// More will follow, at a time that nobody knows.
		return 0, "", fmt.Errorf("the server answers %q with %d %q, as if it began a transfer", line, code, text)
	}
	if code >= 400 {
		return code, text, &textproto.Error{Code: code, Msg: text}
	}
	return code, text, nil
}

// unsendable reports whether no command can carry the text. A file of such a name is
// listed without a question to the server, lest it hold up all others, and its reading
// says what is wrong.
func unsendable(text string) bool { return strings.ContainsAny(text, "\r\n\x00") }

// byteReader returns one byte at a time.
type byteReader struct{ io.Reader }

// Read implements io.Reader.
func (r *byteReader) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(1, len(p))]) }
