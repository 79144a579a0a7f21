package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	ftpclient "github.com/jlaffaye/ftp"
)

// mlsdSeeds are lines of RFC 3659, of real servers, and of none.
var mlsdSeeds = []string{
	mlsdOne, "type=cdir;modify=20260105103300; /in\r\ntype=pdir;modify=20260105103300; ..\r\n",
	"Type=cdir;Modify=19981107085215;Perm=el; tmp\r\n", "Type=OS.unix=slink:/foo;Size=1; bar\r\n",
	"type=file;size=-1; a\r\n", "type=file;size=99999999999999999999; a\r\n", "type=file;; a\r\n", " a\r\n", "  \r\n",
	"type=file;size=1;modify=20261332256199; a\n", "type=dir; ../..\r\n", "type=file; a/b\r\n", "type=file; a\x00b\r\n",
	"type=file;size=1; a\rb\r\r\n", "type=FILE;SIZE=7;MODIFY=20260105103300.999; \xff\xfe\r\n", "type=file;size=5;size=6; a\r\n",
	"type=dir;modify=20260105103300; sub\r\ntype=file;size=1;type=dir; x\r\n", "type=file;size=1; .\r\ntype=file; ..\r\n",
}

// No line of an MLSD is lost without a word: it is a file, something that says that it is
// none, or an error.
func FuzzMLSD(f *testing.F) {
	for _, seed := range mlsdSeeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines := splitLines(text)
		for line := range strings.SplitSeq(text, "\n") {
			if strings.TrimSpace(line) != "" && !slices.Contains(lines, strings.TrimSuffix(line, "\r")) {
				t.Fatalf("line %q is lost", line)
			}
		}
		entries, err := fromMLSD(lines)
		if err != nil {
			if !isRefusal(err) {
				t.Errorf("a listing that is not understood costs the connection: %v", err)
			}
			return
		}
		files := 0
		for _, line := range lines {
			facts, name, _ := strings.Cut(line, " ")
			if saysFile(facts) && name != "." && name != ".." {
				files++
			}
		}
		if files != len(entries) {
			t.Errorf("%d of %d files came out of %q", len(entries), files, text)
		}
		for _, e := range entries {
			if e.name == "" || e.size < -1 || e.precise == e.modified.IsZero() && e.modified.Year() != 1 {
				t.Errorf("%q has become %+v", text, e)
			}
		}
	})
}

// saysFile reads the facts in another way than the code does: by the last type of them.
func saysFile(facts string) bool {
	kind := "file"
	for _, fact := range strings.Split(strings.ToLower(facts), ";") {
		if strings.HasPrefix(fact, "type=") {
			kind = fact[len("type="):]
		} else if fact == "type" {
			kind = ""
		}
	}
	return kind == "file"
}

// memoryConn is one end of a connection in memory, with addresses, and without deadlines:
// those of a pipe fail when the other end is closed, where a socket's reading goes on to
// the end of what was sent.
type memoryConn struct{ net.Conn }

func (memoryConn) SetDeadline(time.Time) error      { return nil }
func (memoryConn) SetReadDeadline(time.Time) error  { return nil }
func (memoryConn) SetWriteDeadline(time.Time) error { return nil }

func (memoryConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 21} }

// listingServer answers LIST and NLST with what it is told, without a network: a fuzzer
// would use up the ports.
type listingServer struct {
	list, nlst string
	data       chan net.Conn
}

func (s *listingServer) serve(conn net.Conn) {
	defer conn.Close()
	fmt.Fprint(conn, "220 ready\r\n")
	for lines := bufio.NewReader(conn); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "USER":
			fmt.Fprint(conn, "230 welcome\r\n")
		case "FEAT":
			fmt.Fprint(conn, "502 none\r\n")
		case "TYPE":
			fmt.Fprint(conn, "200 ok\r\n")
		case "CWD":
			fmt.Fprint(conn, "250 ok\r\n")
		case "EPSV":
			fmt.Fprint(conn, "229 ok (|||1|)\r\n")
		case "LIST", "NLST":
			text := s.list
			if verb == "NLST" {
				text = s.nlst
			}
			fmt.Fprint(conn, "150 here\r\n")
			data := <-s.data
			_, _ = io.WriteString(data, text)
			data.Close()
			fmt.Fprint(conn, "226 done\r\n")
		case "QUIT":
			return
		}
	}
}

// listInMemory has a session list a directory of which the server says this.
func listInMemory(t *testing.T, list, nlst string) ([]entry, []string, error) {
	t.Helper()
	server := &listingServer{list: list, nlst: nlst, data: make(chan net.Conn, 1)}
	ours, theirs := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.serve(theirs)
	}()
	defer func() { ours.Close(); <-ended }()
	s := &session{end: &endpoint{log: slog.New(slog.DiscardHandler)}, raw: map[*rollingConn]struct{}{}}
	dial := func(string, string) (net.Conn, error) {
		if s.control == nil {
			s.control = &controlConn{Conn: memoryConn{ours}}
			return s.control, nil
		}
		near, far := net.Pipe()
		server.data <- far
		raw := &rollingConn{Conn: memoryConn{near}, timeout: time.Minute, closed: func() {}}
		return &dataConn{Conn: raw, raw: raw, record: s.record}, nil
	}
	var err error
	if s.ftp, err = ftpclient.Dial("memory", ftpclient.DialWithDialFunc(dial)); err != nil {
		t.Fatal(err)
	}
	if err := s.ftp.Login("a", "b"); err != nil {
		t.Fatal(err)
	}
	return s.listBoth("/in")
}

