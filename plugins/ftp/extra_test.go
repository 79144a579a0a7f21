package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/sdk"
)

// oneFile is a server that has the file a.edi with "abc" and takes SITE commands: those
// that begin with "BAD" it refuses.
func oneFile(t *testing.T, more map[string]handler) *scriptedServer {
	handlers := map[string]handler{
		"LIST": sends("-rw-r--r-- 1 1 1 3 Jan 05 10:33 a.edi\r\n"), "MDTM": says("213 20260105103317"),
		"SIZE": says("213 3"), "RETR": sends("abc"),
		"SITE": func(c *scriptedConn, arg string) {
			if strings.HasPrefix(arg, "BAD") {
				c.say("501 I know nothing of %s", arg)
				return
			}
			c.say("200-well\r\n  then\r\n200 done")
		},
	}
	for name, h := range more {
		handlers[name] = h
	}
	return startScripted(t, "MDTM SIZE", handlers)
}

// from is what the server was told from the command on.
func (s *scriptedServer) from(verb string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.commands[max(0, slices.Index(s.commands, verb)):])
}

func TestExtraCommandsAreSentAroundEachFileThatIsRead(t *testing.T) {
	s := oneFile(t, nil)
	src, log := tracedSource(t, s.props("commands_before", []string{"SITE one", "SITE two"}, "commands_after", []string{"SITE BAD", "STAT x", "SITE three"}))
	items := list(t, src)
	if s.count("SITE") != 0 {
		t.Error("a listing is no transfer")
	}
	if got, err := read(t, src, items["a.edi"]); err != nil || string(got) != "abc" {
		t.Fatalf("read %q, %v", got, err)
	}
	want := []string{"SITE", "SITE", "EPSV", "RETR", "SITE", "STAT", "SITE"}
	if got := s.from("SITE"); !slices.Equal(got, want) {
		t.Errorf("the server got %q, want %q", got, want)
	}
	if n := log.count("a command of commands_after failed"); n != 2 {
		t.Errorf("%d warnings, want one for each of two that were refused:\n%s", n, log)
	}
	if n := s.count("PASS"); n != 1 {
		t.Errorf("%d logins, want 1: a refusal leaves the session in step", n)
	}
}

func TestRefusedCommandBeforeFailsTheTransfer(t *testing.T) {
	s := oneFile(t, nil)
	props := s.props("commands_before", []string{"SITE BAD thing"})
	src := newSource(t, props)
	_, err := read(t, src, list(t, src)["a.edi"])
	mustContain(t, err, "commands_before", "SITE BAD thing", "501", "I know nothing of BAD thing")
	err = newSink(t, props).Send(testContext(t), newMessage(t, []byte("abc")))
	mustContain(t, err, "commands_before", "501")
	if sdk.IsPermanent(err) || s.count("RETR") != 0 || s.count("STOR") != 0 {
		t.Errorf("%v, %q: want an error to try again after, and no transfer", err, s.from("SITE"))
	}
}

func TestExtraCommandsAreSentAroundEachUpload(t *testing.T) {
	s := oneFile(t, nil)
	k, log := tracedSink(t, s.props("commands_before", []string{"SITE one"}, "commands_after", []string{"SITE BAD"}))
	if err := k.Send(testContext(t), newMessage(t, []byte("abc"))); err != nil {
		t.Fatal(err)
	}
	want := []string{"SITE", "EPSV", "STOR", "SIZE", "RNFR", "RNTO", "SITE"}
	if got := s.from("SITE"); !slices.Equal(got, want) {
		t.Errorf("the server got %q, want %q", got, want)
	}
	if log.count("level=WARN") != 1 {
		t.Errorf("want one warning:\n%s", log)
	}
}

// After a file is delivered, a connection that breaks does not make it undelivered.
func TestBrokenCommandAfterUploadLeavesItDelivered(t *testing.T) {
	s := oneFile(t, map[string]handler{"SITE": func(c *scriptedConn, _ string) { c.Conn.Close() }})
	k, log := tracedSink(t, s.props("commands_after", []string{"SITE one", "SITE two"}))
	if err := k.Send(testContext(t), newMessage(t, []byte("abc"))); err != nil {
		t.Errorf("the file has its name, and send says %v", err)
	}
	if s.count("SITE") != 1 || log.count("level=WARN") != 1 {
		t.Errorf("%d commands; want one and one warning:\n%s", s.count("SITE"), log)
	}
}

// A command that unexpectedly begins a transfer would put all later replies out of step.
func TestCommandThatBeginsATransferCostsItsSession(t *testing.T) {
	s := oneFile(t, map[string]handler{"SITE": says("150 here it comes\r\n226 done")})
	src := newSource(t, s.props("commands_before", []string{"SITE FETCH"}))
	_, err := read(t, src, list(t, src)["a.edi"])
	mustContain(t, err, "150", "as if it began a transfer")
	if n := s.count("RETR"); n != 0 {
		t.Errorf("%d transfers on a session out of step", n)
	}
}

func TestExtraCommandsThatMeddleAreRefused(t *testing.T) {
	for line, want := range map[string]string{
		"quit": "QUIT", "RETR x": "RETR", "stor x": "STOR", "Pass x": "PASS", "TYPE A": "TYPE", "CWD /": "CWD", "PORT 1,2": "PORT", "MLSD": "MLSD",
		"SITE x\r\nQUIT": "line break", "": "does not begin with a command", " NOOP": "does not begin", "SITE-X": "does not begin",
	} {
		for _, property := range []string{"commands_before", "commands_after"} {
			_, err := sdk.DecodeProperties[sendProperties](mustJSON(t, map[string]any{"address": "ftp.example", property: []string{"NOOP", line}}))
			var wrong *sdk.PropertyError
			if !errors.As(err, &wrong) || wrong.Property != property || !strings.Contains(wrong.Problem, want) {
				t.Errorf("%q in %s: %v, want a problem about %q", line, property, err, want)
			}
		}
	}
	decode[receiveProperties](t, map[string]any{"address": "ftp.example", "commands_before": []string{"SITE UMASK 022", "site lrecl=80", "NOOP"}})
}
