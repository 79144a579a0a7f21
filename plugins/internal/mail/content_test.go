package mail

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/fairlead-io/fairlead/sdk"
)

type got struct {
	part sdk.Part
	data string
}

// open reads a mail as the SDK does.
func open(t testing.TB, mail, content string) ([]got, map[string]string) {
	t.Helper()
	parts, context, err := tryOpen(io.NopCloser(strings.NewReader(mail)), content)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return parts, context
}

func tryOpen(r io.ReadCloser, content string) (parts []got, context map[string]string, err error) {
	c, err := Open(r, content, "uid-1")
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for p, err := range c.Parts {
		if err != nil {
			return nil, nil, err
		}
		data, err := io.ReadAll(p.Reader)
		if err != nil {
			return nil, nil, err
		}
		parts = append(parts, got{p, string(data)})
	}
	return parts, c.Context, nil
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

const multipart = `From: =?utf-8?Q?J=C3=B6rg?= <joerg@example.org>
To: a@example.org, "B, C" <b@example.org>
Subject: =?iso-8859-1?Q?Gr=FC=DFe?= aus
 Paris
Date: Tue, 06 Jan 2026 12:30:00 +0100
Message-ID: <1@example.org>
X-Twice: first
X-Twice: second
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="outer"

preamble
--outer
Content-Type: application/pdf; name="a.pdf"
Content-Disposition: attachment; filename="../../etc/order.pdf"
Content-Transfer-Encoding: base64

AAEC
/w==
--outer
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/html; charset=utf-8

<p>html</p>
--inner
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

Gr=FC=DFe
--inner--
--outer
Content-Type: message/rfc822

Subject: inner

hello
--outer--
epilogue
`

func TestPartsComeBodyFirstAndDecoded(t *testing.T) {
	parts, context := open(t, crlf(multipart), ContentParts)
	want := []struct{ name, contentType, data string }{
		{"", "text/plain; charset=iso-8859-1", "Gr\xfc\xdfe"},
		{"order.pdf", `application/pdf; name="a.pdf"`, "\x00\x01\x02\xff"},
		{"", "text/html; charset=utf-8", "<p>html</p>"},
		{"", "message/rfc822", "Subject: inner\r\n\r\nhello"},
	}
	if len(parts) != len(want) {
		t.Fatalf("%d parts, want %d", len(parts), len(want))
	}
	for i, w := range want {
		p := parts[i]
		if p.part.Name != w.name || p.part.ContentType != w.contentType || p.data != w.data {
			t.Errorf("part %d is %q, %q, %q; want %q, %q, %q", i, p.part.Name, p.part.ContentType, p.data, w.name, w.contentType, w.data)
		}
	}
	for name, want := range map[string]string{
		"mail.uid": "uid-1", "mail.from": "joerg@example.org", "mail.to": "a@example.org, b@example.org",
		"mail.subject": "Grüße aus Paris", "mail.date": "2026-01-06T11:30:00Z", "mail.message_id": "<1@example.org>",
		"mail.header.X-Twice": "first", "mail.header.From": "Jörg <joerg@example.org>", "mail.parse_error": "",
	} {
		if context[name] != want {
			t.Errorf("%s is %q, want %q", name, context[name], want)
		}
	}
}

func TestLineFeedsAloneAreUnderstood(t *testing.T) {
	parts, context := open(t, multipart, ContentParts)
	if len(parts) != 4 || context["mail.subject"] != "Grüße aus Paris" {
		t.Errorf("%d parts, context %v", len(parts), context)
	}
}

func TestRawIsTheMailItself(t *testing.T) {
	for _, mail := range []string{crlf(multipart), "", "\r\n", "no header at all", "A: b", strings.Repeat("A: b\r\n", 100_000), "\x00\xff\n\n\x00"} {
		parts, _ := open(t, mail, ContentRaw)
		if len(parts) != 1 || parts[0].data != mail || parts[0].part.ContentType != "message/rfc822" {
			t.Errorf("mail %.40q became %d parts", mail, len(parts))
		}
	}
}

func TestBodyIsChosenAsBizTalkDoes(t *testing.T) {
	part := func(fields, body string) string { return "--x\r\n" + fields + "\r\n\r\n" + body + "\r\n" }
	plain := part("Content-Type: text/plain", "plain")
	attached := part("Content-Type: text/plain\r\nContent-Disposition: attachment; filename=a.txt", "attached")
	html := part("Content-Type: text/html", "html")
	xml := part("Content-Type: text/xml", "xml")
	binary := part("Content-Type: application/octet-stream", "binary")
	described := part("Content-Type: application/edi\r\nContent-Description: Body", "described")
	for _, c := range []struct {
		parts []string
		want  string
	}{
		{[]string{plain, xml, described}, "described"},
		{[]string{plain, xml}, "xml"},
		{[]string{binary, html, plain}, "plain"},
		{[]string{attached, plain}, "plain"},
		{[]string{html, attached}, "attached"},
		{[]string{binary, html}, "html"},
		{[]string{binary}, "binary"},
	} {
		mail := "Content-Type: multipart/mixed; boundary=x\r\n\r\n" + strings.Join(c.parts, "") + "--x--\r\n"
		parts, context := open(t, mail, ContentParts)
		if parts[0].data != c.want || len(parts) != len(c.parts) {
			t.Errorf("body is %q, want %q (%d parts, %s)", parts[0].data, c.want, len(parts), context["mail.parse_error"])
		}
	}
}

// Regression: one malformed mail halted a consumer for good.
func TestWhatIsNoProperMIMETravelsRawWithTheReason(t *testing.T) {
	nested := "Content-Type: multipart/mixed; boundary=b0\r\n\r\n"
	for i := range depthMax + 1 {
		nested += fmt.Sprintf("--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n", i, i+1)
	}
	many := "Content-Type: multipart/mixed; boundary=x\r\n\r\n" + strings.Repeat("--x\r\n\r\n\r\n", leavesMax+1) + "--x--\r\n"
	mixed := "Content-Type: multipart/mixed; boundary=x\r\n\r\n"
	for name, mail := range map[string]string{
		"no boundary":            "Content-Type: multipart/mixed\r\n\r\n--x\r\n\r\nbody\r\n--x--\r\n",
		"type that is none":      "Content-Type: multipart/mixed; boundary\r\n\r\n--x\r\n\r\nbody\r\n--x--\r\n",
		"no part":                mixed + "--x--\r\n",
		"end is missing":         mixed + "--x\r\n\r\nbody\r\n",
		"header that is none":    mixed + "--x\r\nno header\x00\r\n\r\nbody\r\n--x--\r\n",
		"endless header":         mixed + "--x\r\n" + strings.Repeat("A: bbbbbbbbbbbbbbbbbbb\r\n", 100_000) + "\r\n--x--\r\n",
		"endless preamble":       mixed + strings.Repeat("preamble\r\n", 100_000) + "--x\r\n\r\nbody\r\n--x--\r\n",
		"bad base64":             "Content-Transfer-Encoding: base64\r\n\r\nAAAA!AAA\r\n",
		"base64 after its end":   "Content-Transfer-Encoding: base64\r\n\r\nAA==AAAA\r\n",
		"base64 cut":             "Content-Transfer-Encoding: base64\r\n\r\nAAAAA\r\n",
		"unknown encoding":       "Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x\r\n",
		"nested too deep":        nested,
		"too many parts":         many,
		"broken inner multipart": mixed + "--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\nbody\r\n--x--\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				parts, context := open(t, mail, ContentParts)
				if len(parts) != 1 || parts[0].data != mail || parts[0].part.ContentType != "message/rfc822" {
					t.Errorf("became %d parts, want the mail as it is", len(parts))
				}
				if context["mail.parse_error"] == "" {
					t.Error("mail.parse_error is not set")
				}
			}
		})
	}
}

