package main

import (
	"fmt"
	"path"
	"strings"
	"time"

	ftpclient "github.com/jlaffaye/ftp"
)

// fact is what the server knows of one file now.
type fact struct {
	exists bool
	// size in bytes, -1 if the server does not say.
	size int64
	// modified is zero if the server does not say.
	modified time.Time
}

// look asks for one file by the cheapest commands that tell it apart from
// another version of itself: MLST alone (RFC 3659) or SIZE and MDTM; a listing
// where the server knows neither. A file that the server says nothing of counts
// as not there; source.missing tells whether that is so.
func (s *session) look(dir, name string) (fact, error) {
	target := join(dir, name)
	if s.ftp.IsTimePreciseInList() {
		f, err := s.lookMLST(target)
		if err == nil || !isUnknownCommand(err) {
			return f, err
		}
	}
	if !s.ftp.IsGetTimeSupported() {
		return s.lookLIST(dir, name)
	}
	f, err := s.lookSIZE(target)
	if isUnknownCommand(err) {
		return s.lookLIST(dir, name)
	}
	if err != nil || !f.exists {
		return f, err
	}
	f.modified, f.exists, err = s.modified(dir, name)
	if err == nil && f.exists && f.modified.IsZero() {
		return s.lookLIST(dir, name)
	}
	return f, err
}

// modified asks for the exact time of a file. It is zero if the server does not
// know the command MDTM.
func (s *session) modified(dir, name string) (t time.Time, exists bool, err error) {
	if !s.ftp.IsGetTimeSupported() || unsendable(name) {
		return time.Time{}, true, nil
	}
	target := join(dir, name)
	t, err = s.ftp.GetTime(target)
	switch {
	case err == nil:
		return t, true, nil
	case isMissing(err):
		return time.Time{}, false, nil
	case isUnknownCommand(err):
		return time.Time{}, true, nil
	}
	return time.Time{}, false, fmt.Errorf("ask for the time of %s: %w", target, err)
}

// modifiedAll is modified for many files, whose questions travel together.
func (s *session) modifiedAll(dir string, files []file) ([]answer, error) {
	answers := make([]answer, len(files))
	if !s.ftp.IsGetTimeSupported() {
		for i := range answers {
			answers[i].exists = true
		}
		return answers, nil
	}
	err := s.pipelined(len(files), func(i int) exchange {
		return exchange{
			lines: []string{"MDTM " + join(dir, files[i].at)},
			run: func() (err error) {
				answers[i].modified, answers[i].exists, err = s.modified(dir, files[i].at)
				return err
			},
		}
	})
	return answers, err
}

// question is about one file: what is known of it now.
type question struct {
	name string // its path in the directory
	// timeOnly: size is not needed.
	timeOnly bool
}

// lookAll is look for many files, whose questions travel together where one or two
// commands answer them.
func (s *session) lookAll(dir string, questions []question) ([]fact, error) {
	facts := make([]fact, len(questions))
	open := make([]bool, len(questions)) // not answered by these commands
	ask := s.askFacts
	if s.ftp.IsTimePreciseInList() {
		ask = s.askMLST
	} else if !s.ftp.IsGetTimeSupported() {
		ask = nil
		for i := range open {
			open[i] = true
		}
	}
	if ask != nil {
		err := s.pipelined(len(questions), func(i int) exchange {
			return ask(dir, questions[i], &facts[i], &open[i])
		})
		if err != nil {
			return nil, err
		}
	}
	for i, q := range questions {
		if !open[i] {
			continue
		}
		var err error
		if facts[i], err = s.look(dir, q.name); err != nil {
			return nil, err
		}
	}
	return facts, nil
}

func (s *session) askMLST(dir string, q question, f *fact, open *bool) exchange {
	target := join(dir, q.name)
	return exchange{
		lines: []string{"MLST " + target},
		run: func() (err error) {
			*f, err = s.lookMLST(target)
			if *open = isUnknownCommand(err); *open {
				return nil
			}
			return err
		},
	}
}

