package main

import (
	"fmt"
	"net/textproto"
	"strings"

	ftpclient "github.com/jlaffaye/ftp"
)

// The replies of RFC 959 about accounts, which the library does not know.
const (
	statusNeedAccount        = 332
	statusAccountSuperfluous = 202
)

// logIn sends USER or PASS in the library's place, and the account after it if the server
// asks for one. The reply is the last one; a refusal is an error, because the library would
// forget the code of some.
func (s *session) logIn(line string) (reply string, err error) {
	code, text, err := s.command("%s", line)
	if err != nil {
		return "", err
	}
	if code != statusNeedAccount {
		return replyText(code, text), nil
	}
	account := s.end.props.Account.Reveal()
	if account == "" {
		return "", fmt.Errorf("%w; the server wants an account: set account", &textproto.Error{Code: code, Msg: text})
	}
	code, text, err = s.command("ACCT %s", account)
	if err != nil {
		return "", fmt.Errorf("account refused: %w", err)
	}
	if code == statusAccountSuperfluous {
		code = ftpclient.StatusLoggedIn
	}
	return replyText(code, text), nil
}

// replyText is a reply as a server writes it, but for the end of its last line.
func replyText(code int, text string) string {
	lines := strings.Split(text, "\n")
	var b strings.Builder
	for _, line := range lines[:len(lines)-1] {
		fmt.Fprintf(&b, "%03d-%s\r\n", code, line)
	}
	fmt.Fprintf(&b, "%03d %s", code, lines[len(lines)-1])
	return b.String()
}
