package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

// Replies that are of the right code and of no sense. None may cost the process, and none
// its connection for good: with one connection the next poll has to find it free.
func TestReplyWithoutSenseIsAnErrorAndCostsNoConnection(t *testing.T) {
	const listed = "-rw-r--r--    1 1000     1000            5 Jan 05 10:33 a\r\n"
	for name, row := range map[string]struct {
		features  string
		handlers  map[string]handler
		directory string
	}{
		"brackets the wrong way round": {"MLST", map[string]handler{"PASV": says("227 )(")}, "/in"},
		"no numbers":                   {"MLST", map[string]handler{"PASV": says("227 (a,b,c,d,e,f)")}, "/in"},
		"too few numbers":              {"MLST", map[string]handler{"PASV": says("227 (127,0,0,1,4)")}, "/in"},
		"a port out of range":          {"MLST", map[string]handler{"PASV": says("227 (127,0,0,1,999,999)")}, "/in"},
		"a negative port":              {"MLST", map[string]handler{"PASV": says("227 (127,0,0,1,-9,-9)")}, "/in"},
		"a port where nobody listens":  {"MLST", map[string]handler{"PASV": says("227 (127,0,0,1,0,1)")}, "/in"},
		"one quote":                    {"MLST", map[string]handler{"PWD": says(`257 "`)}, "in"},
		"no quotes":                    {"MLST", map[string]handler{"PWD": says(`257 /`)}, "in"},
		"no directory":                 {"MLST", map[string]handler{"PWD": says(`257 ""`)}, "in"},
		"a time that is none":          {"MDTM", map[string]handler{"LIST": sends(listed), "MDTM": says("213 yesterday")}, "/in"},
		"an empty time":                {"MDTM", map[string]handler{"LIST": sends(listed), "MDTM": says("213 ")}, "/in"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startScripted(t, row.features, row.handlers)
			src := newSource(t, s.props("connections", 1, "disable_epsv", true, "directory", row.directory))
			for range 3 {
				err := within(t, 5*time.Second, func() error { _, err := src.List(testContext(t)); return err })
				mustContain(t, err, s.addr)
				if text := err.Error(); strings.Contains(text, "panic") && !strings.Contains(text, "ftp.(*ServerConn).") {
					t.Errorf("error %q does not say where it panicked", text)
				}
			}
		})
	}
}

// A library that panics over a reply must not keep the connection's place, be it in reading
// or in sending.
func TestReplyThatMakesTheLibraryPanicCostsNoPlace(t *testing.T) {
	odd := map[string]handler{"MLSD": func(c *scriptedConn, _ string) {
		c.transfer(func(data net.Conn) { fmt.Fprint(data, mlsdOne) })
	}}
	s := startScripted(t, "MLST SIZE", odd)
	src := newSource(t, s.props("connections", 1, "disable_epsv", true))
	item := list(t, src)["a"]
	bad := startScripted(t, "MLST SIZE", map[string]handler{"PASV": says("227 )(")})
	src.pool.dropIdle()
	src.pool.end.addr = bad.addr
	k := newSink(t, bad.props("connections", 1, "disable_epsv", true, "name", "a"))
	for range 3 {
		err := within(t, 5*time.Second, func() error { _, err := readContext(testContext(t), src, item); return err })
		mustContain(t, err, bad.addr)
		err = within(t, 5*time.Second, func() error { return k.Send(testContext(t), newMessage(t, []byte("x"))) })
		mustContain(t, err, bad.addr)
	}
}

// A server behind a gateway names its inner address, and a hostile one somebody else's:
// the data connection goes to the host of the control connection all the same.
func TestDataConnectionGoesToTheHostOfTheControlConnection(t *testing.T) {
	for _, address := range []string{"10,11,12,13", "0,0,0,0", "8,8,8,8", "255,255,255,255", "169,254,169,254"} {
		s := startScripted(t, "MLST", map[string]handler{"MLSD": sends(mlsdOne), "PASV": func(c *scriptedConn, _ string) {
			c.listen()
			port := c.data.Addr().(*net.TCPAddr).Port
			c.say("227 Entering Passive Mode (%s,%d,%d)", address, port/256, port%256)
		}})
		if got := list(t, newSource(t, s.props("disable_epsv", true))); len(got) != 1 {
			t.Errorf("with %s: listed are %d files, want 1", address, len(got))
		}
	}
}

// takes is a handler of STOR that reads at most so many bytes, counts them, and replies.
func takes(most int64, got *int64, reply string) handler {
	return func(c *scriptedConn, _ string) {
		c.say("150 go on")
		data, err := c.data.Accept()
		if err != nil {
			return
		}
		var from io.Reader = data
		if most >= 0 {
			from = io.LimitReader(data, most)
		}
		*got, _ = io.Copy(io.Discard, from)
		data.Close()
		if reply == "" {
			c.Conn.Close()
			return
		}
		c.say("%s", reply)
	}
}

