package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
)

// hardNames are those that a server may well have, and FTP can carry.
var hardNames = []string{
	"gr\xf6\xdfe in Latin-1.edi", "größe.edi", "quote'\"s.edi", "-rf.edi", " leading.edi", "trailing ", "a -> b.edi",
	"a=b;c.edi", "#1.edi", "~.edi", "$HOME`id`.edi", "{a,b}.edi", strings.Repeat("x", 255), strings.Repeat("é", 127),
}

// everyListing runs a test against each real server in each way to list.
func everyListing(t *testing.T, settings []string, test func(t *testing.T, s *realServer, props map[string]any)) {
	serverScripts(t)
	for _, name := range []string{"vsftpd", "proftpd", "pureftpd"} {
		t.Run(name, func(t *testing.T) {
			s := startReal(t, name, settings...)
			for i, listing := range []string{listingAuto, listingLIST, listingNLST} {
				t.Run(listing, func(t *testing.T) {
					directory := s.folder(t, fmt.Sprint("in-", i))
					test(t, s.below(directory), with(s.props, "directory", directory, "listing", listing))
				})
			}
		})
	}
}

func TestInteropHardNamesAreReadAndSettled(t *testing.T) {
	everyListing(t, nil, func(t *testing.T, s *realServer, props map[string]any) {
		want := map[string][]byte{}
		for i, name := range hardNames {
			content := noise(byte(i), 100+i)
			s.write(t, name, content)
			want[printable(name)] = content
		}
		receiveAll(t, newSource(t, props), want)
		if left := s.names(t); len(left) != 0 {
			t.Errorf("left are %q", left)
		}
	})
}

// The receiver says what is wrong with the one file, and takes the others.
func TestInteropCarriageReturnInANameStopsNoOtherFile(t *testing.T) {
	everyListing(t, nil, func(t *testing.T, s *realServer, props map[string]any) {
		s.write(t, "a.edi", []byte("x"))
		s.write(t, "cr\rhere.edi", []byte("x"))
		s.write(t, "z.edi", []byte("x"))
		src := newSource(t, props)
		items := list(t, src)
		for name, item := range items {
			if strings.HasPrefix(name, "cr") {
				_, err := read(t, src, item)
				if !sdk.IsPermanent(err) {
					t.Errorf("read %q: %v, which is not permanent", name, err)
				}
				mustContain(t, err, "line break", "rename the file")
				continue
			}
			if _, err := read(t, src, item); err != nil {
				t.Errorf("read %q: %v", name, err)
			}
			if err := src.Settle(testContext(t), item); err != nil {
				t.Errorf("settle %q: %v", name, err)
			}
		}
		if left := s.names(t); !slices.Equal(left, []string{"cr\rhere.edi"}) {
			t.Errorf("left are %q", left)
		}
	})
}

// A line feed makes two lines of one, and nothing says which of the lines are files: no
// listing is better than a wrong one. Pure-FTPd leaves such a file out.
func TestInteropLineFeedInANameIsNamedAsTheReason(t *testing.T) {
	everyListing(t, nil, func(t *testing.T, s *realServer, props map[string]any) {
		s.write(t, "a.edi", []byte("x"))
		s.write(t, "new\nline.edi", []byte("x"))
		items, err := newSource(t, props).List(testContext(t))
		switch {
		case strings.Contains(t.Name(), "/pureftpd/"):
			if err != nil || len(items) != 1 {
				t.Errorf("%d files are listed, %v; want 1", len(items), err)
			}
		case props["listing"] == listingNLST: // which knows no more than that it is odd
			mustContain(t, err, "new in /")
		default:
			mustContain(t, err, "line break", "rename that file")
		}
	})
}
