package main

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	ftpclient "github.com/jlaffaye/ftp"
)

// How directories are listed: the values of the property listing.
const (
	listingAuto = "auto"
	listingMLSD = "mlsd"
	listingLIST = "list"
	listingNLST = "nlst"
)

// errByNames says that from now on sessions list by names, and that this one does not.
var errByNames = errors.New("the server's LIST is not understood, and will be replaced by NLST, SIZE and MDTM")

// byNames reports whether directories are listed by NLST, SIZE and MDTM, because LIST is
// not understood or not wanted.
func (e *endpoint) byNames() bool {
	return e.props.Listing == listingNLST || e.nlst.Load()
}

func (e *endpoint) withoutMLSD() bool {
	return e.props.Listing == listingLIST || e.byNames() || e.props.Listing != listingMLSD && e.noMLSD()
}

// useNames makes new sessions list by names.
func (s *session) useNames(line string) error {
	if !s.end.nlst.Swap(true) {
		s.end.log.Warn("the server's LIST is in no known format: files are listed by NLST, SIZE and MDTM; listing: nlst saves the attempt", "line", printable(line))
	}
	return found("%w", errByNames)
}

// features answers the library's FEAT with what the server says and a line of ours: an old
// server may know commands that it does not name, or may not know FEAT.
func (s *session) features() (reply string, err error) {
	ours := ""
	switch {
	case s.end.props.Listing == listingMLSD:
		ours = " MLST"
	case s.end.byNames():
		ours = " MDTM"
	default:
		return "", nil
	}
	_, text, err := s.command("FEAT")
	if err != nil && !isRefusal(err) {
		return "", err
	}
	lines := strings.Split(text, "\n")
	if err != nil || len(lines) < 2 {
		lines = []string{"Features", "End"}
	}
	lines = slices.Insert(lines, len(lines)-1, ours)
	return replyText(ftpclient.StatusSystem, strings.Join(lines, "\n")), nil
}

// bareNames returns the names in the current directory.
func (s *session) bareNames() ([]string, error) {
	lines, err := s.ftp.NameList("")
	if err != nil {
		return nil, fmt.Errorf("list names: %w", err)
	}
	var names []string
	for _, line := range lines {
		name := path.Base(line)
		if strings.TrimSpace(line) != "" && name != "." && name != ".." && name != "/" {
			names = append(names, name)
		}
	}
	return names, nil
}

// listNames is listBoth by names, in the current directory. What has no size may be a
// directory: then it can be entered. Else it counts as a file, about which the server says
// nothing more, rather than as missing.
func (s *session) listNames(dir string) (entries []entry, below []string, err error) {
	names, err := s.bareNames()
	if code := replyCode(err); code == ftpclient.StatusFileUnavailable || code == ftpclient.StatusFileActionIgnored {
		return nil, nil, nil // the way in which several servers say that there is none
	}
	if err != nil {
		return nil, nil, err
	}
	sizes, err := s.sizes(dir, names)
	if err != nil {
		return nil, nil, err
	}
	for i, name := range names {
		if sizes[i] < 0 && !unsendable(name) {
			err := s.ftp.ChangeDir(join(dir, name))
			if err == nil {
				below = append(below, name)
				continue
			}
			if !isRefusal(err) {
				return nil, nil, err
			}
		}
		entries = append(entries, entry{name: name, size: sizes[i]})
	}
	return entries, below, nil
}

// sizes asks for the sizes of many files, whose questions travel together. One that the
// server does not tell is -1.
func (s *session) sizes(dir string, names []string) ([]int64, error) {
	sizes := make([]int64, len(names))
	err := s.pipelined(len(names), func(i int) exchange {
		target := join(dir, names[i])
		return exchange{
			lines: []string{"SIZE " + target},
			run: func() error {
				if unsendable(target) {
					sizes[i] = -1
					return nil
				}
				f, err := s.lookSIZE(target)
				sizes[i] = f.size
				if !f.exists {
					sizes[i] = -1
				}
				if isUnknownCommand(err) {
					return found("the server does not know SIZE (%v): nothing would tell a file from the next one of its name; it needs listing: list or mlsd", err)
				}
				return err
			},
		}
	})
	return sizes, err
}