func TestUnknownCharsetIsNoFault(t *testing.T) {
	parts, context := open(t, "Subject: =?x-none?Q?a?=\r\nContent-Type: text/plain; charset=x-none\r\n\r\n\xff\r\n", ContentParts)
	if parts[0].data != "\xff\r\n" || context["mail.parse_error"] != "" || context["mail.subject"] != "=?x-none?Q?a?=" {
		t.Errorf("part %q, context %v", parts[0].data, context)
	}
}

func TestLargeMailsGoThroughAFile(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), memoryMax/8)
	var mail bytes.Buffer
	mail.WriteString("Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for chunk := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(content)), 76) {
		mail.Write(chunk)
		mail.WriteString("\r\n")
	}
	mail.WriteString("--x\r\n\r\nbody\r\n--x--\r\n")
	parts, _ := open(t, mail.String(), ContentParts)
	if len(parts) != 2 || parts[0].data != "body" || parts[1].data != string(content) {
		t.Errorf("%d parts", len(parts))
	}
}

type closeErr struct {
	io.Reader
	err error
}

func (c closeErr) Close() error { return c.err }

func TestMailThatIsNotWholeIsAnError(t *testing.T) {
	broken := errors.New("connection lost")
	for _, content := range []string{ContentRaw, ContentParts} {
		for _, at := range []int{0, 20, 800} {
			r := io.MultiReader(strings.NewReader(crlf(multipart)[:at]), iotest.ErrReader(broken))
			if _, _, err := tryOpen(io.NopCloser(r), content); !errors.Is(err, broken) {
				t.Errorf("%s, broken after %d bytes: %v", content, at, err)
			}
		}
		r := closeErr{strings.NewReader(crlf(multipart)), broken}
		if _, _, err := tryOpen(r, content); !errors.Is(err, broken) {
			t.Errorf("%s, error of Close: %v", content, err)
		}
	}
}

