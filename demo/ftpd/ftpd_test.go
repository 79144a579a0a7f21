package ftpd

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ftpclient "github.com/jlaffaye/ftp"
	"github.com/spf13/afero"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.User, cfg.Password = "tester", "secret"
	s, err := Start(cfg)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return s
}

func login(t *testing.T, s *Server, mode TLSMode) *ftpclient.ServerConn {
	t.Helper()
	options := []ftpclient.DialOption{ftpclient.DialWithTimeout(5 * time.Second)}
	if mode != Plain {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(s.CertificatePEM())
		cfg := &tls.Config{RootCAs: roots, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		if mode == Explicit {
			options = append(options, ftpclient.DialWithExplicitTLS(cfg))
		} else {
			options = append(options, ftpclient.DialWithTLS(cfg))
		}
	}
	c, err := ftpclient.Dial(s.Addr(), options...)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	if err := c.Login("tester", "secret"); err != nil {
		t.Fatalf("log in: %v", err)
	}
	return c
}

func TestServesOneDirectoryInEveryMode(t *testing.T) {
	for _, mode := range []TLSMode{Plain, Explicit, Implicit} {
		t.Run("tls "+string(mode), func(t *testing.T) {
			dir := t.TempDir()
			s := start(t, Config{Root: dir, TLS: mode})
			c := login(t, s, mode)
			if err := c.Stor("a", strings.NewReader("content")); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(got) != "content" {
				t.Errorf("stored %q, %v", got, err)
			}
			r, err := c.Retr("a")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || string(got) != "content" {
				t.Errorf("retrieved %q, %v", got, err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if err := c.Rename("a", "b"); err != nil {
				t.Error(err)
			}
			if err := c.Delete("b"); err != nil {
				t.Error(err)
			}
			if err := c.Quit(); err != nil {
				t.Error(err)
			}
			var done []string
			for _, e := range s.Events() {
				if e.Session != 0 && e.Err == nil {
					done = append(done, strings.TrimSpace(e.Command+" "+e.Path+" "+e.To))
				}
				if e.Command == "STOR" && e.Bytes != 7 || e.Command == "RETR" && e.Bytes != 7 {
					t.Errorf("%s moved %d bytes, want 7", e.Command, e.Bytes)
				}
			}
			want := []string{"CONNECT", "PASS", "STOR /a", "RETR /a", "RNFR /a", "RNTO /a /b", "DELE /b"}
			if len(done) < len(want) || !slices.Equal(done[:len(want)], want) {
				t.Errorf("journal %q, want %q", done, want)
			}
		})
	}
}

func TestPlainClientsAreRefusedWhereTLSIsWanted(t *testing.T) {
	s := start(t, Config{Fs: afero.NewMemMapFs(), TLS: Explicit})
	c, err := ftpclient.Dial(s.Addr(), ftpclient.DialWithTimeout(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Quit()
	if err := c.Login("tester", "secret"); err == nil {
		t.Error("a plain login was taken")
	}
}

func TestWrongPasswordIsRefusedAndNoted(t *testing.T) {
	var log []Event
	s := start(t, Config{Fs: afero.NewMemMapFs(), Log: func(e Event) { log = append(log, e) }})
	c, err := ftpclient.Dial(s.Addr(), ftpclient.DialWithTimeout(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Login("tester", "wrong"); err == nil {
		t.Error("a wrong password was taken")
	}
	c.Quit()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(log, func(e Event) bool { return e.Command == "PASS" && e.Err != nil }) {
		t.Errorf("log %v lacks the refused login", log)
	}
}

func TestStopEndsSessionsAndMayBeRepeated(t *testing.T) {
	s := start(t, Config{Fs: afero.NewMemMapFs()})
	c := login(t, s, Plain)
	for range 2 {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
	if err := c.NoOp(); err == nil {
		t.Error("the session goes on after Stop")
	}
	if n := s.Sessions(); n != 0 {
		t.Errorf("%d sessions after Stop", n)
	}
}

func TestUnsafeConfigurationsAreRefused(t *testing.T) {
	fs := afero.NewMemMapFs()
	for name, cfg := range map[string]Config{
		"all interfaces": {Addr: ":0", Fs: fs, User: "u"},
		"a public one":   {Addr: "192.0.2.1:21", Fs: fs, User: "u"},
		"no user":        {Fs: fs},
		"no files":       {User: "u"},
		"unknown TLS":    {Fs: fs, User: "u", TLS: "both"},
	} {
		if s, err := Start(cfg); err == nil {
			s.Stop()
			t.Errorf("%s: started", name)
		}
	}
}

func TestJournalIsBounded(t *testing.T) {
	j := &journal{}
	for i := range journalMax + 10 {
		j.add(Event{Bytes: int64(i)})
	}
	events := j.events()
	if len(events) > journalMax || events[len(events)-1].Bytes != journalMax+9 {
		t.Errorf("%d events, the last is %d", len(events), events[len(events)-1].Bytes)
	}
}
