package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestRefusalsAreTakenApart(t *testing.T) {
	for line, want := range map[string]struct {
		code, text string
		locked     bool
	}{
		"-ERR":                                 {"", "", false},
		"-ERR no":                              {"", "no", false},
		"-ERR [IN-USE] wait":                   {"IN-USE", "wait", true},
		"-ERR [sys/temp] disk":                 {"SYS/TEMP", "disk", false},
		"-ERR [AUTH] account locked":           {"AUTH", "account locked", false},
		"-ERR [unclosed":                       {"", "[unclosed", false},
		"-ERR maildrop already locked":         {"", "maildrop already locked", true},
		"-ERR mailbox in use by other process": {"", "mailbox in use by other process", true},
	} {
		_, err := parseReply(line)
		var r *refusal
		if !errors.As(err, &r) {
			t.Errorf("%q: %v", line, err)
			continue
		}
		if r.code != want.code || r.text != want.text || r.locked() != want.locked {
			t.Errorf("%q: code %q, text %q, locked %v", line, r.code, r.text, r.locked())
		}
	}
	for _, line := range []string{"", "OK", "+OKAY", "-ERRR", "* OK imap", "220 smtp"} {
		if _, err := parseReply(line); err == nil || isRefusal(err) {
			t.Errorf("%q: %v, want it to be no answer", line, err)
		}
	}
}

func TestListingsThatAreNoneAreErrors(t *testing.T) {
	for _, line := range []string{"", "1", "x y", "0 a", "-1 a", "99999999999999999999 a"} {
		if _, _, err := parseEntry(line); err == nil {
			t.Errorf("line %q was taken", line)
		}
	}
	for _, uidl := range []string{"a\x7f", "ä", strings.Repeat("x", uidlMax+1)} {
		if err := checkUIDL(uidl); err == nil {
			t.Errorf("UIDL %.20q was taken", uidl)
		}
	}
}

func TestEndlessLineIsAnError(t *testing.T) {
	r := bufio.NewReaderSize(strings.NewReader("+OK "+strings.Repeat("x", 2*lineMax)), lineMax)
	if _, err := readLine(r); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v, want one about the length", err)
	}
}

// stuff is what a server does to a mail.
func stuff(mail []byte) []byte {
	if len(mail) > 0 && !bytes.HasSuffix(mail, []byte("\r\n")) {
		mail = append(bytes.Clone(mail), "\r\n"...)
	}
	if bytes.HasPrefix(mail, []byte(".")) {
		mail = append([]byte("."), mail...)
	}
	mail = bytes.ReplaceAll(mail, []byte("\r\n."), []byte("\r\n.."))
	return append(mail, ".\r\n"...)
}

func FuzzMailReader(f *testing.F) {
	for _, s := range []string{"", ".", "\r\n.\r\n", "a\r\n..\r\n.\r.\n.", "\r\r\n.\r\r\n", "\x00\xff"} {
		f.Add([]byte(s), uint8(1))
	}
	f.Fuzz(func(t *testing.T, mail []byte, step uint8) {
		const next = "+OK next\r\n"
		wire := append(stuff(mail), next...)
		br := bufio.NewReaderSize(bytes.NewReader(wire), 16)
		r := &mailReader{r: br}
		var got []byte
		buf := make([]byte, int(step)+1)
		for {
			n, err := r.Read(buf)
			got = append(got, buf[:n]...)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		want := mail
		if len(mail) > 0 && !bytes.HasSuffix(mail, []byte("\r\n")) {
			want = append(bytes.Clone(mail), "\r\n"...)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		if rest, _ := io.ReadAll(br); string(rest) != next {
			t.Fatalf("left on the connection %q, want %q", rest, next)
		}
		// Cut anywhere, it is never taken for whole.
		cut := wire[:int(step)%len(stuff(mail))]
		if _, err := io.ReadAll(&mailReader{r: bufio.NewReader(bytes.NewReader(cut))}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d: %v", len(cut), err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"+OK", "+OK x\r\n1 a\r\n.\r\n", "-ERR [IN-USE] x\r\n", "+OK\r\n..\r\n.\r\n", "-ERR [", "\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(data), lineMax)
		line, err := readLine(r)
		if err != nil {
			return
		}
		if strings.Contains(line, "\n") {
			t.Fatalf("line %q has a line end", line)
		}
		_, err = parseReply(line)
		var said *refusal
		if errors.As(err, &said) {
			_, _ = said.Error(), said.locked()
		}
		_ = readLines(r, func(line string) error {
			number, value, err := parseEntry(line)
			if err == nil && (number < 1 || value == "" || strings.ContainsAny(value, " \r\n")) {
				t.Fatalf("entry %q became %d, %q", line, number, value)
			}
			if err == nil {
				_ = checkUIDL(value)
			}
			return nil
		})
	})
}