// What a server keeps of an upload never gets its final name unless it is all of it,
// whatever the server says.
func TestUploadThatIsNotWholeIsNeverRenamed(t *testing.T) {
	for name, row := range map[string]struct {
		most  int64
		reply string
		size  string // what SIZE says, "" for what was kept
	}{
		"closed before the first byte, confirmed": {0, "226 ok", ""},
		"closed in the middle, confirmed":         {2, "226 ok", ""},
		"closed in the middle, refused":           {2, "426 aborted", ""},
		"disk full":                               {2, "452 disk full", ""},
		"closed in the middle, server gone":       {2, "", ""},
		"server gone after the last byte":         {-1, "", ""},
		"refused after the last byte":             {-1, "550 no", ""},
		"another success after the last byte":     {-1, "299 fine", ""},
		"421 after the last byte":                 {-1, "421 bye", ""},
		"a size that is too large":                {-1, "226 ok", "213 6"},
		"a size that is too small":                {-1, "226 ok", "213 4"},
		"a size of nothing":                       {-1, "226 ok", "213 0"},
		"a negative size":                         {-1, "226 ok", "213 -5"},
		"a size beyond all bounds":                {-1, "226 ok", "213 99999999999999999999999"},
		"a size that is none":                     {-1, "226 ok", "213 five"},
		"no such file":                            {-1, "226 ok", "550 no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			var got int64
			s := startScripted(t, "MLST SIZE", map[string]handler{"STOR": takes(row.most, &got, row.reply), "SIZE": func(c *scriptedConn, _ string) {
				if row.size != "" {
					c.say("%s", row.size)
					return
				}
				c.say("213 %d", got)
			}})
			k, m := newSink(t, s.props("name", "a", "if_exists", "replace")), newMessage(t, []byte("five!"))
			err := within(t, 10*time.Second, func() error { return k.Send(testContext(t), m) })
			mustContain(t, err, s.addr)
			if n := s.count("RNFR") + s.count("RNTO"); n != 0 {
				t.Errorf("it was renamed: %d commands", n)
			}
			if !k.sent.knownAbsent(m) || sdk.IsPermanent(err) {
				t.Errorf("error %v: the message is known not to have arrived, and has to be sent again", err)
			}
		})
	}
}

// What a listing says of a file's size is held against what came.
func TestFileThatIsNotOfTheListedSizeIsNotTaken(t *testing.T) {
	for name, row := range map[string]struct {
		content string
		gone    bool
	}{"nothing": {"", false}, "too little": {"1234", false}, "one byte more": {"123456", true}, "much more": {strings.Repeat("x", 1<<20), true}} {
		t.Run(name, func(t *testing.T) {
			s := startScripted(t, "MLST", map[string]handler{"MLSD": sends(mlsdOne), "RETR": sends(row.content)})
			src := newSource(t, s.props())
			_, err := read(t, src, list(t, src)["a"])
			if err == nil || sdk.IsPermanent(err) || sdk.IsGone(err) != row.gone {
				t.Errorf("error %v, gone %t, want %t", err, sdk.IsGone(err), row.gone)
			}
			list(t, src)
			if n := s.count("PASS"); n != 1 {
				t.Errorf("%d logins: the connection was in step", n)
			}
		})
	}
}

// A file that was confirmed is whole, though the server hangs up right after.
func TestServerThatHangsUpAfterItsConfirmationLosesNothing(t *testing.T) {
	s := startScripted(t, "MLST", map[string]handler{"MLSD": sends(mlsdOne), "RETR": func(c *scriptedConn, _ string) {
		c.transfer(func(data net.Conn) { fmt.Fprint(data, "12345") })
		c.Conn.Close()
	}})
	src := newSource(t, s.props())
	item := list(t, src)["a"]
	for range 2 {
		if got, err := read(t, src, item); err != nil || string(got) != "12345" {
			t.Errorf("read %q, %v", got, err)
		}
	}
}

// dripping writes one byte after the other, each well within the time-out, until it is
// done or the test is.
func dripping(c *scriptedConn, to io.Writer, text string) {
	for _, b := range []byte(text) {
		tick := time.NewTimer(50 * time.Millisecond)
		select {
		case <-tick.C:
		case <-c.stop:
			tick.Stop()
			return
		}
		if _, err := to.Write([]byte{b}); err != nil {
			return
		}
	}
}

// Progress, be it ever so slow, is not silence: in a reply, in a listing, in an upload.
func TestDripIsNotSilence(t *testing.T) {
	drips := func(reply string) handler {
		return func(c *scriptedConn, _ string) { dripping(c, c.Conn, reply+"\r\n") }
	}
	s := startScripted(t, "MLST SIZE", map[string]handler{
		"": drips("220 ready, slowly"), "CWD": drips("250 at last, here"), "SIZE": drips("213 5"),
		"MLSD": func(c *scriptedConn, _ string) { c.transfer(func(data net.Conn) { dripping(c, data, mlsdOne) }) },
		"STOR": func(c *scriptedConn, _ string) {
			c.transfer(func(data net.Conn) { _, _ = io.Copy(io.Discard, data) })
		},
	})
	// Each of them takes longer than this.
	props := s.props("timeout", "250ms")
	if got := list(t, newSource(t, props)); len(got) != 1 {
		t.Errorf("listed are %d files, want 1", len(got))
	}
	err := newSink(t, with(props, "name", "a", "if_exists", "replace")).Send(testContext(t), newMessage(t, []byte("five!")))
	if err != nil {
		t.Errorf("send: %v", err)
	}
}
