package files

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

func TestDoneFilesReleaseOthers(t *testing.T) {
	for name, row := range map[string]struct {
		doneFile string
		there    []string
		taken    []string
		deleted  string // with a.edi
	}{
		"whole name":           {"{{name}}.done", []string{"a.edi", "a.edi.done", "b.edi"}, []string{"a.edi"}, "a.edi.done"},
		"its file has gone":    {"{{name}}.done", []string{"b.edi.done"}, nil, "a.edi.done"},
		"stem":                 {"{{stem}}.ok", []string{"a.edi", "a.ok", "b.edi"}, []string{"a.edi"}, "a.ok"},
		"before the name":      {"done-{{name}}", []string{"done-a.edi", "a.edi"}, []string{"a.edi"}, "done-a.edi"},
		"one for all":          {"READY", []string{"a.edi", "READY", "b.edi"}, []string{"a.edi", "b.edi"}, ""},
		"one for all, missing": {"READY", []string{"a.edi", "b.edi"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := filter(t, func(s *Selection) { s.DoneFile = row.doneFile })
			var taken []string
			for _, n := range f.Sift("", row.there, owner(1)) {
				if n.Rejected == "" {
					taken = append(taken, n.Path)
				}
			}
			if !slices.Equal(taken, row.taken) {
				t.Errorf("of %q %q are taken, want %q", row.there, taken, row.taken)
			}
			if got := f.DoneFile("a.edi"); got != row.deleted {
				t.Errorf("with a.edi %q goes, want %q", got, row.deleted)
			}
		})
	}
	f := filter(t, func(s *Selection) { s.DoneFile = "{{name}}.done" })
	claimed, _ := owner(1).Path("a", "k")
	if n := f.Sift("", []string{claimed}, owner(1))[0]; n.Rejected != "" {
		t.Errorf("a claimed file is rejected (%s) when its done file is gone: it was released before", n.Rejected)
	}
	if got := f.DoneFile("in/a"); got != "in/a.done" {
		t.Errorf("the done file of in/a is %q", got)
	}
}

func TestWalkReadsAsDeepAsItMay(t *testing.T) {
	tree := map[string][]string{
		"": {"a", "archive", ".git", "Old"}, "a": {"b"}, "a/b": {"c"}, "a/b/c": {"d"},
	}
	for depth, want := range [][]string{{""}, {"", "a"}, {"", "a", "a/b"}, {"", "a", "a/b", "a/b/c"}} {
		f := filter(t, func(s *Selection) {
			s.MaxDepth, s.IgnoreCase = depth, true
			if depth > 0 {
				s.ExcludeDirectories = []string{"o*"}
			}
		})
		var read []string
		err := f.Walk(t.Context(), func(_ context.Context, dir string) ([]string, error) {
			read = append(read, dir)
			return tree[dir], nil
		}, func(dir string) bool { return dir == "archive" })
		if err != nil || !slices.Equal(read, want) {
			t.Errorf("depth %d: read %q, %v; want %q", depth, read, err, want)
		}
	}
}

func TestWalkFailsAsAWhole(t *testing.T) {
	f := filter(t, func(s *Selection) { s.MaxDepth = 3 })
	bad := errors.New("no rights")
	err := f.Walk(t.Context(), func(_ context.Context, dir string) ([]string, error) {
		if dir == "b" {
			return nil, bad
		}
		return []string{"b"}, nil
	}, func(string) bool { return false })
	if !errors.Is(err, bad) {
		t.Errorf("error %v, want the one of the directory", err)
	}
	f = filter(t, func(s *Selection) { s.MaxDepth = 32 })
	err = f.Walk(t.Context(), func(context.Context, string) ([]string, error) {
		return []string{"x", "y", "z"}, nil // a tree without an end
	}, func(string) bool { return false })
	if err == nil || !strings.Contains(err.Error(), "max_depth") {
		t.Errorf("error %v, want one that names max_depth", err)
	}
}

func TestIdentity(t *testing.T) {
	day := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	key := func(taking Taking, versioned string, at time.Time) string {
		k, _ := taking.Identity("/in/a", versioned, at)
		return k
	}
	changed, never := Taking{Retake: RetakeChanged}, Taking{Retake: RetakeNever}
	if key(changed, "a|1", day) == key(changed, "a|2", day) {
		t.Error("a changed file keeps its key")
	}
	if key(never, "a|1", day) != key(never, "a|2", day) {
		t.Error("retake: never, and a changed file has another key")
	}
	if _, version := never.Identity("/in/a", "a|1", day); version != "a|1" {
		t.Errorf("version %q: a file that grows would be taken", version)
	}
	hourly := Taking{Retake: RetakeChanged, RetakeInterval: sdk.Duration(time.Hour)}
	if key(hourly, "a|1", day) != key(hourly, "a|1", day.Add(59*time.Minute)) {
		t.Error("another key within the interval")
	}
	if key(hourly, "a|1", day) == key(hourly, "a|1", day.Add(time.Hour)) {
		t.Error("the same key after the interval")
	}
}

