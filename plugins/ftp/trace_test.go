package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk"
)

// logText is a log that tests read.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logText) count(part string) int { return strings.Count(l.String(), part) }

func (l *logText) env() sdk.Env {
	return sdk.Env{Endpoint: "test", Log: slog.New(slog.NewTextHandler(l, nil))}
}

func tracedSource(t *testing.T, props map[string]any) (*source, *logText) {
	t.Helper()
	log := &logText{}
	s, err := openSource(t.Context(), decode[receiveProperties](t, props), log.env())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.(*source), log
}

func tracedSink(t *testing.T, props map[string]any) (*sink, *logText) {
	t.Helper()
	log := &logText{}
	k, err := openSink(t.Context(), decode[sendProperties](t, props), log.env())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k.(*sink), log
}

func wantLogged(t *testing.T, log *logText, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log lacks %q:\n%s", part, log)
		}
	}
}

func TestTraceTellsCommandsRepliesAndDataButNoPassword(t *testing.T) {
	for _, mode := range []ftpd.TLSMode{ftpd.Plain, ftpd.Explicit, ftpd.Implicit} {
		t.Run(fmt.Sprintf("TLS %q", mode), func(t *testing.T) {
			s := startServer(t, ftpd.Config{TLS: mode})
			s.write(t, "orders.edi", noise(1, 12345))
			src, log := tracedSource(t, with(s.props, "trace", true))
			if _, err := read(t, src, list(t, src)["orders.edi"]); err != nil {
				t.Fatal(err)
			}
			wantLogged(t, log, `sent="PASS ***"`, `sent="RETR /orders.edi"`, `received="226`, "received=12345", `received="220`, "session=1")
			if mode != ftpd.Plain {
				wantLogged(t, log, `tls="TLS 1.2" resumed=true`)
			}
			if log.count(testPassword) > 0 {
				t.Errorf("the log shows the password:\n%s", log)
			}
			k, sent := tracedSink(t, with(s.props, "trace", true))
			if err := k.Send(testContext(t), newMessage(t, noise(1, 54321))); err != nil {
				t.Fatal(err)
			}
			wantLogged(t, sent, " sent=54321 received=0")
		})
	}
}

func TestWithoutTraceNothingIsLogged(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	src, log := tracedSource(t, s.props)
	list(t, src)
	if log.count("trace") > 0 {
		t.Errorf("a trace that nobody asked for:\n%s", log)
	}
}

// A server may repeat the password in its refusal, in pieces of any size.
func TestTraceHidesThePasswordInReplies(t *testing.T) {
	s := startScripted(t, "", map[string]handler{"PASS": func(c *scriptedConn, arg string) {
		fmt.Fprint(c.Conn, "530 not ", arg[:5])
		fmt.Fprint(c.Conn, arg[5:], "\r\n")
	}})
	src, log := tracedSource(t, s.props("trace", true))
	_, err := src.List(testContext(t))
	mustContain(t, err, "530", "not ***")
	wantLogged(t, log, `received="530 not ***"`)
	if log.count(testPassword) > 0 || log.count(testPassword[:5]) > 0 {
		t.Errorf("the log shows the password:\n%s", log)
	}
}

func TestTraceLeavesOutLinesThatAreTooLong(t *testing.T) {
	log := &logText{}
	told := &trace{log: log.env().Log}
	client, server := net.Pipe()
	defer client.Close()
	go func() { // ends with the pipe
		for buf := make([]byte, 1<<10); ; {
			if _, err := server.Read(buf); err != nil {
				return
			}
		}
	}()
	defer server.Close()
	fmt.Fprintf(told.wrap(client), "SITE %s\r\nNOOP\r\n", strings.Repeat("x", 2*traceLineMax))
	wantLogged(t, log, "a line of 16390 bytes", "sent=NOOP")
	if log.count("xxx") > 0 {
		t.Error("the long line is in the log")
	}
}
