package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	"go.uber.org/goleak"

	"github.com/fairlead-io/fairlead/sdk"
)

const (
	testUser     = "tester"
	testPassword = "s3cret-Passw0rd"
	// testWait bounds every wait of a test.
	testWait = 20 * time.Second
)

func TestMain(m *testing.M) {
	// The test server's own: it leaves a lock held when a client goes away in the
	// middle of a mail, and its session then waits for that lock.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/emersion/go-imap/v2/imapserver.(*Conn).serve"))
}

// testServer is an IMAP server in memory that can be taken away and misbehave.
type testServer struct {
	t     testing.TB
	user  *imapmemserver.User
	memo  *imapmemserver.Server
	caps  imap.CapSet
	props map[string]any

	mu     sync.Mutex
	addr   string
	server *imapserver.Server
	listen net.Listener
	served chan error
	conns  map[*tappedConn]bool
	heard  []string // command lines of all clients
	// silentAt makes the server mute from the first line that contains it.
	silentAt string
	// cutAfter breaks a connection when it has sent so many bytes; 0: never.
	cutAfter int
}

func startServer(t testing.TB, extra ...imap.Cap) *testServer {
	t.Helper()
	s := &testServer{
		t: t, user: imapmemserver.NewUser(testUser, testPassword), memo: imapmemserver.New(),
		caps:  imap.CapSet{imap.CapIMAP4rev1: {}},
		addr:  "127.0.0.1:0",
		conns: map[*tappedConn]bool{},
	}
	for _, c := range extra {
		s.caps[c] = struct{}{}
	}
	if err := s.user.Create("INBOX", nil); err != nil {
		t.Fatal(err)
	}
	s.memo.AddUser(s.user)
	s.up(t)
	t.Cleanup(func() { s.down() })
	s.props = map[string]any{"address": s.addr, "user": testUser, "password": testPassword, "timeout": "10s"}
	return s
}

func (s *testServer) up(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	server := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return s.memo.NewSession(), nil, nil
		},
		Caps:         s.caps,
		InsecureAuth: true,
		Logger:       log.New(io.Discard, "", 0),
	})
	served := make(chan error, 1)
	s.mu.Lock()
	s.addr, s.server, s.listen, s.served = l.Addr().String(), server, l, served
	s.mu.Unlock()
	go func() { served <- server.Serve(&tappedListener{l, s}) }()
}

func (s *testServer) down() {
	s.mu.Lock()
	server, listen, served := s.server, s.listen, s.served
	s.server = nil
	s.mu.Unlock()
	if server == nil {
		return
	}
	server.Close()
	listen.Close() // the server does not, if it was closed before it began
	<-served
	s.cut()
}

// cut ends all connections without a word.
func (s *testServer) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
	clear(s.conns)
}

func (s *testServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// commands counts the command lines with this text.
func (s *testServer) commands(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, line := range s.heard {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

type tappedListener struct {
	net.Listener
	s *testServer
}

func (l *tappedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t := &tappedConn{Conn: c, s: l.s}
	l.s.set(func() { l.s.conns[t] = true })
	return t, nil
}

// tappedConn notes what the client says and carries out the faults.
type tappedConn struct {
	net.Conn
	s     *testServer
	sent  int
	muted bool
}

func (c *tappedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.s.set(func() {
		line := string(p[:n])
		c.s.heard = append(c.s.heard, line)
		if c.s.silentAt != "" && strings.Contains(line, c.s.silentAt) {
			c.muted = true
			c.s.silentAt = ""
		}
	})
	return n, err
}

func (c *tappedConn) Write(p []byte) (int, error) {
	var muted bool
	keep := len(p)
	c.s.set(func() {
		if c.s.silentAt == "GREETING" {
			c.muted, c.s.silentAt = true, ""
		}
		muted = c.muted
		if c.s.cutAfter > 0 && c.sent+keep > c.s.cutAfter {
			keep = c.s.cutAfter - c.sent
		}
		c.sent += len(p)
	})
	if muted {
		return len(p), nil
	}
	n, err := c.Conn.Write(p[:max(0, keep)])
	if keep < len(p) {
		c.Conn.Close()
		return n, io.ErrClosedPipe
	}
	return n, err
}

func (s *testServer) deliver(t testing.TB, mail []byte, flags ...imap.Flag) imap.UID {
	t.Helper()
	data, err := s.user.Append("INBOX", literal{bytes.NewReader(mail)}, &imap.AppendOptions{Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	return data.UID
}

type literal struct{ *bytes.Reader }

func (l literal) Size() int64 { return l.Reader.Size() }

// stored is a mail as the server has it.
type stored struct {
	uid     imap.UID
	flags   []imap.Flag
	content []byte
}

// mails looks into the mailbox with a source of its own.
func (s *testServer) mails(t testing.TB) []stored {
	t.Helper()
	src := newTestSource(t, with(s.props, "after_delivery", "keep", "search", "all"))
	var out []stored
	if err := src.begin(testContext(t)); err != nil {
		t.Fatal(err)
	}
	err := src.session.during(testContext(t), func() error {
		list, err := src.session.client.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{
			UID: true, Flags: true, BodySection: []*imap.FetchItemBodySection{{Peek: true}},
		}).Collect()
		for _, m := range list {
			out = append(out, stored{m.UID, m.Flags, m.BodySection[0].Bytes})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	src.Close()
	return out
}

func with(base map[string]any, pairs ...any) map[string]any {
	out := map[string]any{}
	for k, v := range base {
		out[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i].(string)] = pairs[i+1]
	}
	return out
}

func newTestSource(t testing.TB, props map[string]any) *source {
	t.Helper()
	data, err := json.Marshal(props)
	if err != nil {
		t.Fatal(err)
	}
	p, err := sdk.DecodeProperties[receiveProperties](data)
	if err != nil {
		t.Fatalf("properties: %v", err)
	}
	s, err := openSource(t.Context(), p, sdk.Env{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.(*source)
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	t.Cleanup(cancel)
	return ctx
}

func mustList(t testing.TB, s *source, want int) []sdk.Item {
	t.Helper()
	items, err := s.List(testContext(t))
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	if len(items) != want {
		t.Fatalf("listing has %d items, want %d", len(items), want)
	}
	return items
}

func read(ctx context.Context, s *source, item sdk.Item) ([]byte, *sdk.Content, error) {
	content, err := s.Open(ctx, item)
	if err != nil {
		return nil, nil, err
	}
	var all [][]byte
	for part, err := range content.Parts {
		var b []byte
		if err == nil {
			b, err = io.ReadAll(part.Reader)
		}
		if err != nil {
			content.Close()
			return nil, nil, err
		}
		all = append(all, b)
	}
	return slices.Concat(all...), content, content.Close()
}

func mustRead(t testing.TB, s *source, item sdk.Item) string {
	t.Helper()
	data, _, err := read(testContext(t), s, item)
	if err != nil {
		t.Fatalf("read %s: %v", item.Key, err)
	}
	return string(data)
}

// waitFor waits for a condition that another goroutine brings about.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(testWait)
	defer limit.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("waited %s for %s", testWait, what)
		}
	}
}

func mustContain(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

// plainMail is an ordinary mail.
func plainMail(n int) []byte {
	return fmt.Appendf(nil, "From: Ann <ann@example.org>\r\nTo: edi@example.org\r\nSubject: Order %d\r\nMessage-ID: <%d@example.org>\r\n\r\nbody %d\r\n", n, n, n)
}
