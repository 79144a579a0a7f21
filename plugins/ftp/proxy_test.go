package main

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/adaptertest"
)

// byProxy has the server's name resolved by the proxy, which alone knows it.
func byProxy(t *testing.T, kind string, f *adaptertest.Forward, props map[string]any, pairs ...any) map[string]any {
	t.Helper()
	_, port, err := net.SplitHostPort(props["address"].(string))
	if err != nil {
		t.Fatal(err)
	}
	props = with(props, "address", "server.test:"+port, "proxy", kind+"://"+f.Addr, "proxy_user", "me", "proxy_password", "pr0xy-secret")
	return with(props, pairs...)
}

// The control connection, and data connections by EPSV and PASV, of which the library
// thinks that they lead to the proxy.
func TestFilesGoThroughAProxy(t *testing.T) {
	for _, kind := range []string{"socks5", "http"} {
		for name, c := range map[string]struct {
			cfg   ftpd.Config
			pairs []any
		}{
			"EPSV": {pairs: []any{"disable_epsv", false}},
			"PASV": {pairs: []any{"disable_epsv", true}},
			"TLS":  {cfg: ftpd.Config{TLS: ftpd.Explicit}, pairs: []any{"server_name", "127.0.0.1"}},
		} {
			t.Run(kind+" "+name, func(t *testing.T) {
				s := startServer(t, c.cfg)
				f := adaptertest.NewForward(t, "me", "pr0xy-secret")
				props := byProxy(t, kind, f, s.props, c.pairs...)
				content := noise(7, 300_000)
				if err := newSink(t, with(props, "name", "a")).Send(testContext(t), newMessage(t, content)); err != nil {
					t.Fatal(err)
				}
				src := newSource(t, props)
				item := list(t, src)["a"]
				got, err := read(t, src, item)
				if err != nil || string(got) != string(content) {
					t.Errorf("read %d bytes, %v; want the %d that were sent", len(got), err, len(content))
				}
				if err := src.Settle(testContext(t), item); err != nil || len(s.names(t)) != 0 {
					t.Errorf("settle: %v, left are %q", err, s.names(t))
				}
				// Two control connections, and an upload, a listing and a download.
				targets := f.Targets()
				if len(targets) < 5 || slices.ContainsFunc(targets, func(at string) bool { return !strings.HasPrefix(at, "server.test:") }) {
					t.Errorf("the proxy was asked for %q; want 5 addresses of server.test or more", targets)
				}
			})
		}
	}
}

func TestRefusingProxyBacksOff(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	f := adaptertest.NewForward(t, "me", "another")
	err := newSink(t, byProxy(t, "http", f, s.props)).Send(testContext(t), newMessage(t, nil))
	if !sdk.IsDisconnected(err) {
		t.Errorf("%v is not Disconnected", err)
	}
	mustContain(t, err, "connect to server.test:", "ask the proxy "+f.Addr, "407", "check proxy_user and proxy_password")
	if strings.Contains(err.Error(), "pr0xy-secret") {
		t.Errorf("error %q shows the password", err)
	}
}
