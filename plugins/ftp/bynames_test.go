package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
)

// vms is a server with one file, one directory and a LIST that nobody understands.
func vms(t *testing.T, features string, more map[string]handler) *scriptedServer {
	known := func(reply string) handler {
		return func(c *scriptedConn, arg string) {
			if strings.HasSuffix(arg, "/A.TXT") {
				c.say("%s", reply)
				return
			}
			c.say("550 no such file")
		}
	}
	handlers := map[string]handler{
		"LIST": sends("A.TXT;1   5   5-JAN-2026 10:33:00\r\nSUB.DIR;1  1  5-JAN-2026 10:33:00\r\n"),
		"NLST": sends("A.TXT\r\nSUB\r\n"), "SIZE": known("213 5"), "MDTM": known("213 20260105103317"),
		"RETR": sends("12345"),
		"CWD": func(c *scriptedConn, arg string) {
			if strings.HasSuffix(arg, "/in") || strings.HasSuffix(arg, "/SUB") {
				c.say("250 ok")
				return
			}
			c.say("550 no such directory")
		},
	}
	for name, h := range more {
		handlers[name] = h
	}
	return startScripted(t, features, handlers)
}

func TestUnknownFormatOfLISTIsReplacedByNames(t *testing.T) {
	noFEAT := map[string]handler{"FEAT": says("502 no such thing")}
	for _, more := range []map[string]handler{nil, noFEAT} {
		s := vms(t, "SIZE", more)
		src, log := tracedSource(t, s.props("timeout", "10s"))
		var item sdk.Item
		for range 3 {
			items := list(t, src)
			if got := itemNames(items); !slices.Equal(got, []string{"A.TXT"}) {
				t.Fatalf("listed are %q, want the file alone", got)
			}
			item = items["A.TXT"]
		}
		if item.Size != 5 || item.Context["ftp.modified"] != "2026-01-05T10:33:17Z" {
			t.Errorf("the file has %d bytes and is of %q", item.Size, item.Context["ftp.modified"])
		}
		if n := log.count("LIST is in no known format"); n != 1 || s.count("LIST") != 1 {
			t.Errorf("%d warnings and %d LIST, want one of each:\n%s", n, s.count("LIST"), log)
		}
		if got, err := read(t, src, item); err != nil || string(got) != "12345" {
			t.Errorf("read %q, %v", got, err)
		}
		if err := src.Settle(testContext(t), item); err != nil || s.count("DELE") != 1 {
			t.Errorf("settle: %v", err)
		}
	}
}

// A file that the server lists and tells nothing else of is not one that is gone.
func TestFileThatOnlyNLSTKnowsIsNotGone(t *testing.T) {
	s := vms(t, "", map[string]handler{"MDTM": says("550 not for you"), "SIZE": says("550 not for you")})
	_, err := newSource(t, s.props("listing", "nlst")).List(testContext(t))
	mustContain(t, err, "A.TXT", "check its permissions")
}

func TestListingByNamesNeedsSIZE(t *testing.T) {
	s := vms(t, "", map[string]handler{"SIZE": says("502 what?")})
	_, err := newSource(t, s.props("listing", "nlst")).List(testContext(t))
	mustContain(t, err, "does not know SIZE")
}

func TestRefusedNLSTOfADirectoryThatIsThereIsEmpty(t *testing.T) {
	s := vms(t, "", map[string]handler{"NLST": says("550 no files found")})
	if items := list(t, newSource(t, s.props("listing", "nlst"))); len(items) != 0 {
		t.Errorf("listed are %q", itemNames(items))
	}
	if _, err := newSource(t, s.props("listing", "nlst", "directory", "/missing")).List(testContext(t)); err == nil {
		t.Error("a missing directory is an empty listing")
	}
}

func TestMLSDIsUsedWhereTheServerDoesNotOfferIt(t *testing.T) {
	for name, more := range map[string]handler{"FEAT without it": nil, "no FEAT": says("500 what?"), "short FEAT": says("211 none")} {
		s := startScripted(t, "SIZE", map[string]handler{"FEAT": more, "MLSD": sends("type=file;size=3;modify=20260105103317; a.edi\r\n")})
		if got := itemNames(list(t, newSource(t, s.props("listing", "mlsd")))); !slices.Equal(got, []string{"a.edi"}) || s.count("LIST") != 0 {
			t.Errorf("%s: listed are %q, and LIST was sent %d times", name, got, s.count("LIST"))
		}
	}
}

func TestInteropListingByNames(t *testing.T) {
	serverScripts(t)
	for _, name := range []string{"vsftpd", "proftpd", "pureftpd", "pyftpd"} {
		t.Run(name, func(t *testing.T) {
			var settings []string
			if name == "pyftpd" {
				settings = []string{"LIST=vms", "MLSD=0"}
			}
			s := startReal(t, name, settings...)
			want := map[string][]byte{}
			for i := range 80 {
				want[fmt.Sprintf("file %d.edi", i)] = noise(byte(i), i)
				s.write(t, fmt.Sprintf("file %d.edi", i), noise(byte(i), i))
			}
			if err := os.Mkdir(filepath.Join(s.Dir, "sub.edi"), 0o755); err != nil {
				t.Fatal(err)
			}
			by := "nlst"
			if name == "pyftpd" {
				by = "auto"
			}
			src := newSource(t, with(s.props, "listing", by))
			items := list(t, src)
			if len(items) != len(want) {
				t.Fatalf("listed are %q, want %d files", itemNames(items), len(want))
			}
			for name, item := range items {
				if got, err := read(t, src, item); err != nil || !bytes.Equal(got, want[name]) || item.Context["ftp.modified"] == "" {
					t.Errorf("read %q: %d bytes, %v", name, len(got), err)
				}
				if err := src.Settle(testContext(t), item); err != nil {
					t.Errorf("settle %q: %v", name, err)
				}
			}
			if left := s.names(t); len(left) != 1 {
				t.Errorf("left are %q, want the directory", left)
			}
			if items := list(t, src); len(items) != 0 {
				t.Errorf("an empty directory lists %q", itemNames(items))
			}
		})
	}
}
