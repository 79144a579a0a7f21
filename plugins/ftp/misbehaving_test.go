package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

const mlsdOne = "type=file;size=5;modify=20260105103300; a\r\n"

// within fails the test if f takes longer than a few of the endpoint's time-outs,
// which is how a missing deadline shows.
func within(t *testing.T, limit time.Duration, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		t.Fatalf("still waiting for the server after %s", limit)
		return nil
	}
}

func TestSilentServerIsLeftAfterTheTimeout(t *testing.T) {
	hang := func(c *scriptedConn, _ string) { c.hang() }
	hangData := func(c *scriptedConn, _ string) { c.transfer(func(net.Conn) { c.hang() }) }
	mlsd := sends(mlsdOne)
	tests := map[string]struct {
		handlers     map[string]handler
		disconnected bool
		send         int // bytes
	}{
		"no greeting":                  {handlers: map[string]handler{"": hang}, disconnected: true},
		"no reply to the user":         {handlers: map[string]handler{"USER": hang}, disconnected: true},
		"no reply to the features":     {handlers: map[string]handler{"FEAT": hang}, disconnected: true},
		"no reply to CWD":              {handlers: map[string]handler{"CWD": hang}},
		"no reply to EPSV":             {handlers: map[string]handler{"EPSV": hang}},
		"no listing":                   {handlers: map[string]handler{"MLSD": hangData}},
		"listing without confirmation": {handlers: map[string]handler{"MLSD": func(c *scriptedConn, _ string) { c.say("150 ok"); d, _ := c.data.Accept(); d.Close(); c.hang() }}},
		"no file":                      {handlers: map[string]handler{"MLSD": mlsd, "RETR": hangData}},
		"file without confirmation": {handlers: map[string]handler{"MLSD": mlsd, "RETR": func(c *scriptedConn, _ string) {
			c.say("150 ok")
			d, _ := c.data.Accept()
			fmt.Fprint(d, "12345")
			d.Close()
			c.hang()
		}}},
		"upload that is not read":        {handlers: map[string]handler{"STOR": hangData}, send: 64 << 20},
		"no reply to the size":           {handlers: map[string]handler{"SIZE": hang}, send: 5},
		"no reply to the rename":         {handlers: map[string]handler{"SIZE": says("213 5"), "RNTO": hang}, send: 5},
		"no data connection is accepted": {handlers: map[string]handler{"MLSD": func(c *scriptedConn, _ string) { c.say("150 ok"); c.hang() }}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startScripted(t, "MLST MDTM SIZE EPSV", test.handlers)
			err := within(t, 10*time.Second, func() error {
				if test.send > 0 {
					return newSink(t, s.props()).Send(testContext(t), newMessage(t, noise(1, test.send)))
				}
				src := newSource(t, s.props())
				items, err := src.List(testContext(t))
				if err != nil || len(items) == 0 {
					return err
				}
				_, err = readContext(testContext(t), src, items[0])
				return err
			})
			if err == nil {
				t.Fatal("no error from a server that does not answer")
			}
			if sdk.IsDisconnected(err) != test.disconnected {
				t.Errorf("error %v, disconnected %t, want %t", err, sdk.IsDisconnected(err), test.disconnected)
			}
		})
	}
}

