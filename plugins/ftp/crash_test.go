package main

import (
	"bufio"
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

// brink passes control connections on until so many commands have come. Then the client
// has died: nothing passes any more. The last command reaches the server or not.
type brink struct {
	addr    string
	server  string
	reaches bool

	mu   sync.Mutex
	left int
	open []net.Conn
	dead bool
}

func newBrink(t *testing.T, server string, commands int, reaches bool) *brink {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &brink{addr: listener.Addr().String(), server: server, left: commands, reaches: reaches}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { b.pass(client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		b.die()
		passing.Wait()
	})
	return b
}

func (b *brink) die() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead = true
	for _, c := range b.open {
		c.Close()
	}
}

func (b *brink) keep(conns ...net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = append(b.open, conns...)
	return !b.dead
}

func (b *brink) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", b.server)
	if err != nil {
		return
	}
	defer server.Close()
	if !b.keep(client, server) {
		return
	}
	replied := make(chan struct{})
	go func() {
		defer close(replied)
		_, _ = io.Copy(client, server)
	}()
	defer func() { server.Close(); <-replied }()
	for lines := bufio.NewReader(client); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		b.mu.Lock()
		b.left--
		last := b.left < 0
		b.mu.Unlock()
		if last && b.reaches {
			// The client is not there to read the reply, which says that it is done.
			client.Close()
			<-replyTo(server, line, replied)
		}
		if last {
			b.die()
			return
		}
		_, _ = io.WriteString(server, line)
	}
}

// replyTo sends the command, and a NOOP that is answered when it is done.
func replyTo(server net.Conn, line string, replied <-chan struct{}) <-chan struct{} {
	_, _ = io.WriteString(server, line)
	_, _ = io.WriteString(server, "QUIT\r\n")
	return replied
}

// Whatever command was the last of an owner, and whether or not it was carried out, the
// next owner makes exactly one whole file of the message, and overwrites nothing.
func TestCrashAtAnyCommandEndsInOneWholeFile(t *testing.T) {
	for name, c := range map[string]struct {
		properties []any
		taken      bool // the usual name, by another file
		large      bool
	}{
		"replace":            {[]any{"name", "{{fairlead.id}}"}, false, false},
		"replace, all":       {[]any{"name", "{{fairlead.id}}", "checksum", "md5", "keep_time", true, "create_directories", true, "directory", "/out"}, false, false},
		"name of the sender": {[]any{"name", "{{ftp.name}}", "keep_time", true}, false, false},
		"fail":               {[]any{"name", "{{ftp.name}}", "if_exists", "fail", "checksum", "sha256"}, false, false},
		"rename, free":       {[]any{"name", "{{ftp.name}}", "if_exists", "rename", "checksum", "sha256"}, false, false},
		"rename, taken":      {[]any{"name", "{{ftp.name}}", "if_exists", "rename", "checksum", "sha256"}, true, false},
		"resume":             {[]any{"name", "{{ftp.name}}", "if_exists", "rename", "resume", true}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, reaches := range []bool{false, true} {
				for commands := 0; ; commands++ {
					if !crashAt(t, c.properties, c.taken, c.large, commands, reaches) {
						break
					}
					if commands > 60 {
						t.Fatal("never came to its end")
					}
				}
			}
		})
	}
}

// crashAt reports whether the first owner died.
func crashAt(t *testing.T, properties []any, taken, large bool, commands int, reaches bool) (died bool) {
	t.Helper()
	s := startServer(t, ftpd.Config{})
	body := []byte("five!")
	if large {
		body = noise(1, 3<<19)
	}
	if taken {
		s.write(t, "a", []byte(strings.ToUpper(string(body))))
	}
	props := with(with(s.props, "timeout", "2s"), properties...)
	m := newMessage(t, body, "ftp.name", "a", "ftp.modified", "2020-01-01T00:00:00Z")
	b := newBrink(t, s.Addr(), commands, reaches)
	first := newSink(t, with(props, "address", b.addr))
	died = first.Send(testContext(t), m) != nil
	b.die()
	// What the server was doing for it is done: the next owner comes later than that, by
	// its lease.
	waitFor(t, "the end of the first owner's sessions", func() bool { return s.Sessions() == 0 })
	m.Redelivered = true
	next := newSink(t, props)
	arrival, err := next.Probe(testContext(t), m)
	if err != nil {
		t.Fatalf("after %d commands: probe: %v", commands, err)
	}
	before := filesOf(t, s.Dir, string(body))
	if (arrival == sdk.Arrived) != (len(before) == 1) {
		t.Errorf("after %d commands (the last one done: %t): probe says %s, and there are %q", commands, reaches, arrivalName(arrival), before)
	}
	sums := decode[sendProperties](t, props)
	for _, name := range before {
		if sidecar := sums.SidecarName(name); sidecar != "" && !strings.HasSuffix(content(t, s.Dir, strings.TrimPrefix(sums.Directory.String(), "/"), sidecar), "  "+name+"\n") {
			t.Errorf("after %d commands: %s has another checksum file", commands, name)
		}
	}
	if arrival != sdk.Arrived {
		send(t, next, m)
	}
	if got := filesOf(t, s.Dir, string(body)); len(got) != 1 {
		t.Errorf("after %d commands (the last one done: %t), probe %s: the message is in %q", commands, reaches, arrivalName(arrival), got)
	}
	if taken && content(t, s.Dir, "a") != strings.ToUpper(string(body)) {
		t.Errorf("after %d commands: somebody else's file was overwritten", commands)
	}
	return died
}

// filesOf returns the files with this content that a consumer sees, and makes sure that
// none is there in part, and none without its checksum if there are checksums.
func filesOf(t *testing.T, dir, body string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || files.IsTemporary(e.Name()) {
			return err
		}
		data, err := os.ReadFile(path)
		switch ext := filepath.Ext(path); {
		case err != nil:
			return err
		case string(data) == body:
			all = append(all, e.Name())
		case ext != ".sha256" && ext != ".md5" && string(data) != strings.ToUpper(body):
			return fmt.Errorf("%s has %d bytes that nobody sent", path, len(data))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return all
}
