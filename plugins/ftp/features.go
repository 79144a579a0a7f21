package main

import (
	"strings"
	"sync"
)

// features are what a server says that it can do (RFC 2389): whole lines, in capitals,
// by their first word.
type features map[string]string

func (f features) has(name string) bool { _, ok := f[name]; return ok }

// knownFeatures asks once for all sessions of an endpoint.
type knownFeatures struct {
	mu    sync.Mutex
	known features
}

func (k *knownFeatures) of(c *session) (features, error) {
	k.mu.Lock()
	known := k.known
	k.mu.Unlock()
	if known != nil {
		return known, nil
	}
	_, text, err := c.command("FEAT")
	if err != nil && !isRefusal(err) {
		return nil, err
	}
	known = parseFeatures(text)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.known = known
	return known, nil
}

func parseFeatures(text string) features {
	f := features{}
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, " ") {
			continue // the first and the last line
		}
		line = strings.ToUpper(strings.TrimSpace(line))
		name, rest, _ := strings.Cut(line, " ")
		if name == "SITE" {
			// "SITE UTIME", or "SITE UTIME;CHMOD" on some.
			for _, sub := range strings.FieldsFunc(rest, func(r rune) bool { return r == ';' || r == ' ' }) {
				f["SITE "+sub] = ""
			}
			continue
		}
		f[name] = rest
	}
	return f
}
