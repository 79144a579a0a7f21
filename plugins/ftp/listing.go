package main

import (
	"bytes"
	"fmt"
	"math"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	ftpclient "github.com/jlaffaye/ftp"
)

// entry is one regular file of a directory.
type entry struct {
	name string
	// size in bytes, -1 if the listing does not say.
	size int64
	// modified is zero if the listing does not say.
	modified time.Time
	// precise says that modified has the precision of the file system's seconds;
	// LIST knows minutes, and only the day for old files.
	precise bool
}

// list returns the regular files of a directory: all of them, or an error. It
// changes into the directory first, because servers such as vsftpd and Pure-FTPd
// answer LIST of a missing directory with success and nothing.
func (s *session) list(dir string) ([]entry, error) {
	entries, _, err := s.listBoth(dir)
	return entries, err
}

// listBoth is list, and returns the names of the subdirectories as well.
func (s *session) listBoth(dir string) (entries []entry, below []string, err error) {
	if err := s.ftp.ChangeDir(dir); err != nil {
		return nil, nil, fmt.Errorf("change to directory %s: %w", dir, err)
	}
	if s.end.byNames() {
		entries, below, err := s.listNames(dir)
		if err != nil {
			return nil, nil, fmt.Errorf("list %s: %w", dir, err)
		}
		return entries, below, nil
	}
	parsed, lines, err := s.rawList("")
	if err != nil {
		return nil, nil, fmt.Errorf("list %s: %w", dir, err)
	}
	if s.ftp.IsTimePreciseInList() {
		entries, err = fromMLSD(lines)
	} else {
		entries, err = s.fromLIST(parsed, lines)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("list %s: %w", dir, err)
	}
	for _, e := range entries {
		if e.name == "" || strings.ContainsAny(e.name, "/\x00") {
			return nil, nil, found("list %s: the name %q cannot be in a directory", dir, e.name)
		}
	}
	folders := parsed
	if s.ftp.IsTimePreciseInList() {
		folders = foldersOfMLSD(lines)
	}
	for _, p := range folders {
		if p.Type == ftpclient.EntryTypeFolder && p.Name != "" && p.Name != "." && p.Name != ".." && !strings.ContainsAny(p.Name, "/\x00") {
			below = append(below, p.Name)
		}
	}
	return entries, below, nil
}

// names returns the names of the regular files of a directory.
//
// By names alone nothing tells them from others: all are returned, lest a file counts as gone
// of which the server tells nothing else.
func (s *session) names(dir string) (map[string]bool, error) {
	if s.end.byNames() {
		return s.allNames(dir)
	}
	entries, err := s.list(dir)
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool, len(entries))
	for _, e := range entries {
		names[e.name] = true
	}
	return names, nil
}

func (s *session) allNames(dir string) (map[string]bool, error) {
	if err := s.ftp.ChangeDir(dir); err != nil {
		return nil, fmt.Errorf("change to directory %s: %w", dir, err)
	}
	all, err := s.bareNames()
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	names := make(map[string]bool, len(all))
	for _, name := range all {
		names[name] = true
	}
	return names, nil
}

// rawList asks for a listing and returns it both parsed by the library and as
// it came.
func (s *session) rawList(target string) ([]*ftpclient.Entry, []string, error) {
	s.record = &bytes.Buffer{}
	parsed, err := s.ftp.List(target)
	text := s.record.String()
	s.record = nil
	if err != nil {
		return nil, nil, err
	}
	return parsed, splitLines(text), nil
}

