package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

func TestUploadIsVerifiedByTheServersChecksum(t *testing.T) {
	const body = "five!"
	for name, c := range map[string]struct {
		verify, features string
		handlers         map[string]handler
		want             string // of the error, "" for none
		asked            string // the command that took the checksum
	}{
		"by the draft":          {verifyHash, "HASH|XSHA256", map[string]handler{"HASH": sumIn("213 SHA-256 0-5 %x " + temporaryName("x"))}, "", "HASH"},
		"by XSHA256":            {verifyAuto, "XSHA256|XCRC", map[string]handler{"XSHA256": sumIn("250 %X")}, "", "XSHA256"},
		"by CRC":                {verifyAuto, "XCRC", map[string]handler{"XCRC": says("250 A78A1B6F")}, "damaged", "XCRC"},
		"damaged":               {verifyHash, "XSHA256", map[string]handler{"XSHA256": says("250 " + strings.Repeat("ab", 32))}, "damaged", "XSHA256"},
		"no sum in the reply":   {verifyHash, "XSHA256", map[string]handler{"XSHA256": says("250 ok")}, "no checksum in the reply", "XSHA256"},
		"size alone":            {verifySize, "XSHA256", nil, "", ""},
		"refused, must be":      {verifyHash, "XSHA256", map[string]handler{"XSHA256": says("550 no")}, "checksum", "XSHA256"},
		"refused, may be":       {verifyAuto, "XSHA256", map[string]handler{"XSHA256": says("550 no")}, "", "XSHA256"},
		"not offered, must be":  {verifyHash, "", nil, "verify: auto or size", ""},
		"not offered, may be":   {verifyAuto, "", nil, "", ""},
		"a silent server, auto": {verifyAuto, "XSHA256", map[string]handler{"XSHA256": func(c *scriptedConn, _ string) { c.hang() }}, "checksum", "XSHA256"},
	} {
		t.Run(name, func(t *testing.T) {
			handlers := map[string]handler{"SIZE": says("213 5"), "OPTS": says("200 ok"), "FEAT": func(sc *scriptedConn, _ string) {
				sc.say("211-features\r\n SIZE\r\n HASH %s", "MD5;SHA-1")
				for f := range strings.SplitSeq(c.features, "|") {
					if f == "HASH" {
						f = "HASH SHA-1;sha-256*;MD5"
					}
					sc.say(" %s", f)
				}
				sc.say("211 end")
			}}
			if !strings.Contains(c.features, "HASH") {
				handlers["FEAT"] = func(sc *scriptedConn, _ string) {
					sc.say("211-features\r\n SIZE\r\n %s\r\n211 end", strings.ReplaceAll(c.features, "|", "\r\n "))
				}
			}
			for verb, h := range c.handlers {
				handlers[verb] = h
			}
			s := startScripted(t, "", handlers)
			k := newSink(t, s.props("verify", c.verify))
			m := newMessage(t, []byte(body))
			err := k.Send(testContext(t), m)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
			} else {
				mustContain(t, err, c.want)
				wantProbe(t, k, m, sdk.Absent)
			}
			if c.asked != "" && s.count(c.asked) != 1 {
				t.Errorf("%s was sent %d times", c.asked, s.count(c.asked))
			}
			if (s.count("RNTO") == 1) != (c.want == "") {
				t.Errorf("%d renames and the error %v", s.count("RNTO"), err)
			}
			if name == "a silent server, auto" {
				if err := k.Send(testContext(t), m); err != nil || s.count(c.asked) != 1 {
					t.Errorf("the next attempt: %v, and %d questions", err, s.count(c.asked))
				}
			}
		})
	}
}

// sumIn says the SHA-256 of "five!" in a reply.
func sumIn(format string) handler { return says(fmt.Sprintf(format, sha256.Sum256([]byte("five!")))) }