func TestContextIsBounded(t *testing.T) {
	var mail strings.Builder
	mail.WriteString("Subject: " + strings.Repeat("ä", 5000) + "\r\n")
	for i := range 500 {
		fmt.Fprintf(&mail, "X-%d: %s\r\n", i, strings.Repeat("v", 3000))
	}
	_, context := open(t, mail.String()+"\r\nbody", ContentRaw)
	if n := len(context); n > headersMax+6 {
		t.Errorf("context has %d properties", n)
	}
	for name, value := range context {
		if len(value) > valueMax {
			t.Errorf("%s has %d bytes", name, len(value))
		}
	}
}

func TestFileNamesAreNamesAndNoPaths(t *testing.T) {
	for in, want := range map[string]string{
		"a.txt": "a.txt", "../../a": "a", `C:\dir\a.doc`: "a.doc", "..": "", "/": "", ".": "", "": "",
		"a\x00b\r\n.txt": "a b  .txt", "=?utf-8?Q?=C3=A4?=.txt": "ä.txt", strings.Repeat("x", 300): strings.Repeat("x", 255),
	} {
		if got := fileName(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestServersWordsAreCleaned(t *testing.T) {
	s := Server{User: "me", Password: "hunter2"}
	said := "no hunter2\r\nnor " + base64.StdEncoding.EncodeToString([]byte("\x00me\x00hunter2")) + strings.Repeat("x", 1000)
	got := s.Clean(said)
	if strings.Contains(got, "hunter2") || strings.Contains(got, "AG1l") || strings.ContainsAny(got, "\r\n") || len(got) > textMax {
		t.Errorf("cleaned text is %q", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(crlf(multipart)))
	f.Add([]byte(multipart))
	f.Add([]byte("From: <\r\n\tx\r\nContent-Type: multipart/x; boundary=\"\"\r\n\r\n--\r\n"))
	f.Add([]byte("Content-Transfer-Encoding: base64\r\n\r\nAAA=\r\n"))
	f.Fuzz(func(t *testing.T, mail []byte) {
		raw, _ := open(t, string(mail), ContentRaw)
		if len(raw) != 1 || raw[0].data != string(mail) {
			t.Fatal("raw is not the mail")
		}
		parts, context := open(t, string(mail), ContentParts)
		again, _ := open(t, string(mail), ContentParts)
		if len(parts) == 0 || len(parts) != len(again) {
			t.Fatalf("%d parts, then %d", len(parts), len(again))
		}
		for i := range parts {
			if parts[i].data != again[i].data || parts[i].part.Name != again[i].part.Name {
				t.Fatal("the parts differ between two attempts")
			}
			if strings.ContainsAny(parts[i].part.Name, "/\\\x00\r\n") {
				t.Fatalf("name %q", parts[i].part.Name)
			}
		}
		if context["mail.parse_error"] != "" && (len(parts) != 1 || parts[0].data != string(mail)) {
			t.Fatal("what cannot be parsed is not the mail as it is")
		}
		for name, value := range context {
			if len(value) > valueMax || strings.ContainsAny(value, "\r\n\x00") {
				t.Fatalf("%s is %q", name, value)
			}
		}
	})
}
