package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// recorder is a log that a test reads.
type recorder struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *recorder) count(text string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.text.String(), text)
}

func newLoggedSink(t testing.TB, props map[string]any) (*sink, *recorder) {
	t.Helper()
	r := &recorder{}
	env := testEnv(t)
	env.Log = slog.New(slog.NewTextHandler(r, nil))
	k, err := openSink(t.Context(), decode[sendProperties](t, props), env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k.(*sink), r
}

func sidecarOf(content []byte, name string) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:]) + "  " + name + "\n"
}

var sourceTime = time.Date(2020, 2, 29, 1, 2, 3, 0, time.UTC)

func TestFileKeepsItsTimeAndHasAChecksum(t *testing.T) {
	everyServer(t, func(t *testing.T, s *testServer) {
		props := with(s.props, "name", "{{ftp.name}}", "keep_time", true, "checksum", "sha256", "if_exists", "fail")
		k, log := newLoggedSink(t, props)
		m := newMessage(t, []byte("hello"), "ftp.name", "a b", "file.modified", sourceTime.Format(time.RFC3339))
		send(t, k, m)
		info, err := os.Stat(filepath.Join(s.Dir, "a b"))
		if err != nil || !info.ModTime().Equal(sourceTime) {
			t.Errorf("time %v, %v; want %v; log: %s", info.ModTime(), err, sourceTime, log.text.String())
		}
		if got, want := content(t, s.Dir, "a b.sha256"), sidecarOf([]byte("hello"), "a b"); got != want {
			t.Errorf("checksum file %q, want %q", got, want)
		}
		// Although the file is older than the message, it is the message's; but not that
		// of one that came from a file of another time.
		k = newSink(t, props)
		wantProbe(t, k, m, sdk.Arrived)
		wantProbe(t, k, newMessage(t, []byte("hello"), "ftp.name", "a b", "ftp.modified", sourceTime.Add(time.Hour).Format(time.RFC3339)), sdk.Unknown)
		// The checksum of somebody else's file is left alone.
		s.write(t, "a b.sha256", []byte("other's"))
		mustContain(t, k.Send(testContext(t), newMessage(t, []byte("new"), "ftp.name", "a b")), "exists")
		if got := content(t, s.Dir, "a b.sha256"); got != "other's" {
			t.Errorf("the checksum of somebody else's file became %q", got)
		}
		if got := s.names(t); len(got) != 2 {
			t.Errorf("the server has %q", got)
		}
	})
}

// The final rename is refused when the checksum is there already: the file is never
// there without it.
func TestChecksumFileIsThereBeforeTheFile(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	if err := os.MkdirAll(filepath.Join(s.Dir, "a", "in the way"), 0o755); err != nil {
		t.Fatal(err)
	}
	props := with(s.props, "name", "{{ftp.name}}", "checksum", "md5")
	m := newMessage(t, []byte("hello"), "ftp.name", "a")
	k := newSink(t, props)
	if err := k.Send(testContext(t), m); err == nil {
		t.Fatal("a directory was replaced by a file")
	}
	wantProbe(t, k, m, sdk.Absent)
	if got := s.names(t); !slices.Equal(got, []string{"a", "a.md5"}) {
		t.Errorf("the server has %q", got)
	}
	// As after a crash between the two renames, and in the middle of the checksum file.
	if err := os.RemoveAll(filepath.Join(s.Dir, "a")); err != nil {
		t.Fatal(err)
	}
	s.write(t, temporaryName(m.ID), []byte("hello"))
	s.write(t, place{uploadName: temporaryName(m.ID)}.sidecarName(), []byte("12"))
	m.Redelivered = true
	k = newSink(t, props)
	wantProbe(t, k, m, sdk.Absent)
	send(t, k, m)
	wantProbe(t, newSink(t, props), m, sdk.Arrived)
	if got := s.names(t); !slices.Equal(got, []string{"a", "a.md5"}) {
		t.Errorf("the server has %q", got)
	}
}

func TestTimeIsSetByTheCommandThatTheServerHas(t *testing.T) {
	for _, c := range []struct {
		features string // separated by spaces: each is a line
		accepts  string
		tried    []string
		warns    bool
	}{
		{"MFMT MDTM", "MFMT", []string{"MFMT"}, false},
		{"MDTM", "MDTM", []string{"MDTM"}, false},
		{"MFMT MDTM", "MDTM", []string{"MFMT", "MDTM"}, false},
		{"MFMT MDTM", "", []string{"MFMT", "MDTM"}, true},
		{"SIZE", "", nil, true},
	} {
		var tried []string
		try := func(verb string) handler {
			return func(sc *scriptedConn, arg string) {
				tried = append(tried, verb)
				if verb == c.accepts && strings.HasPrefix(arg, "20200229010203 /in/") {
					sc.say("213 done")
				} else {
					sc.say("550 no such file")
				}
			}
		}
		s := startScripted(t, c.features, map[string]handler{"SIZE": says("213 5"), "MFMT": try("MFMT"), "MDTM": try("MDTM")})
		k, log := newLoggedSink(t, s.props("keep_time", true))
		m := func() *sdk.Message {
			return newMessage(t, []byte("five!"), "sftp.modified", "2020-02-29T02:02:03+01:00")
		}
		send(t, k, m())
		if !slices.Equal(tried, c.tried) {
			t.Errorf("%+v: tried %q", c, tried)
		}
		send(t, k, m())
		send(t, k, newMessage(t, []byte("five!")))
		warned := 0
		if c.warns {
			warned = 1
		}
		if got := log.count("WARN"); got != warned {
			t.Errorf("%+v: %d warnings", c, got)
		}
	}
}

