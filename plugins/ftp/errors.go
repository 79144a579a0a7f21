package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/textproto"
	"regexp"
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

// unavailable marks the error of a server that is closing the connection (421), because
// it shuts down or has too much to do: nothing is wrong with the file. It must not be
// used where the message may have arrived.
func unavailable(err error) error {
	if replyCode(err) == ftpclient.StatusNotAvailable && !sdk.IsDisconnected(err) {
		return sdk.Disconnected(err)
	}
	return err
}

// fullServer is the refusal of a server that takes no more clients.
type fullServer struct{ error }

func (f *fullServer) Unwrap() error { return f.error }

var (
	crowdedWords = regexp.MustCompile(`(?i)\b(too many|max|maximum|limit|already connected|try (again )?later)\b`)
	failedLogins = regexp.MustCompile(`(?i)fail|attempt|password|incorrect|locked`)
)

// crowded reports whether a refused login is about the number of clients, for which RFC
// 959 has no code of its own. Servers say it with 421 or 530.
func crowded(text string) bool {
	return crowdedWords.MatchString(text) && !failedLogins.MatchString(text)
}

// connectError says what is wrong with a connection that could not be made, and
// what to do about it.
func (e *endpoint) connectError(step string, err error) error {
	text := err.Error()
	// A server may well repeat the command that it refuses.
	if hidden := hide(text, e.props.secrets()); hidden != text {
		err = errors.New(hidden)
	}
	hint := ""
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var wrong *wrongCertificate
	switch {
	case errors.As(err, &unknown):
		hint = "; name the issuer's certificate with ca_file"
	case errors.As(err, &name):
		hint = "; set server_name to a name in the certificate"
	case errors.As(err, &wrong):
		hint = "; this may be another server. If its administrator confirms that it has a new certificate, put that into tls_pins"
	case strings.Contains(text, "remote error: tls:"):
		hint = e.refusedTLS(text)
	case replyCode(err) == ftpclient.StatusNotAvailable,
		// The library drops the code of what USER is answered.
		crowded(text) && (replyCode(err) != 0 || step == stepLogin):
		err = &fullServer{err}
		hint = "; the server takes no more clients now. If too many are this host's, set connection_limit at all endpoints that use the server, or lower connections"
	case replyCode(err) == ftpclient.StatusNotLoggedIn && step == stepLogin:
		hint = "; check user and password"
	}
	return sdk.Disconnected(fmt.Errorf("%s %s: %w%s", step, e.addr, err, hint))
}

// refusedTLS says what to do where it is the server that ends the handshake. Before TLS
// 1.3 it often does not say that it misses a certificate.
func (e *endpoint) refusedTLS(alert string) string {
	own := e.props.ClientCertificate != ""
	switch aboutIt := strings.Contains(alert, "certificate"); {
	case own && aboutIt:
		return "; the server does not accept client_certificate: check its issuer and whether it has expired"
	case aboutIt:
		return "; the server wants a certificate of ours: set client_certificate and client_key"
	case own:
		return "; the server ended the handshake: it may not accept client_certificate, or want another version of TLS (tls13)"
	}
	return "; the server ended the handshake: it may want a certificate of ours (set client_certificate and client_key), or another version of TLS (tls13)"
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
