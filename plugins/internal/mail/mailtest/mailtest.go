// Package mailtest makes mails for the tests of mail adapters and takes them
// apart again, with other means than the adapters' own. It also starts a real
// server where one is installed.
package mailtest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	netmail "net/mail"
	"strings"
)

// Compose makes a mail that carries content, with name as its subject.
func Compose(name string, content []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: Sender <sender@example.org>\r\nTo: edi@example.org\r\nSubject: %s\r\n", mime.BEncoding.Encode("utf-8", name))
	fmt.Fprintf(&b, "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for text := base64.StdEncoding.EncodeToString(content); text != ""; {
		n := min(len(text), 76)
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	return b.Bytes()
}

// Content takes the content out of a mail that Compose made.
func Content(mail []byte) ([]byte, error) {
	m, err := netmail.ReadMessage(bytes.NewReader(mail))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(base64.NewDecoder(base64.StdEncoding, m.Body))
}

// Name takes the name out of a mail that Compose made.
func Name(mail []byte) string {
	m, err := netmail.ReadMessage(bytes.NewReader(mail))
	if err != nil {
		return "unreadable: " + err.Error()
	}
	name, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil {
		return "unreadable: " + err.Error()
	}
	return strings.TrimSpace(name)
}