func splitLines(text string) []string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if strings.TrimSpace(line) != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// fromMLSD reads a listing of RFC 3659. The library's own parser takes symbolic
// links for files and leaves out what it does not understand.
func fromMLSD(lines []string) ([]entry, error) {
	var entries []entry
	for _, line := range lines {
		e, regular, err := parseMLSD(line)
		if err != nil {
			return nil, err
		}
		if regular {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// parseMLSD reads a line such as "type=file;size=7;modify=20260105103300; name".
func parseMLSD(line string) (e entry, regular bool, err error) {
	facts, name, ok := strings.Cut(line, " ")
	if !ok || name == "" || facts != "" && !strings.HasSuffix(facts, ";") {
		return entry{}, false, found("line %q is not in the form of MLSD; set listing: list, or, if it is the rest of a name with a line break, rename that file", line)
	}
	e, kind := entry{name: name, size: -1}, "file"
	for fact := range strings.SplitSeq(strings.TrimSuffix(facts, ";"), ";") {
		key, value, _ := strings.Cut(fact, "=")
		switch strings.ToLower(key) {
		case "type":
			kind = strings.ToLower(value)
		case "size":
			if e.size, err = strconv.ParseInt(value, 10, 64); e.size < -1 {
				err = fmt.Errorf("a size of %d", e.size)
			}
		case "modify":
			// A fraction of a second may follow and is read too.
			e.modified, err = time.ParseInLocation("20060102150405", value, time.UTC)
			e.precise = true
		}
		if err != nil {
			return entry{}, false, found("line %q of MLSD: %w", line, err)
		}
	}
	return e, kind == "file" && name != "." && name != "..", nil
}

// foldersOfMLSD are the subdirectories. The library takes the directory itself and the
// one above it (cdir and pdir) for some, under whatever name they are listed.
func foldersOfMLSD(lines []string) []*ftpclient.Entry {
	var folders []*ftpclient.Entry
	for _, line := range lines {
		facts, name, _ := strings.Cut(line, " ")
		for fact := range strings.SplitSeq(strings.ToLower(facts), ";") {
			if fact == "type=dir" {
				folders = append(folders, &ftpclient.Entry{Name: name, Type: ftpclient.EntryTypeFolder})
			}
		}
	}
	return folders
}

// fromLIST makes sure that the library has understood every line of a LIST, a
// format that was never specified. If not, or if there is nothing, it asks for
// the bare names: none of them may be missing.
func (s *session) fromLIST(parsed []*ftpclient.Entry, lines []string) ([]entry, error) {
	var entries []entry
	known := map[string]bool{".": true, "..": true}
	for _, p := range parsed {
		known[p.Name] = true
		if p.Type == ftpclient.EntryTypeFile && p.Name != "." && p.Name != ".." {
			entries = append(entries, entry{name: p.Name, size: sizeOf(p), modified: p.Time})
		}
	}
	lost := unparsed(parsed, lines, known)
	if len(entries) > 0 && len(lost) == 0 {
		return entries, nil
	}
	names, err := s.ftp.NameList("")
	if err != nil {
		// Several servers refuse NLST of a directory without files.
		if isRefusal(err) && len(lost) == 0 {
			return entries, nil
		}
		return nil, fmt.Errorf("list names: %w", err)
	}
	for _, name := range names {
		name = path.Base(name)
		// Hidden files are in the NLST of some servers and in the LIST of none.
		if !known[name] && !strings.HasPrefix(name, ".") {
			if len(parsed) == 0 && len(lost) > 0 && s.end.props.Listing != listingLIST {
				return nil, s.useNames(sample(lost))
			}
			return nil, found("the server's LIST is not understood: %q is not in it; its lines look like %q; try listing: nlst, or, if it is the rest of a name with a line break, rename that file", name, sample(lost))
		}
	}
	return entries, nil
}

// sizeOf is -1, not known, for a size that no file has.
func sizeOf(p *ftpclient.Entry) int64 {
	if p.Size > math.MaxInt64 {
		return -1
	}
	return int64(p.Size)
}

func sample(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return lines[0]
}

// notFile is what `ls -l` writes for things that are neither file, directory nor
// link, such as sockets: they are rightly left out. The name is the last group,
// after a time ("10:33") or a year.
var notFile = regexp.MustCompile(`^[^-dl\s][-rwxsStT]{9}[+.@]? .* (?:\d\d:\d\d|\d{4}) (.+)$`)

// header is the first line of `ls -l`.
var header = regexp.MustCompile(`^[Tt]otal \d+$`)

// unparsed returns the lines that are in none of the entries. Both are in the
// same order. Names of things that are no files are added to known.
func unparsed(parsed []*ftpclient.Entry, lines []string, known map[string]bool) []string {
	var lost []string
	for _, line := range lines {
		if len(parsed) > 0 {
			name := parsed[0].Name
			if parsed[0].Type == ftpclient.EntryTypeLink && parsed[0].Target != "" {
				name += " -> " + parsed[0].Target
			}
			if strings.HasSuffix(line, name) {
				parsed = parsed[1:]
				continue
			}
		}
		if header.MatchString(line) {
			continue
		}
		if m := notFile.FindStringSubmatch(line); m != nil {
			known[m[1]] = true
			continue
		}
		lost = append(lost, line)
	}
	return lost
}
