package config

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// document is one file while it is being read: its tree, the value that is
// checked, and what was found.
type document struct {
	file string
	// least is an example of what the file must hold at least.
	least string
	lines [][]byte
	root  *tree
	// value is what is checked: the file's content, or for node files the content
	// under the other layers.
	value map[string]any
	// origins says of values that are not the file's where they come from, by
	// joined path.
	origins map[string]string
	// handled are the joined paths of values that need no further finding.
	handled map[string]bool
	// suspects are the joined paths of values that are wrong or misspelt.
	suspects map[string]bool
	findings Findings
}

// keyPath leads to a value: keys, and indexes of lists.
type keyPath []string

func (p keyPath) with(segments ...string) keyPath {
	return append(p[:len(p):len(p)], segments...)
}

func joined(p []string) string { return strings.Join(p, "\x00") }

func index(segment string) (int, bool) {
	i, err := strconv.Atoi(segment)
	return i, err == nil && i >= 0
}

func (p position) compare(o position) int {
	return cmp.Or(cmp.Compare(p.line, o.line), cmp.Compare(p.column, o.column))
}

// syntax adds an error that has a place and no path.
func (d *document) syntax(at position, problem, remedy string) {
	at = d.clamp(at)
	d.findings = append(d.findings, Finding{
		Severity: Error, File: d.file, Line: at.line, Column: at.column, Problem: problem, Remedy: remedy,
	})
}

// errorf adds an error at a value.
func (d *document) errorf(p keyPath, remedy, problem string, args ...any) {
	d.add(Error, p, false, fmt.Sprintf(problem, args...), remedy)
}

// warnf adds a warning at a value.
func (d *document) warnf(p keyPath, remedy, problem string, args ...any) {
	d.add(Warning, p, false, fmt.Sprintf(problem, args...), remedy)
}

// keyErrorf adds an error that points to a key instead of its value.
func (d *document) keyErrorf(p keyPath, remedy, problem string, args ...any) {
	d.add(Error, p, true, fmt.Sprintf(problem, args...), remedy)
}

func (d *document) add(s Severity, p keyPath, atKey bool, problem, remedy string) {
	f := Finding{Severity: s, File: d.file, Path: d.render(p), Problem: problem, Remedy: remedy}
	if origin, ok := d.origin(p); ok {
		f.File = origin
	} else if d.root != nil {
		at := d.clamp(d.place(p, atKey))
		f.Line, f.Column = at.line, at.column
	}
	d.findings = append(d.findings, f)
}

// origin says where a value comes from, if it is not the file.
func (d *document) origin(p keyPath) (string, bool) {
	if len(d.origins) == 0 || len(p) == 0 {
		return "", false
	}
	for n := len(p); n > 0; n-- {
		if o, ok := d.origins[joined(p[:n])]; ok {
			return o, true
		}
	}
	if d.root != nil && d.root.child(p[0]) != nil {
		return "", false
	}
	// A section that only values from outside make up.
	for _, o := range sortedKeys(d.origins) {
		if strings.HasPrefix(o, joined(p)+"\x00") {
			return d.origins[o], true
		}
	}
	return "", false
}

// place returns where the value stands in the file; for what is not there, where
// the nearest section around it does.
func (d *document) place(p keyPath, atKey bool) position {
	at := d.root
	for i, segment := range p {
		next := at.child(segment)
		if next == nil {
			break
		}
		at = next
		if i == len(p)-1 && atKey && at.key != (position{}) {
			return at.key
		}
	}
	return at.where()
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// render writes the path for people: keys with dots between, indexes in brackets.
func (d *document) render(p keyPath) string {
	var b strings.Builder
	var at any = d.value
	for _, segment := range p {
		switch v := at.(type) {
		case []any:
			b.WriteString("[" + segment + "]")
			at = nil
			if i, ok := index(segment); ok && i < len(v) {
				at = v[i]
			}
			continue
		case map[string]any:
			at = v[segment]
		default:
			at = nil
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		if plainKey.MatchString(segment) {
			b.WriteString(segment)
		} else {
			b.WriteString(quoted(segment))
		}
	}
	return b.String()
}

// clamp keeps a place inside the file: the YAML library also counts line breaks
// that editors do not, and points behind the end.
func (d *document) clamp(at position) position {
	switch {
	case at.line < 1 || len(d.lines) == 0:
		return position{1, 1}
	case at.line > len(d.lines):
		at = position{len(d.lines), maxFileBytes}
	}
	at.column = max(1, min(at.column, utf8.RuneCount(d.lines[at.line-1])+1))
	return at
}

// lookup returns the checked value at the path, nil if there is none.
func (d *document) lookup(p keyPath) any {
	var at any = d.value
	for _, segment := range p {
		switch v := at.(type) {
		case map[string]any:
			at = v[segment]
		case []any:
			i, ok := index(segment)
			if !ok || i >= len(v) {
				return nil
			}
			at = v[i]
		default:
			return nil
		}
	}
	return at
}

// result returns the warnings, or everything as an error if anything is one.
func (d *document) result() (Findings, error) {
	fs := d.findings.sorted()
	if fs.Failed() {
		return nil, fs
	}
	return fs, nil
}

// failed reports whether an error was found so far.
func (d *document) failed() bool { return d.findings.Failed() }

// login is the part of a URL that may hold a password.
var login = regexp.MustCompile(`://[^/@\s]*@`)

// quoted writes text so that it can stand in a message: in quotes, escaped,
// without the login of a URL, and not too long.
func quoted(s string) string {
	s = login.ReplaceAllString(s, "://***@")
	const most = 60
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "..."
	}
	return strconv.Quote(s)
}

// describe says what a value is.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "no value"
	case string:
		if v == "" {
			return "an empty text"
		}
		return "the text " + quoted(v)
	case bool:
		return "the truth value " + strconv.FormatBool(v)
	case map[string]any:
		return "a section of keys"
	case []any:
		return "a list"
	default:
		return fmt.Sprintf("the number %v", v)
	}
}
