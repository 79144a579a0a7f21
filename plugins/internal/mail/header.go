package mail

import (
	"bufio"
	"errors"
	"io"
	"mime"
	netmail "net/mail"
	"net/textproto"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
)

const (
	// headMax bounds how much of a mail is taken for its header.
	headMax = 256 << 10
	// headersMax header fields become context properties, valueMax bytes of each.
	headersMax = 64
	valueMax   = 1024
	// fieldMax bounds what of a field is decoded at all.
	fieldMax = 16 << 10
)

// field is one header field, unfolded and not decoded.
type field struct{ name, value string }

// readHead reads up to and including the empty line that ends the header, or up
// to headMax. What follows is still to be read from r.
func readHead(r *bufio.Reader) ([]byte, error) {
	var head []byte
	lineStart := true
	for len(head) < headMax {
		line, err := r.ReadSlice('\n')
		head = append(head, line...)
		if lineStart && (string(line) == "\r\n" || string(line) == "\n") {
			return head, nil
		}
		switch {
		case errors.Is(err, io.EOF):
			return head, nil // a mail may be all header
		case errors.Is(err, bufio.ErrBufferFull):
			lineStart = false
		case err != nil:
			return nil, err
		default:
			lineStart = true
		}
	}
	return head, nil
}

// parseFields reads a header as far as it is one: lines that are no fields are
// skipped, with what continues them. It never fails, since no mail may be lost
// for its header.
func parseFields(head []byte) []field {
	var fields []field
	valid := false
	for line := range strings.Lines(string(head)) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			if last := len(fields) - 1; valid && len(fields[last].value) < fieldMax {
				fields[last].value += " " + strings.TrimSpace(line)
			}
			continue
		}
		name, value, found := strings.Cut(line, ":")
		name = strings.TrimRight(name, " \t")
		if valid = found && isFieldName(name); valid {
			fields = append(fields, field{textproto.CanonicalMIMEHeaderKey(name), strings.TrimSpace(value)})
		}
	}
	return fields
}

func isFieldName(name string) bool {
	if name == "" || len(name) > 128 {
		return false
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			return false
		}
	}
	return true
}

// first returns the first field of that name.
func first(fields []field, name string) string {
	for _, f := range fields {
		if f.name == name {
			return f.value
		}
	}
	return ""
}

var words = mime.WordDecoder{CharsetReader: charset.Reader}

// text decodes a field's value for people and rules: RFC 2047 words become
// UTF-8, the rest is made UTF-8, in one line of at most valueMax bytes.
func text(value string) string {
	value = cut(value, fieldMax)
	if decoded, err := words.DecodeHeader(value); err == nil {
		value = decoded
	}
	return cut(strings.TrimSpace(oneLine(value)), valueMax)
}

// addresses returns the bare addresses, or the text if it cannot be understood.
func addresses(value string) string {
	parser := netmail.AddressParser{WordDecoder: &words}
	list, err := parser.ParseList(cut(value, fieldMax))
	if err != nil || len(list) == 0 {
		return text(value)
	}
	all := make([]string, len(list))
	for i, a := range list {
		all[i] = a.Address
	}
	return cut(oneLine(strings.Join(all, ", ")), valueMax)
}

// properties makes the context of a mail.
func properties(fields []field, uid string) map[string]string {
	props := map[string]string{"mail.uid": uid}
	set := func(name, value string) {
		if value != "" {
			props[name] = value
		}
	}
	set("mail.message_id", text(first(fields, "Message-Id")))
	set("mail.subject", text(first(fields, "Subject")))
	set("mail.from", addresses(first(fields, "From")))
	set("mail.to", addresses(first(fields, "To")))
	if date, err := netmail.ParseDate(first(fields, "Date")); err == nil {
		set("mail.date", date.UTC().Format(TimeFormat))
	}
	n := 0
	for _, f := range fields {
		name := "mail.header." + f.name
		if _, taken := props[name]; taken || n == headersMax {
			continue
		}
		if value := text(f.value); value != "" {
			props[name] = value
			n++
		}
	}
	return props
}

// oneLine makes s valid UTF-8 without control characters.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// cut shortens s to at most n bytes, at a character's border.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
