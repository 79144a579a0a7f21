package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-io/fairlead/sdk/adaptertest"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

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
		fmt.Fprintf(&all, "take %s %d\n", i.GetName(), i.GetSize())
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

func TestExamineSaysWhatWouldBeTakenAndWhatIsWrong(t *testing.T) {
	s := startServer(t)
	for _, name := range []string{"a.edi", "b.txt", ".hidden"} {
		s.write(t, name, []byte("five!"))
	}
	if err := os.Symlink("a.edi", filepath.Join(s.Dir, "link.edi")); err != nil {
		t.Fatal(err)
	}
	mustSay(t, adaptertest.Examine(t, adapter(), true, with(s.props, "pattern", "*.edi", "claim", true)),
		"connect and log in: "+s.addr, "SSH-2.0-", "directory: ", "list: 1 of 4", "take a.edi 5",
		`["b.txt"]: pattern "*.edi"`, `[".hidden"]: its name begins with a dot`, `["link.edi"]: it is a link`)
	entries, err := os.ReadDir(s.Dir)
	if err != nil || len(entries) != 4 {
		t.Errorf("there are %v, %v", entries, err)
	}
	other := "SHA256:" + strings.Repeat("A", 43)
	for what, c := range map[string]struct {
		receive bool
		props   map[string]any
		want    string
	}{
		"unknown host key":      {true, with(s.props, "host_keys", []string{other}), "host key"},
		"wrong password":        {true, with(s.props, "password", "nope"), "log in"},
		"no directory":          {true, with(s.props, "directory", "missing"), "check directory"},
		"no directory to write": {false, with(s.props, "directory", "missing/{{now:2006}}"), "check directory"},
		"a file":                {false, with(s.props, "directory", "a.edi"), "is no directory"},
	} {
		x := adaptertest.Examine(t, adapter(), c.receive, c.props)
		steps := x.GetSteps()
		if len(steps) == 0 || !strings.Contains(steps[len(steps)-1].GetProblem(), c.want) {
			t.Errorf("%s: no problem with %q:\n%s", what, c.want, said(x))
		}
		mustSay(t, x)
	}
	mustSay(t, adaptertest.Examine(t, adapter(), false, s.props), "directory: ")
	mustSay(t, adaptertest.Examine(t, adapter(), false, with(s.props, "directory", "missing/{{now:2006}}", "create_directories", true)), "it would be made")
}

func TestTheWriteTestLeavesNothing(t *testing.T) {
	s := startServer(t)
	mustSay(t, adaptertest.ExamineWriting(t, adapter(), s.props), "write test: wrote ", "removed it")
	if left, err := os.ReadDir(s.Dir); err != nil || len(left) != 0 {
		t.Errorf("left is %v, %v", left, err)
	}
}
