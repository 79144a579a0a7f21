package files

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk"
)

func filter(t *testing.T, change func(s *Selection)) *Filter {
	t.Helper()
	s := Selection{Pattern: "*", Sort: SortModified}
	change(&s)
	f, err := s.Filter()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFilesAreTakenOrRejectedWithTheReason(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, row := range map[string]struct {
		change func(s *Selection)
		file   File
		why    string // part of it; "" for taken
	}{
		"any name":                    {func(*Selection) {}, File{Name: "a b\n\"c\".edi"}, ""},
		"any bytes":                   {func(*Selection) {}, File{Name: "caf\xe9.edi"}, ""},
		"no hidden ones":              {func(*Selection) {}, File{Name: ".hidden"}, "dot"},
		"hidden ones":                 {func(s *Selection) { s.Pattern = ".h*" }, File{Name: ".hidden"}, ""},
		"a part by the same hand":     {func(s *Selection) { s.Pattern = ".*.part" }, File{Name: AttemptName("x")}, "Fairlead"},
		"a file under way":            {func(*Selection) {}, File{Name: "a.edi.filepart"}, ".filepart"},
		"a file under way in CAPITAL": {func(s *Selection) { s.IgnoreCase = true }, File{Name: "A.TMP"}, ".tmp"},
		"tmp is wanted":               {func(s *Selection) { s.Pattern = "*.tmp" }, File{Name: "a.tmp"}, ""},
		"pattern":                     {func(s *Selection) { s.Pattern = "*.edi" }, File{Name: "a.EDI"}, `pattern "*.edi"`},
		"pattern in any case":         {func(s *Selection) { s.Pattern, s.IgnoreCase = "*.Edi", true }, File{Name: "a.EDI"}, ""},
		"regexp":                      {func(s *Selection) { s.Regexp = `ORD\d+` }, File{Name: "ORD17"}, ""},
		"regexp is about all of it":   {func(s *Selection) { s.Regexp = `ORD\d+` }, File{Name: "ORD17.bak"}, "regexp"},
		"regexp of alternatives":      {func(s *Selection) { s.Regexp = `a|b` }, File{Name: "ab"}, "regexp"},
		"regexp in any case":          {func(s *Selection) { s.Regexp, s.IgnoreCase = `ord\d`, true }, File{Name: "ORD1"}, ""},
		"excluded":                    {func(s *Selection) { s.Exclude = []string{"x*", "*.bak"} }, File{Name: "a.bak"}, `exclude "*.bak"`},
		"excluded in any case":        {func(s *Selection) { s.Exclude, s.IgnoreCase = []string{"*.BAK"}, true }, File{Name: "a.bak"}, "exclude"},
		"as large as allowed":         {func(s *Selection) { s.MaxSize = 10 }, File{Name: "a", Size: 10}, ""},
		"too large":                   {func(s *Selection) { s.MaxSize = 10 }, File{Name: "a", Size: 11}, "it has 11 bytes, and max_size is 10"},
		"old enough":                  {func(s *Selection) { s.MinAge = sdk.Duration(time.Minute) }, File{Name: "a", Modified: now.Add(-time.Minute)}, ""},
		"too young":                   {func(s *Selection) { s.MinAge = sdk.Duration(time.Minute) }, File{Name: "a", Modified: now.Add(-59 * time.Second)}, "written 59s ago"},
		"of the future":               {func(s *Selection) { s.MinAge = sdk.Duration(time.Minute) }, File{Name: "a", Modified: now.Add(time.Hour)}, "min_age"},
		"of no time":                  {func(s *Selection) { s.MinAge = sdk.Duration(time.Minute) }, File{Name: "a"}, "not known"},
	} {
		t.Run(name, func(t *testing.T) {
			why := filter(t, row.change).Rejects(row.file, now)
			if (why == "") != (row.why == "") || !strings.Contains(why, row.why) {
				t.Errorf("%q: rejected for %q, want %q", row.file.Name, why, row.why)
			}
		})
	}
}

func TestProblemsNameThePropertyAndTheRemedy(t *testing.T) {
	for name, row := range map[string]struct {
		change         func(s *Selection)
		property, text string
	}{
		"no pattern":           {func(s *Selection) { s.Pattern = "" }, "pattern", "want *"},
		"half a range":         {func(s *Selection) { s.Pattern = "[a" }, "pattern", "without ]"},
		"a path":               {func(s *Selection) { s.Pattern = "in/*" }, "pattern", "directory"},
		"one of many":          {func(s *Selection) { s.Exclude = []string{"*", "[b"} }, "exclude.1", "without ]"},
		"regexp":               {func(s *Selection) { s.Regexp = "(" }, "regexp", "missing closing )"},
		"regexp of two halves": {func(s *Selection) { s.Regexp = "a)|(b" }, "regexp", "unexpected )"},
		"age":                  {func(s *Selection) { s.MinAge = -1 }, "min_age", "0s or more"},
		"size":                 {func(s *Selection) { s.MaxSize = -1 }, "max_size", "0 (any size)"},
	} {
		t.Run(name, func(t *testing.T) {
			s := Selection{Pattern: "*", Sort: SortModified}
			row.change(&s)
			errs := s.Problems()
			var of *sdk.PropertyError
			if len(errs) != 1 || !errors.As(errs[0], &of) || of.Property != row.property || !strings.Contains(of.Problem, row.text) {
				t.Errorf("%v", errs)
			}
			if _, err := s.Filter(); err == nil {
				t.Error("a filter was made all the same")
			}
		})
	}
}

func TestSort(t *testing.T) {
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	listed := []File{{"b", 1, at(2), false}, {"a", 3, at(2), false}, {"d", 2, at(1), false}, {"c", 2, at(3), false}}
	for name, row := range map[string]struct {
		sort       string
		descending bool
		want       string
	}{
		"oldest first":   {SortModified, false, "dabc"},
		"newest first":   {SortModified, true, "cbad"},
		"by name":        {SortName, false, "abcd"},
		"smallest first": {SortSize, false, "bcda"},
	} {
		f := filter(t, func(s *Selection) { s.Sort, s.Descending = row.sort, row.descending })
		got := slices.Clone(listed)
		Sort(f, got, func(f File) File { return f })
		order := ""
		for _, f := range got {
			order += f.Name
		}
		if order != row.want {
			t.Errorf("%s: %s, want %s", name, order, row.want)
		}
	}
}
