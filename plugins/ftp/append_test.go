package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/adaptertest"
)

func TestMessagesAreAppendedWholeAndOneAfterTheOther(t *testing.T) {
	everyServer(t, func(t *testing.T, s *testServer) { appendMany(t, s.props, s.Dir) })
}

func TestInteropAppend(t *testing.T) {
	for name, settings := range map[string][]string{
		"vsftpd":   {"FTPS=explicit", "TLS_REUSE=1", "TLS_FORCE=1"},
		"proftpd":  {"EXTRA=AllowStoreRestart on"},
		"pureftpd": nil,
		"pyftpd":   nil,
	} {
		t.Run(name, func(t *testing.T) {
			s := startReal(t, name, settings...)
			appendMany(t, s.props, s.Dir)
		})
	}
}

func appendMany(t *testing.T, props map[string]any, dir string) {
	t.Helper()
	k := newSink(t, with(props, "name", "log", "if_exists", "append", "connections", 4))
	var sends sync.WaitGroup
	want := []string{""}
	for i := range 10 {
		line := strings.Repeat(string(rune('A'+i)), 200_000) + "\n"
		want = append(want, line)
		sends.Go(func() {
			if err := k.Send(testContext(t), newMessage(t, []byte(line))); err != nil {
				t.Errorf("send: %v", err)
			}
		})
	}
	sends.Wait()
	send(t, k, newMessage(t, nil))
	got := strings.SplitAfter(content(t, dir, "log"), "\n")
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%d lines arrived, or mixed ones, want %d", len(got)-1, len(want)-1)
	}
	wantProbe(t, k, newMessage(t, nil), sdk.Unknown)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left are %v, %v", entries, err)
	}
}

func TestFailureToAppendSaysWhatIsKnown(t *testing.T) {
	body := noise(1, 300_000)
	for name, c := range map[string]struct {
		appe handler
		size handler
		want sdk.Arrival
	}{
		"refused":              {says("553 no"), says("213 5"), sdk.Absent},
		"gone before":          {func(c *scriptedConn, _ string) { c.Conn.Close() }, says("213 5"), sdk.Absent},
		"size is not told":     {says("553 no"), says("450 busy"), sdk.Absent},
		"confirmed, but short": {func(c *scriptedConn, _ string) { c.standard("STOR", "") }, says("213 5"), sdk.Unknown},
		"aborted": {func(c *scriptedConn, _ string) {
			c.say("150 go")
			d, err := c.data.Accept()
			if err != nil {
				return
			}
			_, _ = io.CopyN(io.Discard, d, 1000)
			_ = d.(*net.TCPConn).SetLinger(0)
			d.Close()
			c.say("426 aborted")
		}, says("213 5"), sdk.Unknown},
		"aborted at the end": {func(c *scriptedConn, _ string) {
			c.say("150 go")
			d, err := c.data.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, d)
			d.Close()
			c.say("552 quota exceeded")
		}, says("213 5"), sdk.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			s := startScripted(t, "SIZE", map[string]handler{"SIZE": c.size, "APPE": c.appe})
			k := newSink(t, s.props("name", "log", "if_exists", "append"))
			m := newMessage(t, body)
			err := k.Send(testContext(t), m)
			if err == nil || sdk.IsDisconnected(err) || sdk.IsPermanent(err) {
				t.Errorf("error %v", err)
			}
			wantProbe(t, k, m, c.want)
			wantProbe(t, newSink(t, s.props("name", "log", "if_exists", "append")), m, sdk.Unknown)
			if s.count("DELE")+s.count("RNTO")+s.count("STOR") != 0 {
				t.Error("something else was done to files")
			}
		})
	}
	damaged := newMessage(t, body)
	damaged.Parts[0].SHA256 = bytes.Repeat([]byte{1}, 32)
	s := startServer(t, ftpd.Config{})
	if err := newSink(t, with(s.props, "name", "log", "if_exists", "append")).Send(testContext(t), damaged); !sdk.IsPermanent(err) {
		t.Errorf("damaged content: %v, want permanent", err)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "log")); err == nil {
		t.Error("damaged content was appended")
	}
}

func TestWhatContradictsAppendIsRefused(t *testing.T) {
	for property, change := range map[string]func(p *sendProperties){
		"mode":                func(p *sendProperties) { p.Mode = "0640" },
		"keep_time":           func(p *sendProperties) { p.KeepTime = true },
		"checksum":            func(p *sendProperties) { p.Checksum = "md5" },
		"resume":              func(p *sendProperties) { p.Resume = true },
		"verify":              func(p *sendProperties) { p.Verify = verifyHash },
		"temporary_directory": func(p *sendProperties) { p.TemporaryDirectory = "/tmp" },
	} {
		p := decode[sendProperties](t, map[string]any{"address": "ftp.example", "if_exists": "append"})
		change(&p)
		mustContain(t, p.Validate(), property+": contradicts if_exists: append")
	}
}

func TestSinkConformanceWhenAppending(t *testing.T) {
	adaptertest.Sink(t, adaptertest.SinkCase{
		Adapter: adapter(),
		New: func(t testing.TB) adaptertest.SinkFixture {
			r := newRestartable(t, ftpd.Config{})
			return adaptertest.SinkFixture{
				Properties: with(r.props, "name", "{{fairlead.id}}", "if_exists", "append"),
				Received:   r.received, Down: r.down, Up: r.up,
			}
		},
	})
}
