package netns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/demo/cluster"
)

const (
	// serverUID is the user whom the FTP server's sessions run as.
	serverUID = 20021
	ftpPort   = "2121"
)

// ftpServer is a real vsftpd in the test's own namespace. Its directory "out" is the
// source, "in" the destination.
type ftpServer struct{ dir string }

func (s *ftpServer) folder(name string) string { return filepath.Join(s.dir, "data", name) }
func (s *ftpServer) log() string               { return filepath.Join(s.dir, "ftp.log") }

func startFTP(t *testing.T) *ftpServer {
	t.Helper()
	scripts := os.Getenv("FAIRLEAD_SERVERS")
	if scripts == "" {
		scripts = filepath.Join(repository(t), "..", "shared", "servers")
	}
	script := filepath.Join(scripts, "start-vsftpd")
	if _, err := os.Stat(script); err != nil {
		t.Skipf("no script to start vsftpd: give the scripts' folder in FAIRLEAD_SERVERS")
	}
	dir := shortDir(t)
	s := &ftpServer{dir: filepath.Join(dir, "ftp")}
	cmd := exec.Command(script, s.dir, ftpPort)
	cmd.Env = append(os.Environ(), fmt.Sprintf("OWNER_PID=%d", os.Getpid()), "EXTRA=listen_address=0.0.0.0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("start vsftpd: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(filepath.Join(scripts, "stop"), s.dir).CombinedOutput(); err != nil {
			t.Logf("stop vsftpd: %v\n%s", err, out)
		}
	})
	for _, name := range []string{"out", "in"} {
		if err := os.MkdirAll(s.folder(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(s.folder(name), serverUID, serverUID); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// put makes a file appear at once and whole at the source.
func (s *ftpServer) put(item cluster.Item) error {
	staged := filepath.Join(s.dir, "staged")
	if err := os.WriteFile(staged, item.Content, 0o644); err != nil {
		return err
	}
	if err := os.Chown(staged, serverUID, serverUID); err != nil {
		return err
	}
	return os.Rename(staged, filepath.Join(s.folder("out"), item.Name))
}

// commands reads the whole log.
func (s *ftpServer) commands(t *testing.T) []command {
	t.Helper()
	f, err := os.Open(s.log())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	commands, err := readLog(f)
	if err != nil {
		t.Fatal(err)
	}
	return commands
}

// arrivals are the files that a partner would take, by the name of their source.
func (s *ftpServer) arrivals() (map[string][]string, error) {
	entries, err := os.ReadDir(s.folder("in"))
	if err != nil {
		return nil, err
	}
	all := map[string][]string{}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".fairlead-") {
			source, _, _ := strings.Cut(e.Name(), "~")
			all[source] = append(all[source], e.Name())
		}
	}
	return all, nil
}

func repository(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// binaries is where fairlead and its adapters are.
func binaries(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("FAIRLEAD_BIN")
	if dir == "" {
		dir = filepath.Join(repository(t), "bin")
	}
	if _, err := os.Stat(filepath.Join(dir, "fairlead")); err != nil {
		t.Fatalf("%s/fairlead is missing: run `make` first (`make test` does)", dir)
	}
	return dir
}

// shortDir is a directory whose path leaves room for the names of sockets, and that
// everybody may enter. It stays when the test fails.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fl-ns-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("evidence is left in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