func TestTransferThatGoesOnSlowlyIsNotCutOff(t *testing.T) {
	// Each piece comes within the time-out, the whole takes several of them.
	s := startScripted(t, "MLST", map[string]handler{
		"MLSD": sends(mlsdOne),
		"RETR": func(c *scriptedConn, _ string) {
			c.transfer(func(data net.Conn) {
				for _, b := range "12345" {
					tick := time.NewTimer(250 * time.Millisecond)
					select {
					case <-tick.C:
					case <-c.stop:
						tick.Stop()
						return
					}
					fmt.Fprint(data, string(b))
				}
			})
		},
	})
	src := newSource(t, s.props("timeout", "800ms"))
	got, err := read(t, src, list(t, src)["a"])
	if err != nil || string(got) != "12345" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestContextEndsEveryWait(t *testing.T) {
	hang := func(c *scriptedConn, _ string) { c.hang() }
	for name, handlers := range map[string]map[string]handler{
		"greeting": {"": hang},
		"command":  {"CWD": hang},
		"data":     {"MLSD": func(c *scriptedConn, _ string) { c.transfer(func(net.Conn) { c.hang() }) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := startScripted(t, "MLST", handlers)
			src := newSource(t, s.props("timeout", "10m"))
			ctx, cancel := context.WithTimeout(testContext(t), 100*time.Millisecond)
			defer cancel()
			err := within(t, 5*time.Second, func() error { _, err := src.List(ctx); return err })
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want the context's", err)
			}
		})
	}
}

func TestTransferThatBreaksOffIsNotTaken(t *testing.T) {
	broken := map[string]handler{
		"426 after half of it": func(c *scriptedConn, _ string) {
			c.say("150 ok")
			d, _ := c.data.Accept()
			fmt.Fprint(d, "123")
			d.Close()
			c.say("426 connection closed; transfer aborted")
		},
		"half of it, confirmed": sends("123"),
		"reset": func(c *scriptedConn, _ string) {
			c.say("150 ok")
			d, _ := c.data.Accept()
			fmt.Fprint(d, "123")
			_ = d.(*net.TCPConn).SetLinger(0)
			d.Close()
			c.Conn.Close()
		},
		"server gone after all of it": func(c *scriptedConn, _ string) {
			c.say("150 ok")
			d, _ := c.data.Accept()
			fmt.Fprint(d, "12345")
			d.Close()
			c.Conn.Close()
		},
	}
	for name, h := range broken {
		t.Run(name, func(t *testing.T) {
			s := startScripted(t, "MLST", map[string]handler{"MLSD": sends(mlsdOne), "RETR": h})
			src := newSource(t, s.props())
			got, err := read(t, src, list(t, src)["a"])
			if err == nil {
				t.Errorf("%q was taken for the whole file", got)
			}
			if sdk.IsGone(err) || sdk.IsPermanent(err) {
				t.Errorf("error %v, want one to try again after", err)
			}
			if _, err := src.List(testContext(t)); err != nil {
				t.Errorf("list afterwards: %v", err)
			}
		})
	}
}

func TestEPSVThatIsRefusedFallsBackToPASV(t *testing.T) {
	for name, reply := range map[string]string{
		"refused":         "500 what?",
		"a PASV reply":    "227 Entering Passive Mode (127,0,0,1,1,1)",
		"a mangled reply": "229 nothing (||",
	} {
		t.Run(name, func(t *testing.T) {
			s := startScripted(t, "MLST", map[string]handler{"EPSV": says(reply), "MLSD": sends(mlsdOne)})
			src := newSource(t, s.props())
			if got := list(t, src); len(got) != 1 {
				t.Errorf("listed are %d files, want 1", len(got))
			}
			list(t, src)
			if n := s.count("EPSV"); n != 1 {
				t.Errorf("EPSV was tried %d times on one connection", n)
			}
		})
	}
	s := startScripted(t, "MLST", map[string]handler{"MLSD": sends(mlsdOne)})
	list(t, newSource(t, s.props("disable_epsv", true)))
	if n := s.count("EPSV"); n != 0 {
		t.Errorf("EPSV was used %d times in spite of disable_epsv", n)
	}
}

func TestMLSDThatTheServerOnlyPromisesFallsBackToLIST(t *testing.T) {
	s := startScripted(t, "MLST MDTM", map[string]handler{
		"MLSD": says("502 not implemented"),
		"LIST": sends("-rw-r--r--    1 1000     1000            5 Jan 05  2026 a\r\n"),
		"MDTM": says("213 20260105103300"),
	})
	src := newSource(t, s.props())
	if got := list(t, src)["a"]; got.Key != "/in/a|5|2026-01-05T10:33:00Z" {
		t.Errorf("key %q", got.Key)
	}
	list(t, src)
	if n := s.count("MLSD"); n != 1 {
		t.Errorf("MLSD was tried %d times", n)
	}
}

