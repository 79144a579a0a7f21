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
}

func TestExamineSaysWhatWouldBeTakenAndWhyNotTheRest(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.edi", "b.edi", "c.txt", "d.part", ".mounted"} {
		write(t, dir, name, "five!")
	}
	if err := os.Symlink("a.edi", filepath.Join(dir, "link.edi")); err != nil {
		t.Fatal(err)
	}
	props := map[string]any{"directory": dir, "pattern": "*.edi", "exclude": []string{"b*"}, "marker": ".mounted", "claim": true, "after_delivery": "move", "move_to": "done"}
	mustSay(t, adaptertest.Examine(t, adapter(), true, props), "list: 1 of 6", "take a.edi 5", `["b.edi"]: exclude "b*"`,
		`["c.txt"]: pattern`, `["d.part"]: its name ends in .part`, "it is the marker, a link", "move_to: "+dir+"/done", "held back until")
	if left := names(t, dir); len(left) != 6 {
		t.Errorf("there are %q", left)
	}
}

func TestExamineSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	for what, c := range map[string]struct {
		receive bool
		props   map[string]any
		want    string
	}{
		"no directory":          {true, map[string]any{"directory": missing}, "no such file"},
		"not mounted":           {true, map[string]any{"directory": dir, "marker": ".mounted"}, "is its file system mounted?"},
		"no directory to write": {false, map[string]any{"directory": missing + "/{{now:2006}}"}, "no such file"},
	} {
		x := adaptertest.Examine(t, adapter(), c.receive, c.props)
		steps := x.GetSteps()
		if len(steps) == 0 || !strings.Contains(steps[len(steps)-1].GetProblem(), c.want) {
			t.Errorf("%s: no problem with %q:\n%s", what, c.want, said(x))
		}
	}
	mustSay(t, adaptertest.Examine(t, adapter(), false, map[string]any{"directory": missing, "create_directories": true}), "it would be made")
	mustSay(t, adaptertest.Examine(t, adapter(), false, map[string]any{"directory": dir}), "directory: "+dir+" is there")
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("there are %q", left)
	}
}

func TestTheWriteTestLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	mustSay(t, adaptertest.ExamineWriting(t, adapter(), map[string]any{"directory": dir}), "write test: wrote ", "removed it")
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("left is %q", left)
	}
}
