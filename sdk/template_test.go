package sdk

import (
	"strings"
	"testing"
	"time"
)

var templateMessage = &Message{ID: "0190", Context: map[string]string{"ftp.name": "a b.txt", "mail.header.X-Id": "7"}}

func TestTemplatesExpand(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	for _, c := range []struct {
		text, want string
		unique     bool
	}{
		{"plain.txt", "plain.txt", false},
		{"{{fairlead.id}}.xml", "0190.xml", true},
		{"{{ ftp.name }}", "a b.txt", false},
		{"{{mail.header.X-Id}}-{{now:20060102T150405Z}}", "7-20260102T020405Z", false},
		{"}}{", "}}{", false},
	} {
		tpl, err := ParseTemplate(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		got, err := tpl.Expand(templateMessage, now)
		if err != nil || got != c.want || tpl.Unique() != c.unique || tpl.String() != c.text {
			t.Errorf("%s gives %q, %v, unique %v; want %q, %v", c.text, got, err, tpl.Unique(), c.want, c.unique)
		}
	}
}

func TestTemplatesWithMistakesAreErrors(t *testing.T) {
	for text, want := range map[string]string{
		"{{ftp.nmae}}":     "did you mean {{ftp.name}}?",
		"{{}}":             "unknown property",
		"{{now:}}":         "unknown property",
		"a{{ftp.name":      "{{ without }}",
		"{{mail.header.}}": "unknown property",
		"{{weather}}":      "known are",
	} {
		if _, err := ParseTemplate(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	var empty Template
	if empty.UnmarshalText(nil) == nil {
		t.Error("an empty template is no error")
	}
	tpl, err := ParseTemplate("{{ftp.size}}")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tpl.Expand(templateMessage, time.Now()); !IsPermanent(err) {
		t.Errorf("a property that the message lacks: %v, want a permanent error", err)
	}
}

func FuzzParseTemplate(f *testing.F) {
	for _, s := range []string{"", "x", "{{fairlead.id}}", "{{now:2006}}", "{{ftp.name}}{{", "{{custom.a}}}}", "{{ mail.header.x }}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tpl, err := ParseTemplate(text)
		if err != nil {
			return
		}
		if tpl.String() != text {
			t.Errorf("String is %q, want %q", tpl.String(), text)
		}
		got, err := tpl.Expand(&Message{ID: "ID"}, time.Unix(0, 0))
		if err != nil && !IsPermanent(err) {
			t.Errorf("expand: %v is not permanent", err)
		}
		if !strings.Contains(text, "{{") && got != text {
			t.Errorf("plain %q became %q", text, got)
		}
		again, err := ParseTemplate(tpl.String())
		if err != nil || again.Unique() != tpl.Unique() {
			t.Errorf("parsed again it is different: %v", err)
		}
	})
}
