package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/fairlead-io/fairlead/sdk"
)

const (
	testUser     = "tester"
	testPassword = "secret, and long"
	// testWait bounds every wait of the tests.
	testWait = 20 * time.Second
)

// testServer is a real SSH and SFTP server within the test, on a directory.
type testServer struct {
	Dir   string
	addr  string
	host  ssh.Signer
	cfg   *ssh.ServerConfig
	props map[string]any
	// wrap, if set, is what the SFTP channel is seen through.
	wrap func(io.ReadWriteCloser) io.ReadWriteCloser
	// subsystem is refused if noSFTP is set.
	noSFTP bool

	listener net.Listener
	serving  sync.WaitGroup
	mu       sync.Mutex
	open     map[net.Conn]bool
	accepted int
}

func newSigner(t testing.TB) (ssh.Signer, ed25519.PrivateKey) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer, key
}

// keyText is a private key as it stands in a file.
func keyText(t testing.TB, key ed25519.PrivateKey, passphrase string) string {
	t.Helper()
	marshal := func() (*pem.Block, error) { return ssh.MarshalPrivateKey(key, "") }
	if passphrase != "" {
		marshal = func() (*pem.Block, error) {
			return ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
		}
	}
	block, err := marshal()
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block))
}

func startServer(t testing.TB, change ...func(s *testServer)) *testServer {
	t.Helper()
	host, _ := newSigner(t)
	s := &testServer{Dir: t.TempDir(), host: host, open: map[net.Conn]bool{}, addr: "127.0.0.1:0"}
	s.cfg = &ssh.ServerConfig{
		PasswordCallback: func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			if c.User() == testUser && string(password) == testPassword {
				return nil, nil
			}
			return nil, errors.New("no")
		},
	}
	s.cfg.AddHostKey(host)
	for _, c := range change {
		c(s)
	}
	s.up(t)
	s.props = map[string]any{
		"address": s.addr, "user": testUser, "password": testPassword, "directory": s.Dir, "timeout": "5s",
		"host_keys": []string{ssh.FingerprintSHA256(host.PublicKey())},
	}
	t.Cleanup(func() { s.down(t) })
	return s
}

func (s *testServer) up(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	s.listener, s.addr = listener, listener.Addr().String()
	s.serving.Add(1)
	go func() {
		defer s.serving.Done()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.open[conn] = true
			s.accepted++
			s.mu.Unlock()
			s.serving.Add(1)
			go func() {
				defer s.serving.Done()
				s.serve(conn)
				conn.Close()
				s.mu.Lock()
				delete(s.open, conn)
				s.mu.Unlock()
			}()
		}
	}()
}

func (s *testServer) down(testing.TB) {
	s.listener.Close()
	s.cut()
	s.serving.Wait()
}

// cut closes every connection.
func (s *testServer) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.open {
		conn.Close()
	}
}

func (s *testServer) connections() (open, accepted int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open), s.accepted
}

func (s *testServer) serve(conn net.Conn) {
	_, channels, requests, err := ssh.NewServerConn(conn, s.cfg)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for newChannel := range channels {
		channel, requests, err := newChannel.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			ok := r.Type == "subsystem" && string(r.Payload[4:]) == "sftp" && !s.noSFTP
			_ = r.Reply(ok, nil)
			if ok {
				break
			}
		}
		go ssh.DiscardRequests(requests)
		var rwc io.ReadWriteCloser = channel
		if s.wrap != nil {
			rwc = s.wrap(rwc)
		}
		server, err := sftp.NewServer(rwc, sftp.WithServerWorkingDirectory(s.Dir))
		if err != nil {
			return
		}
		_ = server.Serve()
		server.Close()
	}
}

func (s *testServer) write(t testing.TB, name string, content []byte) {
	t.Helper()
	temp := filepath.Join(filepath.Dir(s.Dir), "staged")
	if err := os.WriteFile(temp, content, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, filepath.Join(s.Dir, name)); err != nil {
		t.Fatal(err)
	}
}

func (s *testServer) names(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
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

func decode[P any](t testing.TB, props map[string]any) P {
	t.Helper()
	data, err := json.Marshal(props)
	if err != nil {
		t.Fatal(err)
	}
	p, err := sdk.DecodeProperties[P](data)
	if err != nil {
		t.Fatalf("properties %s: %v", data, err)
	}
	return p
}

func testEnv() sdk.Env {
	return sdk.Env{Endpoint: "test", Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

func newSource(t testing.TB, props map[string]any) *source {
	t.Helper()
	s, err := openSource(t.Context(), decode[receiveProperties](t, props), testEnv())
	if err != nil {
		t.Fatalf("open source: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s.(*source)
}

func newSink(t testing.TB, props map[string]any) *sink {
	t.Helper()
	k, err := openSink(t.Context(), decode[sendProperties](t, props), testEnv())
	if err != nil {
		t.Fatalf("open sink: %v", err)
	}
	t.Cleanup(func() { k.Close() })
	return k.(*sink)
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	t.Cleanup(cancel)
	return ctx
}

// list returns the items by name.
func list(t testing.TB, s *source) map[string]sdk.Item {
	t.Helper()
	items, err := s.List(testContext(t))
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	out := map[string]sdk.Item{}
	for _, item := range items {
		out[item.Context["sftp.name"]] = item
	}
	return out
}

// read returns the content of an item, as the SDK reads it.
func read(t testing.TB, s *source, item sdk.Item) ([]byte, error) {
	t.Helper()
	content, err := s.Open(testContext(t), item)
	if err != nil {
		return nil, err
	}
	var data []byte
	for part, partErr := range content.Parts {
		if err = partErr; err == nil {
			data, err = io.ReadAll(part.Reader)
		}
	}
	return data, errors.Join(err, content.Close())
}

func newMessage(t testing.TB, content string) *sdk.Message {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	return &sdk.Message{
		ID: id.String(), Context: map[string]string{"sftp.name": "a"},
		Parts: []sdk.MessagePart{sdk.InlinePart("body", "", []byte(content))},
	}
}
