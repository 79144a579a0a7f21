package popd

import (
	"net"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.User, cfg.Password = "u", "p"
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	return s
}

// peer is a client that says exactly what a test wants.
type peer struct {
	*textproto.Conn
	t *testing.T
}

func dial(t *testing.T, s *Server) *peer {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	p := &peer{textproto.NewConn(c), t}
	t.Cleanup(func() { p.Close() })
	if line, err := p.ReadLine(); err != nil || !strings.HasPrefix(line, "+OK ") {
		t.Fatalf("greeting %q, %v", line, err)
	}
	return p
}

// say sends a command and returns the status line.
func (p *peer) say(command string) string {
	p.t.Helper()
	if err := p.PrintfLine("%s", command); err != nil {
		p.t.Fatalf("%s: %v", command, err)
	}
	line, err := p.ReadLine()
	if err != nil {
		p.t.Fatalf("%s: %v", command, err)
	}
	return line
}

func (p *peer) want(command, prefix string) {
	p.t.Helper()
	if got := p.say(command); !strings.HasPrefix(got, prefix) {
		p.t.Fatalf("%s: %q, want %q", command, got, prefix)
	}
}

func (p *peer) login() {
	p.t.Helper()
	p.want("USER u", "+OK")
	p.want("PASS p", "+OK")
}

func TestMaildropIsLockedUntilQuitIsAnswered(t *testing.T) {
	s := start(t, Config{})
	first, second := dial(t, s), dial(t, s)
	first.login()
	second.want("USER u", "+OK")
	second.want("PASS p", "-ERR [IN-USE]")
	first.want("QUIT", "+OK")
	second.login()
}

func TestDeletionsHappenAtQuitOnly(t *testing.T) {
	s := start(t, Config{})
	kept := s.Deliver([]byte("A: 1\r\n\r\n"))
	s.Deliver([]byte("A: 2\r\n\r\n"))
	p := dial(t, s)
	p.login()
	p.want("DELE 2", "+OK")
	p.want("DELE 2", "-ERR")
	if s.Count() != 2 {
		t.Error("deleted before QUIT")
	}
	s.DropSessions()
	for s.Locked() { // until the session's goroutine has noticed
		if _, err := p.ReadLine(); err == nil {
			t.Fatal("the connection was not dropped")
		}
	}
	if s.Count() != 2 {
		t.Error("deleted without QUIT")
	}
	p = dial(t, s)
	p.login()
	p.want("DELE 1", "+OK")
	p.want("RSET", "+OK")
	p.want("DELE 2", "+OK")
	p.want("QUIT", "+OK")
	p = dial(t, s)
	p.login()
	p.want("UIDL 1", "+OK 1 "+kept)
	p.want("STAT", "+OK 1 8")
}

func TestSessionSeesWhatWasThereAtItsBeginning(t *testing.T) {
	s := start(t, Config{})
	p := dial(t, s)
	p.login()
	s.Deliver([]byte("A: 1\r\n\r\n"))
	p.want("STAT", "+OK 0 0")
}

func TestRetrStuffsDots(t *testing.T) {
	s := start(t, Config{})
	s.Deliver([]byte(".a\r\n\r\n.\r\nb\n.\r\nend"))
	p := dial(t, s)
	p.login()
	p.want("RETR 1", "+OK")
	var b strings.Builder
	for {
		line, err := p.R.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == ".\r\n" && strings.HasSuffix(b.String(), "end\r\n") {
			break
		}
		b.WriteString(line)
	}
	if want := "..a\r\n\r\n..\r\nb\n.\r\nend\r\n"; b.String() != want {
		t.Errorf("sent %q, want %q", b.String(), want)
	}
}

func TestOnlyLoopbackIsServed(t *testing.T) {
	if s, err := Start(Config{Addr: "0.0.0.0:0", User: "u"}); err == nil {
		s.Stop()
		t.Error("listens on all interfaces")
	}
}

func TestDownAndUpKeepAddressAndMails(t *testing.T) {
	s := start(t, Config{})
	s.Deliver([]byte("A: 1\r\n\r\n"))
	addr := s.Addr()
	s.Down()
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("reachable while down")
	}
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	p := dial(t, s)
	p.login()
	p.want("STAT", "+OK 1 8")
}

func TestJournalTellsCommandsAndNoSecrets(t *testing.T) {
	s := start(t, Config{})
	uidl := s.Deliver([]byte("A: 1\r\n\r\n"))
	p := dial(t, s)
	p.login()
	p.want("DELE 1", "+OK")
	var commands []string
	for _, e := range s.Events() {
		commands = append(commands, e.Command)
		if e.Command == "PASS" && e.Argument != "" {
			t.Errorf("the password is in the journal: %q", e.Argument)
		}
		if e.Command == "DELE" && e.UIDL != uidl {
			t.Errorf("DELE of %q, want %q", e.UIDL, uidl)
		}
	}
	if got := strings.Join(commands, " "); got != "CONNECT GREETING USER PASS DELE" {
		t.Errorf("journal has %s", got)
	}
}