// A probe does not read the file where the server takes its checksum, and reads it
// where the server refuses to.
func TestProbeAsksForTheChecksumWhereItCan(t *testing.T) {
	for name, c := range map[string]struct {
		answer handler
		reads  int
		want   sdk.Arrival
	}{
		"the same":  {sumIn("250 %x"), 0, sdk.Arrived},
		"another":   {says("250 " + strings.Repeat("ab", 32)), 0, sdk.Unknown},
		"refused":   {says("550 not now"), 1, sdk.Arrived},
		"no number": {says("250 done"), 1, sdk.Arrived},
	} {
		t.Run(name, func(t *testing.T) {
			s := startScripted(t, "SIZE MDTM XSHA256 XCRC", map[string]handler{
				"SIZE": func(c *scriptedConn, arg string) {
					if strings.Contains(arg, files.TemporaryPrefix) {
						c.say("550 no such file")
					} else {
						c.say("213 5")
					}
				},
				"MDTM": says("213 29990101000000"), "XSHA256": c.answer, "RETR": sends("five!"),
			})
			wantProbe(t, newSink(t, s.props("name", "a")), newMessage(t, []byte("five!")), c.want)
			if s.count("RETR") != c.reads || s.count("XSHA256") != 1 {
				t.Errorf("read %d times, asked %d times", s.count("RETR"), s.count("XSHA256"))
			}
		})
	}
}

// stored is a scripted file under way that takes REST.
type stored struct {
	mu   sync.Mutex
	data []byte
	rest int
	most int // breaks off after so many bytes
}

// kept returns what is there, and set changes it: connections come one after the other,
// and a broken one may still be at its end when the next begins.
func (f *stored) kept() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.data
}

func (f *stored) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *stored) handlers(t *testing.T) map[string]handler {
	return map[string]handler{
		"SIZE": func(c *scriptedConn, arg string) {
			if strings.Contains(arg, files.TemporaryPrefix) && f.kept() != nil {
				c.say("213 %d", len(f.kept()))
			} else {
				c.say("550 no such file")
			}
		},
		"REST": func(c *scriptedConn, arg string) {
			rest := 0
			if _, err := fmt.Sscan(arg, &rest); err != nil {
				t.Error(err)
			}
			f.set(func() { f.rest = rest })
			c.say("350 from there")
		},
		"DELE": func(c *scriptedConn, _ string) { f.set(func() { f.data = nil }); c.say("250 ok") },
		"APPE": func(c *scriptedConn, _ string) { t.Error("APPE for an upload"); c.say("502 no") },
		"STOR": func(c *scriptedConn, _ string) {
			most := 0
			f.set(func() { f.data, f.rest, most = append([]byte{}, f.data[:f.rest]...), 0, f.most })
			c.transferUpTo(f, most)
		},
	}
}

func (c *scriptedConn) transferUpTo(f *stored, most int) {
	c.say("150 here it comes")
	data, err := c.data.Accept()
	if err != nil {
		return
	}
	defer data.Close()
	got, _ := io.ReadAll(io.LimitReader(data, int64(most)))
	f.set(func() { f.data = append(f.data, got...) })
	if len(got) == most {
		data.(*net.TCPConn).SetLinger(0)
		c.Conn.Close()
		return
	}
	data.Close()
	c.say("226 done")
}

func TestUploadThatBrokeOffIsGoneOnWith(t *testing.T) {
	for _, resume := range []bool{true, false} {
		f := &stored{most: 3 << 19}
		s := startScripted(t, "SIZE", f.handlers(t))
		content := noise(3, 4<<20)
		k := newSink(t, s.props("resume", resume))
		m := newMessage(t, content)
		if err := k.Send(testContext(t), m); err == nil {
			t.Fatal("the upload did not break off")
		}
		wantProbe(t, k, m, sdk.Absent)
		if resume != (len(f.kept()) > resumeMin) {
			t.Fatalf("resume %t: left are %d bytes", resume, len(f.kept()))
		}
		before := len(f.kept())
		f.set(func() { f.most = 5 << 20 })
		m.Redelivered = true
		send(t, newSink(t, s.props("resume", resume)), m) // of the next owner
		if !bytes.Equal(f.kept(), content) {
			t.Errorf("resume %t: %d bytes arrived, or other ones", resume, len(f.kept()))
		}
		if want := map[bool]int{true: 1, false: 0}[resume]; s.count("REST") != want {
			t.Errorf("resume %t: %d REST, want %d; before %d", resume, s.count("REST"), want, before)
		}
	}
}

