package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/adaptertest"
	"github.com/fairlead-io/fairlead/sdk/proxy"
)

const (
	user, password = "me", "s3cret: and long"
	wait           = 20 * time.Second
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// greeter greets at once, as FTP servers do, and answers with what it got up to the end.
func greeter(t *testing.T) (port string) {
	t.Helper()
	listener := listen(t)
	go func() { // ends with the listener, and each connection with its client
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "220 ready\r\n")
			all, _ := io.ReadAll(conn)
			fmt.Fprintf(conn, "got %s\r\n", all)
			conn.Close()
		}
	}()
	_, port, _ = net.SplitHostPort(listener.Addr().String())
	return port
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

func dial(t *testing.T, p proxy.Proxy, timeout time.Duration, address string) (net.Conn, error) {
	t.Helper()
	if errs := p.Problems(); len(errs) > 0 {
		t.Fatal(errs)
	}
	d, err := p.Dialer(timeout)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := d.DialContext(t.Context(), "tcp", address)
	if conn != nil {
		t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

// The proxy knows the name, and this node does not. The greeting comes in one piece with
// the proxy's answer, and the end of what is sent reaches the server.
func TestConnectionsThroughAProxy(t *testing.T) {
	port := greeter(t)
	for _, kind := range []string{"socks5", "http"} {
		for _, login := range []string{"", user} {
			t.Run(kind+" "+login, func(t *testing.T) {
				p := proxy.Proxy{ProxyUser: login}
				if login != "" {
					p.ProxyPassword = password
				}
				f := adaptertest.NewForward(t, login, p.ProxyPassword.Reveal())
				p.Proxy = kind + "://" + f.Addr
				conn, err := dial(t, p, wait, "server.test:"+port)
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.SetReadDeadline(time.Now().Add(wait))
				in := bufio.NewReader(conn)
				if line, err := in.ReadString('\n'); line != "220 ready\r\n" {
					t.Fatalf("greeted with %q, %v", line, err)
				}
				fmt.Fprint(conn, "all")
				half, ok := conn.(interface{ CloseWrite() error })
				if !ok {
					t.Fatalf("%T cannot be closed by halves", conn)
				}
				if err := half.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if line, err := in.ReadString('\n'); line != "got all\r\n" {
					t.Errorf("the answer is %q, %v", line, err)
				}
				if got := f.Targets(); len(got) != 1 || got[0] != "server.test:"+port {
					t.Errorf("the proxy was asked for %q", got)
				}
			})
		}
	}
}

func TestWithoutAProxyTheConnectionIsDirect(t *testing.T) {
	conn, err := dial(t, proxy.Proxy{}, wait, "127.0.0.1:"+greeter(t))
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "220 ready\r\n" {
		t.Errorf("greeted with %q, %v", line, err)
	}
}

func TestRefusalsOfAProxySayWhatToDo(t *testing.T) {
	for _, kind := range []string{"socks5", "http"} {
		t.Run(kind, func(t *testing.T) {
			f := adaptertest.NewForward(t, user, password)
			p := proxy.Proxy{Proxy: kind + "://" + f.Addr, ProxyUser: user, ProxyPassword: "wrong, and secret"}
			_, err := dial(t, p, wait, "server.test:21")
			contains(t, err, "ask the proxy "+f.Addr+" for server.test:21", "check proxy_user and proxy_password")
			p.ProxyUser, p.ProxyPassword = "", ""
			_, err = dial(t, p, wait, "server.test:21")
			contains(t, err, "check proxy_user and proxy_password")
			f.Deny()
			p.ProxyUser, p.ProxyPassword = user, password
			_, err = dial(t, p, wait, "server.test:21")
			contains(t, err, "administrator has to allow")
			p.Proxy = kind + "://127.0.0.1:1"
			_, err = dial(t, p, wait, "server.test:21")
			contains(t, err, "connect to the proxy 127.0.0.1:1")
		})
	}
}

func contains(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), password) {
		t.Errorf("error %q shows a password", err)
	}
}