func TestListingThatIsNotUnderstoodIsAnError(t *testing.T) {
	const file = "-rw-r--r--    1 1000     1000            5 Jan 05 10:33 a\r\n"
	tests := map[string]struct {
		list, nlst string
		want       string // part of the error; empty: no error
		files      int
		by         string
	}{
		"empty":                        {list: "", nlst: "", files: 0},
		"nothing, but there are names": {list: "", nlst: "a\r\n", want: `"a"`},
		"another system's format":      {list: "A.TXT;1   5   5-JAN-2026 10:33:00\r\n", nlst: "A.TXT\r\n", want: "A.TXT;1"},
		"one bad line among good ones": {list: file + "?? b\r\n", nlst: "a\r\nb\r\n", want: `"b"`},
		"a header":                     {list: "total 4\r\n" + file, nlst: "", files: 1},
		"an unknown header":            {list: "Listing of /in:\r\n" + file, nlst: "a\r\n", files: 1},
		"things that are no files": {
			list: "srwxr-xr-x    1 0 0            0 Jan 05 10:33 socket\r\n" + "Lrwxrwxrwx 1 ftp ftp 7 Jan 05 10:33 link\r\n" +
				"lrwxrwxrwx    1 0 0            1 Jan 05 10:33 other -> a\r\n" + "drwxr-xr-x    2 0 0         4096 Jan 05 10:33 dir\r\n" + file,
			nlst: "a\r\ndir\r\nlink\r\nother\r\nsocket\r\n", files: 1,
		},
		"only dots":            {list: "", nlst: ".\r\n..\r\n", files: 0},
		"names with directory": {list: "?\r\n" + file, nlst: "/in/a\r\n", files: 1},
		"hidden names":         {list: "", nlst: ".profile\r\n", files: 0},
	}
	for name, test := range tests {
		test.by = listingAuto
		if strings.HasPrefix(test.want, "A.TXT") {
			test.by = listingLIST
		}
		t.Run(name, func(t *testing.T) {
			s := startScripted(t, "SIZE", map[string]handler{"LIST": sends(test.list), "NLST": sends(test.nlst)})
			items, err := newSource(t, s.props("listing", test.by)).List(testContext(t))
			if test.want != "" {
				mustContain(t, err, test.want, "not understood")
				return
			}
			if err != nil || len(items) != test.files {
				t.Errorf("%d files, %v; want %d", len(items), err, test.files)
			}
		})
	}
}

func TestMLSDListsRegularFilesOnly(t *testing.T) {
	s := startScripted(t, "MLST", map[string]handler{"MLSD": sends(strings.Join([]string{
		"type=cdir;modify=20260105103300; /in", "type=pdir;modify=20260105103300; ..",
		"type=dir;modify=20260105103300; sub", "type=OS.unix=symlink;size=1;modify=20260105103300; link",
		"type=OS.unix=slink:;size=1;modify=20260105103300; link2",
		"Type=File;Size=5;Modify=20260105103300.250;Perm=r;  two  spaces ", "type=file;size=5; no time",
	}, "\r\n") + "\r\n")})
	items := list(t, newSource(t, s.props()))
	if len(items) != 2 {
		t.Errorf("listed are %q, want two", itemNames(items))
	}
	if got := items[" two  spaces "].Key; got != "/in/ two  spaces |5|2026-01-05T10:33:00.25Z" {
		t.Errorf("key %q", got)
	}
	if item := items["no time"]; item.Key != "/in/no time|5|" || item.StableFor != minuteHold {
		t.Errorf("without a time: key %q, stable for %s", item.Key, item.StableFor)
	}
	for _, bad := range []string{"type=file;size=x; a", "nonsense", "type=file;size=1 a", "type=file;size=1; ../../etc/passwd"} {
		s := startScripted(t, "MLST", map[string]handler{"MLSD": sends(bad + "\r\n")})
		if _, err := newSource(t, s.props()).List(testContext(t)); err == nil {
			t.Errorf("listing %q is taken", bad)
		}
	}
}

