package mailtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/internal/freeport"
)

// Dovecot is a running server. POP3 is on Port, POP3S on Port+1, IMAP on Port+2,
// IMAPS on Port+3.
type Dovecot struct {
	Host           string
	Port           int
	User, Password string
	// CAFile is the certificate to trust.
	CAFile  string
	maildir string
	count   atomic.Int64
}

// StartDovecot starts a server that ends with the test, or skips the test where
// the scripts or the server are not installed. The settings are those of the
// start script's environment, such as "LOCK=1".
func StartDovecot(t testing.TB, settings ...string) *Dovecot {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a real server")
	}
	scripts := serverScripts(t)
	// Not below t.TempDir: the server's own user has to get through.
	dir, err := os.MkdirTemp("", "dovecot-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	port, release, err := freeport.Take(4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	start := exec.Command(filepath.Join(scripts, "start-dovecot"), dir, strconv.Itoa(port))
	start.Env = append(append(os.Environ(), fmt.Sprintf("OWNER_PID=%d", os.Getpid()), "START_TIMEOUT=60"), settings...)
	out, err := start.CombinedOutput()
	if err != nil {
		t.Skipf("dovecot does not start, install it to run this test: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(filepath.Join(scripts, "stop"), dir).CombinedOutput(); err != nil {
			t.Errorf("stop dovecot: %v\n%s", err, out)
		}
	})
	said := map[string]string{}
	for _, m := range regexp.MustCompile(`(\w+)=(\S+)`).FindAllStringSubmatch(string(out), -1) {
		said[m[1]] = m[2]
	}
	if said["port"] != strconv.Itoa(port) {
		t.Fatalf("dovecot says %q, want port %d", out, port)
	}
	return &Dovecot{
		Host: said["host"], Port: port, User: said["user"], Password: said["password"],
		CAFile: said["cert"], maildir: said["maildir"],
	}
}

// Address of the port that lies so far from the first.
func (d *Dovecot) Address(offset int) string {
	return net.JoinHostPort(d.Host, strconv.Itoa(d.Port+offset))
}

// Deliver puts a mail into the mailbox, at once and whole.
func (d *Dovecot) Deliver(t testing.TB, mail []byte) {
	t.Helper()
	name := fmt.Sprintf("%d.M%06d.test", time.Now().Unix(), d.count.Add(1))
	staged := filepath.Join(d.maildir, "tmp", name)
	if err := os.WriteFile(staged, mail, 0o644); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(d.maildir); err == nil {
		chownAs(staged, info)
	}
	if err := os.Rename(staged, filepath.Join(d.maildir, "new", name)); err != nil {
		t.Fatal(err)
	}
}

// Mails returns what is in the mailbox.
func (d *Dovecot) Mails(t testing.TB) [][]byte {
	t.Helper()
	var mails [][]byte
	for _, sub := range []string{"new", "cur"} {
		files, err := filepath.Glob(filepath.Join(d.maildir, sub, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if os.IsNotExist(err) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			mails = append(mails, data)
		}
	}
	return mails
}

// serverScripts finds shared/servers beside the repository.
func serverScripts(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("FAIRLEAD_SERVERS")
	if dir == "" {
		at, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for ; at != filepath.Dir(at); at = filepath.Dir(at) {
			if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
				break
			}
		}
		dir = filepath.Join(filepath.Dir(at), "shared", "servers")
	}
	if _, err := os.Stat(filepath.Join(dir, "start-dovecot")); err != nil {
		t.Skip("no scripts for real servers: set FAIRLEAD_SERVERS to their folder")
	}
	return dir
}