func TestRefusedModeIsAnErrorWithItsRemedy(t *testing.T) {
	var asked string
	s := startScripted(t, "SIZE", map[string]handler{
		"SIZE": says("213 5"),
		"SITE": func(c *scriptedConn, arg string) {
			asked = arg
			c.say("500 SITE is not understood")
		},
	})
	k := newSink(t, s.props("mode", "0640"))
	m := newMessage(t, []byte("five!"))
	err := k.Send(testContext(t), m)
	mustContain(t, err, "0640", "500", "take mode away")
	if sdk.IsPermanent(err) || s.count("RNTO") != 0 || s.count("DELE") != 1 {
		t.Errorf("%v; %d renames, %d deletions", err, s.count("RNTO"), s.count("DELE"))
	}
	if want := "CHMOD 640 /in/" + temporaryName(m.ID); asked != want {
		t.Errorf("SITE %q, want %q", asked, want)
	}
	wantProbe(t, k, m, sdk.Absent)
}

// A reply of several lines is read to the byte. What follows it is not taken for the next.
func TestCommandLeavesTheConnectionInStep(t *testing.T) {
	s := startScripted(t, "SIZE", map[string]handler{
		"SITE": func(c *scriptedConn, arg string) {
			if arg == "LONG" {
				_, _ = io.WriteString(c.Conn, "200-"+strings.Repeat("x", 2*replyMax)+"\r\n200 end\r\n")
				return
			}
			reply := "200-one\r\n two\r\n200 three\r\n"
			if arg == "MORE" {
				reply += "257 \"/early\" is it\r\n" // in one packet
			}
			_, _ = io.WriteString(c.Conn, reply)
		},
		"PWD": func(c *scriptedConn, _ string) { c.say(`257 "/in" is it`) },
	})
	k := newSink(t, s.props())
	err := k.pool.with(testContext(t), func(c *session) error {
		if code, text, err := c.command("SITE X"); code != 200 || err != nil || !strings.Contains(text, "two") {
			t.Errorf("%d %q, %v", code, text, err)
		}
		if dir, err := c.ftp.CurrentDir(); dir != "/in" || err != nil {
			t.Errorf("the reply after it is %q, %v", dir, err)
		}
		if _, _, err := c.command("SITE X\r\nDELE y"); err == nil || !isRefusal(err) {
			t.Errorf("two commands in one: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, next := range map[string]func(c *session) error{
		"a command of ours":   func(c *session) error { _, _, err := c.command("SITE X"); return err },
		"one of the library":  func(c *session) error { _, err := c.ftp.CurrentDir(); return err },
		"commands sent ahead": func(c *session) error { return c.control.sendAhead([]byte("PWD\r\n")) },
	} {
		err := k.pool.with(testContext(t), func(c *session) error {
			if _, _, err := c.command("SITE MORE"); err != nil {
				t.Error(err)
			}
			return next(c)
		})
		if !errors.Is(err, errUnasked) || isRefusal(err) {
			t.Errorf("%s, after a reply that nobody asked for: %v", what, err)
		}
	}
	err = k.pool.with(testContext(t), func(c *session) error { _, _, err := c.command("SITE LONG"); return err })
	if err == nil || isRefusal(err) {
		t.Errorf("a reply without end: %v, want an error that ends the connection", err)
	}
}

func TestInteropModeTimeAndChecksum(t *testing.T) {
	for name, setting := range map[string]string{
		"vsftpd":   "EXTRA=mdtm_write=YES",
		"proftpd":  "EXTRA=",
		"pureftpd": "EXTRA=",
		"pyftpd":   "EXTRA=",
	} {
		t.Run(name, func(t *testing.T) {
			s := startReal(t, name, setting)
			props := with(s.props, "name", "{{ftp.name}}", "mode", "0604", "keep_time", true, "checksum", "sha256")
			k, log := newLoggedSink(t, props)
			m := newMessage(t, []byte("hello"), "ftp.name", "a b", "ftp.modified", sourceTime.Format(time.RFC3339))
			send(t, k, m)
			info, err := os.Stat(filepath.Join(s.Dir, "a b"))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o604 || !info.ModTime().Equal(sourceTime) {
				t.Errorf("mode %v, time %v; log %s", info.Mode(), info.ModTime(), log.text.String())
			}
			if got, want := content(t, s.Dir, "a b.sha256"), sidecarOf([]byte("hello"), "a b"); got != want {
				t.Errorf("checksum file %q, want %q", got, want)
			}
			wantProbe(t, newSink(t, props), m, sdk.Arrived)
			// A file that nobody may write to, left by an attempt that ended before its
			// rename, does not keep the next one from it.
			closed := newMessage(t, []byte("x"), "ftp.name", "closed")
			temp := filepath.Join(s.Dir, temporaryName(closed.ID))
			if err := os.WriteFile(temp, []byte("old"), 0o444); err != nil {
				t.Fatal(err)
			}
			send(t, newSink(t, with(props, "mode", "0444")), closed)
			if got := content(t, s.Dir, "closed"); got != "x" {
				t.Errorf("content %q", got)
			}
			for _, left := range s.names(t) {
				if files.IsTemporary(left) {
					t.Errorf("%s was left behind", left)
				}
			}
		})
	}
}
