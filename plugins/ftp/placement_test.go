package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

func send(t testing.TB, k *sink, m *sdk.Message) {
	t.Helper()
	if err := k.Send(testContext(t), m); err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, elements ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestTakenNameGetsAMarkAndNothingIsOverwritten(t *testing.T) {
	everyServer(t, func(t *testing.T, s *testServer) {
		s.write(t, "a.csv", []byte("somebody else's"))
		props := with(s.props, "name", "{{ftp.name}}", "if_exists", "rename")
		k := newSink(t, props)
		m := newMessage(t, []byte("new"), "ftp.name", "a.csv")
		marked := files.MarkedName("a.csv", m.ID)
		send(t, k, m)
		if got := s.names(t); !slices.Equal(got, []string{marked, "a.csv"}) {
			t.Fatalf("the server has %q", got)
		}
		if content(t, s.Dir, "a.csv") != "somebody else's" || content(t, s.Dir, marked) != "new" {
			t.Error("wrong contents")
		}
		// Sent again after a crash behind the rename, with the usual name free by now.
		if err := os.Remove(filepath.Join(s.Dir, "a.csv")); err != nil {
			t.Fatal(err)
		}
		m.Redelivered = true
		k = newSink(t, props)
		wantProbe(t, k, m, sdk.Arrived)
		send(t, k, m)
		if got := s.names(t); !slices.Equal(got, []string{marked}) {
			t.Errorf("the server has %q, want one file", got)
		}
		other := newMessage(t, []byte("other"), "ftp.name", "a.csv")
		s.write(t, "a.csv", []byte("x"))
		s.write(t, files.MarkedName("a.csv", other.ID), []byte("somebody else's too"))
		mustContain(t, k.Send(testContext(t), other), "take one of them away")
		wantProbe(t, k, other, sdk.Absent)
		if got := content(t, s.Dir, files.MarkedName("a.csv", other.ID)); got != "somebody else's too" {
			t.Errorf("overwritten with %q", got)
		}
		if got := s.names(t); len(got) != 3 {
			t.Errorf("the server has %q", got)
		}
	})
}

// Two equal payments are two payments: the file of the first is not the second's.
func TestEqualContentOfAnotherMessageIsNotTakenForThisOneOnItsFirstAttempt(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	k := newSink(t, with(s.props, "name", "{{ftp.name}}", "if_exists", "rename"))
	first, second := newMessage(t, []byte("100 EUR"), "ftp.name", "a"), newMessage(t, []byte("100 EUR"), "ftp.name", "a")
	send(t, k, second)
	send(t, k, first)
	if got := s.names(t); !slices.Equal(got, []string{"a", files.MarkedName("a", first.ID)}) {
		t.Errorf("the server has %q, want two files", got)
	}
}

// The rename of an earlier attempt is carried out by the server after the next one has
// looked for it: the message must not get a second file under the other name.
func TestLateRenameOfAnEarlierAttemptMakesNoSecondFile(t *testing.T) {
	renamed := false
	content := "five!"
	s := startScripted(t, "SIZE MDTM", map[string]handler{
		"SIZE": func(c *scriptedConn, arg string) {
			if strings.Contains(arg, files.TemporaryPrefix) || renamed && arg == "/in/a" {
				c.say("213 5")
			} else {
				c.say("550 no such file")
			}
		},
		"MDTM": func(c *scriptedConn, _ string) { c.say("213 29990101000000") },
		"STOR": func(c *scriptedConn, _ string) {
			c.standard("STOR", "")
			renamed = true
		},
		"RETR": sends(content),
	})
	k := newSink(t, s.props("name", "{{ftp.name}}", "if_exists", "rename"))
	m := newMessage(t, []byte(content), "ftp.name", "a")
	m.Redelivered = true
	send(t, k, m)
	if s.count("RNTO") != 0 || s.count("DELE") != 1 {
		t.Errorf("%d renames and %d deletions, want the upload deleted", s.count("RNTO"), s.count("DELE"))
	}
}

func TestMissingDirectoriesAreMade(t *testing.T) {
	everyServer(t, func(t *testing.T, s *testServer) {
		k := newSink(t, with(s.props, "directory", "/{{now:2006}}/for-{{ftp.name}}", "temporary_directory", "/tmp/x", "create_directories", true, "connections", 4))
		var sends sync.WaitGroup
		for range 10 {
			m := newMessage(t, []byte("x"), "ftp.name", "acme")
			sends.Go(func() {
				if err := k.Send(testContext(t), m); err != nil {
					t.Errorf("send: %v", err)
				}
			})
		}
		sends.Wait()
		m := newMessage(t, []byte("x"), "ftp.name", "acme")
		send(t, k, m)
		wantProbe(t, k, m, sdk.Arrived)
		made, _ := files.IDTime(m.ID)
		if entries, err := os.ReadDir(filepath.Join(s.Dir, made.UTC().Format("2006"), "for-acme")); err != nil || len(entries) != 11 {
			t.Errorf("%d files, %v", len(entries), err)
		}
		// Somebody takes the directory away: the attempt after the failed one makes it again.
		if err := os.RemoveAll(filepath.Join(s.Dir, "tmp")); err != nil {
			t.Fatal(err)
		}
		_ = k.Send(testContext(t), m)
		send(t, k, m)
		for _, name := range []string{"..", "", "a/b", "a\r\nb"} {
			err := newSink(t, with(s.props, "directory", "/{{ftp.name}}")).Send(testContext(t), newMessage(t, nil, "ftp.name", name))
			if !sdk.IsPermanent(err) {
				t.Errorf("%q as a directory: %v, want a permanent error", name, err)
			}
		}
	})
}

func TestDirectoryThatCannotBeMadeIsNamed(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	s.write(t, "file", nil)
	k := newSink(t, with(s.props, "directory", "/file/sub/dir", "create_directories", true))
	m := newMessage(t, []byte("x"))
	mustContain(t, k.Send(testContext(t), m), "make directory /file", "right")
	wantProbe(t, k, m, sdk.Absent)
}

func TestInteropMakesDirectoriesAndMarksNames(t *testing.T) {
	for _, name := range []string{"vsftpd", "proftpd", "pureftpd", "pyftpd"} {
		t.Run(name, func(t *testing.T) {
			s := startReal(t, name)
			k := newSink(t, with(s.props, "directory", "x/y z", "name", "{{ftp.name}}", "create_directories", true, "if_exists", "rename"))
			one, two := newMessage(t, []byte("1"), "ftp.name", "a"), newMessage(t, []byte("2"), "ftp.name", "a")
			send(t, k, one)
			send(t, k, two)
			wantProbe(t, k, two, sdk.Arrived)
			entries, err := os.ReadDir(filepath.Join(s.Dir, "x", "y z"))
			if err != nil || len(entries) != 2 || entries[1].Name() != files.MarkedName("a", two.ID) {
				t.Errorf("%v, %v", entries, err)
			}
		})
	}
}
