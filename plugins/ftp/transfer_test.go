package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/text/transform"

	"github.com/fairlead-io/fairlead/sdk"
)

func TestInteropASCII(t *testing.T) {
	everyRealServer(t, func(t *testing.T, s *realServer) {
		text := strings.Repeat("UNA:+.? 'line\n", 5000)
		k := newSink(t, with(s.props, "transfer", "ascii", "name", "{{fairlead.id}}.edi"))
		m := newMessage(t, []byte(text))
		for range 2 {
			if err := k.Send(testContext(t), m); err != nil {
				t.Fatal(err)
			}
			m.Redelivered = true
			wantProbe(t, k, m, sdk.Arrived)
		}
		data, err := os.ReadFile(filepath.Join(s.Dir, m.ID+".edi"))
		if got := strings.ReplaceAll(string(data), "\r\n", "\n"); err != nil || got != text {
			t.Errorf("%d bytes arrived of %d, %v", len(got), len(text), err)
		}
		src := newSource(t, with(s.props, "transfer", "ascii"))
		item := list(t, src)[m.ID+".edi"]
		got, err := read(t, src, item)
		if err != nil || strings.ReplaceAll(string(got), "\r\n", "\n") != text {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		if err := src.Settle(testContext(t), item); err != nil || len(s.names(t)) != 0 {
			t.Errorf("settle: %v; left are %q", err, s.names(t))
		}
	})
}

// The representation is that of the content alone: SIZE, listings and renames are binary.
func TestASCIIIsOfTransfersAlone(t *testing.T) {
	s := oneFile(t, map[string]handler{"RETR": sends("abc\r\nabc\r\n")})
	src := newSource(t, s.props("transfer", "ascii", "connections", 1))
	item := list(t, src)["a.edi"]
	if got, err := read(t, src, item); err != nil || string(got) != "abc\r\nabc\r\n" {
		t.Fatalf("read %q, %v", got, err)
	}
	if err := src.Settle(testContext(t), item); err != nil {
		t.Error(err)
	}
	if got, want := s.from("LIST"), []string{"LIST", "MDTM", "TYPE", "EPSV", "RETR", "TYPE", "SIZE", "MDTM", "DELE"}; !slices.Equal(got, want) {
		t.Errorf("the server got %q, want %q", got, want)
	}
}

func TestRefusedASCIITransferLeavesTheSessionInBinary(t *testing.T) {
	s := oneFile(t, map[string]handler{"RETR": says("550 not now"), "STOR": says("553 not now")})
	src, log := tracedSource(t, s.props("transfer", "ascii", "connections", 1, "trace", true))
	if _, err := read(t, src, list(t, src)["a.edi"]); err == nil {
		t.Error("a refused file was read")
	}
	k, sent := tracedSink(t, s.props("transfer", "ascii", "trace", true))
	if err := k.Send(testContext(t), newMessage(t, []byte("x"))); err == nil {
		t.Error("a refused file was sent")
	}
	for _, l := range []*logText{log, sent} {
		if a, i := l.count(`sent="TYPE A"`), l.count(`sent="TYPE I"`); a != 1 || i != 2 {
			t.Errorf("%d times to ASCII and %d to binary, want 1 and 2 with that of the login:\n%s", a, i, l)
		}
	}
}

func TestASCIIWithPropertiesThatCountBytesIsRefused(t *testing.T) {
	for property, props := range map[string]map[string]any{
		"verify":    {"verify": "auto"},
		"resume":    {"resume": true},
		"checksum":  {"checksum": "md5"},
		"if_exists": {"if_exists": "append", "name": "all.txt"},
		"name":      {"if_exists": "rename", "name": "{{ftp.name}}"},
	} {
		_, err := sdk.DecodeProperties[sendProperties](mustJSON(t, with(props, "address", "ftp.example", "transfer", "ascii")))
		var wrong *sdk.PropertyError
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), property) {
			t.Errorf("%v: %v, want a problem of %s", props, err, property)
		}
	}
	decode[sendProperties](t, map[string]any{"address": "ftp.example", "transfer": "ascii", "if_exists": "rename"})
}

func TestLinesEndAsTheWireWantsThem(t *testing.T) {
	long := strings.Repeat("\n", 10_000)
	for in, want := range map[string]string{
		"": "", "a": "a", "a\nb\n": "a\r\nb\r\n", "a\r\nb\r": "a\r\nb\r", "\n\n": "\r\n\r\n", "\r\r\n\n": "\r\r\n\r\n",
		long: strings.ReplaceAll(long, "\n", "\r\n"),
	} {
		for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in))} {
			got, err := io.ReadAll(transform.NewReader(r, &lineEnds{}))
			if err != nil || string(got) != want {
				t.Errorf("%.20q becomes %.20q, %v; want %.20q", in, got, err, want)
			}
		}
	}
}