func TestServerThatRefusesToResumeGetsTheWholeFile(t *testing.T) {
	f := &stored{most: 5 << 20}
	content := noise(3, 2<<20)
	f.data = bytes.Clone(content[:3<<19])
	handlers := f.handlers(t)
	store, refused := handlers["STOR"], 0
	handlers["STOR"] = func(c *scriptedConn, arg string) {
		if f.rest > 0 {
			f.rest, refused = 0, refused+1
			c.say("451 append and restart are not allowed")
			return
		}
		store(c, arg)
	}
	s := startScripted(t, "SIZE", handlers)
	send(t, newSink(t, s.props("resume", true)), newMessage(t, content))
	if refused != 1 || !bytes.Equal(f.kept(), content) {
		t.Errorf("refused %d times, %d bytes arrived, or other ones", refused, len(f.data))
	}
}

func TestWhatIsTooLongOrTooShortIsNotGoneOnWith(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	content := noise(3, 2<<20)
	for _, left := range [][]byte{noise(9, resumeMin), append(noise(9, 2<<20), 1)} {
		m := newMessage(t, content)
		s.write(t, temporaryName(m.ID), left)
		send(t, newSink(t, with(s.props, "resume", true)), m)
		if got, err := os.ReadFile(filepath.Join(s.Dir, m.ID)); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes arrived, or other ones, %v", len(got), err)
		}
	}
}

func TestInteropResume(t *testing.T) {
	digest := "LoadModule mod_digest.c\nDigestEngine on"
	for _, c := range []struct {
		name, server, setting string
		caught                bool // a damaged beginning is found by its checksum
	}{
		{"vsftpd", "vsftpd", "EXTRA=", false},
		{"proftpd that does not resume", "proftpd", "EXTRA=AllowStoreRestart off", true},
		{"proftpd with checksums", "proftpd", "EXTRA=AllowStoreRestart on\n" + digest, true},
		{"pureftpd", "pureftpd", "EXTRA=", false},
		{"pyftpd", "pyftpd", "EXTRA=", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startReal(t, c.server, c.setting)
			content := noise(3, 3<<20+5)
			props := with(s.props, "resume", true, "name", "{{fairlead.id}}")
			for _, n := range []int{3 << 19, len(content)} {
				m := newMessage(t, content)
				m.Redelivered = true
				s.leave(t, temporaryName(m.ID), content[:n])
				send(t, newSink(t, props), m)
				if got, err := os.ReadFile(filepath.Join(s.Dir, m.ID)); err != nil || !bytes.Equal(got, content) {
					t.Errorf("from %d: %d bytes arrived, or other ones, %v", n, len(got), err)
				}
			}
			// What shows that the upload was resumed, and what a checksum is good for.
			damaged := bytes.Clone(content[:3<<19])
			damaged[7]++
			m := newMessage(t, content)
			s.leave(t, temporaryName(m.ID), damaged)
			k := newSink(t, props)
			if err := k.Send(testContext(t), m); err != nil {
				mustContain(t, err, "damaged")
				wantProbe(t, k, m, sdk.Absent)
				send(t, k, m)
			}
			got, err := os.ReadFile(filepath.Join(s.Dir, m.ID))
			if err != nil || bytes.Equal(got, content) != c.caught {
				t.Errorf("the damaged beginning was caught: %t, %v; want %t", bytes.Equal(got, content), err, c.caught)
			}
		})
	}
}

// leave puts a file there that belongs to the server's user, as an upload would.
func (s *realServer) leave(t testing.TB, name string, content []byte) {
	t.Helper()
	path := filepath.Join(s.Dir, name)
	if err := os.WriteFile(path, content, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestInteropChecksums(t *testing.T) {
	for _, directive := range []string{"DigestAlgorithms sha256", "DigestAlgorithms crc32", "DigestAlgorithms md5 sha512"} {
		t.Run(directive, func(t *testing.T) {
			s := startReal(t, "proftpd", "EXTRA=LoadModule mod_digest.c\nDigestEngine on\n"+directive)
			props := with(s.props, "verify", "hash", "name", "{{ftp.name}}", "directory", "in it", "create_directories", true)
			k := newSink(t, props)
			m := newMessage(t, noise(4, 300_000), "ftp.name", "a b")
			send(t, k, m)
			wantProbe(t, newSink(t, props), m, sdk.Arrived)
			wantProbe(t, newSink(t, props), newMessage(t, noise(5, 300_000), "ftp.name", "a b"), sdk.Unknown)
		})
	}
}
