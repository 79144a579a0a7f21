package main

import (
	"fmt"
	"path"
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
// as not there; confirmMissing tells whether that is so.
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
	if !s.ftp.IsGetTimeSupported() {
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

func (s *session) lookMLST(target string) (fact, error) {
	e, err := s.ftp.GetEntry(target)
	if isMissing(err) {
		return fact{}, nil
	}
	if err != nil {
		return fact{}, fmt.Errorf("look at %s: %w", target, err)
	}
	return fact{exists: e.Type == ftpclient.EntryTypeFile, size: int64(e.Size), modified: e.Time}, nil
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
	if parsed, _, err := s.rawList(join(dir, name)); err == nil && !s.ftp.IsTimePreciseInList() {
		for _, p := range parsed {
			if path.Base(p.Name) == name && p.Type == ftpclient.EntryTypeFile {
				return fact{exists: true, size: int64(p.Size), modified: p.Time}, nil
			}
		}
	} else if err != nil && !isRefusal(err) {
		return fact{}, err
	}
	return s.lookDirectory(dir, name)
}

func (s *session) lookDirectory(dir, name string) (fact, error) {
	entries, err := s.list(dir)
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

// confirmMissing reports whether a file that a command did not find is really
// not there. Servers answer 550 to "no such file" and to "not allowed" alike,
// and taking the one for the other would forget a file that is still there.
func (s *session) confirmMissing(dir, name string) (bool, error) {
	f, err := s.lookDirectory(dir, name)
	return err == nil && !f.exists, err
}
