package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/adaptertest"
	"github.com/fairlead-io/fairlead/sdk/files"
)

func TestMessagesArriveWholeUnderTheirNames(t *testing.T) {
	everyServer(t, func(t *testing.T, s *testServer) {
		k := newSink(t, with(s.props, "name", "{{ftp.name}}", "connections", 4))
		want := map[string][]byte{"empty": {}, "big": noise(9, 3<<20)}
		for i, name := range oddNames {
			if !strings.Contains(name, "\\") {
				want[name] = noise(byte(i), 2000+i)
			}
		}
		var wg sync.WaitGroup
		for name, content := range want {
			m := newMessage(t, content, "ftp.name", name)
			wg.Go(func() {
				if err := k.Send(testContext(t), m); err != nil {
					t.Errorf("send %q: %v", name, err)
				}
			})
		}
		wg.Wait()
		for name, content := range want {
			got, err := os.ReadFile(filepath.Join(s.Dir, name))
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%q holds %d bytes, %v; want %d", name, len(got), err, len(content))
			}
		}
		if got := s.names(t); len(got) != len(want) {
			t.Errorf("the server has %q, want %d files", got, len(want))
		}
	})
}

func TestTemporaryDirectoryIsUsed(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	for _, dir := range []string{"in", "tmp"} {
		if err := os.Mkdir(filepath.Join(s.Dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	k := newSink(t, with(s.props, "directory", "in", "temporary_directory", "tmp"))
	m := newMessage(t, []byte("x"))
	if err := k.Send(testContext(t), m); err != nil {
		t.Fatal(err)
	}
	var stored string
	for _, e := range s.Events() {
		if e.Command == "STOR" {
			stored = e.Path
		}
	}
	if want := "/tmp/" + temporaryName(m.ID); stored != want {
		t.Errorf("uploaded as %s, want %s", stored, want)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "in", m.ID)); err != nil {
		t.Error(err)
	}
}

func TestNamesThatLeaveTheDirectoryArePermanentErrors(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	k := newSink(t, with(s.props, "name", "{{ftp.name}}"))
	for _, name := range []string{"../x", "/etc/x", "a/b", "a\\b", "..", ".", "", "a\r\nDELE b", "a\x00"} {
		if err := k.Send(testContext(t), newMessage(t, nil, "ftp.name", name)); !sdk.IsPermanent(err) {
			t.Errorf("name %q: %v, want permanent", name, err)
		}
	}
	if err := k.Send(testContext(t), newMessage(t, nil)); !sdk.IsPermanent(err) {
		t.Errorf("no name: %v, want permanent", err)
	}
	m := newMessage(t, nil, "ftp.name", "x")
	m.ID = "../../x"
	if err := k.Send(testContext(t), m); !sdk.IsPermanent(err) {
		t.Errorf("ID with a path: %v, want permanent", err)
	}
	if n := s.commands("CONNECT"); n != 0 {
		t.Errorf("%d connections for messages that cannot be sent", n)
	}
}

func TestExistingFileIsReplacedOrLeftAlone(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	s.write(t, "a", []byte("old"))
	m := newMessage(t, []byte("new"), "ftp.name", "a")

	fail := newSink(t, with(s.props, "name", "{{ftp.name}}", "if_exists", "fail"))
	err := fail.Send(testContext(t), m)
	mustContain(t, err, "exists", "if_exists")
	if sdk.IsPermanent(err) || sdk.IsDisconnected(err) {
		t.Errorf("error %v, want one to try again after", err)
	}
	if got, _ := os.ReadFile(filepath.Join(s.Dir, "a")); string(got) != "old" {
		t.Errorf("if_exists: fail left %q", got)
	}
	wantProbe(t, fail, m, sdk.Absent)

	replace := newSink(t, with(s.props, "name", "{{ftp.name}}"))
	if err := replace.Send(testContext(t), m); err != nil {
		t.Fatal(err)
	}
	if got := s.names(t); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the server has %q", got)
	}
	if got, _ := os.ReadFile(filepath.Join(s.Dir, "a")); string(got) != "new" {
		t.Errorf("if_exists: replace left %q", got)
	}
}

func TestServerThatDoesNotRenameOverFilesIsHelped(t *testing.T) {
	exists := true
	s := startScripted(t, "SIZE", map[string]handler{
		"SIZE": func(c *scriptedConn, arg string) {
			if strings.Contains(arg, files.TemporaryPrefix) || exists {
				c.say("213 3")
			} else {
				c.say("550 no such file")
			}
		},
		"RNTO": func(c *scriptedConn, _ string) {
			if exists {
				c.say("553 file exists")
			} else {
				c.say("250 ok")
			}
		},
		"DELE": func(c *scriptedConn, _ string) { exists = false; c.say("250 ok") },
	})
	if err := newSink(t, s.props()).Send(testContext(t), newMessage(t, []byte("new"))); err != nil {
		t.Fatal(err)
	}
	if exists || s.count("RNTO") != 2 {
		t.Errorf("existing file there %t, %d renames", exists, s.count("RNTO"))
	}
}

func TestShortUploadIsNeverRenamed(t *testing.T) {
	s := startScripted(t, "SIZE", map[string]handler{"SIZE": says("213 2")})
	k := newSink(t, s.props())
	m := newMessage(t, []byte("three"))
	mustContain(t, k.Send(testContext(t), m), "2 of 5 bytes")
	if s.count("RNTO") != 0 || s.count("DELE") != 1 {
		t.Errorf("%d renames and %d deletions, want the short file deleted", s.count("RNTO"), s.count("DELE"))
	}
	wantProbe(t, k, m, sdk.Absent)
}

func TestRefusalsOfASendAreWorthTryingAgain(t *testing.T) {
	for name, handlers := range map[string]map[string]handler{
		"not allowed to write":  {"STOR": says("553 could not create file")},
		"not allowed at all":    {"STOR": says("550 permission denied")},
		"quota":                 {"STOR": says("552 quota exceeded")},
		"not allowed to rename": {"SIZE": says("213 5"), "RNTO": says("550 permission denied"), "DELE": says("550 permission denied")},
		"transfer aborted": {"STOR": func(c *scriptedConn, _ string) {
			c.say("150 go")
			d, _ := c.data.Accept()
			d.Close()
			c.say("426 aborted")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startScripted(t, "SIZE", handlers)
			k := newSink(t, s.props())
			m := newMessage(t, []byte("five!"))
			err := k.Send(testContext(t), m)
			if err == nil || sdk.IsPermanent(err) || sdk.IsDisconnected(err) {
				t.Errorf("error %v, want one to try again after", err)
			}
			wantProbe(t, k, m, sdk.Absent)
		})
	}
}

func TestUnreachableServerMeansTheMessageHasNotArrived(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	k := newSink(t, map[string]any{"address": addr, "timeout": "1s"})
	m := newMessage(t, []byte("x"))
	if err := k.Send(testContext(t), m); !sdk.IsDisconnected(err) {
		t.Errorf("send says %v, want disconnected", err)
	}
	wantProbe(t, k, m, sdk.Absent)
}

func TestProbeOfAUniqueName(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	props := with(s.props, "name", "{{fairlead.id}}.xml")
	m := newMessage(t, []byte("content"))
	wantProbe(t, newSink(t, props), m, sdk.Unknown)

	s.write(t, temporaryName(m.ID), []byte("cont"))
	wantProbe(t, newSink(t, props), m, sdk.Absent)

	if err := newSink(t, props).Send(testContext(t), m); err != nil {
		t.Fatal(err)
	}
	wantProbe(t, newSink(t, props), m, sdk.Arrived)

	// Cut short by somebody: that is not our message, and nothing proves that it
	// was.
	s.write(t, m.ID+".xml", []byte("con"))
	wantProbe(t, newSink(t, props), m, sdk.Unknown)

	// Taken by its consumer.
	if err := os.Remove(filepath.Join(s.Dir, m.ID+".xml")); err != nil {
		t.Fatal(err)
	}
	wantProbe(t, newSink(t, props), m, sdk.Unknown)
}

func TestProbeOfANameThatOthersUseToo(t *testing.T) {
	everyServer(t, func(t *testing.T, s *testServer) {
		props := with(s.props, "name", "orders.csv")
		made := time.Now().Add(-time.Minute)
		m := newMessage(t, []byte("content"))
		m.ID = idMadeAt(t, made)
		set := func(content string, when time.Time) {
			s.write(t, "orders.csv", []byte(content))
			if err := os.Chtimes(filepath.Join(s.Dir, "orders.csv"), when, when); err != nil {
				t.Fatal(err)
			}
		}
		for _, test := range []struct {
			name    string
			content string
			when    time.Time
			want    sdk.Arrival
		}{
			{"another content of the same size", "CONTENT", time.Now(), sdk.Unknown},
			{"another size", "content!", time.Now(), sdk.Unknown},
			{"the same content, but older than the message", "content", made.Add(-time.Hour), sdk.Unknown},
			{"the same content", "content", time.Now(), sdk.Arrived},
		} {
			set(test.content, test.when)
			got, err := newSink(t, props).Probe(testContext(t), m)
			if err != nil || got != test.want {
				t.Errorf("%s: %s, %v; want %s", test.name, arrivalName(got), err, arrivalName(test.want))
			}
		}
		// The upload under way proves that this message is not what is there.
		s.write(t, temporaryName(m.ID), nil)
		wantProbe(t, newSink(t, props), m, sdk.Absent)
	})
}

func idMadeAt(t testing.TB, when time.Time) string {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	ms := when.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	if got, err := files.IDTime(id.String()); err != nil || got.Unix() != when.Unix() {
		t.Fatalf("ID %s was made at %s, %v; want %s", id, got, err, when)
	}
	return id.String()
}

// The reply to the rename is lost: whether it was done, nobody can know.
func TestLostReplyToTheRenameLeavesTheOutcomeOpen(t *testing.T) {
	s := startScripted(t, "SIZE", map[string]handler{
		"SIZE": says("213 5"),
		"RNTO": func(c *scriptedConn, _ string) { c.Conn.Close() },
	})
	k := newSink(t, s.props("name", "{{ftp.name}}"))
	m := newMessage(t, []byte("five!"), "ftp.name", "a")
	err := k.Send(testContext(t), m)
	if err == nil || sdk.IsDisconnected(err) || sdk.IsPermanent(err) {
		t.Errorf("error %v, want one that leaves the outcome open", err)
	}
	if n := s.count("DELE"); n != 0 {
		t.Error("the temporary file, which tells that the rename was not done, was deleted")
	}
	if k.sent.knownAbsent(m) {
		t.Error("the message counts as not arrived")
	}
	// Whatever happens to later attempts, the first may have arrived.
	k.sent.begin(m)
	k.sent.end(m, false, false)
	if k.sent.knownAbsent(m) {
		t.Error("the message counts as not arrived after another attempt")
	}
}

func TestRedeliveredMessageIsNeverKnownToBeAbsent(t *testing.T) {
	s := startScripted(t, "SIZE", map[string]handler{"STOR": says("553 no"), "SIZE": says("550 no such file")})
	k := newSink(t, s.props())
	m := newMessage(t, []byte("x"))
	m.Redelivered = true
	if err := k.Send(testContext(t), m); err == nil {
		t.Fatal("no error")
	}
	wantProbe(t, k, m, sdk.Unknown)
}

func TestProbeThatCannotAskIsAnErrorAndNotAnAnswer(t *testing.T) {
	s := startScripted(t, "SIZE", map[string]handler{"SIZE": says("450 busy")})
	if got, err := newSink(t, s.props()).Probe(testContext(t), newMessage(t, nil)); err == nil || got != sdk.Unknown {
		t.Errorf("probe says %v, %v", arrivalName(got), err)
	}
}

func TestAttemptsAreForgottenBeforeTheyFillTheMemory(t *testing.T) {
	a := newAttempts()
	for i := range attemptsMax + 100 {
		a.begin(&sdk.Message{ID: fmt.Sprint(i)})
	}
	if n := len(a.known); n != attemptsMax {
		t.Errorf("%d attempts are remembered, want %d", n, attemptsMax)
	}
}

func TestMessageUnderWayIsNotKnownToBeAbsent(t *testing.T) {
	a, m := newAttempts(), newMessage(t, nil)
	a.begin(m)
	if a.knownAbsent(m) {
		t.Error("a message that is being sent counts as absent")
	}
	a.end(m, false, false)
	if !a.knownAbsent(m) {
		t.Error("a message whose only attempt had no effect is not known to be absent")
	}
	// Pushed out by others while it was sent: an earlier attempt may have been, too.
	a.begin(m)
	delete(a.known, m.ID)
	a.end(m, false, false)
	if a.knownAbsent(m) {
		t.Error("a message whose history was forgotten counts as absent")
	}
}

func TestContextEndsAnUpload(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	k := newSink(t, s.props)
	ctx, cancel := context.WithCancel(testContext(t))
	c, err := k.pool.acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	reader, writer := io.Pipe()
	defer writer.Close()
	done := make(chan error, 1)
	go func() {
		done <- c.run(ctx, func() error { return c.storeFrom("/x", reader, 0) })
	}()
	if _, err := writer.Write(noise(1, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = writer.CloseWithError(errors.New("source gone"))
	if err := within(t, 5*time.Second, func() error { return <-done }); err == nil {
		t.Error("an upload whose context ended counts as done")
	}
	k.pool.release(c)
}

// A later attempt, or a probe by another node, has to find what an earlier attempt
// wrote: a name from the clock of the attempt would be sent twice.
func TestTheTimeInANameIsTheMessagesOwn(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	m := newMessage(t, []byte("once"))
	made, err := files.IDTime(m.ID)
	if err != nil {
		t.Fatal(err)
	}
	props := with(s.props, "name", "{{now:20060102T150405.000000}}~{{fairlead.id}}")
	for range 2 {
		if err := newSink(t, props).Send(testContext(t), m); err != nil {
			t.Fatal(err)
		}
	}
	want := made.UTC().Format("20060102T150405.000000") + "~" + m.ID
	if got := s.names(t); !slices.Equal(got, []string{want}) {
		t.Errorf("the server has %q, want %s", got, want)
	}
	wantProbe(t, newSink(t, props), m, sdk.Arrived)
}

func TestAnIdleConnectionThatWasCutCostsNoAttempt(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	proxy := adaptertest.NewProxy(t, s.Addr())
	k := newSink(t, with(s.props, "address", proxy.Addr, "name", "{{ftp.name}}"))
	for range 3 {
		if err := k.Send(testContext(t), newMessage(t, []byte("content"), "ftp.name", "a")); err != nil {
			t.Fatal(err)
		}
		proxy.Cut()
	}
	if got := s.names(t); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the server has %q", got)
	}
}
