package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// reservedCommands are those that the properties must not send: they log in or out, open a
// data connection, or change what the session is in the middle of.
var reservedCommands = strings.Fields(`USER PASS ACCT REIN QUIT HOST AUTH ADAT PBSZ PROT CCC MIC CONF ENC
	CWD CDUP XCWD XCUP SMNT TYPE STRU MODE REST ALLO RNFR RNTO ABOR OPTS LANG
	PORT EPRT LPRT PASV EPSV LPSV SPSV CPSV SSCN PRET
	RETR STOR STOU APPE LIST NLST MLSD XRSQ MLFL MAIL MSND MSOM MSAM COMB THMB`)

// extraCommands are commands of the configuration around each transfer of a file.
type extraCommands struct {
	Before []string `json:"commands_before,omitempty" jsonschema_description:"Commands that are sent before each transfer of a file, such as SITE LRECL=80. One that the server refuses fails the transfer. They may be sent several times."`
	After  []string `json:"commands_after,omitempty" jsonschema_description:"Commands that are sent after each transfer of a file: by a receive location when it was read whole, by a send port when it has its name. One that the server refuses is a warning in the log. After a failure they may be left out."`
}

func (e extraCommands) problems() []error {
	var errs []error
	for property, lines := range map[string][]string{"commands_before": e.Before, "commands_after": e.After} {
		for _, line := range lines {
			if err := extraCommandProblem(property, line); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errs
}

func extraCommandProblem(property, line string) error {
	verb, _, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	switch {
	case strings.ContainsAny(line, "\r\n\x00"):
		return problem(property, "%q contains a line break or a NUL; write each command by itself", line)
	case verb == "" || strings.Trim(verb, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "":
		return problem(property, "%q does not begin with a command; want one such as SITE UMASK 022", line)
	case slices.Contains(reservedCommands, verb):
		return problem(property, "%s opens a data connection or changes the session, which the adapter does itself; want a command such as SITE", verb)
	}
	return nil
}

// commandsBefore sends those before a transfer. It is called within run.
func (s *session) commandsBefore() error {
	for _, line := range s.end.props.Before {
		if _, _, err := s.command("%s", line); err != nil {
			return fmt.Errorf("commands_before: %s: %w", line, err)
		}
	}
	return nil
}

// commandsAfter sends those after a transfer, which is done whatever comes of them. All
// are sent, also after one that is refused.
func (s *session) commandsAfter(ctx context.Context) {
	for _, line := range s.end.props.After {
		err := s.run(ctx, func() error {
			_, _, err := s.command("%s", line)
			return err
		})
		if err != nil {
			s.end.log.Warn("a command of commands_after failed; the file is transferred all the same", "command", line, "error", err)
		}
		if s.isDead() {
			return
		}
	}
}