// askFacts asks by SIZE and MDTM. Both are sent before the first is answered, so
// both are read whatever the first says.
func (s *session) askFacts(dir string, q question, f *fact, open *bool) exchange {
	target := join(dir, q.name)
	e := exchange{lines: []string{"MDTM " + target}}
	if !q.timeOnly {
		e.lines = []string{"SIZE " + target, "MDTM " + target}
	}
	e.run = func() error {
		*f = fact{exists: true, size: -1}
		if !q.timeOnly {
			var err error
			if *f, err = s.lookSIZE(target); isUnknownCommand(err) {
				*open = true
			} else if err != nil {
				return err
			}
		}
		t, exists, err := s.modified(dir, q.name)
		f.modified, f.exists = t, f.exists && exists
		*open = *open || exists && t.IsZero()
		return err
	}
	return e
}

// lookMLST does without the library's MLST, which reads its time in the time zone of
// listings; RFC 3659 says UTC.
func (s *session) lookMLST(target string) (fact, error) {
	_, text, err := s.command("MLST %s", target)
	if isMissing(err) {
		return fact{}, nil
	}
	if err != nil {
		return fact{}, fmt.Errorf("look at %s: %w", target, err)
	}
	e, regular, err := parseMLST(text)
	if err != nil {
		return fact{}, fmt.Errorf("look at %s: %w", target, err)
	}
	return fact{exists: regular, size: e.size, modified: e.modified}, nil
}

// parseMLST reads the lines between the first and the last of a reply. Some servers
// spread the facts over several lines, each with the name.
func parseMLST(text string) (e entry, regular bool, err error) {
	lines := strings.Split(text, "\n")
	facts, name := "", ""
	for _, line := range lines[1:max(1, len(lines)-1)] {
		more, path, ok := strings.Cut(strings.TrimLeft(line, " "), " ")
		if ok {
			facts, name = facts+more, path
		}
	}
	if name == "" {
		return entry{}, false, found("the reply %q to MLST is not understood; set listing: list", text)
	}
	return parseMLSD(facts + " " + name)
}

// lookSIZE asks for the size alone. The session is in binary mode since login,
// in which the size is that of the content.
func (s *session) lookSIZE(target string) (fact, error) {
	size, err := s.ftp.FileSize(target)
	if isMissing(err) {
		return fact{}, nil
	}
	if err != nil {
		return fact{}, fmt.Errorf("ask for the size of %s: %w", target, err)
	}
	return fact{exists: true, size: size}, nil
}

// lookLIST finds the file in a listing: its own if the server makes one of a
// single file, else the directory's.
func (s *session) lookLIST(dir, name string) (fact, error) {
	if s.end.byNames() {
		f, err := s.lookSIZE(join(dir, name))
		if !isUnknownCommand(err) {
			return f, err
		}
		return s.lookDirectory(dir, name)
	}
	if parsed, _, err := s.rawList(join(dir, name)); err == nil && !s.ftp.IsTimePreciseInList() {
		for _, p := range parsed {
			if path.Base(p.Name) == path.Base(name) && p.Type == ftpclient.EntryTypeFile {
				return fact{exists: true, size: int64(p.Size), modified: p.Time}, nil
			}
		}
	} else if err != nil && !isRefusal(err) {
		return fact{}, err
	}
	return s.lookDirectory(dir, name)
}

func (s *session) lookDirectory(dir, name string) (fact, error) {
	dir, name = path.Split(join(dir, name))
	entries, err := s.list(path.Clean(dir))
	if err != nil {
		return fact{}, err
	}
	for _, e := range entries {
		if e.name == name {
			return fact{exists: true, size: e.size, modified: e.modified}, nil
		}
	}
	return fact{}, nil
}

// size asks for the size of a file that we wrote or are about to replace.
func (s *session) size(dir, name string) (fact, error) {
	f, err := s.lookSIZE(join(dir, name))
	if isUnknownCommand(err) {
		return s.lookLIST(dir, name)
	}
	return f, err
}