// 550 stands for "no such file" and "not allowed" alike.
func TestRefusedFileIsNotTakenForGone(t *testing.T) {
	s := startScripted(t, "MLST", map[string]handler{
		"MLSD": sends(mlsdOne), "RETR": says("550 permission denied"), "MLST": says("550 permission denied"),
		"DELE": says("550 permission denied"),
	})
	src := newSource(t, s.props())
	err := src.Settle(testContext(t), list(t, src)["a"])
	if err == nil || sdk.IsGone(err) || sdk.IsPermanent(err) {
		t.Errorf("settle of a file that is still listed says %v, want an error to try again after", err)
	}
	if n := s.count("DELE"); n != 0 {
		t.Errorf("it was deleted %d times unseen", n)
	}

	s = startScripted(t, "MLST", map[string]handler{
		"MLSD": sends(mlsdOne), "RETR": says("550 permission denied"), "DELE": says("550 permission denied"),
		"MLST": says("250-details\r\n " + strings.TrimSpace(mlsdOne) + "\r\n250 end"),
	})
	src = newSource(t, s.props())
	item := list(t, src)["a"]
	if _, err := read(t, src, item); err == nil || sdk.IsGone(err) {
		t.Errorf("open of an unreadable file says %v, want an error to try again after", err)
	}
	if err := src.Settle(testContext(t), item); err == nil || sdk.IsGone(err) {
		t.Errorf("settle of an undeletable file says %v, want an error to try again after", err)
	}
}

func TestFileWhoseTimeIsRefusedIsNotLeftOut(t *testing.T) {
	s := startScripted(t, "MDTM SIZE", map[string]handler{
		"LIST": sends("-rw-r--r--    1 1000     1000            5 Jan 05 10:33 a\r\n"), "MDTM": says("550 permission denied"),
	})
	_, err := newSource(t, s.props()).List(testContext(t))
	mustContain(t, err, "MDTM", "permissions")
}

func TestServerThatEchoesThePasswordDoesNotShowItInErrors(t *testing.T) {
	s := startScripted(t, "", map[string]handler{"PASS": func(c *scriptedConn, arg string) { c.say("530 PASS %s refused", arg) }})
	_, err := newSource(t, s.props()).List(testContext(t))
	mustContain(t, err, "530", "***")
	if strings.Contains(err.Error(), testPassword) {
		t.Errorf("error %q shows the password", err)
	}
}

func TestEndlessListingIsCutOff(t *testing.T) {
	line := strings.Repeat("type=file;size=5;modify=20260105103300; "+strings.Repeat("a", 900)+"\r\n", 100)
	s := startScripted(t, "MLST", map[string]handler{"MLSD": func(c *scriptedConn, _ string) {
		c.transfer(func(data net.Conn) {
			for {
				if _, err := fmt.Fprint(data, line); err != nil {
					return
				}
			}
		})
	}})
	_, err := newSource(t, s.props("timeout", "5s")).List(testContext(t))
	mustContain(t, err, "listing has more than")
}

func TestDeletionNeedsOneLookWhereMLSTIsKnown(t *testing.T) {
	s := startScripted(t, "MLST", map[string]handler{
		"MLSD": sends(mlsdOne), "MLST": says("250-details\r\n " + strings.TrimSpace(mlsdOne) + "\r\n250 end"),
	})
	src := newSource(t, s.props())
	if err := src.Settle(testContext(t), list(t, src)["a"]); err != nil {
		t.Fatal(err)
	}
	for verb, want := range map[string]int{"MLST": 1, "SIZE": 0, "MDTM": 0, "DELE": 1, "MLSD": 1, "NOOP": 0} {
		if got := s.count(verb); got != want {
			t.Errorf("%s was sent %d times, want %d", verb, got, want)
		}
	}
}
