package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/textproto"
	"strings"

	ftpclient "github.com/jlaffaye/ftp"

	"github.com/fairlead-io/fairlead/sdk"
)

// replyCode returns the code of the server's reply if err holds one, else 0.
func replyCode(err error) int {
	var reply *textproto.Error
	if errors.As(err, &reply) {
		return reply.Code
	}
	return 0
}

// isMissing reports whether the reply is the one for a file that is not there.
// Servers give it also for files they do not hand out.
func isMissing(err error) bool { return replyCode(err) == ftpclient.StatusFileUnavailable }

// isUnknownCommand reports whether the server does not know the command.
func isUnknownCommand(err error) bool {
	switch replyCode(err) {
	case ftpclient.StatusBadCommand, ftpclient.StatusBadArguments,
		ftpclient.StatusNotImplemented, ftpclient.StatusNotImplementedParameter:
		return true
	}
	return false
}

// isRefusal reports whether err is nothing but replies of the server, so that
// the control connection is in step and can go on, and that what was asked for was not
// done: only 4xx and 5xx say that. A reply of another kind, where one was due, says
// nothing (a server that answers RNTO by 200 has renamed). 421 says that it is closed.
func isRefusal(err error) bool {
	var found *finding
	if errors.As(err, &found) || errors.Is(err, ftpclient.ErrInvalidCommand) {
		return true
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if !isRefusal(e) {
				return false
			}
		}
		return len(joined.Unwrap()) > 0
	}
	reply, ok := err.(*textproto.Error) //nolint:errorlint // joined errors are unwrapped here, each by itself
	if !ok {
		if inner := errors.Unwrap(err); inner != nil {
			return isRefusal(inner)
		}
		return false
	}
	return reply.Code >= 400 && reply.Code < 600 && reply.Code != ftpclient.StatusNotAvailable
}

// finding is an error that we raise about what the server said, rather than the
// connection: it is still in step.
type finding struct{ err error }

func (f *finding) Error() string { return f.err.Error() }
func (f *finding) Unwrap() error { return f.err }

func found(format string, args ...any) error {
	return &finding{fmt.Errorf(format, args...)}
}

// connectError says what is wrong with a connection that could not be made, and
// what to do about it.
func (e *endpoint) connectError(step string, err error) error {
	text := err.Error()
	// A server may well repeat the command that it refuses.
	if secret := e.props.Password.Reveal(); secret != "" && strings.Contains(text, secret) {
		err = errors.New(strings.ReplaceAll(text, secret, "***"))
	}
	hint := ""
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		hint = "; name the issuer's certificate with ca_file"
	case errors.As(err, &name):
		hint = "; set server_name to a name in the certificate"
	case replyCode(err) == ftpclient.StatusNotLoggedIn && step == stepLogin:
		hint = "; check user and password, or whether the server has too many clients"
	}
	return sdk.Disconnected(fmt.Errorf("%s %s: %w%s", step, e.addr, err, hint))
}

// ended makes the error of an operation that its context ended.
func ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%w (%v)", cause, err)
	}
	return err
}

// errorMax bounds the text of an error: a server may reply with a book.
const errorMax = 2 << 10

// at says in an error which server it is about.
func (e *endpoint) at(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w (server %s)", brief(err), e.addr)
}

// brief keeps an error from flooding the log. What is in it can still be asked for.
func brief(err error) error {
	if err == nil || len(err.Error()) <= errorMax {
		return err
	}
	return &briefly{err}
}

type briefly struct{ err error }

func (b *briefly) Error() string { return strings.ToValidUTF8(b.err.Error()[:errorMax], "") + "..." }
func (b *briefly) Unwrap() error { return b.err }
