package main

import (
	"bufio"
	"cmp"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// meddler stands between the client and a good server, on the control connection, and
// spoils one reply: the one with this number, counted over all connections. The greeting
// and the two replies to a transfer count each.
type meddler struct {
	addr   string
	server string
	fault  fault
	// patience is the client's time-out.
	patience string

	mu      sync.Mutex
	left    int    // replies that pass before the spoilt one
	spoilt  string // the command whose reply was spoilt, "" while none was
	flooded int64  // bytes of an endless reply that found a taker
	open    map[net.Conn]bool
	stopCh  chan struct{}
	serving sync.WaitGroup
}

// fault is what becomes of one reply.
type fault struct {
	// lost: the command does not reach the server.
	lost bool
	// spoil gets the client's connection and the reply as it should be. The connection is
	// closed afterwards, unless it returns true.
	spoil func(m *meddler, client net.Conn, reply string) (goOn bool)
}

func newMeddler(t *testing.T, server string, at int, f fault) *meddler {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &meddler{addr: listener.Addr().String(), server: server, left: at, fault: f, open: map[net.Conn]bool{}, stopCh: make(chan struct{})}
	m.serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			m.serving.Go(func() { m.pass(client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		close(m.stopCh)
		m.mu.Lock()
		for c := range m.open {
			c.Close()
		}
		m.mu.Unlock()
		m.serving.Wait()
	})
	return m
}

func (m *meddler) keep(c net.Conn) func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open[c] = true
	return func() {
		c.Close()
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.open, c)
	}
}

// connections is how many connections of the client are open.
func (m *meddler) connections() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.open)
}

// due counts a reply and reports whether it is the one to spoil.
func (m *meddler) due(command string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left--
	if m.left == -1 {
		m.spoilt = command
	}
	return m.left == -1
}

func (m *meddler) victim() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.spoilt
}

// taken is how much of endless replies found a taker.
func (m *meddler) taken() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.flooded
}

// pass serves one connection: one command after the other, though many may have come.
func (m *meddler) pass(client net.Conn) {
	defer m.keep(client)()
	server, err := net.Dial("tcp", m.server)
	if err != nil {
		return
	}
	defer server.Close()
	replies, commands := bufio.NewReader(server), bufio.NewReader(client)
	for line := ""; ; {
		command := cmp.Or(strings.TrimRight(line, "\r\n"), "nothing: the greeting")
		if m.fault.lost && m.due(command) {
			m.fault.spoil(m, client, "")
			return
		}
		_, _ = io.WriteString(server, line)
		for !m.reply(client, replies, command) {
		}
		if line, err = commands.ReadString('\n'); err != nil {
			return
		}
	}
}

// reply passes one reply on. It returns true if it is the last one to the command, or if
// the connection is over.
func (m *meddler) reply(client net.Conn, from *bufio.Reader, command string) (final bool) {
	text, err := readReply(from)
	if err != nil {
		client.Close()
		return true
	}
	if !m.fault.lost && m.due(command) {
		if !m.fault.spoil(m, client, text) {
			client.Close()
			return true
		}
		return text[0] != '1'
	}
	if _, err := io.WriteString(client, text); err != nil {
		return true
	}
	return text[0] != '1'
}

// readReply reads one reply, all lines of it.
func readReply(r *bufio.Reader) (string, error) {
	var all strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		all.WriteString(line)
		if len(line) >= 4 && line[0] >= '1' && line[0] <= '5' && line[3] == ' ' {
			return all.String(), nil
		}
	}
}

// flood writes pieces until nobody takes them any more.
func (m *meddler) flood(client net.Conn, piece string) {
	for {
		n, err := io.WriteString(client, piece)
		m.mu.Lock()
		m.flooded += int64(n)
		m.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func replaces(text string, goOn bool) func(*meddler, net.Conn, string) bool {
	return func(_ *meddler, client net.Conn, _ string) bool {
		_, _ = io.WriteString(client, text)
		return goOn
	}
}

// silence lasts until the client has gone: it is a read that ends with it.
func silence(m *meddler, client net.Conn, _ string) bool {
	_, _ = io.Copy(io.Discard, client)
	return false
}

func hangsUp(*meddler, net.Conn, string) bool { return false }

// faults are all that a server can do to a reply.
var faults = map[string]fault{
	"silence, command lost":  {lost: true, spoil: silence},
	"silence, command done":  {spoil: silence},
	"closed, command lost":   {lost: true, spoil: hangsUp},
	"closed, command done":   {spoil: hangsUp},
	"closed after the reply": {spoil: func(_ *meddler, c net.Conn, reply string) bool { _, _ = io.WriteString(c, reply); return false }},
	"421, command lost":      {lost: true, spoil: replaces("421 Service not available, closing control connection\r\n", false)},
	"421, command done":      {spoil: replaces("421 Timeout\r\n", false)},
	"421, and stays":         {spoil: replaces("421 Too many of you\r\n", true)},
	"no code":                {spoil: replaces("wait a minute\r\n", true)},
	"no code, and a NUL":     {spoil: replaces("\x00\xff\xfe\r\n", true)},
	"a code out of range":    {spoil: replaces("999 what?\r\n", true)},
	"a code of zero":         {spoil: replaces("000 what?\r\n", true)},
	"another success":        {spoil: replaces("299 fine\r\n", true)},
	"another question":       {spoil: replaces("399 and then?\r\n", true)},
	"a reply that is early":  {spoil: replaces("199 soon\r\n", true)},
	"said twice":             {spoil: func(_ *meddler, c net.Conn, reply string) bool { _, _ = io.WriteString(c, reply+reply); return true }},
	"an empty line":          {spoil: replaces("\r\n", true)},
	"half a reply":           {spoil: func(_ *meddler, c net.Conn, reply string) bool { _, _ = io.WriteString(c, reply[:2]); return false }},
	"an endless line": {spoil: func(m *meddler, c net.Conn, r string) bool {
		m.flood(c, r[:3]+strings.Repeat(" long", 1000))
		return false
	}},
	"an endless reply": {spoil: func(m *meddler, c net.Conn, r string) bool {
		m.flood(c, r[:3]+"-more\r\n"+strings.Repeat(" and more\r\n", 500))
		return false
	}},
	"an endless reply of old": {spoil: func(m *meddler, c net.Conn, r string) bool { m.flood(c, r[:3]+"-more\r\n"); return false }},
}
