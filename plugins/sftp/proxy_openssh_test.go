package main

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/internal/freeport"
)

// A real SOCKS5 server: the one of the OpenSSH client.
func TestOpenSSHAsSOCKSProxy(t *testing.T) {
	client, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("no ssh")
	}
	dir, props := startOpenSSH(t, "SFTP_ONLY=0")
	host, port, err := net.SplitHostPort(props["address"].(string))
	if err != nil {
		t.Fatal(err)
	}
	at, release, err := freeport.Take(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	proxyAddr := fmt.Sprintf("127.0.0.1:%d", at)
	cmd := exec.Command(client, "-N", "-D", proxyAddr, "-p", port, "-i", filepath.Join(filepath.Dir(dir), "user_key"), "-F", "none",
		"-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "ExitOnForwardFailure=yes", fmt.Sprintf("%s@%s", props["user"], host))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx := testContext(t); ; {
		conn, err := net.Dial("tcp", proxyAddr)
		if err == nil {
			conn.Close()
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("ssh -D does not listen: %v", err)
		}
	}
	props = with(props, "address", "localhost:"+port, "proxy", "socks5://"+proxyAddr)
	if err := newSink(t, with(props, "name", "a")).Send(testContext(t), newMessage(t, "content")); err != nil {
		t.Fatal(err)
	}
	src := newSource(t, props)
	item := list(t, src)["a"]
	if got, err := read(t, src, item); err != nil || string(got) != "content" {
		t.Errorf("read %q, %v", got, err)
	}
	if err := src.Settle(testContext(t), item); err != nil {
		t.Error(err)
	}
}
