package main

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// escapePath makes any path valid UTF-8, and different for different paths: bytes
// that are not UTF-8, control characters and % become %XX.
func escapePath(p string) string { return escape(p, true) }

// readableName makes a file's name valid UTF-8. A name that is stays as it is.
func readableName(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	return escape(name, false)
}

func escape(s string, all bool) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n <= 1:
			fmt.Fprintf(&b, "%%%02X", s[i])
			n = 1
		case all && (r == '%' || r < ' ' || r == 0x7f):
			fmt.Fprintf(&b, "%%%02X", r)
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}
