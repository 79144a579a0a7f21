package main

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

func TestFileGetsModeTimeAndChecksum(t *testing.T) {
	attributes(t, func(t *testing.T) (string, map[string]any) {
		s := startServer(t)
		return s.Dir, s.props
	})
}

func TestOpenSSHGivesFilesModeTimeAndChecksum(t *testing.T) {
	attributes(t, func(t *testing.T) (string, map[string]any) {
		dir, props := startOpenSSH(t)
		return dir, with(props, "directory", ".")
	})
}

func attributes(t *testing.T, start func(t *testing.T) (dir string, props map[string]any)) {
	dir, props := start(t)
	was := time.Date(2020, 2, 29, 1, 2, 3, 0, time.UTC)
	k := newSink(t, with(props, "name", "{{sftp.name}}", "mode", "0640", "keep_time", true, "checksum", "sha256", "if_exists", "fail"))
	m := newMessage(t, "hello")
	m.Context["sftp.modified"] = was.Format(time.RFC3339)
	send(t, k, m)
	info, err := os.Stat(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o640 || !info.ModTime().Equal(was) {
		t.Errorf("mode %v and time %v, want 0640 and %v", info.Mode(), info.ModTime(), was)
	}
	sum := sha256.Sum256([]byte("hello"))
	got, err := os.ReadFile(filepath.Join(dir, "a.sha256"))
	if want := hex.EncodeToString(sum[:]) + "  a\n"; err != nil || string(got) != want {
		t.Errorf("checksum file %q, %v; want %q", got, err, want)
	}
	// Although the file is older than the message, it is the message's.
	m.Redelivered = true
	wantProbe(t, k, m, sdk.Arrived)
	send(t, k, m)
	other := newMessage(t, "hello")
	wantProbe(t, k, other, sdk.Unknown)
	// The checksum of somebody else's file is left alone.
	if err := os.WriteFile(filepath.Join(dir, "a.sha256"), []byte("other's"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := k.Send(testContext(t), other); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("sent over a file: %v", err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "a.sha256")); string(got) != "other's" {
		t.Errorf("the checksum of somebody else's file became %q", got)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left are %v, %v", entries, err)
	}
}

// The final rename fails when the checksum is there already: the file is never there
// without it.
func TestChecksumFileIsThereBeforeTheFile(t *testing.T) {
	s := startServer(t)
	if err := os.MkdirAll(filepath.Join(s.Dir, "a", "in the way"), 0o755); err != nil {
		t.Fatal(err)
	}
	k := newSink(t, with(s.props, "name", "{{sftp.name}}", "checksum", "md5"))
	m := newMessage(t, "hello")
	if err := k.Send(testContext(t), m); err == nil {
		t.Fatal("a directory was replaced by a file")
	}
	if got := s.names(t); !slices.Equal(got, []string{"a", "a.md5"}) {
		t.Errorf("the server has %q", got)
	}
	// As after a crash between the two renames.
	if err := os.RemoveAll(filepath.Join(s.Dir, "a")); err != nil {
		t.Fatal(err)
	}
	s.write(t, files.AttemptName(m.ID), []byte("hello"))
	m.Redelivered = true
	wantProbe(t, k, m, sdk.Absent)
	send(t, k, m)
	wantProbe(t, k, m, sdk.Arrived)
	if got := s.names(t); !slices.Equal(got, []string{"a", "a.md5"}) {
		t.Errorf("the server has %q", got)
	}
}

// meter lets clients say so much, together, and breaks their channels then.
type meter struct {
	mu         sync.Mutex
	left, said int
}

func (m *meter) set(left int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left, m.said = left, 0
}

func (m *meter) total() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.said
}

func (m *meter) spend(n int) (ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left, m.said = m.left-n, m.said+n
	return m.left >= 0
}

type metered struct {
	io.ReadWriteCloser
	*meter
}

func (m metered) Read(p []byte) (int, error) {
	n, err := m.ReadWriteCloser.Read(p)
	if !m.spend(n) {
		m.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

func meteredBy(m *meter) func(*testServer) {
	return func(s *testServer) {
		s.wrap = func(rwc io.ReadWriteCloser) io.ReadWriteCloser { return metered{rwc, m} }
	}
}

func TestUploadThatBrokeOffIsGoneOnWith(t *testing.T) {
	for _, resume := range []bool{true, false} {
		used := &meter{left: 7 << 19}
		s := startServer(t, meteredBy(used))
		content := strings.Repeat("0123456789abcdef", 5<<16+1)
		props := with(s.props, "resume", resume, "checksum", "sha256")
		m := newMessage(t, content)
		if err := newSink(t, props).Send(testContext(t), m); !sdk.IsDisconnected(err) {
			t.Fatalf("the upload did not break off: %v", err)
		}
		temps := s.names(t)
		if len(temps) != 1 || !files.IsAttemptOf(temps[0], m.ID) {
			t.Fatalf("left are %q", temps)
		}
		used.set(1 << 30)
		m.Redelivered = true
		k := newSink(t, props) // of the next owner
		wantProbe(t, k, m, sdk.Absent)
		send(t, k, m)
		if got := s.content(t, m.ID); got != content {
			t.Errorf("%d bytes arrived, or other ones", len(got))
		}
		sum := sha256.Sum256([]byte(content))
		if got := s.content(t, m.ID+".sha256"); !strings.HasPrefix(got, hex.EncodeToString(sum[:])) {
			t.Errorf("checksum file %q", got)
		}
		if got := s.names(t); len(got) != 2 {
			t.Errorf("the server has %q", got)
		}
		if said := used.total(); (said < 4<<20) != resume {
			t.Errorf("resume %t: %d bytes went out at the second attempt", resume, said)
		}
	}
}

// The last piece of an earlier attempt may have holes, and some files are of no use.
func TestOnlyWhatHasCertainlyBeenWrittenIsGoneOnWith(t *testing.T) {
	for size, want := range map[int64]int64{0: 0, 1: 0, writeBuffer: 0, writeBuffer + 1: writeBuffer, 2 * writeBuffer: writeBuffer, 5*writeBuffer + 7: 5 * writeBuffer} {
		if got := whole(size); got != want {
			t.Errorf("of %d bytes %d count, want %d", size, got, want)
		}
	}
	s := startServer(t)
	content := strings.Repeat("0123456789abcdef", 3<<16)
	m := newMessage(t, content)
	m.Redelivered = true
	holes := content[:len(content)-writeBuffer] + string(make([]byte, writeBuffer))
	s.write(t, files.AttemptName(m.ID), []byte(content+"too long"))
	s.write(t, files.AttemptName(m.ID), []byte(content[:writeBuffer+5]))
	s.write(t, files.AttemptName(m.ID), []byte(holes))
	frozen := s.names(t)
	send(t, newSink(t, with(s.props, "resume", true)), m)
	if got := s.content(t, m.ID); got != content {
		t.Errorf("%d bytes arrived, or other ones", len(got))
	}
	if got := s.names(t); !slices.Equal(got, []string{m.ID}) {
		t.Errorf("the server has %q; before were %q", got, frozen)
	}
}