func template(t *testing.T, text string) sdk.Template {
	t.Helper()
	tmpl, err := sdk.ParseTemplate(text)
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

func TestTargetOfAMove(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	item := sdk.Item{Context: map[string]string{"file.name": "a.edi", "file.size": "17", "file.directory": "/x/.."}}
	for name, row := range map[string]struct{ to, moveName, file, want string }{
		"beside":           {"done", "", "a.edi", "/in/done/a.edi"},
		"elsewhere":        {"/done", "", "a.edi", "/done/a.edi"},
		"of a day":         {"done/{{now:2006/01/02}}", "", "a.edi", "/in/done/2026/01/02/a.edi"},
		"a name":           {"done", "{{now:150405}}-{{file.size}}-{{file.name}}", "a.edi", "/in/done/030405-17-a.edi"},
		"of a subdirctory": {"done", "", "de/x/a.edi", "/in/done/de/x/a.edi"},
	} {
		taking := Taking{MoveTo: template(t, row.to)}
		if row.moveName != "" {
			taking.MoveName = template(t, row.moveName)
		}
		dir, base := taking.Target("/in", row.file, item, now)
		if got := path.Join(dir, base); got != row.want {
			t.Errorf("%s: %s, want %s", name, got, row.want)
		}
	}
	for given, want := range map[string]string{"/x/..": "_x_..", "a\tb": "a_b", ".": "a", "": "a", ".fairlead-x": "a"} {
		odd := Taking{MoveTo: template(t, "done"), MoveName: template(t, "{{file.directory}}")}
		if dir, base := odd.Target("/in", "a", sdk.Item{Context: map[string]string{"file.directory": given}}, now); dir != "/in/done" || base != want {
			t.Errorf("%q: moved to %s as %q, want %q", given, dir, base, want)
		}
	}
	if _, base := (Taking{MoveTo: template(t, "done"), MoveName: template(t, "{{file.size}}")}).Target("/in", "a", sdk.Item{}, now); base != "a" {
		t.Errorf("without the property it is called %q, want its own name", base)
	}
}

func TestProblemsOfTaking(t *testing.T) {
	move := Taking{AfterDelivery: AfterMove, Retake: RetakeChanged}
	with := func(taking Taking, change func(*Taking)) Taking {
		change(&taking)
		return taking
	}
	for name, row := range map[string]struct {
		taking         Taking
		property, want string
	}{
		"nowhere":            {move, "move_to", "is missing"},
		"idle":               {Taking{AfterDelivery: AfterDelete, MoveTo: template(t, "x")}, "move_to", "has no effect"},
		"onto itself":        {with(move, func(p *Taking) { p.MoveTo = template(t, "../in/.") }), "move_to", "taken again"},
		"at once":            {with(move, func(p *Taking) { p.MoveTo = template(t, "{{now:2006}}/x") }), "move_to", "fixed directory"},
		"by the sender":      {with(move, func(p *Taking) { p.MoveTo = template(t, "x/{{ftp.name}}") }), "move_to", "from outside"},
		"name with a slash":  {with(move, func(p *Taking) { p.MoveTo, p.MoveName = template(t, "x"), template(t, "a/b") }), "move_name", "slash"},
		"name of a message":  {with(move, func(p *Taking) { p.MoveTo, p.MoveName = template(t, "x"), template(t, "{{fairlead.id}}") }), "move_name", "does not have"},
		"idle name":          {Taking{AfterDelivery: AfterDelete, MoveName: template(t, "x")}, "move_name", "has no effect"},
		"claim and keep":     {Taking{AfterDelivery: AfterKeep, Claim: true}, "claim", "contradicts"},
		"never again":        {Taking{AfterDelivery: AfterDelete, Retake: RetakeNever}, "retake", "want after_delivery: keep"},
		"again and again":    {Taking{AfterDelivery: AfterDelete, RetakeInterval: sdk.Duration(time.Hour)}, "retake_interval", "keep"},
		"again all the time": {Taking{AfterDelivery: AfterKeep, RetakeInterval: sdk.Duration(time.Millisecond)}, "retake_interval", "a second"},
		"before it is there": {Taking{AfterDelivery: AfterDelete, StableFor: -1}, "stable_for", "0s"},
	} {
		err := errors.Join(row.taking.Problems("/in")...)
		var p *sdk.PropertyError
		if !errors.As(err, &p) || p.Property != row.property || !strings.Contains(p.Problem, row.want) {
			t.Errorf("%s: %v, want %s: ... %s", name, err, row.property, row.want)
		}
	}
	for _, good := range []Taking{
		{AfterDelivery: AfterDelete, Retake: RetakeChanged, Claim: true},
		with(move, func(p *Taking) { p.MoveTo, p.MoveName = template(t, "x/{{now:2006}}"), template(t, "{{ftp.name}}") }),
		{AfterDelivery: AfterKeep, Retake: RetakeNever, RetakeInterval: sdk.Duration(time.Hour)},
	} {
		if err := errors.Join(good.Problems("/in")...); err != nil {
			t.Error(err)
		}
	}
}
