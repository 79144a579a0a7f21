package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"

	"github.com/fairlead-io/fairlead/runtime/api"
	"github.com/fairlead-io/fairlead/runtime/config"
)

const (
	exitDone        = 0
	exitFailed      = 1
	exitWrong       = 2
	exitUnreachable = 3
	exitNoSuchThing = 4
)

// usageError is a command line or an input file that is wrong.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// findingsError says how many errors were found in files whose findings are
// printed already.
type findingsError struct{ errors int }

func (e *findingsError) Error() string { return plural(e.errors, "problem") + " found" }

// statusError is the exit status of a process that has said itself what was wrong.
type statusError struct{ code int }

func (e *statusError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// exitCode is the exit status that scripts rely on.
func exitCode(err error) int {
	var status *statusError
	var usage *usageError
	var counted *findingsError
	var findings config.Findings
	var p *api.Problem
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &status):
		return status.code
	case errors.As(err, &usage), errors.As(err, &counted), errors.As(err, &findings):
		return exitWrong
	case errors.As(err, &p):
		return problemExit(p)
	case errors.Is(err, api.ErrUnreachable):
		return exitUnreachable
	default:
		return exitFailed
	}
}

func problemExit(p *api.Problem) int {
	switch p.Status {
	case http.StatusNotFound:
		return exitNoSuchThing
	case http.StatusServiceUnavailable:
		return exitUnreachable
	case http.StatusBadRequest, http.StatusUnprocessableEntity,
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
		return exitWrong
	default:
		return exitFailed
	}
}

// report prints the error with its remedy and returns the exit status.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	var status *statusError
	if errors.As(err, &status) {
		return status.code
	}
	// A finding begins with its place in the file, which editors look for.
	var p *api.Problem
	if errors.As(err, &p) && len(p.Findings) > 0 {
		for _, f := range p.Findings {
			warnTo(w, "%s", f)
		}
		warnTo(w, "fairlead: %s; nothing was changed", p.Detail)
		return problemExit(p)
	}
	var findings config.Findings
	if errors.As(err, &findings) {
		for _, f := range findings {
			warnTo(w, "%s", f)
		}
		err = &findingsError{countErrors(findings)}
	}
	fmt.Fprintf(w, "fairlead: %s\n", cleanLines(message(err)))
	return exitCode(err)
}

func countErrors(findings config.Findings) int {
	n := 0
	for _, f := range findings {
		if f.Severity == config.Error {
			n++
		}
	}
	return n
}

func message(err error) string {
	text := err.Error()
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		return text + "\nrun 'fairlead help COMMAND' to see what it takes"
	case !errors.Is(err, api.ErrUnreachable):
		return text
	case errors.Is(err, context.DeadlineExceeded):
		return text + ": give it longer with --timeout, or ask another node with --address"
	case errors.Is(err, fs.ErrPermission):
		return text + ": run this as a member of the socket's group, or as root"
	default:
		return text + ": is `fairlead run` running there? give the address of a node with --address or " + addressEnv
	}
}
