package sdk

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestKeysTravelUnchangedOrStayDifferent(t *testing.T) {
	for _, key := range []string{"a", "grün|12|x", "100%", strings.Repeat("k", 1024)} {
		if got := wireKey(key); got != key {
			t.Errorf("%q became %q", key, got)
		}
	}
	seen := map[string]string{}
	for _, key := range []string{
		"a\xff", "a%FF", "a%25FF", "bytes:a%FF", "bytes:a\xff", "sha256:x", "bytes:sha256:x", "a\xfe", "a\xff\xfe",
		strings.Repeat("k", 1025), strings.Repeat("k", 1026), strings.Repeat("\xff", 600), wireKey(strings.Repeat("k", 1025)),
	} {
		got := wireKey(key)
		if !utf8.ValidString(got) || len(got) > maxKeyBytes {
			t.Errorf("%q became %q of %d bytes", key, got, len(got))
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q both became %q", key, other, got)
		}
		seen[got] = key
	}
}

func FuzzWireKey(f *testing.F) {
	f.Add("a\xff", "a%FF")
	f.Add("bytes:x", "x")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := wireKey(a), wireKey(b)
		if !utf8.ValidString(x) || len(x) > maxKeyBytes || (x == y) != (a == b) {
			t.Errorf("%q became %q, %q became %q", a, x, b, y)
		}
	})
}

func TestErrorsKeepTheirKindAndAreCut(t *testing.T) {
	wrapped := fmt.Errorf("read: %w", Gone(errTest))
	if e := wireError(wrapped); e.GetKind().String() != "GONE" || e.GetText() != "read: test error" {
		t.Errorf("got %v", e)
	}
	if wireError(nil) != nil || Permanent(nil) != nil || kindOf(errTest) != kindRetryable {
		t.Error("nil and plain errors have changed")
	}
	long := errors.New(strings.Repeat("ü", 5000) + "\xff")
	if text := wireError(long).GetText(); len(text) > maxErrorBytes+3 || !utf8.ValidString(text) {
		t.Errorf("a long error became %d bytes", len(text))
	}
}
