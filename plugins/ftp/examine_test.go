package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/demo/ftpd"
	"github.com/fairlead-io/fairlead/sdk/adaptertest"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// inventory is all that a look could have changed.
func inventory(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			fmt.Fprintf(&all, "%s %v %d %v\n", path, info.Mode(), info.Size(), info.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// said is an examination as a text, one finding a line.
func said(x *adapterpb.Examination) string {
	var all strings.Builder
	for _, s := range x.GetSteps() {
		fmt.Fprintf(&all, "%s: %s%s\n", s.GetName(), s.GetDetail(), s.GetProblem())
	}
	for _, w := range x.GetWarnings() {
		fmt.Fprintf(&all, "warning: %s\n", w)
	}
	for _, i := range x.GetItems() {
		fmt.Fprintf(&all, "take %s %d %t\n", i.GetName(), i.GetSize(), i.GetModifiedMs() > 0)
	}
	for _, r := range x.GetRejected() {
		fmt.Fprintf(&all, "leave %d %q: %s\n", r.GetCount(), r.GetNames(), r.GetReason())
	}
	return all.String()
}

func mustSay(t *testing.T, x *adapterpb.Examination, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(said(x), want) {
			t.Errorf("nothing says %q:\n%s", want, said(x))
		}
	}
	if strings.Contains(said(x), testPassword) {
		t.Errorf("the password is shown:\n%s", said(x))
	}
}

func TestExamineSaysWhatWouldBeTakenAndWhyNotTheRest(t *testing.T) {
	for _, mlsd := range []bool{true, false} {
		s := startServer(t, ftpd.Config{TLS: ftpd.Explicit, DisableMLSD: !mlsd})
		for _, name := range []string{"a.edi", "b.edi", "c.edi", "d.edi", "new.edi", "e.txt", "f.edi.part"} {
			s.write(t, name, []byte("five!"))
			if name != "new.edi" {
				old := time.Now().Add(-time.Hour)
				if err := os.Chtimes(filepath.Join(s.Dir, name), old, old); err != nil {
					t.Fatal(err)
				}
			}
		}
		before := inventory(t, s.Dir)
		for _, claim := range []bool{false, true} {
			x := adaptertest.Examine(t, adapter(), true, with(s.props, "pattern", "*.edi", "min_age", "1m", "claim", claim))
			mustSay(t, x, "connect and log in: "+s.Addr()+" as "+testUser+"; TLS 1.2", "list: 4 of 7",
				"take a.edi 5 true", "take c.edi", `leave 1 ["e.txt"]: pattern "*.edi"`, `["f.edi.part"]: its name ends in .part`,
				`leave 1 ["new.edi"]: it was written`, "held back until it has not changed")
			if x.GetCount() != 4 || len(x.GetItems()) != 3 {
				t.Errorf("%d would be taken, %d are shown", x.GetCount(), len(x.GetItems()))
			}
		}
		if after := inventory(t, s.Dir); after != before {
			t.Errorf("the look has changed something:\n%s\n%s", before, after)
		}
		waitFor(t, "the connections to end", func() bool { return s.Sessions() == 0 })
	}
}

func TestExamineSaysWhatIsWrong(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	for what, c := range map[string]struct {
		receive bool
		props   map[string]any
		want    string
	}{
		"wrong password":        {true, with(s.props, "password", "nope"), "530"},
		"nobody there":          {true, with(s.props, "address", "127.0.0.1:1"), "connection refused"},
		"no directory":          {true, with(s.props, "directory", "/missing"), "550"},
		"no directory to write": {false, with(s.props, "directory", "/missing/{{now:2006}}"), "set create_directories"},
		"no temporary one":      {false, with(s.props, "temporary_directory", "/missing"), "set create_directories"},
	} {
		x := adaptertest.Examine(t, adapter(), c.receive, c.props)
		steps := x.GetSteps()
		if len(steps) == 0 || !strings.Contains(steps[len(steps)-1].GetProblem(), c.want) {
			t.Errorf("%s: no problem with %q:\n%s", what, c.want, said(x))
		}
		mustSay(t, x)
	}
	before := inventory(t, s.Dir)
	mustSay(t, adaptertest.Examine(t, adapter(), false, s.props), "directory: / is there", "warning: without TLS")
	mustSay(t, adaptertest.Examine(t, adapter(), false, with(s.props, "directory", "/new/{{now:2006}}", "create_directories", true)), "it would be made")
	if after := inventory(t, s.Dir); after != before {
		t.Errorf("the look has changed something:\n%s\n%s", before, after)
	}
}

// The fact perm is the only way to learn of rights without trying them.
func TestExamineAsksForRights(t *testing.T) {
	for perm, lacks := range map[string]bool{"adfrw": false, "r": true} {
		s := startScripted(t, "MLST type*;size*;modify*;perm*;", map[string]handler{
			"MLSD": sends("type=file;size=5;modify=20260105103300;perm=" + perm + "; a\r\n"),
			"MLST": func(c *scriptedConn, arg string) {
				c.say("250-about\r\n type=file;size=5;modify=20260105103300;perm=%s; %s\r\n250 end", perm, arg)
			},
		})
		x := adaptertest.Examine(t, adapter(), true, s.props())
		mustSay(t, x, fmt.Sprintf("rights: %q on", perm))
		if got := strings.Contains(said(x), "may not delete"); got != lacks {
			t.Errorf("perm=%s: a warning about deleting: %t\n%s", perm, got, said(x))
		}
	}
}

func TestTheWriteTestLeavesNothing(t *testing.T) {
	s := startServer(t, ftpd.Config{})
	if err := os.Mkdir(filepath.Join(s.Dir, "up"), 0o755); err != nil {
		t.Fatal(err)
	}
	mustSay(t, adaptertest.ExamineWriting(t, adapter(), with(s.props, "temporary_directory", "/up")), "write test: wrote /up/.fairlead-write-test", "renamed it to /.fairlead-write-test")
	if left := s.names(t); len(left) != 1 {
		t.Errorf("left is %q", left)
	}
}
