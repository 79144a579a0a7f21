package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/adaptertest"
)

// The host key is looked up under the server's name, not the proxy's address.
func TestFilesGoThroughAProxy(t *testing.T) {
	for _, kind := range []string{"socks5", "http"} {
		t.Run(kind, func(t *testing.T) {
			s := startServer(t)
			f := adaptertest.NewForward(t, "me", "pr0xy-secret")
			_, port, _ := net.SplitHostPort(s.addr)
			at := "server.test:" + port
			known := filepath.Join(t.TempDir(), "known_hosts")
			if err := os.WriteFile(known, []byte(knownhosts.Line([]string{at}, s.host.PublicKey())+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			props := with(s.props, "address", at, "proxy", kind+"://"+f.Addr, "proxy_user", "me", "proxy_password", "pr0xy-secret",
				"host_keys", nil, "known_hosts", known)
			if err := newSink(t, with(props, "name", "a")).Send(testContext(t), newMessage(t, "content")); err != nil {
				t.Fatal(err)
			}
			src := newSource(t, props)
			if got, err := read(t, src, list(t, src)["a"]); err != nil || string(got) != "content" {
				t.Errorf("read %q, %v", got, err)
			}
			if targets := f.Targets(); len(targets) != 2 || targets[0] != at || targets[1] != at {
				t.Errorf("the proxy was asked for %q, want twice %s", targets, at)
			}
		})
	}
}

func TestRefusingProxyBacksOff(t *testing.T) {
	s := startServer(t)
	f := adaptertest.NewForward(t, "me", "another")
	_, err := newSource(t, with(s.props, "proxy", "socks5://"+f.Addr, "proxy_user", "me", "proxy_password", "pr0xy-secret")).List(testContext(t))
	if !sdk.IsDisconnected(err) || !strings.Contains(err.Error(), "check proxy_user and proxy_password") {
		t.Errorf("%v is not Disconnected, or does not say what to do", err)
	}
	if err != nil && strings.Contains(err.Error(), "pr0xy-secret") {
		t.Errorf("error %q shows the password", err)
	}
}
