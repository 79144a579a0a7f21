package sdk

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

const (
	maxKeyBytes   = 1024
	maxErrorBytes = 4096

	hashedKey  = "sha256:"
	escapedKey = "bytes:"
)

// wireKey makes a key that travels and is stored: valid UTF-8 of at most
// maxKeyBytes. Different keys stay different, and the same stay the same.
func wireKey(key string) string {
	plain := utf8.ValidString(key) && !strings.HasPrefix(key, hashedKey) && !strings.HasPrefix(key, escapedKey)
	wire := key
	if !plain {
		wire = escapedKey + escapeInvalid(strings.ReplaceAll(key, "%", "%25"))
	}
	if len(wire) > maxKeyBytes {
		sum := sha256.Sum256([]byte(key))
		return hashedKey + hex.EncodeToString(sum[:])
	}
	return wire
}

// escapeInvalid writes the bytes of s that are not UTF-8 as %XX.
func escapeInvalid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, "%%%02X", s[0])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// unescape makes every %XX the byte it stands for. What is no escape stays.
func unescape(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if b, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				out = append(out, b...)
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

// wireContext returns the context in valid UTF-8.
func wireContext(context map[string]string) map[string]string {
	if len(context) == 0 {
		return nil
	}
	out := make(map[string]string, len(context))
	for k, v := range context {
		out[escapeInvalid(k)] = escapeInvalid(v)
	}
	return out
}

func wireItem(key string, it Item) *adapterpb.Item {
	return &adapterpb.Item{Key: key, Context: wireContext(it.Context), Size: it.Size, Kept: it.Kept}
}

// wireError returns nil for nil.
func wireError(err error) *adapterpb.Error {
	if err == nil {
		return nil
	}
	e := &adapterpb.Error{Text: errorText(err)}
	switch kindOf(err) {
	case kindPermanent:
		e.Kind = adapterpb.Error_PERMANENT
	case kindDisconnected:
		e.Kind = adapterpb.Error_DISCONNECTED
	case kindGone:
		e.Kind = adapterpb.Error_GONE
	case kindRetryable:
		e.Kind = adapterpb.Error_RETRYABLE
	}
	return e
}

func errorText(err error) string {
	text := escapeInvalid(err.Error())
	if len(text) <= maxErrorBytes {
		return text
	}
	return strings.ToValidUTF8(text[:maxErrorBytes], "") + "..."
}

func sdkMessage(m *adapterpb.Message) (*Message, error) {
	if m.GetId() == "" || len(m.GetParts()) == 0 {
		return nil, Permanent(fmt.Errorf("message %q with %d parts: want an ID and at least one part",
			m.GetId(), len(m.GetParts())))
	}
	out := &Message{ID: m.GetId(), Context: m.GetContext(), Redelivered: m.GetRedelivered()}
	if out.Context == nil {
		out.Context = map[string]string{}
	}
	for _, p := range m.GetParts() {
		out.Parts = append(out.Parts, MessagePart{
			Name: p.GetName(), ContentType: p.GetContentType(), Size: p.GetSize(), SHA256: p.GetSha256(),
			inline: p.GetInline(), path: p.GetSpooled(),
		})
	}
	return out, nil
}

func wireArrival(a Arrival) adapterpb.Arrival {
	switch a {
	case Arrived:
		return adapterpb.Arrival_ARRIVAL_ARRIVED
	case Absent:
		return adapterpb.Arrival_ARRIVAL_ABSENT
	default:
		return adapterpb.Arrival_ARRIVAL_UNKNOWN
	}
}

// sdkVerdict returns 0 for what it does not know.
func sdkVerdict(v adapterpb.Verdict) Verdict {
	switch v {
	case adapterpb.Verdict_VERDICT_DELIVERED:
		return Delivered
	case adapterpb.Verdict_VERDICT_SUSPENDED:
		return Suspended
	case adapterpb.Verdict_VERDICT_RETRY:
		return Retry
	default:
		return 0
	}
}