// Of whatever is in a LIST, in whatever format, no name is lost without a word that NLST
// has, and no name comes out that is none.
func FuzzLIST(f *testing.F) {
	const file = "-rw-r--r--    1 1000     1000            5 Jan 05 10:33 a\r\n"
	for _, seed := range [][2]string{
		{file, "a\r\n"}, {"total 4\r\n" + file, "a\n"}, {"", "a"}, {"A.TXT;1   5   5-JAN-2026 10:33:00\r\n", "A.TXT"},
		{"01-05-26  10:33AM                    5 a b\r\n", "a b"}, {"01-05-26  10:33AM       <DIR>          dir\r\n", "dir"},
		{"+i8388621.48594,m825718503,r,s280,\tdjb.html\r\n", "djb.html"}, {"-rw-r--r-- 1 a b 18446744073709551615 Jan 05 10:33 a\r\n", "a"},
		{"lrwxrwxrwx    1 0 0            1 Jan 05 10:33 other -> a\r\n" + file, "other\r\na"},
		{"srwxr-xr-x    1 0 0            0 Jan 05 10:33 socket\r\n", "socket"}, {"-rw-r--r-- 1 a b 5 Jan 05 10:33 a/b\r\n", "a/b"},
		{file + file, "a"}, {"-rw-r--r-- 1 a b 5 Jan 05 10:33 \r\n", ""}, {"d [R----F--] supervisor 512 Jan 16 18:53 login\r\n", "login"},
		{"- [R----F--] rhesus 214059 Oct 20 15:27 cx.exe\r\n", "cx.exe"}, {"type=file;size=5; a\r\n", "a"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, list, nlst string) {
		entries, below, err := listInMemory(t, list, nlst)
		if err != nil {
			if errors.Is(err, errOutOfStep) {
				t.Errorf("out of step: %v", err)
			}
			return
		}
		known := map[string]bool{}
		for _, e := range entries {
			known[e.name] = true
			if e.name == "" || strings.ContainsAny(e.name, "/\x00") || e.size < -1 || e.name == "." || e.name == ".." {
				t.Errorf("%q has become %+v", list, e)
			}
			if utf8.ValidString(list) && !strings.Contains(list, e.name) {
				t.Errorf("the name %q is not in %q", e.name, list)
			}
		}
		for _, dir := range below {
			known[dir] = true
			if dir == "" || strings.ContainsAny(dir, "/\x00") {
				t.Errorf("the directory %q came out of %q", dir, list)
			}
		}
		if len(entries) == 0 {
			checkNamesKnown(t, list, nlst, known)
		}
	})
}

// checkNamesKnown is about a listing that has no file: then NLST has to agree, name by
// name. (Names of what is no file stand in LIST, at the end of a line.)
func checkNamesKnown(t *testing.T, list, nlst string, known map[string]bool) {
	t.Helper()
	for line := range strings.SplitSeq(nlst, "\n") {
		name := strings.TrimSuffix(line, "\r")
		if at := strings.LastIndex(name, "/"); at >= 0 {
			name = name[at+1:]
		}
		if name == "" || strings.HasPrefix(name, ".") || known[name] {
			continue
		}
		if !strings.Contains(list, name) {
			t.Errorf("NLST has %q, LIST is %q, and the directory counts as empty", name, list)
		}
	}
}

// scriptConn says what it was told and takes everything.
type scriptConn struct {
	net.Conn
	says io.Reader
	took bytes.Buffer
}

func (c *scriptConn) Read(p []byte) (int, error)       { return c.says.Read(p) }
func (c *scriptConn) Write(p []byte) (int, error)      { return c.took.Write(p) }
func (c *scriptConn) Close() error                     { return nil }
func (c *scriptConn) SetDeadline(time.Time) error      { return nil }
func (c *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptConn) SetWriteDeadline(time.Time) error { return nil }

// Whatever a server says before TLS has begun, nothing but AUTH TLS and the beginning of
// a handshake is said to it in plain text, and it ends in an error.
func FuzzStartTLS(f *testing.F) {
	for _, seed := range []string{
		"220 ready\r\n234 go\r\n", "220-ready\r\n ...\r\n220 now\r\n234 go\r\n", "220 ready\r\n500 what?\r\n", "220", "\x00\r\n",
		"220 ready\r\n234 go\r\n331 password, please\r\n", "120 soon\r\n220 ready\r\n234 go\r\n", "220-\r\n", "234 go\r\n220 ready\r\n", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		conn := &scriptConn{says: bytes.NewReader(said)}
		cfg, err := decode[receiveProperties](t, map[string]any{"address": "localhost", "directory": "/", "tls": "explicit"}).tlsConfig()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := startTLS(conn, cfg, nil); err == nil {
			t.Fatal("TLS with a server that has no key")
		}
		const auth = "AUTH TLS\r\n"
		got := conn.took.String()
		if got == "" || got == auth {
			return
		}
		hello, ok := strings.CutPrefix(got, auth)
		if !ok || hello[0] != 0x16 && hello[0] != 0x15 { // a handshake, or an alert
			t.Errorf("after %q was said in plain text: %q", said, got)
		}
	})
}