func TestASilentProxyIsGivenUp(t *testing.T) {
	silent := listen(t) // the kernel accepts for it
	for _, kind := range []string{"socks5", "http"} {
		p := proxy.Proxy{Proxy: kind + "://" + silent.Addr().String()}
		_, err := dial(t, p, 50*time.Millisecond, "server.test:21")
		contains(t, err, "ask the proxy")

		d, _ := p.Dialer(time.Hour)
		ctx, cancel := context.WithCancelCause(t.Context())
		stopped := errors.New("stopped")
		timer := time.AfterFunc(20*time.Millisecond, func() { cancel(stopped) })
		defer timer.Stop()
		if _, err := d.DialContext(ctx, "tcp", "server.test:21"); !errors.Is(err, stopped) {
			t.Errorf("%s: ended with %v, want the cause of the context", kind, err)
		}
	}
}

func TestAProxyThatTalksForEverOrRepeatsThePassword(t *testing.T) {
	for name, answer := range map[string]string{
		"endless": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20),
		"echo":    "HTTP/1.1 400 Not " + password + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			listener := listen(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, answer)
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
			}()
			_, err := dial(t, proxy.Proxy{Proxy: "http://" + listener.Addr().String(), ProxyUser: user, ProxyPassword: password}, wait, "server.test:21")
			contains(t, err, "ask the proxy")
			<-done
		})
	}
}

func TestWrongPropertiesAreNamed(t *testing.T) {
	long := strings.Repeat("x", 256)
	for name, c := range map[string]struct {
		p        proxy.Proxy
		property string
		want     string
	}{
		"user alone":        {proxy.Proxy{ProxyUser: "u"}, "proxy_user", "without proxy"},
		"password alone":    {proxy.Proxy{ProxyPassword: "secret"}, "proxy_password", "without proxy"},
		"no kind":           {proxy.Proxy{Proxy: "h:1080"}, "proxy", "socks5://host:port"},
		"other kind":        {proxy.Proxy{Proxy: "socks4://h:1080"}, "proxy", "socks4"},
		"no port":           {proxy.Proxy{Proxy: "socks5://h"}, "proxy", "port"},
		"a path":            {proxy.Proxy{Proxy: "http://h:1/x"}, "proxy", "more than"},
		"login in the URL":  {proxy.Proxy{Proxy: "http://u:secret@h:1"}, "proxy", "proxy_password"},
		"no URL":            {proxy.Proxy{Proxy: "http://u:secret@h:x y"}, "proxy", "not a URL"},
		"password, no user": {proxy.Proxy{Proxy: "http://h:1", ProxyPassword: "secret"}, "proxy_password", "proxy_user"},
		"user, no password": {proxy.Proxy{Proxy: "socks5://h:1", ProxyUser: "u"}, "proxy_password", "missing"},
		"long user":         {proxy.Proxy{Proxy: "socks5://h:1", ProxyUser: long, ProxyPassword: "p"}, "proxy_user", "255"},
		"long password":     {proxy.Proxy{Proxy: "socks5://h:1", ProxyUser: "u", ProxyPassword: sdk.Secret(long)}, "proxy_password", "255"},
		"line break":        {proxy.Proxy{Proxy: "socks5://h:1", ProxyUser: "u", ProxyPassword: "secret\n"}, "proxy_password", "line break"},
		"colon":             {proxy.Proxy{Proxy: "http://h:1", ProxyUser: "u:v", ProxyPassword: "p"}, "proxy_user", "colon"},
	} {
		t.Run(name, func(t *testing.T) {
			err := errors.Join(c.p.Problems()...)
			var of *sdk.PropertyError
			if !errors.As(err, &of) || of.Property != c.property || !strings.Contains(of.Problem, c.want) {
				t.Errorf("%v; want one about %s that contains %q", err, c.property, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("%v shows the password", err)
			}
		})
	}
}
