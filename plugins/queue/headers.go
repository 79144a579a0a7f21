package main

import (
	"fmt"
	"sort"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/fairlead-io/fairlead/sdk"
)

// Headers that this adapter writes and reads.
const (
	headerID          = "Fairlead-Id"
	headerRedelivered = "Fairlead-Redelivered"
	headerPartName    = "Fairlead-Part-Name"
	headerContext     = "Fairlead-Context-" // followed by the property's name
	headerContentType = "Content-Type"
	headerCorrelation = "Correlation-Id"
)

// maxHeaderBytes is JetStream's limit for all headers of a message together.
const maxHeaderBytes = 64<<10 - 1

// Context properties of a received message.
const (
	propMessageID   = "queue.message_id"
	propDestination = "queue.destination"
	propCorrelation = "queue.correlation_id"
	propHeader      = "queue.header." // followed by the header's name
)

// encodeHeaders makes the headers of a message that is sent, except those for the
// broker itself.
func encodeHeaders(m *sdk.Message) nats.Header {
	h := nats.Header{}
	for name, value := range m.Context {
		h[headerContext+escapeName(name)] = []string{escapeValue(value)}
	}
	h[headerID] = []string{m.ID}
	if m.Redelivered {
		h[headerRedelivered] = []string{"true"}
	}
	if v := m.Context[propCorrelation]; v != "" {
		h[headerCorrelation] = []string{escapeValue(v)}
	}
	if v := m.Body().ContentType; v != "" {
		h[headerContentType] = []string{escapeValue(v)}
	}
	if v := m.Body().Name; v != "" {
		h[headerPartName] = []string{escapeValue(v)}
	}
	return h
}

// decodeHeaders makes the context of a message that is received. What Fairlead
// wrote becomes the properties it was; every header is also queue.header.NAME. The
// names that only the runtime and this adapter may set are not taken from headers.
func decodeHeaders(h nats.Header) map[string]string {
	context := map[string]string{}
	for _, key := range sortedKeys(h) {
		value := strings.ToValidUTF8(strings.Join(h[key], ", "), "\uFFFD")
		name, ours := strings.CutPrefix(key, headerContext)
		if !ours {
			context[propHeader+strings.ToValidUTF8(key, "\uFFFD")] = value
			continue
		}
		name = unescape(name)
		if !strings.HasPrefix(name, "fairlead.") && !strings.HasPrefix(name, "queue.") {
			context[name] = unescape(value)
		}
	}
	if v := textValue(h, headerCorrelation); v != "" {
		context[propCorrelation] = v
	}
	return context
}

// textValue returns a header that others write too: with our escapes undone if the
// message is one of ours, else as it came.
func textValue(h nats.Header, name string) string {
	v := headerValue(h, name)
	if _, ours := h[headerID]; ours {
		return unescape(v)
	}
	return strings.ToValidUTF8(v, "\uFFFD")
}

// headerValue finds a header whatever the case of its name, as NATS itself
// distinguishes it and other clients write it as they like.
func headerValue(h nats.Header, name string) string {
	if v, ok := h[name]; ok && len(v) > 0 {
		return v[0]
	}
	found := ""
	for key := range h {
		// The same one each time, should there be several.
		if len(key) == len(name) && strings.EqualFold(key, name) && len(h[key]) > 0 && (found == "" || key < found) {
			found = key
		}
	}
	if found == "" {
		return ""
	}
	return h[found][0]
}

func sortedKeys(h nats.Header) []string {
	keys := make([]string, 0, len(h))
	for key := range h {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

// escapeName makes any text a header's name: letters, digits, dots, dashes and
// underscores stay, every other byte becomes %XX.
func escapeName(s string) string {
	return escape(s, func(i int) bool {
		c := s[i]
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			c == '.' || c == '-' || c == '_'
	})
}

// escapeValue makes any text a header's value: printable ASCII stays as it is,
// except for %; every other byte (CR, LF, UTF-8) becomes %XX, and so do spaces at
// the ends, which the protocol trims.
func escapeValue(s string) string {
	return escape(s, func(i int) bool {
		if s[i] == ' ' {
			return i > 0 && i < len(s)-1
		}
		return s[i] > ' ' && s[i] < 0x7f && s[i] != '%'
	})
}

func escape(s string, keep func(i int) bool) string {
	var b strings.Builder
	for i := range len(s) {
		if keep(i) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}

// unescape undoes both escapes. What is no escape stays as it is, and the result
// is valid UTF-8 in any case, since the headers may come from anybody.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, lo := hexDigit(s[i+1]), hexDigit(s[i+2])
			if hi >= 0 && lo >= 0 {
				b.WriteByte(byte(hi<<4 | lo))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// headerBytes is the size of h on the wire, with the line that opens it.
func headerBytes(h nats.Header) int {
	n := len("NATS/1.0\r\n\r\n")
	for key, values := range h {
		for _, v := range values {
			n += len(key) + len(": ") + len(v) + len("\r\n")
		}
	}
	return n
}
